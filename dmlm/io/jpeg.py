"""JPEG bytes to grey values, decoded at a fraction of their size where that is enough.

Most of the time of a full-size radiograph goes into the inverse transform and into memory; libjpeg can do it for 1/2,
1/4 or 1/8 of the pixels. ``simplejpeg`` (bundled libjpeg-turbo, extra ``decode``) is faster than Pillow and notices
damage inside the data; without it Pillow gives the same picture.
"""

from __future__ import annotations

import io
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

_SCALES: Final = (8, 4, 2)
_NO_FRAME: Final = frozenset((0xC4, 0xC8, 0xCC))  # tables and reserved codes among the SOF markers
_HARMLESS: Final = "extraneous bytes"  # what libjpeg calls padding between segments


class FrameHeader(NamedTuple):
    """What the header of a JPEG, JPEG-LS or JPEG 2000 stream says about its picture."""

    height: int
    width: int
    precision: int
    components: int
    process: str  # "baseline" (any DCT, 8 or 12 bits), "lossless", "ls" or "2000"


def frame_header(data: bytes | memoryview) -> FrameHeader:
    """Read the frame header of a JPEG, JPEG-LS or JPEG 2000 stream without decoding it.

    Args:
        data: The stream from its first byte on; a JP2 file is searched for its code stream.

    Raises:
        ValueError: If there is none.
    """
    view = bytes(data[:65536])
    start = view.find(b"\xff\x4f\xff\x51")
    if start >= 0 and not view.startswith(b"\xff\xd8"):
        size = [int.from_bytes(view[start + 8 + 4 * i : start + 12 + 4 * i], "big") for i in range(4)]
        components = int.from_bytes(view[start + 40 : start + 42], "big")
        precision = (view[start + 42] & 0x7F) + 1
        return FrameHeader(size[1] - size[3], size[0] - size[2], precision, components, "2000")
    found = _sof(bytes(data) if len(data) > len(view) else view)
    if found is None:
        msg = "no JPEG frame header"
        raise ValueError(msg)
    return found


def _sof(data: bytes) -> FrameHeader | None:
    """Walk the marker segments up to the start of frame."""
    place = 2
    while data[:2] == b"\xff\xd8" and place + 9 < len(data):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME):
            height, width = (int.from_bytes(data[place + k : place + k + 2], "big") for k in (5, 7))
            kind = "ls" if marker == 0xF7 else "lossless" if marker & 3 == 3 else "baseline"
            return FrameHeader(height, width, data[place + 4], data[place + 9], kind)
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def scale_for(height: int, width: int, min_size: int | None) -> int:
    """Return the largest of 8, 4, 2, 1 that leaves the shorter side at least ``min_size`` pixels."""
    if min_size is None:
        return 1
    return next((scale for scale in _SCALES if min(height, width) // scale >= min_size), 1)


def decode_jpeg(data: bytes, min_size: int | None = None) -> NDArray[np.uint8]:
    """Decode an 8-bit DCT JPEG (baseline or progressive) to its luma.

    Args:
        data: The whole stream.
        min_size: Decode at 1/2, 1/4 or 1/8 as long as the shorter side keeps this many pixels; None decodes all.

    Returns:
        uint8 ``[H, W]``; sides are divided by the scale and rounded up.

    Raises:
        ValueError, OSError: If the stream is damaged or cut off.
    """
    header = frame_header(data)
    fast = _simplejpeg()
    if fast is None or header.components not in (1, 3):
        return _by_pillow(data, header, min_size)
    scale = scale_for(header.height, header.width, min_size)
    wanted = {"min_height": -(-header.height // scale), "min_width": -(-header.width // scale)} if scale > 1 else {}
    try:
        grey = fast.decode_jpeg(data, "GRAY", **wanted)
    except ValueError as error:
        if _HARMLESS not in str(error).lower():
            raise
        grey = fast.decode_jpeg(data, "GRAY", strict=False, **wanted)
    return np.asarray(grey, dtype=np.uint8)[..., 0]


def _by_pillow(data: bytes, header: FrameHeader, min_size: int | None) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        scale = scale_for(header.height, header.width, min_size)
        image.draft("L", (image.width // scale, image.height // scale))
        if image.mode not in ("L", "RGB"):  # CMYK and YCCK
            return np.asarray(image.convert("RGB").convert("L"))
        return np.asarray(image.convert("L"))


@cache
def _simplejpeg() -> Any:  # noqa: ANN401 - a module, or None where it is not installed
    try:
        import simplejpeg  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return None
    return simplejpeg
