"""Labels of a CSV: one numeric column each, or one column with the names of those that are present."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from typing import Final

from dmlm.datasets.manifest_format import ManifestFormat
from dmlm.datasets.problems import Problems, nearest
from dmlm.errors import some_of

_LOG = logging.getLogger(__name__)
_VALUES: Final = {
    "": math.nan,
    **{text: float(text) for text in ("0", "1", "-1", "0.0", "1.0", "-1.0", "0.", "1.", "-1.")},
}


def read_labels(
    form: ManifestFormat, cells: Sequence[Sequence[str]], lines: Sequence[int], problems: Problems
) -> tuple[tuple[str, ...], list[tuple[float, ...]]]:
    """Turn label cells into numbers.

    Args:
        form: Says where the labels are and what they are called.
        cells: Per row the stripped cells of ``form.all_label_columns``.
        lines: Line of each row in the file.
        problems: Takes the rows whose labels cannot be used.

    Returns:
        The names of the labels ``[C]``, and per row ``C`` numbers: 1 present, 0 absent, -1 uncertain, nan unknown.
    """
    if not form.has_labels:
        return (), [()] * len(cells)
    if form.label_column:
        names, rows = _from_names(form, [row[0] for row in cells], lines, problems)
    else:
        names = tuple(form.label_names or form.label_columns)
        rows = [_from_numbers(form, row, line, problems) for row, line in zip(cells, lines, strict=True)]
    if form.one_label:
        for row, line in zip(rows, lines, strict=True):
            present = [name for name, value in zip(names, row, strict=True) if value == 1.0]
            if len(present) != 1:
                problems.add("not exactly one class", line, ", ".join(present) or "none")
    return names, rows


def _from_numbers(form: ManifestFormat, row: Sequence[str], line: int, problems: Problems) -> tuple[float, ...]:
    for column, text in zip(form.label_columns, row, strict=True):
        if text not in _VALUES:
            hint = "; blank means unknown" if text.lower() in ("nan", "na", "none", "null", "?") else ""
            problems.add(f"label '{column}' is not 1, 0, -1 or blank", line, f"'{text}'{hint}")
    return tuple(_VALUES.get(text, math.nan) for text in row)


def _from_names(
    form: ManifestFormat, cells: Sequence[str], lines: Sequence[int], problems: Problems
) -> tuple[tuple[str, ...], list[tuple[float, ...]]]:
    named = [[name.strip() for name in cell.split("|") if name.strip()] for cell in cells]
    occurring = sorted({name for row in named for name in row})
    names = tuple(form.label_names) or tuple(occurring)
    for name in names:
        if name not in occurring:
            _LOG.warning("label '%s' is in no row of column '%s'%s", name, form.label_column, nearest(name, occurring))
    ignored = [name for name in occurring if name not in names]
    misread = {name: f"'{name}'" for name in ignored if _words(name) & {wanted.casefold() for wanted in names}}
    for row, line in zip(named, lines, strict=True):
        for name in row:
            if name in misread:
                problems.add(
                    "labels are not spelt as in data.label_names, or not separated by '|'", line, misread[name]
                )
    if len(ignored) > len(misread):
        others = some_of([name for name in ignored if name not in misread])
        _LOG.warning(
            "column '%s' names labels that are not in data.label_names and do not count: %s", form.label_column, others
        )
    unknown = (math.nan,) * len(names)
    return names, [tuple(float(name in row) for name in names) if row else unknown for row in named]


def _words(cell: str) -> set[str]:
    """What a cell would name if case did not count and labels were separated otherwise."""
    return {name.strip().casefold() for name in re.split("[,;/]", cell)}
