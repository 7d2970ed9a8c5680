"""A table as Markdown (cells link to their run folders), CSV, JSON, and a plot; intervals in the first and third."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmlm.io.atomic import atomic_path, write_json, write_text
from dmlm.plots.figures import SMALL_SIZE, TEXT_SIZE, new_figure, save_figure
from dmlm.reproduce.differences import Difference, difference_records, differences_markdown
from dmlm.reproduce.paired import RESAMPLES, Comparison
from dmlm.reproduce.plan import Table
from dmlm.reproduce.results import Result, as_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from dmlm.evaluation.intervals import Interval

Results = dict[tuple[str, str], Result]


def write_table(
    table: Table,
    results: Results,
    out: Path,
    comparisons: Sequence[Comparison] = (),
    differences: Sequence[Difference] = (),
) -> list[Path]:
    """Write ``OUT/table1.md``, ``.csv``, ``.json`` and ``.png``.

    Args:
        table: The table.
        results: Its cells.
        out: Folder of the reproduction.
        comparisons: Its intervals (:func:`dmlm.reproduce.paired.compare`).
        differences: Its differences to one row (:func:`dmlm.reproduce.differences.differences`).

    Returns:
        The files.
    """
    paths = [out / f"{table.key}.{extension}" for extension in ("md", "csv", "json", "png")]
    write_text(paths[0], to_markdown(table, results, comparisons, differences) + "\n")
    records = as_records(table, results)
    with atomic_path(paths[1]) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(records[0]) if records else ["table"])
        writer.writeheader()
        for record in records:
            known = {
                key: "" if isinstance(value, float) and math.isnan(value) else value for key, value in record.items()
            }
            writer.writerow({**known, "runs": " ".join(record["runs"])})
    content: dict[str, Any] = {"table": table.key, "title": table.title, "notes": list(table.notes), "cells": records}
    if table.compare is not None:
        content["intervals"] = _interval_records(table, comparisons)
    if differences:
        content["differences"] = difference_records(table, differences)
    write_json(paths[2], content)
    save_figure(table_figure(table, results), paths[3])
    return paths


def to_markdown(
    table: Table, results: Results, comparisons: Sequence[Comparison] = (), differences: Sequence[Difference] = ()
) -> str:
    """The table as GitHub Markdown: rows of ours with links, published rows in italics, notes, intervals."""
    lines = [f"## {table.key}: {table.title}", "", "| | " + " | ".join(table.columns) + " |"]
    lines.append("|:--|" + "--:|" * len(table.columns))
    footnotes: list[str] = []
    for row in table.rows:
        cells = [_cell(results.get((row, column)), table.scale, footnotes) for column in table.columns]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    for row, values in table.published.items():
        shown = [f"*{values[column]:.2f}*" if column in values else "" for column in table.columns]
        lines.append(f"| *{row}, published* | " + " | ".join(shown) + " |")
    lines += ["", *(f"- {note}" for note in table.notes)]
    lines += [f"- ({number}) {text}" for number, text in enumerate(footnotes, start=1)]
    lines += _intervals_markdown(table, comparisons)
    return "\n".join([*lines, *differences_markdown(table, differences)])


def _intervals_markdown(table: Table, comparisons: Sequence[Comparison]) -> list[str]:
    """One line per column: the interval of each row, and of the difference."""
    if table.compare is None or not comparisons:
        return []
    first, second = table.compare
    title = f"95 % intervals over patients ({RESAMPLES:,} resamples of the test patients, mean over the seeds):"
    lines = ["", title, "", f"| | patients | {' | '.join(table.rows)} | {first} - {second} |"]
    lines.append("|:--|" + "--:|" * (len(table.rows) + 2))
    for item in comparisons:
        if item.note:
            lines.append(f"| {item.column} | | {item.note} |")
            continue
        cells = [_interval(item.cells.get(row), table.scale) for row in table.rows]
        difference = _interval(item.difference, table.scale, "+")
        lines.append(f"| {item.column} | {item.patients} | {' | '.join(cells)} | {difference} |")
    skipped = {item.column: item.difference.skipped for item in comparisons if item.difference is not None}
    lost = [f"{column} {count}" for column, count in skipped.items() if count]
    if lost:
        lines += ["", f"- Resamples without a measure (a class is missing in them), left out: {', '.join(lost)}."]
    return lines


def _interval(interval: Interval | None, scale: float, sign: str = "") -> str:
    if interval is None:
        return "-"
    value, low, high = (f"{scale * number:{sign}.1f}" for number in interval[:3])
    return f"{value} [{low}, {high}]"


def _interval_records(table: Table, comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for item in comparisons:
        rows = dict(item.cells)
        if item.difference is not None and table.compare is not None:
            rows[" - ".join(table.compare)] = item.difference
        for row, interval in rows.items():
            value, low, high = (table.scale * number for number in interval[:3])
            found = {"value": value, "low": low, "high": high, "skipped": interval.skipped}
            records.append({"row": row, "column": item.column, "patients": item.patients, **found})
        if item.note:
            records.append({"row": "", "column": item.column, "reason": item.note})
    return records


def table_figure(table: Table, results: Results) -> Figure:
    """Ours as points with standard deviations, published values as open diamonds, one panel-wide axis of columns."""
    figure = new_figure(max(6.0, 0.75 * len(table.columns) + 2.5), 3.8)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#ececec", linewidth=0.6)
    colours = ("#8a8a8a", "#c8571b", "#1f5a94", "#2e8b57", "#8a4fa3", "#7a5c2e")
    plain = {cell.column for cell in table.cells if cell.scale is not None}
    columns = [column for column in table.columns if column not in plain]
    step = 0.7 / max(1, len(table.rows))
    for index, row in enumerate(table.rows):
        found = [(x, results.get((row, column))) for x, column in enumerate(columns)]
        points = [(x, result.spread) for x, result in found if result is not None and result.spread.runs]
        places = [x + (index - (len(table.rows) - 1) / 2) * step for x, _ in points]
        means = [table.scale * value.mean for _, value in points]
        errors = [0.0 if math.isnan(value.std) else table.scale * value.std for _, value in points]
        colour = colours[index % len(colours)]
        axes.errorbar(
            places,
            means,
            yerr=errors,
            fmt="os^vD*"[(index + index // 6) % 6],
            color=colour,
            markersize=5,
            capsize=2,
            linewidth=1,
            label=row,
        )
    for index, (row, values) in enumerate(table.published.items()):
        at = [(x, values[column]) for x, column in enumerate(columns) if column in values]
        marker = "Dsp"[index % 3]
        axes.scatter(
            [x for x, _ in at],
            [y for _, y in at],
            marker=marker,
            facecolors="none",
            edgecolors="black",
            s=34,
            linewidths=0.9,
            label=f"{row}, published",
            zorder=3,
        )
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right", fontsize=SMALL_SIZE)
    axes.tick_params(labelsize=SMALL_SIZE)
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.set_title(f"{table.key}: {table.title}", fontsize=TEXT_SIZE)
    figure.legend(loc="outside lower center", ncols=4, fontsize=SMALL_SIZE, frameon=False)
    return figure


def _cell(result: Result | None, scale: float, footnotes: list[str]) -> str:
    if result is None:
        return ""
    links = result.cell.runs
    mark = ""
    if result.reason:
        if result.reason not in footnotes:
            footnotes.append(result.reason)
        mark = f" ({footnotes.index(result.reason) + 1})"
    text = result.spread.text(2, scale if result.cell.scale is None else result.cell.scale)
    if len(links) == 1:
        return f"[{text}](runs/{links[0]}){mark}"
    each = ", ".join(f"[{number}](runs/{name})" for number, name in enumerate(links))
    return f"{text}{mark}<br>{each}" if links else f"{text}{mark}"
