"""How fast radiographs become small grey pictures, against Pillow and pydicom's own plugins, in one run.

``python -m benchmarks.decode`` prints the figures; :func:`measure` returns them. Pictures are made here: a chest-like
field with film noise, compressed as MIMIC-CXR-JPG, RSNA and hospital archives do. The two sides of a ratio are timed in
turn, in CPU time of one thread, best of several rounds, so that other work on the machine does not decide.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIZE = 256


def measure(rounds: int = 5) -> dict[str, float]:
    """Return milliseconds per image (``decode_*_ms``) and how often quicker than the usual way (``decode_*_x``)."""
    import cv2

    from dmlm.datasets.store_prepare import small_copy

    cv2.setNumThreads(1)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (make, usual) in _CASES.items():
            path = make(Path(folder))
            small_copy(path, SIZE)
            try:
                usual(path)
            except _NotInstalledError as error:
                print(f"{error}; left out", file=sys.stderr)
                continue
            ours, theirs = [], []
            for _ in range(rounds):
                ours.append(_cpu(lambda path=path: small_copy(path, SIZE)))
                theirs.append(_cpu(lambda path=path, usual=usual: usual(path)))
            figures[f"decode_{name}_ms"] = 1e3 * min(ours)
            figures[f"decode_{name}_usual_ms"] = 1e3 * min(theirs)
            figures[f"decode_{name}_x"] = min(theirs) / min(ours)
            figures[f"decode_{name}_grey_level_error"] = _error(small_copy(path, SIZE), usual(path))
    return figures


class _NotInstalledError(Exception):
    """The usual way lacks a package."""


def _cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _error(ours: NDArray[np.uint8], usual: NDArray[np.uint8]) -> float:
    return float(np.abs(ours.astype(float) - usual).mean())


def film(height: int, width: int, bits: int) -> NDArray[np.uint16]:
    """Return a field of soft shapes, ribs and noise, with the black border and the white marker of a real film."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width]
    y, x = y / height, x / width
    lungs = np.exp(-(((x - 0.3) / 0.14) ** 2 + ((y - 0.45) / 0.3) ** 2)) + np.exp(
        -(((x - 0.7) / 0.14) ** 2 + ((y - 0.45) / 0.3) ** 2)
    )
    ribs = 0.06 * np.sin(60 * (y + 0.3 * (x - 0.5) ** 2)) * lungs
    field = 0.75 - 0.5 * lungs + ribs + rng.normal(0.0, 0.006, lungs.shape)
    field[:, : width // 24] = 0.0
    field[height // 16 : height // 12, width // 12 : width // 8] = 1.0
    return np.rint(np.clip(field, 0.0, 1.0) * (2**bits - 1)).astype(np.uint16)


def _shrunk(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    scale = SIZE / min(grey.shape)
    shape = (round(grey.shape[1] * scale), round(grey.shape[0] * scale))
    return np.asarray(cv2.resize(grey, shape, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _by_pillow(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(path) as image:
        grey = image.convert("L")
        scale = SIZE / min(grey.size)
        size = (round(grey.width * scale), round(grey.height * scale))
        return np.asarray(grey.resize(size, Image.Resampling.BILINEAR))


def _by_pydicom(path: Path) -> NDArray[np.uint8]:
    """Decode with the plugin that pydicom chooses, stretch in float32 as most code in circulation does, and shrink."""
    import pydicom

    ds = pydicom.dcmread(path)
    try:
        pixels = ds.pixel_array
    except (RuntimeError, NotImplementedError) as error:
        mend = "what pydicom decodes this with is not installed: pip install pylibjpeg pylibjpeg-libjpeg"
        msg = f"benchmarks.decode: {ds.file_meta.TransferSyntaxUID.name}: {mend}"
        raise _NotInstalledError(msg) from error
    if ds.BitsStored == 8:
        return _shrunk(pixels)
    wide = pixels.astype(np.float32)
    wide = (wide - wide.min()) / (wide.max() - wide.min()) * 255.0
    return _shrunk(np.rint(wide).astype(np.uint8))


def _jpeg(folder: Path) -> Path:
    from PIL import Image

    path = folder / "large.jpg"
    Image.fromarray(film(3056, 2544, 8).astype(np.uint8)).save(path, quality=95)
    return path


def _dicom(folder: Path, name: str, syntax: str, pixels: NDArray[np.uint16], bits: int) -> Path:
    import imagecodecs
    from PIL import Image
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, generate_uid

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1.1")
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.Modality, ds.SamplesPerPixel, ds.PhotometricInterpretation = "DX", 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = (8 if bits == 8 else 16), bits, bits - 1, 0
    if name == "dicom_raw":
        ds.PixelData = pixels.tobytes()
    elif name == "dicom_jpeg_baseline":
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=90)
        ds.PixelData = encapsulate([buffer.getvalue()])
    elif name == "dicom_jpeg_lossless":
        ds.PixelData = encapsulate([bytes(imagecodecs.ljpeg_encode(pixels, bitspersample=bits))])
    elif name == "dicom_jpeg_ls":
        ds.PixelData = encapsulate([bytes(imagecodecs.jpegls_encode(pixels))])
    elif name == "dicom_jpeg_2000":
        stream = imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, bitspersample=bits)
        ds.PixelData = encapsulate([bytes(stream)])
    else:
        ds.compress(UID(syntax), pixels, generate_instance_uid=False)
    ds["PixelData"].VR = "OW" if name == "dicom_raw" else "OB"
    path = folder / f"{name}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


_CASES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], NDArray[np.uint8]]]] = {
    "large_jpeg": (_jpeg, _by_pillow),
    "dicom_jpeg_baseline": (
        lambda folder: _dicom(folder, "dicom_jpeg_baseline", "1.2.840.10008.1.2.4.50", film(1024, 1024, 8), 8),
        _by_pydicom,
    ),
    **{
        name: (
            lambda folder, name=name, syntax=syntax: _dicom(folder, name, syntax, film(3056, 2544, 12), 12),
            _by_pydicom,
        )
        for name, syntax in (
            ("dicom_raw", "1.2.840.10008.1.2.1"),
            ("dicom_rle", "1.2.840.10008.1.2.5"),
            ("dicom_jpeg_lossless", "1.2.840.10008.1.2.4.70"),
            ("dicom_jpeg_ls", "1.2.840.10008.1.2.4.80"),
            ("dicom_jpeg_2000", "1.2.840.10008.1.2.4.90"),
        )
    },
}


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
