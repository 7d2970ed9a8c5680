"""Read one DICOM radiograph as it is meant to be shown; refuse what is no radiograph of a chest."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dmlm.errors import ImageReadError, MissingDependencyError
from dmlm.io.dicom_display import display_table
from dmlm.io.dicom_frames import check_frame, encapsulated_frame, is_raw, raw_length, read_frame, transfer_syntax
from dmlm.io.jpeg import scale_for

_PROJECTIONS: Final = frozenset(("", "CR", "DX", "RG", "RF", "XA", "OT", "SC"))
_CHEST: Final = ("CHEST", "THORA", "TORAX", "LUNG", "RIB", "CLAVICLE", "STERNUM", "HEART")  # how words begin
_ELSEWHERE: Final = frozenset(
    {"ABDOMEN", "ANKLE", "ARM", "BREAST", "CSPINE", "ELBOW", "EXTREMITY", "FACE", "FEMUR", "FINGER", "FOOT", "FOREARM"}
    | {"HAND", "HEAD", "HIP", "HUMERUS", "JAW", "KNEE", "LEG", "LSPINE", "MANDIBLE", "NECK", "PELVIS", "SHOULDER"}
    | {"SKULL", "TIBIA", "TOE", "WRIST"}
)
_BLOCK: Final = 1 << 20  # pixels that are looked up at once
_DEFLATED: Final = b"1.2.840.10008.1.2.1.99"


def looks_like_dicom(path: Path) -> bool:
    """Whether a file has the mark of DICOM, or at least its ending and no other picture's mark."""
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return False
    if head[128:] == b"DICM":
        return True
    named = path.suffix.lower() in (".dcm", ".dicom") and head[:1] in (b"\x02", b"\x08")
    return named and head[1:2] == b"\x00"  # a data set without preamble starts with group 0002 or 0008


def read_dicom(path: str | os.PathLike[str], max_pixels: int, min_size: int | None = None) -> NDArray[np.uint8]:
    """Read a DICOM radiograph as 8-bit grey values, black air and white bone.

    Raw, JPEG (8 and 12 bits, lossless), JPEG-LS, JPEG 2000 and RLE pixel data of 8 to 16 bits, signed or not. What the
    file says about its display is followed: see :func:`dmlm.io.dicom_display.display_table`. Pixels of the padding
    value are black and do not count in the range of the picture.

    Args:
        path: The file.
        max_pixels: Larger pictures are refused before they are decoded.
        min_size: The picture may come at 1/2, 1/4 or 1/8 of its size as long as its shorter side keeps this many
            pixels; None gives every pixel.

    Returns:
        uint8 ``[H, W]``, contiguous.

    Raises:
        ImageReadError: If the file is damaged, cut off, larger than ``max_pixels``, has several frames or colours, or
            shows another part of the body.
        MissingDependencyError: If pydicom is not installed.
    """
    with _opened(Path(path), max_pixels) as dataset:
        padding = _padding(dataset)
        stored = read_frame(dataset, min_size if padding is None else None)
        if padding is None:
            low, high = int(stored.min()), int(stored.max())
            return _look_up(display_table(dataset, low, high), low, _shrunk(stored, min_size))
        outside = (stored >= padding[0]) & (stored <= padding[1])
        inside = stored[~outside] if not outside.all() else stored
        low, high = int(inside.min()), int(inside.max())
        shown = _look_up(display_table(dataset, low, high), low, np.clip(stored, low, high))
        shown[outside] = 0
        return shown


def check_dicom(path: str | os.PathLike[str], max_pixels: int) -> None:
    """Find out cheaply whether :func:`read_dicom` would read a file: header, length and frame header; no pixels.

    Raises:
        ImageReadError, MissingDependencyError: As :func:`read_dicom`; damage inside compressed data may go unnoticed.
    """
    with _opened(Path(path), max_pixels) as dataset:
        if is_raw(dataset):
            needed = raw_length(dataset)
            if len(dataset.PixelData) < needed:
                msg = f"its pixel data are cut off: {len(dataset.PixelData):,} bytes, {needed:,} expected"
                raise ValueError(msg)
        else:
            check_frame(dataset, encapsulated_frame(dataset))


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Any]:
    """Parse and check a file; whatever goes wrong until the block ends becomes one line."""
    pydicom = _pydicom()
    try:
        with path.open("rb") as file:
            deflated = _DEFLATED in file.read(2048)
        if deflated:  # one that lies could fill the memory before anything is checked
            msg = "deflated DICOM is not read; inflate it first (dcmconv +te)"
            raise ValueError(msg)  # noqa: TRY301 - told in the same words as what pydicom raises
        dataset = pydicom.dcmread(path, force=True)
        _check(dataset, max_pixels)
        yield dataset
    except (ImageReadError, MissingDependencyError):
        raise
    except Exception as error:  # damaged bytes make pydicom and the decoders raise almost anything
        text = " ".join(str(error).split())[:200] or type(error).__name__
        msg = f"{path}: cannot be read as a DICOM radiograph: {text}"
        raise ImageReadError(msg) from error


