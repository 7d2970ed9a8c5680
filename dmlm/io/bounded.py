"""Read archives and files of strangers without trusting their sizes or names.

A bomb is refused before it fills the memory, and a member whose path leads out of the archive's folder in any case.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Final

from dmlm.errors import DatasetFormatError

MAX_REPORT_BYTES: Final = 4 << 20
"""Largest report that is read: a long one has 10 KB."""

MAX_TABLE_BYTES: Final = 2 << 30
"""Largest table inside a gzip: those of MIMIC-CXR have 60 MB."""


def read_at_most(file: IO[bytes], limit: int, name: str) -> bytes:
    """Read a file or a member of an archive to its end.

    Args:
        file: What to read; an archive unpacks while it is read.
        limit: Bytes that are allowed.
        name: Its name, for the message.

    Raises:
        DatasetFormatError: If there are more.
    """
    data = file.read(limit + 1)
    if len(data) > limit:
        raise DatasetFormatError(_too_large(name, limit))
    return data


def read_file(path: Path, limit: int) -> bytes:
    """Read a small file; a pipe or a device, which may never end, is refused.

    Raises:
        DatasetFormatError: If it is larger, or no regular file.
        OSError: If it cannot be opened.
    """
    # not blocking, so that a pipe without a writer does not wait for one
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            msg = f"{path}: is a pipe or a device, expected a file; take it away"
            raise DatasetFormatError(msg)
        return read_at_most(file, limit, str(path))


def inflate(data: bytes, limit: int, name: str) -> bytes:
    """Unpack raw deflated bytes, as in a zip file.

    Raises:
        DatasetFormatError: If more than ``limit`` bytes come out.
        zlib.error: If the data are damaged.
    """
    machine = zlib.decompressobj(-15)
    plain = machine.decompress(data, limit + 1)
    if len(plain) > limit:
        raise DatasetFormatError(_too_large(name, limit))
    return plain


def check_member(archive: Path, name: str) -> None:
    """Refuse an archive with a name that leads out of the folder it would be unpacked into.

    Raises:
        DatasetFormatError: Naming the member.
    """
    if ".." not in name and name[:1] not in "/\\" and ":" not in name:
        return  # nearly all of a hundred thousand
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or path.parts[0].endswith(":"):
        msg = f"{archive}: the member '{name[:100]}' leads out of its folder; delete this archive"
        raise DatasetFormatError(msg)


class BoundedGzip(gzip.GzipFile):
    """A gzip file that stops when more than :data:`MAX_TABLE_BYTES` have come out of it.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self._path, self._left = path, MAX_TABLE_BYTES

    def read1(self, size: int = -1) -> bytes:
        """Read some bytes, as a text wrapper does.

        Raises:
            DatasetFormatError: If there are too many.
        """
        data = super().read1(size)
        self._left -= len(data)
        if self._left < 0:
            raise DatasetFormatError(_too_large(str(self._path), MAX_TABLE_BYTES))
        return data


@contextmanager
def opened_table(path: Path) -> Iterator[IO[str]]:
    """Open a table or a list as UTF-8 text, plain or gzipped; damage anywhere in it becomes one line.

    Raises:
        DatasetFormatError: While the block runs, if the file cannot be read, is damaged, or is no text.
    """
    try:
        with BoundedGzip(path) if path.suffix == ".gz" else path.open("rb") as raw:
            yield io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        msg = f"{path}: the file is damaged or cut off ({error}); download it again"
        raise DatasetFormatError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path}: not a text file in UTF-8 ({error.reason}); download it again"
        raise DatasetFormatError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        raise DatasetFormatError(msg) from error
    except csv.Error as error:
        msg = f"{path}: not a CSV ({error}); download it again"
        raise DatasetFormatError(msg) from error


def _too_large(name: str, limit: int) -> str:
    return f"{name}: holds more than {limit:,} bytes, which no such file has; download it again, or take it away"
