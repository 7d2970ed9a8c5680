"""Many image files at once: which cannot be read, and small copies of all in one memory-mapped file.

Both are remembered in the cache folder under a fingerprint of paths, sizes and modification times, so that a changed
file is looked at again and an unchanged data set costs one ``stat`` a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.transforms import EvalTransform
from dmlm.errors import ConfigError, ImageReadError
from dmlm.io.atomic import atomic_path, write_json
from dmlm.io.cache import cache_dir
from dmlm.io.images import check_image, read_grey

_VERSION: Final = 1  # of what is written; a change makes old files unused
_THREADS: Final = 8  # Pillow decodes without the interpreter lock, and network disks have latency
_BAR_FROM: Final = 500
_T = TypeVar("_T")


def find_unreadable(paths: Sequence[str]) -> dict[str, str]:
    """Return which of the files are no whole images, with the reason (see :func:`dmlm.io.images.check_image`)."""
    unique = sorted(set(paths))
    if not unique:
        return {}
    record = cache_dir() / "checked" / f"{_fingerprint(unique)}.json"
    try:
        recorded = json.loads(record.read_text(encoding="utf-8"))["unreadable"]
        # a disk that failed for a moment, or permissions, leave size and time of a file as they were
        known: dict[str, str] = {path: answer for path in recorded if (answer := _complaint(path))}
    except (OSError, ValueError, KeyError):
        answers = list(_in_threads(_complaint, unique, "checking images"))
        known = {path: answer for path, answer in zip(unique, answers, strict=True) if answer}
        try:
            write_json(record, {"version": _VERSION, "files": len(unique), "unreadable": known})
        except OSError:  # a cache that cannot be written only costs the check next time
            return known
    return known


class ImageCache:
    """Square uint8 copies of images in one ``.npy`` file, made once and shared by epochs, runs and processes.

    Args:
        paths: Image files.
        size: Side of the copies in pixels: the centre square of each image, as :class:`EvalTransform` makes it.

    Raises:
        ImageReadError: If an image cannot be read.
        ConfigError: If there is no room for the file.
    """

    def __init__(self, paths: Sequence[str], size: int) -> None:
        unique = sorted(set(paths))
        self.size = size
        self.file = cache_dir() / "images" / f"{_fingerprint(unique, str(size))}-{size}.npy"
        self._places = {path: place for place, path in enumerate(unique)}
        self._pixels: NDArray[np.uint8] | None = None
        if not self.file.is_file():
            self._make(unique)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the pixels behind: a worker process maps the file itself instead of receiving a copy."""
        return {**self.__dict__, "_pixels": None}

    def read(self, path: str) -> NDArray[np.uint8]:
        """Return the copy of one image, uint8 ``[size, size]``."""
        if self._pixels is None:
            self._pixels = np.load(self.file, mmap_mode="r")
        return np.array(self._pixels[self._places[path]])

    def _make(self, paths: Sequence[str]) -> None:
        shrink = EvalTransform(self.size)

        def copy(path: str) -> NDArray[np.uint8]:
            return shrink(read_grey(path, min_size=self.size), None).image

        needed = len(paths) * self.size**2
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.file.parent).free
            if needed > free:
                msg = f"{needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
                raise OSError(None, msg)  # noqa: TRY301 - the same message as for a folder that cannot be written
            with atomic_path(self.file) as temporary:
                shape = (len(paths), self.size, self.size)
                pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
                for place, small in enumerate(_in_threads(copy, paths, f"caching images at {self.size} px")):
                    pixels[place] = small
                pixels.flush()
                del pixels
        except ImageReadError:
            raise
        except OSError as error:
            why = error.strerror
            msg = f"{self.file.parent}: cannot cache images here ({why}); set DMLM_CACHE, or cache_images: false"
            raise ConfigError(msg) from error


def _complaint(path: str) -> str:
    try:
        check_image(path)
    except ImageReadError as error:
        return str(error)
    return ""


def _fingerprint(paths: Sequence[str], *more: str) -> str:
    digest = hashlib.sha256("\0".join((str(_VERSION), *more)).encode())
    for path in paths:
        state = Path(path).stat()
        digest.update(f"\0{os.fspath(path)}\0{state.st_size}\0{state.st_mtime_ns}".encode(errors="surrogatepass"))
    return digest.hexdigest()[:24]


def _in_threads(function: Callable[[str], _T], paths: Sequence[str], title: str) -> Iterator[_T]:
    """Yield ``function(path)`` in order; only a bounded number of results waits in memory."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    with (
        ThreadPoolExecutor(_THREADS) as pool,
        tqdm(total=len(paths), desc=title, disable=len(paths) < _BAR_FROM) as bar,
    ):
        for start in range(0, len(paths), 256):
            for result in pool.map(function, paths[start : start + 256]):
                bar.update()
                yield result
