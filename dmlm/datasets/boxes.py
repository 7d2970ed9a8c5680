"""Boxes around findings, and the masks that they fill."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Box(NamedTuple):
    """A finding's place: left, top, right and bottom edge as fractions (0 to 1) of the image's width and height."""

    finding: str
    x0: float
    y0: float
    x1: float
    y1: float


class BoxMasks:
    """Filled boxes as masks: a picklable function from row to uint8 ``[M, size, size]`` of 0 and 1.

    A pixel belongs to a box when its centre does; boxes of one finding are united.

    Args:
        boxes: The boxes of each row.
        mask_names: Findings that have a mask, in order.
        size: Side of the masks in pixels; a mask spans the whole image, whatever that one's size is.
    """

    def __init__(self, boxes: Sequence[Sequence[Box]], mask_names: Sequence[str], size: int) -> None:
        self.boxes, self.mask_names, self.size = boxes, tuple(mask_names), size

    def __call__(self, row: int) -> NDArray[np.uint8]:
        """Return the masks of one row."""
        masks = np.zeros((len(self.mask_names), self.size, self.size), np.uint8)
        for box in self.boxes[row]:
            x0, y0, x1, y1 = (max(0, math.ceil(edge * self.size - 0.5)) for edge in box[1:])
            masks[self.mask_names.index(box.finding), y0:y1, x0:x1] = 1
        return masks
