"""The pixel data of a DICOM file to the integers that it stores, by the quickest decoder that is installed.

Compressed frames are taken out of their wrapping and handed to the decoder of their format: ``simplejpeg`` or Pillow
for JPEG, ``imagecodecs`` (extra ``decode``) for JPEG lossless, JPEG-LS, JPEG 2000 and RLE. Whatever those cannot read
goes to the plugins that pydicom finds (pylibjpeg, gdcm). Before anything is decoded, the size that the frame itself
states is compared with the file's header, so that neither a damaged header nor a decompression bomb gets further.
"""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dmlm.io.jpeg import FrameHeader, decode_jpeg, frame_header, scale_for

Stored = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.int16]

_RAW: Final = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
_RLE: Final = "1.2.840.10008.1.2.5"
_JPEG: Final = "1.2.840.10008.1.2.4."
_DCT: Final = (f"{_JPEG}50", f"{_JPEG}51")
_LOSSLESS: Final = (f"{_JPEG}57", f"{_JPEG}70")
_LS: Final = (f"{_JPEG}80", f"{_JPEG}81")
_2000: Final = (f"{_JPEG}90", f"{_JPEG}91")
_READABLE: Final = (*_RAW, _BIG_ENDIAN, _RLE, *_DCT, *_LOSSLESS, *_LS, *_2000)


def read_frame(dataset: Any, min_size: int | None = None) -> Stored:  # noqa: ANN401 - pydicom is not imported here
    """Decode the only frame of a file to the values that it stores.

    Args:
        dataset: A ``pydicom.Dataset`` with pixel data, whose header was checked (:mod:`dmlm.io.dicom`).
        min_size: A JPEG or JPEG 2000 frame may be decoded at 1/2, 1/4 or 1/8 as long as its shorter side keeps this
            many pixels.

    Returns:
        ``[H, W]``, uint8 or uint16, or int16 where the file says that its values are signed; in the range of
        ``BitsStored`` bits.

    Raises:
        ValueError, OSError: If the pixel data are damaged, cut off, or in a format that cannot be read.
    """
    syntax = transfer_syntax(dataset)
    if syntax in _RAW:
        return _in_range(dataset, _shifted(dataset, _raw(dataset)))
    if syntax == _BIG_ENDIAN:
        return _in_range(dataset, _shifted(dataset, _by_pydicom(dataset)))
    frame = encapsulated_frame(dataset)
    header = check_frame(dataset, frame)
    if header.process == "rle":
        return _in_range(dataset, _shifted(dataset, _rle(dataset, frame)))
    if header.process == "baseline" and header.precision == 8:
        return _in_range(dataset, decode_jpeg(frame, min_size))
    if header.process == "2000" and scale_for(header.height, header.width, min_size) > 1:
        small = _reduced_2000(dataset, frame, header, scale_for(header.height, header.width, min_size))
        if small is not None:
            return _in_range(dataset, small)
    pixels = _by_imagecodecs(frame, header)
    if pixels is None:
        pixels = _by_pydicom(dataset)
    if pixels.shape != (header.height, header.width):
        msg = f"the frame decodes to {list(pixels.shape)}, its header says {header.height} x {header.width}"
        raise ValueError(msg)
    return _in_range(dataset, pixels)


def transfer_syntax(dataset: Any) -> str:  # noqa: ANN401
    """Return the UID of the format of the pixel data.

    Raises:
        ValueError: If it is one that is not read.
    """
    uid = getattr(dataset.file_meta, "TransferSyntaxUID", None) if hasattr(dataset, "file_meta") else None
    if uid is None:  # written without its meta header: the oldest default
        return _RAW[0]
    if str(uid) not in _READABLE:
        msg = f"its transfer syntax '{uid.name}' is not read; convert it, for example with dcmconv or gdcmconv --raw"
        raise ValueError(msg)
    return str(uid)


