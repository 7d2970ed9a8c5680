"""Read a prepared image store: grey values as they lie on disk, cached by the system for all processes, never decoded.

One positioned read an image and not a mapped array: a mapping reads ahead at every fault (megabytes on some disks, for
images that nobody asked for), counts the whole store as the process's own memory, and kills it where a file was cut.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmlm.errors import DatasetFormatError, ImageReadError
from dmlm.io.store_check import check_shards, file_digest
from dmlm.io.store_format import INDEX, read_header, read_index, shard_name

_DIGEST_BYTES = 8


class ImageStore:
    """The images of a store that ``dmlm data prepare`` made (see :mod:`dmlm.io.store_format`).

    It implements :class:`dmlm.datasets.table.PixelSource`. Names are kept as 8-byte digests: 28 bytes an image, so that
    the store of 377,110 images costs 11 MB in each process; files are opened by the process that reads.

    Args:
        folder: The store.

    Attributes:
        size: Shorter side of the images in pixels; an image that was smaller kept its own.
        header: What ``store.json`` says.

    Raises:
        DatasetNotFoundError: If there is no finished store.
        DatasetFormatError: If it is damaged, or files of it are missing.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.header: dict[str, Any] = read_header(self.folder)
        self.size = int(self.header["size"])
        for shard in self.header["shards"]:
            path = self.folder / shard["file"]
            found = path.stat().st_size if path.is_file() else -1
            if found != shard["bytes"]:
                what = "is missing" if found < 0 else f"has {found:,} bytes, expected {shard['bytes']:,}"
                msg = f"{path} {what}; copy the store again or run dmlm data prepare again"
                raise DatasetFormatError(msg)
        self._load(int(self.header["images"]))
        self._files: dict[int, io.FileIO] = {}

    def __len__(self) -> int:
        """Return the number of images, without those that could not be read."""
        return int(np.count_nonzero(self._heights))

    def __contains__(self, image: object) -> bool:
        """Whether the store has the pixels of this image."""
        row = self._row(image) if isinstance(image, str) else -1
        return row >= 0 and bool(self._heights[row])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open files behind: a worker process opens its own."""
        return {**self.__dict__, "_files": {}}

    def read(self, image: str, min_size: int | None = None) -> NDArray[np.uint8]:  # noqa: ARG002 - as stored
        """Return a copy of one image.

        Args:
            image: Its path relative to the root of the data set, as the table names it.
            min_size: Not used: a store has one size.

        Returns:
            uint8 ``[H, W]``.

        Raises:
            ImageReadError: If the store does not have it.
        """
        row = self._row(image)
        if row < 0 or not self._heights[row]:
            why = "is not in it" if row < 0 else "could not be read when it was made (see its index.csv)"
            msg = f"{self.folder}: image '{image}' {why}; run dmlm data prepare again, or leave the image out"
            raise ImageReadError(msg)
        height, width = int(self._heights[row]), int(self._widths[row])
        pixels = np.empty((height, width), np.uint8)
        found = _read_at(self._file(int(self._shard_of[row])), pixels, int(self._offsets[row]))
        if found != pixels.size:
            msg = f"{self.folder}: image '{image}' is cut off in its shard; copy the store again"
            raise ImageReadError(msg)
        return pixels

    def _file(self, shard: int) -> io.FileIO:
        file = self._files.get(shard)
        if file is None:
            # setdefault: of two threads that come here together, both read from the file that stays
            file = self._files.setdefault(shard, io.FileIO(self.folder / shard_name(shard)))
        return file

    def shape(self, image: str) -> tuple[int, int]:
        """Return height and width of an image as stored, ``(0, 0)`` where it could not be read."""
        row = self._row(image)
        if row < 0:
            msg = f"{self.folder}: image '{image}' is not in it; run dmlm data prepare again"
            raise ImageReadError(msg)
        return int(self._heights[row]), int(self._widths[row])

    def missing(self, images: Iterable[str]) -> list[str]:
        """Return which of these images the store cannot give."""
        return [image for image in images if image not in self]

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each image that could not be read, with the reason."""
        return ((entry.image, entry.problem) for entry in read_index(self.folder) if entry.problem)

    def names(self) -> Iterator[str]:
        """Yield the names of all images that have pixels, in the order of the data set."""
        return (entry.image for entry in read_index(self.folder) if not entry.problem)

    def verify(self) -> None:
        """Compare every byte with its checksum; reads the whole store.

        Raises:
            DatasetFormatError: Naming the first image or shard that differs.
        """
        if file_digest(self.folder / INDEX) != self.header["index_sha256"]:
            msg = f"{self.folder / INDEX}: differs from its checksum; copy the store again"
            raise DatasetFormatError(msg)
        for found, known in zip(
            check_shards(self.folder, list(read_index(self.folder))), self.header["shards"], strict=True
        ):
            if found != known:
                msg = f"{self.folder / known['file']}: differs from its checksum; copy the store again"
                raise DatasetFormatError(msg)

    def _load(self, count: int) -> None:
        digests, shards, offsets = np.zeros(count, np.uint64), np.zeros(count, np.int32), np.zeros(count, np.int64)
        heights, widths = np.zeros(count, np.int32), np.zeros(count, np.int32)
        row = -1
        for row, entry in enumerate(read_index(self.folder)):
            if row >= count:
                break
            digests[row], shards[row], offsets[row] = _digest(entry.image), entry.shard, entry.offset
            heights[row], widths[row] = entry.height, entry.width
        if row + 1 != count:
            msg = f"{self.folder / INDEX}: expected {count:,} images, found {row + 1:,}; copy the store again"
            raise DatasetFormatError(msg)
        order = np.argsort(digests)
        self._digests, self._shard_of, self._offsets = digests[order], shards[order], offsets[order]
        self._heights, self._widths = heights[order], widths[order]

    def _row(self, image: str) -> int:
        digest = np.uint64(_digest(image))
        row = int(self._digests.searchsorted(digest))
        return row if row < len(self._digests) and self._digests[row] == digest else -1


def _read_at(file: io.FileIO, pixels: NDArray[np.uint8], offset: int) -> int:
    """Fill an array from a place of a file; return how many bytes there were."""
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [pixels.data], offset)
    with io.FileIO(file.name) as own:  # without positioned reads, threads must not share a position
        own.seek(offset)
        return own.readinto(pixels.data)


def _digest(image: str) -> int:
    """8 bytes of BLAKE2: among half a million names two collide with a chance of one in a hundred million."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(image), digest_size=_DIGEST_BYTES).digest(), "big")
