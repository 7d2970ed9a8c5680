"""A classification report as a table for the terminal, or as Markdown."""

from __future__ import annotations

import math
from typing import NamedTuple

from dmlm.errors import MismatchError
from dmlm.evaluation.classification import RULE_NOTES, ClassificationReport
from dmlm.evaluation.intervals import Interval, Intervals


class _Layout(NamedTuple):
    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def format_table(report: ClassificationReport, intervals: Intervals | None = None, title: str = "") -> str:
    """Plain text, aligned for a fixed-width font, without a trailing newline.

    Args:
        report: What to show; F1 and ACC are those of its default rule, which a line above the table names.
        intervals: Intervals of the AUC, of the same classes.
        title: First line, if any.

    Returns:
        One row per class, the macro row last; a dash stands where a measure does not exist.

    Raises:
        MismatchError: If the intervals are of another number of classes.
    """
    header, rows, notes = _layout(report, intervals)
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: list[str]) -> str:
        first, *others = (
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    top = [title] if title else []
    return "\n".join([*top, *notes, "", line(header), rule, *map(line, rows[:-1]), rule, line(rows[-1])])


def to_markdown(report: ClassificationReport, intervals: Intervals | None = None, title: str = "") -> str:
    """The table of :func:`format_table` as GitHub Markdown, without a trailing newline; arguments are the same."""
    header, rows, notes = _layout(report, intervals)

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    top = [f"### {title}", ""] if title else []
    marks = "|:--|" + "--:|" * (len(header) - 1)
    bold = [cell and f"**{cell}**" for cell in rows[-1]]
    return "\n".join([*top, "  \n".join(notes), "", line(header), marks, *map(line, rows[:-1]), line(bold)])


def _layout(report: ClassificationReport, intervals: Intervals | None) -> _Layout:
    if intervals is not None and len(intervals.auc) != len(report.names):
        msg = f"intervals of {len(intervals.auc)} classes do not fit a report of {len(report.names)}"
        raise MismatchError(msg)
    notes = [f"F1 and ACC at the threshold rule {report.default_rule}: {RULE_NOTES[report.default_rule]}"]
    auc_title = "AUC"
    if intervals is not None:
        auc_title = f"AUC [{100 * intervals.level:g} % CI]"
        notes.append(f"intervals: {intervals.resamples:,} bootstrap resamples of {intervals.groups:,} patients")
        if intervals.macro.skipped:
            notes[-1] += (
                f", {intervals.macro.skipped:,} without both labels in some class left out of the macro interval"
            )
    rows = []
    for c, name in enumerate(report.names):
        counts = [f"{report.n_positive[c]:,}", f"{report.n_negative[c]:,}"]
        auc = _interval(float(report.auc[c]), intervals.auc[c] if intervals else None)
        others = [_number(float(report.values(metric)[c])) for metric in ("auprc", "f1", "acc")]
        rows.append([name, *counts, auc, *others])
    macro = report.macro("auc")
    auc = _interval(macro.value, intervals.macro if intervals else None)
    name = f"macro of {macro.classes}" + (f" (of {len(report.names)})" if macro.classes < len(report.names) else "")
    rows.append([name, "", "", auc, *(_number(report.macro(metric).value) for metric in ("auprc", "f1", "acc"))])
    return _Layout(["finding", "n+", "n-", auc_title, "AUPRC", "F1", "ACC"], rows, notes)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _interval(value: float, interval: Interval | None) -> str:
    if interval is None or math.isnan(value):
        return _number(value)
    return f"{value:.3f} [{_number(interval.low)}, {_number(interval.high)}]"
