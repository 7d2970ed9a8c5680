"""Perceptual hashes of radiographs, and pairs of images that show the same film after resizing or recompression."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dmlm.errors import MismatchError
from dmlm.io.atomic import atomic_path
from dmlm.io.cache import cache_dir
from dmlm.io.images import read_grey

BITS: Final = 512
"""Bits of a hash: 256 of differences, 256 of frequencies."""
MAX_DISTANCE: Final = 40
"""Bits of 512 in which two pictures of one film differ at most, by default (see docs/splits)."""

_SIDE: Final = 16
_VERSION: Final = 1
_THREADS: Final = 4
_BLOCK: Final = 2048


def difference_hash(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether each cell of a 16 x 16 grid is brighter than its right neighbour, bool ``[256]`` (dHash).

    Args:
        image: Grey values, uint8 ``[H, W]``; its own size does not matter.
    """
    import cv2

    small = cv2.resize(image.astype(np.float32), (_SIDE + 1, _SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small[:, 1:] > small[:, :-1]).reshape(-1)


def frequency_hash(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the signs of the 256 lowest frequencies of a discrete cosine transform, bool ``[256]`` (pHash).

    The picture is shrunk to 64 x 64 first; the mean (frequency 0) is replaced by 0, so that exposure does not matter.

    Args:
        image: Grey values, uint8 ``[H, W]``.
    """
    import cv2

    small = cv2.resize(image.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small)[:_SIDE, :_SIDE].copy()
    low[0, 0] = 0.0
    return np.asarray(low > 0).reshape(-1)


def image_hash(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return both hashes as packed bits, uint8 ``[64]``."""
    return np.packbits(np.concatenate([difference_hash(image), frequency_hash(image)]))


def hash_files(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """Hash image files, uint8 ``[N, 64]``; the answer is kept in the cache folder until a file changes.

    Raises:
        ImageReadError: If a file cannot be read.
    """
    from tqdm import tqdm

    digest = hashlib.sha256(str(_VERSION).encode())
    for path in paths:
        state = path.stat() if path.exists() else None
        facts = "" if state is None else f"{state.st_size}\0{state.st_mtime_ns}"
        digest.update(f"\0{path}\0{facts}".encode(errors="surrogatepass"))
    record = cache_dir() / "hashes" / f"{digest.hexdigest()[:24]}.npy"
    try:
        known: NDArray[np.uint8] = np.load(record)
        if known.shape == (len(paths), BITS // 8):
            return known
    except (OSError, ValueError):
        pass
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda path: image_hash(read_grey(path, min_size=64)), paths)
        rows = list(tqdm(found, total=len(paths), desc="hashing images", disable=len(paths) < 500))
    hashes = np.array(rows, np.uint8).reshape(len(paths), BITS // 8)
    try:
        with atomic_path(record) as target, target.open("wb") as file:
            np.save(file, hashes)
    except OSError:  # a cache that cannot be written only costs the hashing next time
        return hashes
    return hashes


def near_pairs(
    first: NDArray[np.uint8], second: NDArray[np.uint8], max_distance: int = MAX_DISTANCE
) -> Iterator[tuple[int, int, int]]:
    """Yield ``(row, row, distance)`` of every pair of hashes that differ in at most ``max_distance`` of 512 bits.

    All pairs are compared, block by block, as products of matrices of +1 and -1: exact, and memory stays flat.

    Args:
        first: Packed hashes, uint8 ``[N, 64]``.
        second: Packed hashes, uint8 ``[M, 64]``.
        max_distance: Bits.

    Raises:
        MismatchError: If these are not hashes of one kind.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1:] != second.shape[1:]:
        msg = f"hashes must be [N, {BITS // 8}] and [M, {BITS // 8}], got {list(first.shape)} and {list(second.shape)}"
        raise MismatchError(msg)
    bits = 8 * first.shape[1]
    for top in range(0, len(first), _BLOCK):
        one = _signs(first[top : top + _BLOCK])
        for left in range(0, len(second), _BLOCK):
            distance = (bits - one @ _signs(second[left : left + _BLOCK]).T) / 2
            for row, column in np.argwhere(distance <= max_distance).tolist():
                yield top + row, left + column, round(float(distance[row, column]))


def _signs(hashes: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
