"""Write a prepared image store: appended image by image, continued after any interruption, finished once."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dmlm import __version__
from dmlm.errors import ConfigError, DatasetFormatError
from dmlm.io.atomic import atomic_path, naming, write_json
from dmlm.io.lock import lock
from dmlm.io.store_check import check_shards, file_digest
from dmlm.io.store_format import (
    COLUMNS,
    FORMAT,
    INDEX,
    PLAN,
    SHARD_BYTES,
    STORE,
    Entry,
    fingerprint,
    index_line,
    read_header,
    read_index,
    shard_name,
)


class StoreWriter:
    """Write or go on writing the store of a list of images; use as a context manager.

    Args:
        folder: Folder of the store, empty or with a part of the same store.
        images: Name of each image, in the order in which they will be appended.
        size: Shorter side in pixels; part of what makes two stores the same.
        provenance: Plain data about the source (name of the data set, versions); kept in ``store.json``.
        shard_bytes: A shard is closed before it would grow beyond this.

    Attributes:
        entries: The images that the store has so far, ``entries[i]`` for ``images[i]``.
        finished: Whether the store was complete already.

    Raises:
        ConfigError: If the folder holds another store, or files that are none of a store, or another process writes it.
        DatasetFormatError: If the part that is there is damaged.
    """

    def __init__(
        self,
        folder: Path,
        images: Sequence[str],
        size: int,
        provenance: dict[str, Any],
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.folder, self.images, self._provenance, self._shard_bytes = folder, images, provenance, shard_bytes
        self.entries: list[Entry] = []
        name = next((image for image in images if "\n" in image or "\r" in image), None)
        if name is not None:
            msg = f"image {name!r}: a line break in a file name; rename the file"
            raise ConfigError(msg)
        self._plan = {
            "format": FORMAT,
            "size": size,
            "images": len(images),
            "fingerprint": fingerprint(images, size, str(shard_bytes)),
        }
        self._pixels: BinaryIO | None = None
        self._index: BinaryIO | None = None
        self._shard, self._filled = 0, 0
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock(
            folder, f"{folder}: another process is writing this store; wait for it, or choose another --out"
        )
        try:
            self.finished = self._open()
        except BaseException:
            self._unlock()
            raise

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files; the store stays as far as it was committed."""
        for file in (self._pixels, self._index):
            if file is not None:
                with contextlib.suppress(OSError):  # a full disk was told already; what is left over is cut off later
                    file.close()
        self._unlock()

    def append(self, rows: Sequence[NDArray[np.uint8] | str]) -> None:
        """Add the next images and commit them.

        Args:
            rows: For each image its pixels, uint8 ``[H, W]``, or why it could not be read.

        Raises:
            OSError: If the disk is full; what was committed before stays.
        """
        start = len(self.entries)
        entries = [self._put(self.images[start + place], row) for place, row in enumerate(rows)]
        self._sync(self._pixels)
        if self._index is None:
            self._index = (self.folder / INDEX).open("ab")
        with naming(self._index.name):
            self._index.write(b"".join(map(index_line, entries)))
        self._sync(self._index)
        self.entries += entries

    def mend(self, rows: dict[int, NDArray[np.uint8]]) -> None:
        """Give pixels to images that could not be read before; their pixels go behind all others.

        Args:
            rows: By position in ``images``, pixels uint8 ``[H, W]``.
        """
        changed = list(self.entries)
        for place, pixels in sorted(rows.items()):
            changed[place] = self._put(self.images[place], pixels)
        self._sync(self._pixels)
        if self._index is not None:
            self._index.close()
            self._index = None
        with atomic_path(self.folder / INDEX) as temporary, temporary.open("wb") as file:
            file.write(index_line(COLUMNS) + b"".join(map(index_line, changed)))
            self._sync(file)
        self.entries = changed

    def finish(self) -> dict[str, Any]:
        """Check every byte against its checksum and write ``store.json``.

        Returns:
            What was written.

        Raises:
            DatasetFormatError: If the disk gives back other bytes than were written.
        """
        if self._pixels is not None:
            self._pixels.close()
            self._pixels = None
        shards = check_shards(self.folder, self.entries)
        header = {
            **self._plan,
            "readable": sum(not entry.problem for entry in self.entries),
            "skipped": sum(bool(entry.problem) for entry in self.entries),
            "dmlm": __version__,
            "provenance": self._provenance,
            "index_sha256": file_digest(self.folder / INDEX),
            "shards": shards,
        }
        write_json(self.folder / STORE, header)
        (self.folder / PLAN).unlink(missing_ok=True)
        return header

    def reopen(self) -> None:
        """Make a finished store writable again, so that :meth:`mend` may change it."""
        write_json(self.folder / PLAN, {**self._plan, "provenance": self._provenance})
        (self.folder / STORE).unlink(missing_ok=True)
        self.finished = False
        self._cut()

    def _open(self) -> bool:
        """Find out how far the store is and cut off what was not committed."""
        done = (self.folder / STORE).is_file()
        if not done and not (self.folder / PLAN).is_file():
            strange = next((path for path in self.folder.iterdir() if not path.name.endswith(".part")), None)
            if strange is not None:
                msg = f"{self.folder} holds other files ({strange.name}); choose an empty folder with --out"
                raise ConfigError(msg)
        found = read_header(self.folder) if done else self._read_plan()
        self._compare(found)
        self._provenance = found.get("provenance", self._provenance)  # of the run that began
        for left in self.folder.glob(".*.part"):
            left.unlink()
        if not (self.folder / INDEX).is_file():
            with atomic_path(self.folder / INDEX) as temporary:
                temporary.write_bytes(index_line(COLUMNS))
        self.entries = list(read_index(self.folder))
        if done:
            (self.folder / PLAN).unlink(missing_ok=True)
        else:
            self._cut()
        return done

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _read_plan(self) -> dict[str, Any]:
        path = self.folder / PLAN
        if not path.is_file():
            write_json(path, {**self._plan, "provenance": self._provenance})
        try:
            plan = json.loads(path.read_text(encoding="utf-8"))
            return dict(plan.items())
        except (ValueError, AttributeError) as error:
            msg = f"{path}: damaged; delete {self.folder} and prepare again"
            raise DatasetFormatError(msg) from error

    def _compare(self, found: dict[str, Any]) -> None:
        changed = [key for key, value in self._plan.items() if found.get(key) != value]
        if changed:
            parts = ", ".join(f"{key} {found.get(key)} (now {self._plan[key]})" for key in changed)
            msg = (
                f"{self.folder} is the store of other images or options: {parts}; "
                "choose another --out, or delete it to start again"
            )
            raise ConfigError(msg)

    def _cut(self) -> None:
        """Cut index and shards behind the last index line that is whole and whose pixels are there."""
        sizes: dict[int, int] = {}
        for path in self.folder.glob("pixels-*.bin"):
            sizes[int(path.stem[7:])] = path.stat().st_size
        ends: dict[int, int] = {}
        kept = 0
        for entry, image in zip(self.entries, self.images, strict=False):
            end = entry.offset + entry.length
            if entry.image != image or end > sizes.get(entry.shard, 0):
                break
            ends[entry.shard] = max(ends.get(entry.shard, 0), end)
            kept += 1
        self.entries = self.entries[:kept]
        wanted = index_line(COLUMNS) + b"".join(map(index_line, self.entries))
        if (self.folder / INDEX).stat().st_size != len(wanted):
            with (self.folder / INDEX).open("rb+") as file:
                file.truncate(len(wanted))
        for shard, size in sizes.items():
            end = ends.get(shard, 0)
            if end == 0:
                (self.folder / shard_name(shard)).unlink()
            elif size > end:
                os.truncate(self.folder / shard_name(shard), end)
        self._shard = max((shard for shard, end in ends.items() if end), default=0)
        self._filled = ends.get(self._shard, 0)

    def _put(self, image: str, row: NDArray[np.uint8] | str) -> Entry:
        if isinstance(row, str):
            return Entry(image, self._shard, 0, 0, 0, 0, " ".join(row.split()) or "unreadable")
        data = np.ascontiguousarray(row, dtype=np.uint8).tobytes()
        if self._filled and self._filled + len(data) > self._shard_bytes:
            self._sync(self._pixels)
            if self._pixels is not None:
                self._pixels.close()
            self._pixels, self._shard, self._filled = None, self._shard + 1, 0
        if self._pixels is None:
            self._pixels = (self.folder / shard_name(self._shard)).open("ab")
        with naming(self._pixels.name):
            self._pixels.write(data)
        entry = Entry(image, self._shard, self._filled, *row.shape, zlib.crc32(data), "")  # type: ignore[misc, call-arg, arg-type]
        self._filled += len(data)
        return entry

    @staticmethod
    def _sync(file: BinaryIO | None) -> None:
        if file is not None:
            with naming(file.name):
                file.flush()
                os.fsync(file.fileno())
