"""Labels of a CSV: one numeric column each, or one column with the names of those that are present."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from dmlm.datasets.manifest_format import NUMBER, ManifestFormat, spelling
from dmlm.datasets.problems import Problems, nearest
from dmlm.errors import DatasetFormatError, some_of
from dmlm.reports.knowledge import canonical_name

_LOG = logging.getLogger(__name__)
_SHOWN: Final = 5
_VALUES: Final = {
    "": math.nan,
    **{text: float(text) for text in ("0", "1", "-1", "0.0", "1.0", "-1.0", "0.", "1.", "-1.")},
}
_GRADES: Final = (
    ("none", "no", "absent", "normal", "negative"),
    ("trace", "minimal"),
    ("mild", "slight"),
    ("moderate",),
    ("severe", "marked"),
    ("very severe", "critical"),
)
_RANKS: Final[dict[str, float]] = {word: rank for rank, words in enumerate(_GRADES) for word in words}
_NUMBERED: Final = re.compile(r"(\D+)([0-9]+)")


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
    _warn_of_synonyms(problems.source, names)
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
    first: dict[str, int] = {}  # line in which a name is met first
    for row, line in zip(named, lines, strict=True):
        for name in row:
            first.setdefault(name, line)
    occurring = sorted(first)
    names = tuple(form.label_names) or ascending(occurring) or tuple(occurring)
    if not form.label_names:
        _refuse_twins(f"{problems.source}: column '{form.label_column}'", first)
    for name in names:
        if name not in first:
            _LOG.warning("label '%s' is in no row of column '%s'%s", name, form.label_column, nearest(name, occurring))
    ignored = [name for name in occurring if name not in names]
    meant = {name: _meant(name, names) for name in ignored}
    misread: set[str] = set()
    for row, line in zip(named, lines, strict=True):
        for name in row:
            wanted = meant.get(name)
            if wanted is not None and wanted not in row:
                misread.add(name)
                detail = f"'{name}' for '{wanted}'" if wanted else f"'{name}'"
                problems.add("labels are not spelt as in data.label_names, or not separated by '|'", line, detail)
    others = [name for name in ignored if name not in misread]
    if others:
        _LOG.warning(
            "column '%s' names labels that are not in data.label_names and do not count: %s",
            form.label_column,
            some_of(others),
        )
    unknown = (math.nan,) * len(names)
    return names, [tuple(float(name in row) for name in names) if row else unknown for row in named]


def ascending(names: Sequence[str]) -> tuple[str, ...] | None:
    """Return grades from the lowest to the highest: numbers, words before a number (``grade 2``), or usual words.

    Args:
        names: The grades in any order.

    Returns:
        None where their order is not known.
    """
    ranks: list[float | None] = [_RANKS.get(name.casefold()) for name in names]
    if all(NUMBER.fullmatch(name) for name in names):
        ranks = [float(name) for name in names]
    elif all(numbered := [_NUMBERED.fullmatch(name) for name in names]):
        parts = [match.groups() for match in numbered if match]
        if len({word.casefold() for word, _ in parts}) == 1:
            ranks = [float(number) for _, number in parts]
    known = [rank for rank in ranks if rank is not None]
    if len(set(known)) != len(names):
        return None
    return tuple(name for _, name in sorted(zip(known, names, strict=True)))


def _refuse_twins(where: str, first: Mapping[str, int]) -> None:
    """Refuse names that differ in their spelling only, or that reports take for one finding.

    Each would be a label of its own, and absent where the other one stands.
    """
    twins = _twins(first)
    if not twins:
        return
    groups = [" and ".join(f"'{name}' (line {first[name]})" for name in group) for group in twins]
    synonyms = any(len({spelling(name) for name in group}) > 1 for group in twins)
    remedy = "; synonyms that differ here may both be named in data.label_names" if synonyms else ""
    msg = f"{where} names one label in several ways: {'; '.join(groups[:_SHOWN])}; spell it alike in all rows{remedy}"
    raise DatasetFormatError(msg)


def _warn_of_synonyms(source: str, names: Sequence[str]) -> None:
    """Say which labels reports merge; who names both means two labels, such as ``Fracture`` and ``Rib Fracture``."""
    for group in _twins(names):
        _LOG.warning(
            "%s: the labels %s stay apart, but reports and prompts take them all for '%s'; name one of them if they "
            "mean the same",
            source,
            ", ".join(f"'{name}'" for name in group),
            canonical_name(group[0]),
        )


def _twins(names: Iterable[str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_finding(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _finding(name: str) -> str:
    """What all spellings and synonyms of a label share."""
    return spelling(canonical_name(name))


def _meant(name: str, names: Sequence[str]) -> str | None:
    """Return which of ``names`` another name means, ``""`` where it holds several of them; None if it means none."""
    for wanted in names:
        if _finding(name) == _finding(wanted):
            return wanted
    return "" if _words(name) & {wanted.casefold() for wanted in names} else None


def _words(cell: str) -> set[str]:
    """What a cell would name if case did not count and labels were separated otherwise."""
    return {name.strip().casefold() for name in re.split("[,;/]", cell)}
