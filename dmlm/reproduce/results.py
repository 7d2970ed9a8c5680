"""Numbers of finished runs, gathered into the cells of a table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmlm.errors import DMLMError
from dmlm.evaluation.seeds import Spread, spread
from dmlm.reproduce.plan import Cell, Table
from dmlm.reproduce.runs import folder_of, read_metrics, read_status


@dataclass(frozen=True)
class Result:
    """A filled cell.

    Args:
        cell: What was planned.
        spread: Mean and standard deviation over the seeds; 0 runs where there is no number.
        reason: Why there is no number, or why fewer than planned; ``""`` otherwise.
    """

    cell: Cell
    spread: Spread
    reason: str = ""


def gather(table: Table, out: Path) -> dict[tuple[str, str], Result]:
    """Fill the cells of a table.

    Args:
        table: The table.
        out: Folder of the reproduction.

    Returns:
        Results by row and column.
    """
    return {(cell.row, cell.column): _fill(cell, out) for cell in table.cells}


def as_records(table: Table, results: dict[tuple[str, str], Result]) -> list[dict[str, Any]]:
    """One plain record per number, ours and published, for CSV and JSON; NaN where there is none."""
    records: list[dict[str, Any]] = []
    for row, column in ((row, column) for row in table.rows for column in table.columns):
        result = results.get((row, column))
        if result is None:
            continue
        scale = table.scale if result.cell.scale is None else result.cell.scale
        records.append(
            {
                "table": table.key,
                "row": row,
                "column": column,
                "value": scale * result.spread.mean,
                "std": scale * result.spread.std,
                "seeds": result.spread.runs,
                "source": "ours",
                "metric": result.cell.metric,
                "runs": [f"runs/{name}" for name in result.cell.runs],
                "reason": result.reason,
            }
        )
    for row, values in table.published.items():
        for column, value in values.items():
            records.append(
                {
                    "table": table.key,
                    "row": row,
                    "column": column,
                    "value": value,
                    "std": math.nan,
                    "seeds": 0,
                    "source": "published",
                    "metric": "",
                    "runs": [],
                    "reason": "",
                }
            )
    return records


def _fill(cell: Cell, out: Path) -> Result:
    values, reasons = [], [cell.note] if cell.note else []
    for name in cell.runs:
        folder = folder_of(out, name)
        status = read_status(folder)
        if status.state != "done":
            reasons.append(status.reason or status.state)
            continue
        try:
            metrics = read_metrics(folder)
        except DMLMError as error:
            reasons.append(str(error))
            continue
        if cell.metric not in metrics:
            reasons.append(f"{name}: metrics.json has no '{cell.metric}'")
        elif not math.isfinite(metrics[cell.metric]):
            reasons.append(f"{name}: '{cell.metric}' does not exist on this test set")
        else:
            values.append(metrics[cell.metric])
    return Result(cell, spread(values), "; ".join(dict.fromkeys(reasons)))
