"""Every row of a table minus one of them, with intervals over patients: what an ablation's change is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmlm.errors import DatasetFormatError, MismatchError
from dmlm.evaluation.intervals import Interval, percentiles
from dmlm.reproduce.paired import RESAMPLES, FloatArray, Resampled
from dmlm.reproduce.plan import Cell, Table


@dataclass(frozen=True)
class Difference:
    """A row minus the table's reference row, in one column.

    Args:
        row: The row.
        column: The column.
        interval: Mean over the seeds that both rows have, 95 % over patients; None where there is nothing to compare.
        seeds: Seeds that both rows have.
        agreeing: How many of these differ in the direction of the mean.
        note: Why there is nothing to compare; ``""`` otherwise.
    """

    row: str
    column: str
    interval: Interval | None = None
    seeds: int = 0
    agreeing: int = 0
    note: str = ""


def differences(table: Table, out: Path, resamples: int = RESAMPLES) -> list[Difference]:
    """Compare all rows with ``table.reference`` in the columns ``table.referred``, run by run of the same seed.

    Both rows are measured on the same resamples of the test patients (see :mod:`dmlm.reproduce.paired`).

    Args:
        table: The table; nothing is returned for one without a reference.
        out: Folder of the reproduction.
        resamples: Resamples of patients.
    """
    found: list[Difference] = []
    for column in table.referred:
        cells = {cell.row: cell for cell in table.cells if cell.column == column}
        runs = Resampled(column, out, resamples)
        base = cells[table.reference]
        own: list[FloatArray | None] = []
        for row, cell in cells.items():
            if row == table.reference:
                continue
            try:
                own = own or [runs.of(name, base.metric) for name in base.runs]
                found.append(_difference(cell, own, runs))
            except (DatasetFormatError, MismatchError) as error:
                found.append(Difference(row, column, note=str(error)))
    return found


def _difference(cell: Cell, own: Sequence[FloatArray | None], runs: Resampled) -> Difference:
    pairs = [
        value - base
        for name, base in zip(cell.runs, own, strict=False)
        if base is not None and (value := runs.of(name, cell.metric)) is not None
    ]
    if not pairs:
        return Difference(cell.row, cell.column, note=cell.note or "no seed is done in both rows")
    mean = np.mean(pairs, axis=0)
    agreeing = sum(bool(np.sign(pair[0]) == np.sign(mean[0])) for pair in pairs)
    return Difference(cell.row, cell.column, percentiles(mean[0], mean[1:]), len(pairs), agreeing)


def differences_markdown(table: Table, found: Sequence[Difference]) -> list[str]:
    """Lines of Markdown: a row per row, a column per column."""
    if not found:
        return []
    title = (
        f"Difference to '{table.reference}' with 95 % intervals over patients ({RESAMPLES:,} resamples of the test "
        "patients, the same for both rows; mean over the seeds that both have). Last: in how many of these seeds the "
        "difference has this sign. Intervals leave out the spread over seeds."
    )
    lines = ["", title, "", f"| | {' | '.join(table.referred)} |", "|:--|" + "--:|" * len(table.referred)]
    by_place = {(item.row, item.column): item for item in found}
    for row in dict.fromkeys(item.row for item in found):
        cells = [_cell(by_place.get((row, column)), table.scale) for column in table.referred]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    notes = dict.fromkeys(f"- {item.column}: {item.note}." for item in found if item.note)
    skipped = dict.fromkeys(
        f"- {item.column}: {item.interval.skipped} resamples without a measure (a class is missing in them), left out."
        for item in found
        if item.interval is not None and item.interval.skipped
    )
    return [*lines, *([""] if notes or skipped else []), *notes, *skipped]


def difference_records(table: Table, found: Sequence[Difference]) -> list[dict[str, Any]]:
    """One plain record per difference, for JSON."""
    records: list[dict[str, Any]] = []
    for item in found:
        record: dict[str, Any] = {"row": item.row, "minus": table.reference, "column": item.column}
        if item.interval is None:
            records.append({**record, "reason": item.note})
            continue
        value, low, high = (table.scale * number for number in item.interval[:3])
        ends = {"value": value, "low": low, "high": high, "skipped": item.interval.skipped}
        records.append({**record, **ends, "seeds": item.seeds, "agreeing": item.agreeing})
    return records


def _cell(item: Difference | None, scale: float) -> str:
    if item is None or item.interval is None or not math.isfinite(item.interval.value):
        return "-"
    value, low, high = (f"{scale * number:+.1f}" for number in item.interval[:3])
    return f"{value} [{low}, {high}], {item.agreeing}/{item.seeds}"
