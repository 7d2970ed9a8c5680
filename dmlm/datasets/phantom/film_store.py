"""Films and masks of a folder of phantoms: read where they are drawn, drawn where they are not."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.phantom.studies import draw_study

logger = logging.getLogger(__name__)

Film = tuple[NDArray[np.uint8], dict[str, NDArray[np.bool_]]]

IMAGES: Final = "images.npy"
MASKS: Final = "masks.npy"
CHECKSUMS: Final = "checksums.npy"
"""One CRC-32 a study, of its film and masks; 0 where they are not drawn yet."""


class FilmStore:
    """The pixels of phantoms, kept in arrays that have their full size from the beginning.

    Whoever asks for a film first draws it, and it stays. The checksum is written last and compared when a process first
    reads a film: what a killed process or a crashed machine left half written is drawn again, and so is what decayed
    on disk. Several processes may read and draw at once: the same film is the same bytes, whoever draws it.

    Args:
        folder: A folder of :func:`dmlm.datasets.phantom.store.plan_phantoms`.
        records: All lines of its ``studies.jsonl``.
        image_size: Height and width of its films in pixels.
        seed: Its seed.
    """

    def __init__(self, folder: Path, records: Sequence[Mapping[str, Any]], image_size: int, seed: int) -> None:
        # absolute: it is opened again in worker processes, and to write
        self.folder, self.image_size, self.seed = folder.absolute(), image_size, seed
        self._studies = [str(record["study_id"]) for record in records]
        self._mask_rows: list[dict[str, int]] = [dict(record["mask_rows"]) for record in records]
        self._refused = False
        self._open()

    def __len__(self) -> int:
        return len(self._studies)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the memory maps out: a worker process opens its own, instead of getting a copy of all pixels."""
        maps = ("_images", "_masks", "_sums", "_whole")
        return {name: value for name, value in self.__dict__.items() if name not in maps}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    @property
    def num_drawn(self) -> int:
        """Number of films that are drawn by now, by any process."""
        return int(np.count_nonzero(self._sums))

    def image(self, row: int) -> NDArray[np.uint8]:
        """Return a copy of the film of study ``row`` (line of ``studies.jsonl``), uint8 ``[H, W]``."""
        drawn = self.draw(row)
        return np.array(self._images[row]) if drawn is None else drawn[0]

    def masks(self, row: int) -> dict[str, NDArray[np.uint8]]:
        """Return the place of each finding that is there, uint8 ``[H, W]``, 0 or 1."""
        drawn = self.draw(row)
        if drawn is not None:
            return {name: mask.astype(np.uint8) for name, mask in drawn[1].items()}
        size = self.image_size
        return {
            name: np.unpackbits(self._masks[place], count=size * size).reshape(size, size)
            for name, place in self._mask_rows[row].items()
        }

    def draw(self, row: int) -> Film | None:
        """Draw the film and the masks of study ``row``, unless they are there.

        Returns:
            None; film and masks where the folder cannot be written, or is gone, so that they are not kept (a warning
            says so once).
        """
        if self._whole[row]:
            return None
        if not self._sums[row] or self._sums[row] != self._checksum(row):
            film = draw_study(self.seed, self._studies[row], self.image_size)
            if not self._may_write():
                return film
            self._images[row] = film[0]
            for name, place in self._mask_rows[row].items():
                self._masks[place] = np.packbits(film[1][name])
            self._sums[row] = self._checksum(row)
        self._whole[row] = True
        return None

    def _checksum(self, row: int) -> int:
        places = self._mask_rows[row].values()
        masks = self._masks[min(places) : max(places) + 1].tobytes() if places else b""
        return zlib.crc32(masks, zlib.crc32(self._images[row].tobytes())) or 1

    def _open(self, mode: Literal["r", "r+"] = "r") -> None:
        self._images, self._masks, self._sums = (_map(self.folder / name, mode) for name in (IMAGES, MASKS, CHECKSUMS))
        self._whole = np.zeros(len(self._studies), np.bool_)

    def _may_write(self) -> bool:
        if self._refused or self._sums.flags.writeable:
            return not self._refused
        try:
            self._open("r+")
        except OSError as error:
            self._refused = True
            logger.warning(
                "%s: cannot be written (%s): films that are not drawn yet are drawn each time they are read; "
                "DMLM_CACHE may name another folder",
                self.folder,
                error.strerror,
            )
        return not self._refused


def _map(path: Path, mode: Literal["r", "r+"]) -> NDArray[Any]:
    """Open an array as a memory map; an empty one (no finding anywhere) cannot be mapped."""
    try:
        return np.asarray(np.load(path, mmap_mode=mode))
    except ValueError:
        return np.asarray(np.load(path))
