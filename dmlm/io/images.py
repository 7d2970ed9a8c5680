"""Read any radiograph file (DICOM, JPEG, PNG, ...) as 8-bit grey values, or say in one line why it cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dmlm.errors import ImageReadError
from dmlm.io.dicom import check_dicom, looks_like_dicom, read_dicom
from dmlm.io.grey import stretch
from dmlm.io.jpeg import decode_jpeg, scale_for

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS: Final = 100_000_000
"""Largest picture that is read: a chest radiograph has 4 to 20 million pixels, a decompression bomb has more."""

_ORIENTATION_TAG: Final = 0x0112
_DEEP_MODES: Final = ("I", "F")  # and every "I;16..." variant
_TURNS: Final[dict[int, Callable[[NDArray[Any]], NDArray[Any]]]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).T,
    8: np.rot90,
}


def read_grey(path: str | os.PathLike[str], min_size: int | None = None) -> NDArray[np.uint8]:
    """Read an image file as 8-bit grey values.

    Colour becomes luma (ITU-R 601-2), transparency is laid on black, EXIF orientation is applied, and of a file with
    several frames the first is read (DICOM with several is refused). 8-bit values stay as they are; deeper ones become
    8 bits by the rule of :mod:`dmlm.io.grey`, those of DICOM as their file wants them shown (:mod:`dmlm.io.dicom`).

    Args:
        path: DICOM, JPEG, PNG, TIFF, BMP or another format that Pillow opens; the content counts, not the name.
        min_size: A JPEG or DICOM may come at 1/2, 1/4 or 1/8 of its size as long as its shorter side keeps this many
            pixels, which is two to ten times faster for full-size radiographs; None decodes every pixel.

    Returns:
        uint8 ``[H, W]``, contiguous.

    Raises:
        ImageReadError: If the file is missing, damaged, shows no chest, or has more than :data:`MAX_PIXELS` pixels.
        MissingDependencyError: If it is DICOM and pydicom is not installed.
    """
    if looks_like_dicom(Path(path)):
        return np.ascontiguousarray(read_dicom(path, MAX_PIXELS, min_size))
    with _opened(path) as image:
        if image.format == "JPEG" and image.mode in ("L", "RGB"):
            grey = decode_jpeg(Path(path).read_bytes(), min_size)
        else:
            if image.format == "JPEG" and min_size is not None:  # CMYK
                scale = scale_for(image.height, image.width, min_size)
                image.draft(None, (image.width // scale, image.height // scale))  # type: ignore[arg-type]
            grey = _deep_colour(path) if _is_deep_colour(image) else _grey(image)
        turn = _TURNS.get(_orientation(image))  # after loading, which turns a TIFF by itself and then says so
    return np.ascontiguousarray(grey if turn is None else turn(grey))


def check_image(path: str | os.PathLike[str]) -> None:
    """Find out as cheaply as can be whether a file is a whole image.

    PNG by its checksums, JPEG and DICOM by header and end mark, other formats by decoding them.

    Raises:
        ImageReadError, MissingDependencyError: As :func:`read_grey`; damage inside the pixel data of JPEG and DICOM may
            go unnoticed.
    """
    if looks_like_dicom(Path(path)):
        check_dicom(path, MAX_PIXELS)
        return
    with _opened(path) as image:
        if image.format == "PNG":
            image.verify()  # every checksum
            return
        if image.format != "JPEG":  # nothing that vouches for the pixels
            image.load()
            return
        with Path(path).open("rb") as file:
            file.seek(-min(4096, Path(path).stat().st_size), os.SEEK_END)
            ended = b"\xff\xd9" in file.read()
        if not ended:  # truncated, or padded behind its end: decoding decides
            image.load()


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Open an image; whatever goes wrong until the block ends becomes one line that says what the file is."""
    from PIL import Image

    try:
        # not by name: Pillow 13 would map an uncompressed TIFF that is to be turned with width and height exchanged
        with Path(path).open("rb") as file, Image.open(file) as image:
            _refuse_bomb(path, image)
            yield image
    except ImageReadError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever damaged bytes lead to
        msg = f"{path}: cannot be read as an image: {_found(Path(path), error)}"
        raise ImageReadError(msg) from error


def _refuse_bomb(path: str | os.PathLike[str], image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        msg = (
            f"{path}: {image.width} x {image.height} pixels, more than the {MAX_PIXELS:,} that are read; "
            "shrink the image first"
        )
        raise ImageReadError(msg)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # damaged metadata must not cost the picture
        return 1


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether the file holds channels of 16 bits, of which Pillow would keep the high byte."""
    tiles: Any = getattr(image, "tile", ())
    return bool(tiles) and ";16" in str(tiles[0][3]) and image.mode in ("RGB", "RGBA", "LA")


def _deep_colour(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Luma of 16-bit channels, transparency laid on black, stretched like grey of that depth."""
    import cv2

    values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim != 3:
        msg = "its 16-bit colour cannot be decoded"
        raise ImageReadError(msg)
    blue, green, red = (values[..., channel].astype(np.float64) for channel in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R 601-2, as for 8 bits
    if values.shape[2] == 4:
        luma = luma * (values[..., 3].astype(np.float64) / 65535.0)
    return stretch(np.rint(luma).astype(np.uint16))


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    mode = image.mode
    if mode in _DEEP_MODES or mode.startswith("I;"):
        return stretch(np.asarray(image))
    if mode == "L" and "transparency" not in image.info:
        return np.asarray(image)
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        from PIL import Image as PILImage

        layer = image.convert("RGBA")
        black = PILImage.new("RGBA", layer.size, (0, 0, 0, 255))
        return np.asarray(PILImage.alpha_composite(black, layer).convert("RGB").convert("L"))
    if mode in ("1", "L", "RGB"):
        return np.asarray(image.convert("L"))
    return np.asarray(image.convert("RGB").convert("L"))  # P, CMYK, YCbCr, LAB, HSV


def _found(path: Path, error: Exception) -> str:
    """Say what the file is instead of an image, and how to mend it."""
    if not path.exists():
        return "there is no such file; check the path"
    if path.is_dir():
        return "it is a folder; name a file"
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as failure:
        return f"it cannot be opened ({failure.strerror}); check its permissions"
    if not head:
        return "the file is empty; copy it again"
    if path.suffix.lower() in (".dcm", ".dicom"):
        return "it is named as a DICOM file, but does not start like one; copy it again"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; fetch the real file with 'git lfs pull'"
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff")):
        return f"the image is damaged or cut off ({_one_line(error)}); copy it again"
    if head.lstrip()[:1] == b"<":
        return "it is an HTML or XML file; download the image itself"
    return f"it is not an image, or damaged ({_one_line(error)}); expected DICOM, JPEG, PNG, TIFF or BMP"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
