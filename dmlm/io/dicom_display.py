"""From the values that a DICOM file stores to what is to be seen: PS3.3 C.11.1 and C.11.2 as one lookup table.

Stored values have at most 16 bits, so that the whole chain (rescale or modality table, window or VOI table, inversion
of MONOCHROME1, 8 bits) is worked out once for each value between the smallest and the largest of the picture, in
float64, and then looked up. The result does not depend on the number of pixels, and the pixels are touched once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmlm.io.grey import to_byte

Values = NDArray[np.float64]


def display_table(dataset: Any, low: int, high: int) -> NDArray[np.uint8]:  # noqa: ANN401 - pydicom is not imported here
    """Return what each stored value looks like.

    In this order: modality lookup table or rescale; the first VOI lookup table, or else the first window (``LINEAR``,
    ``LINEAR_EXACT`` or ``SIGMOID``); 0 to 255 over the output range of that step; MONOCHROME1 turned round. Where the
    file has neither table nor window, or one under which every pixel of the picture would look the same, 8-bit
    values without rescale stay as they are and all others are stretched from ``low`` to ``high``
    (:mod:`dmlm.io.grey`).

    Args:
        dataset: A ``pydicom.Dataset``.
        low: Smallest stored value of the picture.
        high: Largest stored value of the picture.

    Returns:
        uint8 ``[high - low + 1]``; entry 0 belongs to ``low``.

    Raises:
        ValueError: If a table or a window of the file makes no sense.
    """
    stored = np.arange(low, high + 1, dtype=np.float64)
    real, changed = _modality(dataset, stored)
    shown = _values_of_interest(dataset, real)
    if shown is None or (low < high and shown.min() == shown.max()):
        plain = not changed and int(dataset.BitsStored) == 8 and low >= 0
        shown = stored.astype(np.uint8) if plain else to_byte(real, float(real.min()), float(real.max()))
    return 255 - shown if str(dataset.PhotometricInterpretation).strip() == "MONOCHROME1" else shown


def _modality(dataset: Any, stored: Values) -> tuple[Values, bool]:  # noqa: ANN401
    """Return real-world values and whether they differ from the stored ones (PS3.3 C.11.1)."""
    sequence = dataset.get("ModalityLUTSequence")
    if sequence:
        table, first = _lookup_table(dataset, sequence[0])
        return _look_up(table, first, stored), True
    slope, intercept = (_first(dataset.get(name)) for name in ("RescaleSlope", "RescaleIntercept"))
    slope, intercept = slope or 1.0, intercept or 0.0  # a slope of 0 would leave nothing: read as absent
    return stored * slope + intercept, (slope, intercept) != (1.0, 0.0)


def _values_of_interest(dataset: Any, real: Values) -> NDArray[np.uint8] | None:  # noqa: ANN401
    """Apply the first VOI table or window (PS3.3 C.11.2); None where there is none that can be used."""
    sequence = dataset.get("VOILUTSequence")
    if sequence:
        table, first = _lookup_table(dataset, sequence[0])
        # some writers declare 16 bits and fill 12: the bits that the largest entry needs are the output range
        bits = int(table.max()).bit_length()
        return to_byte(_look_up(table, first, np.rint(real)), 0.0, 2.0**bits - 1.0)
    centre, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None:
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function == "SIGMOID":
        if width <= 0:
            return None
        # PS3.3 C.11.2.1.3.1: 1 / (1 + exp(-4 (x - c) / w)); beyond +-60 it is 0 or 1 in float64 anyway
        return to_byte(1.0 / (1.0 + np.exp(np.clip(-4.0 * (real - centre) / width, -60.0, 60.0))), 0.0, 1.0)
    if function == "LINEAR_EXACT":
        if width <= 0:
            return None
        return to_byte(np.clip((real - centre) / width + 0.5, 0.0, 1.0), 0.0, 1.0)  # C.11.2.1.3.2
    if function != "LINEAR":
        msg = f"VOI LUT Function '{function}' is not LINEAR, LINEAR_EXACT or SIGMOID"
        raise ValueError(msg)
    if width < 1:
        return None
    if width == 1:
        return np.where(real <= centre - 0.5, 0, 255).astype(np.uint8)
    return to_byte(np.clip((real - (centre - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0), 0.0, 1.0)  # C.11.2.1.2.1


def _first(value: Any) -> float | None:  # noqa: ANN401
    """Return the first of one or several numbers; None where the element is absent, empty or not finite."""
    if value is not None and not isinstance(value, (str, bytes)) and hasattr(value, "__len__"):
        value = value[0] if len(value) else None
    if value is None or value == "":
        return None
    number = float(value)
    return number if np.isfinite(number) else None


def _lookup_table(dataset: Any, item: Any) -> tuple[Values, float]:  # noqa: ANN401
    """Return the entries of a lookup table and the value that its first entry belongs to (PS3.3 C.11.1.1)."""
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count = count or 65536
    if item["LUTDescriptor"].VR == "US" and int(dataset.PixelRepresentation) and first >= 32768:
        first -= 65536  # implicit VR: the sign of the first mapped value is lost
    data = item.LUTData
    if isinstance(data, bytes):
        packed = bits <= 8 and len(data) < 2 * count
        order = "<" if dataset.original_encoding[1] in (True, None) else ">"
        entries = np.frombuffer(data, np.uint8 if packed else np.dtype(f"{order}u2"))
    else:
        entries = np.atleast_1d(np.asarray(data, dtype=np.int64)) & 0xFFFF
    if not 0 < count <= len(entries):
        msg = f"a lookup table has {len(entries)} entries, its descriptor promises {count}"
        raise ValueError(msg)
    return entries[:count].astype(np.float64), float(first)


def _look_up(table: Values, first: float, values: Values) -> Values:
    """Values before the first entry get the first one, values behind the last entry get the last one."""
    return table[np.clip(values - first, 0, len(table) - 1).astype(np.int64)]
