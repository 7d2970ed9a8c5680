"""Turn the image files of a data set into a prepared store, in parallel, in order, in little memory."""

from __future__ import annotations

import errno
import multiprocessing
import shutil
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dmlm.errors import ConfigError, DMLMError, ImageReadError
from dmlm.io.images import read_grey
from dmlm.io.store_format import shard_name
from dmlm.io.store_writer import StoreWriter

_CHUNK: Final = 32  # images a worker does at once: messages are few, and little is lost when it is stopped
_AHEAD: Final = 3  # chunks under way for each worker: memory does not grow with the number of images
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TYPICAL_ASPECT: Final = 1.25

Row = NDArray[np.uint8] | str


@dataclass(frozen=True)
class Prepared:
    """What :func:`prepare_store` did.

    Args:
        total: Images of the data set.
        done_before: Images that an earlier run had done.
        skipped: Images that cannot be read, with the reason.
        finished: Whether the store can be used: nothing was skipped, or that was allowed.
    """

    total: int
    done_before: int
    skipped: tuple[tuple[str, str], ...]
    finished: bool


def small_copy(path: Path, size: int) -> NDArray[np.uint8]:
    """Read an image so that its shorter side has ``size`` pixels; the whole field stays, nothing is enlarged.

    Args:
        path: DICOM, JPEG, PNG or another image file.
        size: Shorter side in pixels.

    Returns:
        uint8 ``[H, W]``.

    Raises:
        ImageReadError: If the file cannot be read.
    """
    import cv2

    # twice the size: area averaging from there is within 0.3 grey levels of averaging the full picture
    grey = read_grey(path, min_size=2 * size)
    height, width = grey.shape
    scale = size / min(height, width)
    if scale >= 1.0:
        return grey
    shape = (max(size, round(width * scale)), max(size, round(height * scale)))
    return np.asarray(cv2.resize(grey, shape, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def prepare_store(
    images: Sequence[str],
    root: Path,
    out: Path,
    size: int,
    provenance: dict[str, object],
    workers: int = 1,
    allow_skipped: bool = False,
    advance: Callable[[int, int, int], None] | None = None,
) -> Prepared:
    """Write or finish a store; run it again after an interruption and it goes on.

    Args:
        images: Paths relative to ``root``, in the order of the data set.
        root: Folder of the data set.
        out: Folder of the store.
        size: Shorter side of the stored images, in pixels.
        provenance: Plain data about the source, kept in the store.
        workers: Processes that decode; with 1 this process does it.
        allow_skipped: Finish the store even where images cannot be read.
        advance: Called with (images done, images in all, images skipped) as it goes on.

    Returns:
        What was done. Images that an earlier run skipped are tried again.

    Raises:
        ConfigError: If there is no room, or ``out`` is another store or in use.
        MissingDependencyError: If the images need a package that is not installed.
    """
    tell = advance or (lambda done, total, skipped: None)  # noqa: ARG005
    try:
        with StoreWriter(out, images, size, provenance) as writer:
            before = len(writer.entries)
            tell(before, len(images), sum(bool(entry.problem) for entry in writer.entries))
            again = [place for place, entry in enumerate(writer.entries) if entry.problem]
            if not writer.finished or again:
                _check_room(out, (len(images) - before + len(again)) * round(size * size * _TYPICAL_ASPECT))
                _fill(writer, images, root, size, workers, again, tell)
            skipped = tuple((entry.image, entry.problem) for entry in writer.entries if entry.problem)
            finished = writer.finished or not skipped or allow_skipped
            if finished and not writer.finished:
                writer.finish()
    except DMLMError:
        raise
    except OSError as error:
        if error.errno not in _FULL:
            msg = f"{out}: cannot be written ({error.strerror or error}); choose another --out, or mend its permissions"
            raise ConfigError(msg) from error
        msg = f"{out}: the disk is full ({error.strerror}); make room and run the same command again: it goes on"
        raise ConfigError(msg) from error
    return Prepared(len(images), before, skipped, finished)


def _fill(
    writer: StoreWriter,
    images: Sequence[str],
    root: Path,
    size: int,
    workers: int,
    again: list[int],
    tell: Callable[[int, int, int], None],
) -> None:
    """Append what is missing, then try once more what an earlier run skipped."""
    skipped, done = len(again), len(writer.entries)
    with _pool(workers) as pool:
        for rows in _in_order(pool, [images[k] for k in range(done, len(images))], root, size, workers):
            writer.append(rows)
            done += len(rows)
            skipped += sum(isinstance(row, str) for row in rows)
            tell(done, len(images), skipped)
        mended: dict[int, NDArray[np.uint8]] = {}
        place = iter(again)
        for rows in _in_order(pool, [images[k] for k in again], root, size, workers):
            mended.update({k: row for k, row in zip(place, rows, strict=False) if not isinstance(row, str)})
    if mended:
        if writer.finished:
            writer.reopen()
        writer.mend(mended)
        tell(done, len(images), skipped - len(mended))


def _in_order(pool: Executor | None, images: list[str], root: Path, size: int, workers: int) -> Iterator[list[Row]]:
    work = partial(_chunk, root, size)
    chunks = (images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK))
    if pool is None:
        yield from map(work, chunks)
        return
    waiting: deque[Future[list[Row]]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(work, chunk))
            if len(waiting) >= _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        msg = (
            "a worker process died (out of memory, or a damaged file crashed its decoder); run the same command again: "
            "it goes on; fewer --workers need less memory"
        )
        raise ConfigError(msg) from error
    finally:
        for future in waiting:
            future.cancel()


def _chunk(root: Path, size: int, images: Sequence[str]) -> list[Row]:
    return [_row(root, size, image) for image in images]


def _row(root: Path, size: int, image: str) -> Row:
    path = root / image
    try:
        return small_copy(path, size)
    except ImageReadError as error:
        return str(error).removeprefix(f"{path}: ")


class _NoPool:
    """In the place of a pool where this process does the work."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exception: object) -> None:
        return None


def _pool(workers: int) -> ProcessPoolExecutor | _NoPool:
    if workers <= 1:
        return _NoPool()
    # forks of a process with threads can hang; a fork server has none
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    return ProcessPoolExecutor(workers, context, initializer=_begin)


def _begin() -> None:
    """Prepare a worker: one thread, the interrupt key left to the parent, and no life after the parent's death."""
    import cv2

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def _die_with(sentinel: int) -> None:
    import os
    from multiprocessing.connection import wait

    wait([sentinel])
    os._exit(1)


def _check_room(out: Path, needed: int) -> None:
    free = shutil.disk_usage(out).free
    if needed > free:
        msg = (
            f"{out}: about {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; "
            "make room, choose another --out, or a smaller --size"
        )
        raise ConfigError(msg)


def store_bytes(out: Path) -> int:
    """Return how many bytes of pixels a store has."""
    return sum(path.stat().st_size for path in out.glob(shard_name(0).replace("00000", "*")))
