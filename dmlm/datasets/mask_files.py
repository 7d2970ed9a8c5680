"""Masks that are image files: reading them strictly, and remembering which are empty."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dmlm.errors import DatasetFormatError, ImageReadError
from dmlm.io.atomic import write_json
from dmlm.io.cache import cache_dir

_THREADS: Final = 8


class MaskFiles:
    """One mask file per row: a picklable function from row to uint8 ``[1, h, w]`` of 0 and 1.

    Args:
        paths: File of each row.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __call__(self, row: int) -> NDArray[np.uint8]:
        """Return the mask of one row."""
        return read_mask(self.paths[row])[None]


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read a mask: 0 and 1, or 0 and 255, in any picture format without loss.

    Returns:
        uint8 ``[h, w]`` of 0 and 1.

    Raises:
        ImageReadError: If the file is missing or damaged.
        DatasetFormatError: If it holds other values, so that what belongs to the mask would be a guess.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            # the numbers of a PNG palette are classes; a GIF has a palette of greys
            plain = image.mode in ("1", "L") or (image.mode == "P" and image.format == "PNG")
            values = np.asarray(image if plain else image.convert("L")).astype(np.uint8)
    except Exception as error:  # Pillow's plugins raise whatever damaged bytes lead to
        why = "there is no such file" if not path.exists() else " ".join(str(error).split())[:120]
        msg = f"{path}: the mask cannot be read: {why}; copy it again"
        raise ImageReadError(msg) from error
    found = np.flatnonzero(np.bincount(values.reshape(-1), minlength=256))
    if not (set(found.tolist()) <= {0, 1} or set(found.tolist()) <= {0, 255}):
        shown = ", ".join(str(value) for value in found[:5])
        msg = f"{path}: a mask of 0 and 1 (or 0 and 255) was expected, this one has {len(found)} values ({shown}, ...)"
        raise DatasetFormatError(msg)
    return (values > 0).astype(np.uint8)


def scale_masks(masks: NDArray[np.uint8], shape: tuple[int, ...], source: str) -> NDArray[np.uint8]:
    """Bring masks to the grid of their image: a store or a scaled JPEG has fewer pixels than the mask.

    Args:
        masks: uint8 ``[M, h, w]`` of 0 and 1.
        shape: Height and width of the image.
        source: File of the image or mask, for messages.

    Returns:
        uint8 ``[M, H, W]`` of 0 and 1.

    Raises:
        DatasetFormatError: If the aspects differ, so that mask and image do not show the same field.
    """
    import cv2

    height, width = masks.shape[1:]
    if abs(height * shape[1] / (width * shape[0]) - 1.0) > 0.02:
        msg = (
            f"{source}: its mask is {height} x {width}, the image {shape[0]} x {shape[1]}: "
            "they do not show the same field; restore the mask that belongs to this image"
        )
        raise DatasetFormatError(msg)
    if (height, width) == tuple(shape):
        return masks
    # area averages, so that thin masks shrink evenly, then the majority decides
    resized = [
        cv2.resize(mask.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_AREA) >= 0.5 for mask in masks
    ]
    return np.array(resized, dtype=np.uint8).reshape(len(masks), *shape)


def any_pixel(paths: Sequence[Path]) -> NDArray[np.bool_]:
    """Tell for each mask file whether it has a pixel, ``[N]``; the answer is kept in the cache folder.

    Raises:
        ImageReadError, DatasetFormatError: As :func:`read_mask`.
    """
    digest = hashlib.sha256()
    for path in paths:
        if not path.is_file():
            msg = f"{path}: the mask of an image is not there; copy it again"
            raise ImageReadError(msg)
        state = path.stat()
        digest.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\0".encode(errors="surrogatepass"))
    record = cache_dir() / "masks" / f"{digest.hexdigest()[:24]}.json"
    try:
        known = json.loads(record.read_text(encoding="utf-8"))["any_pixel"]
        if len(known) == len(paths):
            return np.array(known, dtype=bool)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    with ThreadPoolExecutor(_THREADS) as pool:
        answer = np.array(list(pool.map(lambda path: bool(read_mask(path).any()), paths)), dtype=bool)
    try:
        write_json(record, {"any_pixel": [int(value) for value in answer]})
    except OSError:  # a cache that cannot be written only costs the reading next time
        return answer
    return answer
