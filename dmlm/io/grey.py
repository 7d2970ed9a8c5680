"""From grey values of any depth to 8 bits: the one rule that every reader follows.

**The rule.** Values that already are 8-bit display values stay as they are. Deeper values are stretched linearly so
that the picture's own minimum becomes 0 and its maximum 255, unless the file says how it is to be shown (DICOM windows
and lookup tables, see :mod:`dmlm.io.dicom_display`). A picture with one value only becomes black. 16-bit exports of
radiographs rarely use their whole range, so that dropping the low byte instead would leave them nearly black.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_byte(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Map ``low`` to 0 and ``high`` to 255, linearly, rounded to nearest (even), clipped.

    Args:
        values: Numbers of any type and shape; they must be finite.
        low: Value that becomes 0.
        high: Value that becomes 255; where it does not exceed ``low``, everything becomes 0.

    Returns:
        uint8, of the shape of ``values``.
    """
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    return np.clip(np.rint((values - low) * (255.0 / (high - low))), 0, 255).astype(np.uint8)


def stretch(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Stretch grey values over their own range; not-a-number and infinite values count as 0.

    Args:
        values: Integers or floats, ``[H, W]``.

    Returns:
        uint8 ``[H, W]``.
    """
    if values.dtype.kind in "iu":
        low, high = int(values.min()), int(values.max())
        if high - low < 65536:  # a table of every value that can occur costs a fraction of float arithmetic on pixels
            table = to_byte(np.arange(low, high + 1, dtype=np.float64), low, high)
            # taken off in the pixels' own type; where that wraps round, the low 16 bits are right all the same
            offsets: NDArray[np.uint16] = (values - values.dtype.type(low)).astype(np.uint16)
            return np.take(table, offsets)
        return to_byte(values.astype(np.float64), low, high)
    wide = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return to_byte(wide, float(wide.min()), float(wide.max()))
