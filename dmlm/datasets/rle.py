"""Run-length code of the SIIM-ACR Pneumothorax masks: pairs of gap and length, down the columns.

The first number of a pair counts pixels from the end of the run before (from the start of the image for the first
pair), the second is the length of the run; pixels are counted column by column, from the top left corner, from 0.
``-1`` is the empty mask.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dmlm.errors import DatasetFormatError

EMPTY = "-1"


def parse_runs(code: str, pixels: int) -> NDArray[np.int64]:
    """Check a code and return its runs.

    Args:
        code: Integers separated by white space, or ``-1`` (with or without spaces around it).
        pixels: Number of pixels of the image.

    Returns:
        int64 ``[K, 2]``: first pixel and first pixel after each run.

    Raises:
        DatasetFormatError: If there is no code, a number is missing, negative or no number, or a run ends outside of
            the image.
    """
    words = code.split()
    if words == [EMPTY]:
        return np.empty((0, 2), np.int64)
    try:
        numbers = np.array([int(word) for word in words], dtype=np.int64)
    except (ValueError, OverflowError):
        msg = f"RLE holds something other than whole numbers: '{code.strip()[:40]}'"
        raise DatasetFormatError(msg) from None
    if not len(numbers):
        msg = "RLE is blank; expected -1 for an empty mask, or pairs of gap and length"
        raise DatasetFormatError(msg)
    if len(numbers) % 2:
        msg = f"RLE has an odd number of integers ({len(numbers)}); expected pairs of gap and length"
        raise DatasetFormatError(msg)
    gaps, lengths = numbers[0::2], numbers[1::2]
    if gaps.min() < 0 or lengths.min() < 1:
        msg = "RLE has a negative gap or a run without pixels; expected gaps from 0 and lengths from 1"
        raise DatasetFormatError(msg)
    if numbers.max() > pixels:  # before any sum, which could overflow and come out small
        msg = f"RLE has the number {int(numbers.max()):,}, past the end of an image of {pixels:,} pixels"
        raise DatasetFormatError(msg)
    ends = np.cumsum(gaps + lengths)
    if ends[-1] > pixels:
        msg = f"RLE ends at pixel {int(ends[-1]):,}, past the end of an image of {pixels:,} pixels"
        raise DatasetFormatError(msg)
    return np.stack([ends - lengths, ends], axis=1)


def decode_rle(code: str, height: int = 1024, width: int = 1024) -> NDArray[np.uint8]:
    """Return the mask of a code, uint8 ``[height, width]`` of 0 and 1.

    Raises:
        DatasetFormatError: As :func:`parse_runs`.
    """
    columns = np.zeros(height * width, np.uint8)
    for start, end in parse_runs(code, height * width):
        columns[start:end] = 1
    return np.ascontiguousarray(columns.reshape(width, height).T)


def encode_rle(mask: NDArray[np.generic]) -> str:
    """Return the code of a mask ``[height, width]``; everything that is not 0 belongs to it."""
    columns = np.concatenate([[False], (np.asarray(mask) != 0).T.reshape(-1), [False]])
    edges = np.flatnonzero(columns[1:] != columns[:-1])
    if not len(edges):
        return EMPTY
    # an edge is where a run starts or ends, so its distance to the edge before is a gap or a length
    return " ".join(str(step) for step in np.diff(edges, prepend=0))