def raw_length(dataset: Any) -> int:  # noqa: ANN401
    """Return how many bytes an uncompressed frame has."""
    return int(dataset.Rows) * int(dataset.Columns) * (int(dataset.BitsAllocated) // 8)


def is_raw(dataset: Any) -> bool:  # noqa: ANN401
    """Whether the pixel data are uncompressed."""
    return transfer_syntax(dataset) in (*_RAW, _BIG_ENDIAN)


def encapsulated_frame(dataset: Any) -> bytes:  # noqa: ANN401
    """Take the one compressed frame out of its fragments."""
    from pydicom.encaps import get_frame

    return bytes(get_frame(dataset.PixelData, 0, number_of_frames=1))


def check_frame(dataset: Any, frame: bytes) -> FrameHeader:  # noqa: ANN401
    """Compare what a compressed frame says about itself with the file's header; RLE repeats nothing of it.

    Raises:
        ValueError: If they disagree.
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if transfer_syntax(dataset) == _RLE:
        return FrameHeader(rows, columns, int(dataset.BitsAllocated), 1, "rle")
    header = frame_header(frame)
    if (header.height, header.width) != (rows, columns):
        msg = f"its header says {rows} x {columns} pixels, the compressed image inside {header.height} x {header.width}"
        raise ValueError(msg)
    if header.components != 1:
        msg = f"the compressed image inside has {header.components} colours; a radiograph has one"
        raise ValueError(msg)
    return header


def _raw(dataset: Any) -> NDArray[Any]:  # noqa: ANN401
    data, needed = dataset.PixelData, raw_length(dataset)
    if len(data) < needed:
        msg = f"its pixel data are cut off: {len(data):,} bytes, {needed:,} expected"
        raise ValueError(msg)
    kind = np.dtype(f"<u{int(dataset.BitsAllocated) // 8}")
    return np.frombuffer(data, kind, needed // kind.itemsize).reshape(int(dataset.Rows), int(dataset.Columns))


def _rle(dataset: Any, frame: bytes) -> NDArray[Any]:  # noqa: ANN401
    needed, shape = raw_length(dataset), (int(dataset.Rows), int(dataset.Columns))
    codecs = _imagecodecs()
    if codecs is None:
        return _by_pydicom(dataset)
    kind = np.dtype(f"<u{int(dataset.BitsAllocated) // 8}")
    offsets = np.frombuffer(frame[:64], "<u4").astype(np.int64)  # PS3.5 G.5: how many segments, and where they start
    count = int(offsets[0]) if len(offsets) == 16 else 0
    places = [*offsets[1 : 1 + count].tolist(), len(frame)]
    if count != kind.itemsize or places[0] < 64 or sorted(places) != places:
        msg = f"its run-length header is damaged: {count} segments at {places[:-1]} of {len(frame)} bytes"
        raise ValueError(msg)
    pixels = np.zeros((needed // kind.itemsize, kind.itemsize), np.uint8)
    for byte, (start, end) in enumerate(pairwise(places)):
        plane = np.frombuffer(codecs.packbits_decode(frame[start:end]), np.uint8)
        if len(plane) < len(pixels):
            msg = f"its run-length data are cut off: {len(plane):,} bytes, {len(pixels):,} expected"
            raise ValueError(msg)
        pixels[:, kind.itemsize - 1 - byte] = plane[: len(pixels)]  # the highest byte comes first
    return pixels.reshape(-1).view(kind).reshape(shape)


def _reduced_2000(dataset: Any, frame: bytes, header: FrameHeader, scale: int) -> NDArray[Any] | None:  # noqa: ANN401
    """Decode JPEG 2000 without its finest wavelet levels (Pillow); None where its values cannot be trusted."""
    from PIL import Image, features

    if not features.check("jpg_2000") or int(dataset.PixelRepresentation) or not 8 <= header.precision <= 16:
        return None
    with Image.open(io.BytesIO(frame)) as image:
        image.reduce = scale.bit_length() - 1  # type: ignore[method-assign, assignment]
        if image.mode not in ("L", "I;16"):
            return None
        try:
            small = np.asarray(image)
        except OSError:  # fewer wavelet levels than asked for: decode in full
            return None
    # Pillow spreads 9 to 16 bits over 16
    return small if small.dtype == np.uint8 else small >> np.uint16(16 - header.precision)


def _by_imagecodecs(frame: bytes, header: FrameHeader) -> NDArray[Any] | None:
    codecs = _imagecodecs()
    if codecs is None:
        return None
    names = {
        "lossless": ("ljpeg_decode", "jpegsof3_decode"),
        "ls": ("jpegls_decode",),
        "2000": ("jpeg2k_decode",),
        "baseline": ("jpeg8_decode",),
    }
    for name in names[header.process]:
        try:
            return np.asarray(getattr(codecs, name)(frame))
        except Exception:  # noqa: PERF203 - codecs raise errors of their own; the next decoder has the last word
            continue
    return None


def _by_pydicom(dataset: Any) -> NDArray[Any]:  # noqa: ANN401
    from pydicom.pixels.utils import pixel_array

    try:
        return np.asarray(pixel_array(dataset, raw=True))
    except RuntimeError as error:
        if "missing dependencies" not in str(error) and "plugins" not in str(error):
            raise
        name = dataset.file_meta.TransferSyntaxUID.name
        msg = f"no decoder for '{name}' is installed: pip install 'dmlm[decode]'"
        raise ValueError(msg) from error


def _shifted(dataset: Any, pixels: NDArray[Any]) -> NDArray[Any]:  # noqa: ANN401
    """Move values down that do not end at the lowest bit (HighBit above BitsStored - 1, retired but in use)."""
    unused = int(dataset.get("HighBit", int(dataset.BitsStored) - 1)) + 1 - int(dataset.BitsStored)
    return pixels >> pixels.dtype.type(unused) if 0 < unused <= 16 - int(dataset.BitsStored) else pixels


def _in_range(dataset: Any, pixels: NDArray[Any]) -> Stored:  # noqa: ANN401
    """Give every value the meaning that the header says: bits above BitsStored off (overlays), the sign extended."""
    bits, signed = int(dataset.BitsStored), bool(int(dataset.PixelRepresentation))
    if not signed and pixels.dtype == np.uint8:
        return pixels if bits >= 8 or int(pixels.max()) < 1 << bits else pixels & np.uint8((1 << bits) - 1)
    native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    words = native.view(np.uint16) if native.dtype.itemsize == 2 else native.astype(np.int16).view(np.uint16)
    if signed:
        values = words.view(np.int16)
        if int(values.min()) < -(1 << bits - 1) or int(values.max()) >= 1 << bits - 1:
            values = (words << np.uint16(16 - bits)).view(np.int16) >> np.int16(16 - bits)
        return values
    return words if int(words.max()) < 1 << bits else words & np.uint16((1 << bits) - 1)


def _imagecodecs() -> Any:  # noqa: ANN401 - a module, or None where it is not installed
    try:
        import imagecodecs  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return None
    return imagecodecs