def _check(dataset: Any, max_pixels: int) -> None:  # noqa: ANN401
    """Refuse what is no single grey radiograph of a chest.

    Raises:
        ValueError: With the reason and what to do.
    """
    if not dataset.get("PixelData") or "Rows" not in dataset:
        what = "no image" if "SOPClassUID" in dataset else "nothing that is DICOM"
        msg = f"it holds {what}, or is cut off; copy it again or leave it out"
        raise ValueError(msg)
    modality = str(dataset.get("Modality") or "").strip().upper()
    if modality not in _PROJECTIONS:
        msg = f"its modality is '{modality}', expected a radiograph (CR, DX); leave it out"
        raise ValueError(msg)
    part = re.findall("[A-Z]+", str(dataset.get("BodyPartExamined") or "").upper())
    if not any(word.startswith(_CHEST) for word in part) and not _ELSEWHERE.isdisjoint(part):
        msg = f"it shows '{dataset.BodyPartExamined}', not a chest; leave it out, or correct its BodyPartExamined"
        raise ValueError(msg)
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        msg = f"it has {int(dataset.NumberOfFrames)} frames, expected one; export the frame that you mean"
        raise ValueError(msg)
    colour = str(dataset.PhotometricInterpretation).strip()
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or colour not in ("MONOCHROME1", "MONOCHROME2"):
        msg = f"it is in colour ({colour}), expected MONOCHROME1 or MONOCHROME2; leave it out"
        raise ValueError(msg)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if not 0 < rows * columns <= max_pixels:
        msg = f"{columns} x {rows} pixels, expected 1 to {max_pixels:,}; shrink the image first"
        raise ValueError(msg)
    allocated, bits = int(dataset.BitsAllocated), int(dataset.BitsStored)
    if allocated not in (8, 16) or not 1 <= bits <= allocated or int(dataset.PixelRepresentation) not in (0, 1):
        msg = f"{bits} of {allocated} bits a pixel, expected 8 to 16 bits in 8 or 16"
        raise ValueError(msg)
    transfer_syntax(dataset)


def _padding(dataset: Any) -> tuple[int, int] | None:  # noqa: ANN401
    """Return the smallest and largest padding value (PS3.3 C.7.5.1.1.2), None where the file has none."""
    value = dataset.get("PixelPaddingValue")
    if value is None or value == "":
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = sorted((int(value), int(value if limit is None or limit == "" else limit)))
    return ends[0], ends[1]


def _shrunk(stored: NDArray[Any], min_size: int | None) -> NDArray[Any]:
    """Average blocks of pixels in their own type: far less to look up, and the values stay between low and high."""
    scale = scale_for(stored.shape[0], stored.shape[1], min_size)
    if scale == 1:
        return stored
    import cv2

    height, width = (-(-side // scale) for side in stored.shape)  # rounded up, as a scaled JPEG is
    return np.asarray(cv2.resize(np.ascontiguousarray(stored), (width, height), interpolation=cv2.INTER_AREA))


def _look_up(table: NDArray[np.uint8], low: int, stored: NDArray[Any]) -> NDArray[np.uint8]:
    """Replace each value by its table entry; deep ones some rows at a time: the wide index of a picture is large."""
    if stored.dtype == np.uint8:
        import cv2

        full = np.zeros(256, np.uint8)
        full[low : low + len(table)] = table
        return np.asarray(cv2.LUT(stored, full), dtype=np.uint8)
    shown = np.empty(stored.shape, np.uint8)
    step = max(1, _BLOCK // stored.shape[1])
    for start in range(0, stored.shape[0], step):
        shown[start : start + step] = table[stored[start : start + step].astype(np.intp) - low]
    return shown


@cache
def _pydicom() -> Any:  # noqa: ANN401
    try:
        import pydicom
    except ImportError as error:
        raise MissingDependencyError("pydicom", "dicom") from error  # noqa: EM101 - a package, not a message
    # odd headers are common in old files, and what matters is checked here
    warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")
    return pydicom
