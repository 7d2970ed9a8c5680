"""Read the header and the rows of a CSV of one's own; what is wrong with the file is said in one line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from dmlm.datasets.csv_columns import csv_rows
from dmlm.errors import DatasetFormatError, DatasetNotFoundError
from dmlm.io.bounded import MAX_REPORT_BYTES


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield ``(line, values)`` of the header (stripped names) and of every row; blank lines are passed over.

    Args:
        path: The file: UTF-8, with or without byte order mark.

    Raises:
        DatasetNotFoundError: If there is no such file.
        DatasetFormatError: If it is no UTF-8 CSV, a cell is longer than any report, or the header is empty or names a
            column twice.
    """
    if not path.is_file():
        msg = f"{path}: no such file; expected a CSV with one image a row"
        raise DatasetNotFoundError(msg)
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv_rows(file, strict=True)
            yield 1, _header(path, next(reader, []))
            line = reader.line_num + 1  # a quoted report may span lines: what counts is where its row begins
            for values in reader:
                if values:
                    yield line, values
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        msg = f"{path}: not UTF-8 text (byte {error.start}); save it as 'CSV UTF-8'"
        raise DatasetFormatError(msg) from error
    except csv.Error as error:
        if "field limit" in str(error):
            msg = (
                f"{path}: line {line}: a cell has more than {MAX_REPORT_BYTES:,} characters, which no report has; "
                "shorten it, or close its quote"
            )
        else:
            where = f"{path}: line {reader.line_num} is not CSV ({error})"
            msg = f"{where}; quote texts that contain commas, quotes or line ends"
        raise DatasetFormatError(msg) from error


def other_separator(header: list[str]) -> str:
    """Return what separates the columns of a header that was read as one cell, for a message; ``""`` for commas."""
    if len(header) != 1:
        return ""
    return next((name for mark, name in ((";", "semicolons"), ("\t", "tabs")) if mark in header[0]), "")


def _header(path: Path, values: list[str]) -> list[str]:
    names = [name.strip() for name in values]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not any(names):
        msg = f"{path}: the first line is empty; expected the names of the columns"
        raise DatasetFormatError(msg)
    if twice:
        msg = f"{path}: the header names the column '{twice[0]}' more than once; rename one of them"
        raise DatasetFormatError(msg)
    return names
