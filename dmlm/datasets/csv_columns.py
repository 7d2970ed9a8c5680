"""Columns of a CSV, plain or gzipped, read by name; what is wrong is said with file and line."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.problems import nearest
from dmlm.errors import DatasetFormatError, some_of
from dmlm.io.bounded import MAX_REPORT_BYTES, opened_table

if TYPE_CHECKING:
    from _csv import Reader

LABEL_VALUES: Final[Mapping[str, float]] = {
    "": np.nan,
    **{text: float(text) for text in ("1.0", "0.0", "-1.0", "1", "0", "-1")},
}
"""How the releases write labels: 1 present, 0 absent, -1 uncertain, blank not mentioned."""

_SHORT: Final = 8
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")


def csv_rows(file: IO[str], strict: bool = False) -> Reader:
    """Return a reader of the rows of a CSV whose cells may be as long as a report may be.

    Args:
        file: The file, opened with ``newline=""``.
        strict: Whether bad quotes are errors.
    """
    # Python's own limit is 131,072 characters, less than reports that dmlm reports build reads; it is one per process
    csv.field_size_limit(MAX_REPORT_BYTES)
    return csv.reader(file, strict=strict)


def find_table(folders: Iterable[Path], *names: str) -> Path | None:
    """Return the first file of one of these names, plain or with ``.gz``, in one of the folders; None if there is none.

    Unpacked files come before gzipped ones.
    """
    for folder in folders:
        for name in names:
            for path in (folder / name, folder / f"{name}.gz"):
                if path.is_file():
                    return path
    return None


def read_columns(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, list[str]]:
    """Read columns of a CSV as stripped strings; the row at index ``i`` is line ``i + 2`` of the file.

    Names are compared after white space and a byte order mark are taken off; columns that nobody asked for may be
    there. Short cells that repeat share their memory.

    Args:
        path: The file; a name that ends in ``.gz`` is unpacked while reading.
        required: Names that must be there.
        optional: Names that may be missing.

    Returns:
        The cells of each required column and of the optional ones that are there.

    Raises:
        DatasetFormatError: If the file is damaged, a column is missing or occurs twice, or a row has another number of
            fields than the header.
    """
    with opened_table(path) as file:
        reader = csv_rows(file)
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in required if name not in header]
        if missing:
            hint = nearest(missing[0], header)
            msg = f"{path}: has no column '{missing[0]}'{hint or '; it has ' + (some_of(header) or 'no header')}"
            raise DatasetFormatError(msg)
        wanted = [name for name in (*required, *optional) if name in header]
        twice = [name for name in wanted if header.count(name) > 1]
        if twice:
            msg = f"{path}: column '{twice[0]}' occurs twice in the header; keep one"
            raise DatasetFormatError(msg)
        columns: dict[str, list[str]] = {name: [] for name in wanted}
        targets = [(header.index(name), column) for name, column in columns.items()]
        shared: dict[str, str] = {}
        for line, row in enumerate(reader, start=2):
            if len(row) != len(header):
                if not any(row) and not any(any(rest) for rest in reader):
                    break  # blank lines at the end
                msg = f"{path}, line {line}: has {len(row)} fields, the header has {len(header)}; mend this line"
                raise DatasetFormatError(msg)
            for place, column in targets:
                cell = row[place].strip()
                column.append(shared.setdefault(cell, cell) if len(cell) <= _SHORT else cell)
    return columns


def to_labels(path: Path, columns: Mapping[str, Sequence[str]], names: Sequence[str]) -> NDArray[np.float32]:
    """Turn label columns into float32 ``[N, C]``: 1 present, 0 absent, -1 uncertain, nan blank.

    Raises:
        DatasetFormatError: If a cell holds anything else.
    """
    labels = np.empty((len(columns[names[0]]), len(names)), np.float32)
    for place, name in enumerate(names):
        unknown = set(columns[name]).difference(LABEL_VALUES)
        if unknown:
            line, cell = next((i, cell) for i, cell in enumerate(columns[name], start=2) if cell in unknown)
            msg = f"{path}, line {line}: label '{name}' is '{cell}'; expected 1.0, 0.0, -1.0 or blank"
            raise DatasetFormatError(msg)
        labels[:, place] = [LABEL_VALUES[cell] for cell in columns[name]]
    return labels


def to_integers(path: Path, name: str, cells: Sequence[str]) -> NDArray[np.int64]:
    """Turn a column of identifiers into int64 ``[N]``.

    Raises:
        DatasetFormatError: If a cell is not a whole number of at most 18 digits.
    """
    for line, cell in enumerate(cells, start=2):
        if not _WHOLE.fullmatch(cell):
            msg = f"{path}, line {line}: {name} is '{cell[:40]}'; expected a whole number"
            raise DatasetFormatError(msg)
    return np.array([int(cell) for cell in cells], dtype=np.int64)


def check_unique(path: Path, name: str, cells: Sequence[str] | NDArray[np.int64]) -> None:
    """Refuse a column in which a value occurs twice.

    Raises:
        DatasetFormatError: Naming the value and both lines.
    """
    if len(set(cells if isinstance(cells, list) else np.asarray(cells).tolist())) == len(cells):
        return
    seen: dict[object, int] = {}
    for line, cell in enumerate(cells, start=2):
        if cell in seen:
            msg = f"{path}, line {line}: {name} '{cell}' is listed already in line {seen[cell]}; keep one of these rows"
            raise DatasetFormatError(msg)
        seen[cell] = line
