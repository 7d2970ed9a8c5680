"""The files of a prepared image store, and how they are written so that they can be killed at any moment.

A store is a folder::

    store.json         written last: format, size, counts, shards with length and SHA-256, where the images came from
    index.csv          one line an image, in the order of the data set: image,shard,offset,height,width,crc32,problem
    pixels-00000.bin   uint8 grey values, image after image, row after row, nothing in between
    plan.json          only while the store is being made

Pixels reach the disk before their index line does, and everything behind the last whole index line is cut off before a
writer goes on. So whatever happened, the index tells the truth, and the finished files are the same bytes as if nothing
had happened. No clock and no machine is named in them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from dmlm.errors import DatasetFormatError, DatasetNotFoundError

FORMAT: Final = 1
"""Version of the layout; raised when an older ``dmlm`` could not read it."""

SHARD_BYTES: Final = 256 << 20
"""A shard is closed before it would grow beyond this: few open files, and parts that can be copied one by one."""

STORE: Final = "store.json"
PLAN: Final = "plan.json"
INDEX: Final = "index.csv"
COLUMNS: Final = ("image", "shard", "offset", "height", "width", "crc32", "problem")


class Entry(NamedTuple):
    """One line of the index. An image that could not be read has no pixels (height 0) and a ``problem``."""

    image: str
    shard: int
    offset: int
    height: int
    width: int
    crc32: int
    problem: str

    @property
    def length(self) -> int:
        """Bytes of pixels."""
        return self.height * self.width


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"pixels-{number:05d}.bin"


def index_line(entry: Sequence[object]) -> bytes:
    """Return an index line with its newline."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(entry)
    return text.getvalue().encode()


def read_index(folder: Path) -> Iterator[Entry]:
    """Yield the whole lines of a store's index; a line that was cut off ends it.

    Raises:
        DatasetFormatError: If a line that is not the last makes no sense.
    """
    path = folder / INDEX
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.endswith(b"\n"):
                return
            cells = next(csv.reader([raw.decode(errors="replace")]))
            if number == 1:
                if tuple(cells) != COLUMNS:
                    break
                continue
            try:
                yield Entry(cells[0], *map(int, cells[1:6]), cells[6])  # type: ignore[arg-type, misc, call-arg]
            except (ValueError, IndexError) as error:
                msg = f"{path}: line {number} is damaged; delete the folder and run dmlm data prepare again"
                raise DatasetFormatError(msg) from error
        else:
            return
    msg = f"{path}: expected the header {','.join(COLUMNS)}; delete the folder and run dmlm data prepare again"
    raise DatasetFormatError(msg)


def read_header(folder: Path) -> dict[str, Any]:
    """Read ``store.json``.

    Raises:
        DatasetNotFoundError: If the folder holds no store, or one that is not finished.
        DatasetFormatError: If the file is damaged, or of a newer format.
    """
    path = folder / STORE
    if not path.is_file():
        if (folder / PLAN).is_file():
            msg = f"{folder}: this store is not finished; run the same dmlm data prepare again, it goes on from there"
        else:
            msg = f"{folder}: no prepared store ({STORE}) here; make one with dmlm data prepare ROOT --out {folder}"
        raise DatasetNotFoundError(msg)
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        found = int(header["format"])
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path}: damaged ({error}); copy it again or run dmlm data prepare again"
        raise DatasetFormatError(msg) from error
    if found > FORMAT:
        msg = f"{path}: store format {found}, this dmlm reads up to {FORMAT}: pip install --upgrade dmlm"
        raise DatasetFormatError(msg)
    return header  # type: ignore[no-any-return]


def fingerprint(images: Sequence[str], size: int, *more: str) -> str:
    """Return a short digest of what a store is made of, so that a half-made one is not continued with other images."""
    digest = hashlib.sha256("\0".join((str(FORMAT), str(size), *more)).encode())
    for image in images:
        digest.update(b"\0" + os.fsencode(image))
    return digest.hexdigest()[:32]
