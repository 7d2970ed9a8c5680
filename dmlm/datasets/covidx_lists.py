"""The lists of COVIDx: one image a line, three to five fields, read from the right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from dmlm.datasets.text_lines import read_lines
from dmlm.errors import DatasetFormatError

LABELS: Final[Mapping[tuple[str, ...], tuple[str, ...]]] = {
    ("positive", "negative"): ("COVID-19",),
    ("normal", "pneumonia", "covid-19"): ("Normal", "Pneumonia", "COVID-19"),
}
"""Vocabulary of a version's classes (lower case) -> names of its labels."""

_SOURCES: Final = {"rnsa": "rsna"}
_CLASSES: Final = frozenset(name for vocabulary in LABELS for name in vocabulary)


class Row(NamedTuple):
    """One image of a list: patient, file name, class (lower case), source (``""`` where the list has none)."""

    patient: str
    file: str
    kind: str
    source: str


def parse_line(line: str) -> Row | None:
    """Parse a line, None if it is not one of COVIDx.

    Fields are counted from the right, since a patient's name may hold spaces
    (``COVID 1 COVID(1).png positive sirm``): a last field that is a class means that the source is not given.
    """
    fields = line.split()
    if len(fields) >= 3 and fields[-1].lower() in _CLASSES:
        *patient, file, kind = fields
        source = ""
    elif len(fields) >= 4 and fields[-2].lower() in _CLASSES:
        *patient, file, kind, source = fields
    else:
        return None
    return Row(" ".join(patient), file, kind.lower(), _SOURCES.get(source.lower(), source.lower()))


def read_list(path: Path) -> list[Row]:
    """Read a list; lines that are there twice count once.

    Raises:
        DatasetFormatError: If a line is none of COVIDx, or an image is listed with two classes or patients.
    """
    rows: dict[str, Row] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        row = parse_line(line)
        if row is None:
            known = ", ".join(sorted(_CLASSES))
            msg = f"{path}, line {number}: '{line.strip()[:80]}' is not 'patient file class [source]'; classes: {known}"
            raise DatasetFormatError(msg)
        old = rows.setdefault(row.file, row)
        if (old.patient, old.kind) != (row.patient, row.kind):
            msg = f"{path}, line {number}: '{row.file}' is listed before as {old.patient} {old.kind}; keep one line"
            raise DatasetFormatError(msg)
    if not rows:
        msg = f"{path}: the list is empty; download it again"
        raise DatasetFormatError(msg)
    return list(rows.values())


def vocabulary_of(kinds: Mapping[str, str]) -> tuple[str, ...]:
    """Return the vocabulary that classes belong to.

    Args:
        kinds: Class -> the list in which it occurs.

    Raises:
        DatasetFormatError: If classes of two versions are mixed.
    """
    for vocabulary in LABELS:
        if set(kinds) <= set(vocabulary):
            return vocabulary
    shown = ", ".join(f"{kind} ({source})" for kind, source in kinds.items())
    msg = f"the lists mix classes of several versions of COVIDx: {shown}; take all lists from one version"
    raise DatasetFormatError(msg)
