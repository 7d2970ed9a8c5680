"""Pictures and radiographs that fuzzing starts from, and how they are read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any


def pictures() -> list[bytes]:
    """Small pictures in the colour modes and formats that occur."""
    import numpy as np
    from PIL import Image

    grey = (np.add.outer(np.arange(24), np.arange(20)) * 5).astype(np.uint8)
    found = []
    for mode, kind in (("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("L", "TIFF")):
        file = io.BytesIO()
        Image.fromarray(grey).convert(mode).save(file, kind)
        found.append(file.getvalue())
    file = io.BytesIO()
    Image.fromarray(grey.astype(np.uint16) * 256).save(file, "PNG")
    return [*found, file.getvalue()]


def dicoms() -> list[bytes]:
    """Radiographs of 24 x 20 pixels as DICOM: raw, RLE, JPEG, JPEG 2000."""
    import numpy as np
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000, UID, ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

    pixels = (np.add.outer(np.arange(24), np.arange(20)) * 5).astype(np.uint8)
    found = []
    for syntax in (ExplicitVRLittleEndian, RLELossless, JPEGBaseline8Bit, JPEG2000):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = UID(syntax)
        ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = UID("1.2.840.10008.5.1.4.1.1.1"), UID("1.2.3"), "DX"
        ds.BodyPartExamined, ds.PhotometricInterpretation, ds.SamplesPerPixel = "CHEST", "MONOCHROME1", 1
        ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 24, 20, 8, 8, 7
        ds.PixelRepresentation, ds.WindowCenter, ds.WindowWidth, ds.RescaleSlope, ds.RescaleIntercept = 0, 100, 90, 1, 0
        if syntax == ExplicitVRLittleEndian:
            ds.PixelData = pixels.tobytes()
        elif syntax == RLELossless:
            ds.compress(UID(RLELossless), pixels, generate_instance_uid=False)
        else:
            ds.PixelData = encapsulate([_encoded(pixels, "JPEG" if syntax == JPEGBaseline8Bit else "JPEG2000")])
        ds["PixelData"].VR = "OB"
        file = io.BytesIO()
        ds.save_as(file, enforce_file_format=True)
        found.append(file.getvalue())
    return found


def _encoded(pixels: Any, kind: str) -> bytes:  # noqa: ANN401
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **({"no_jp2": True} if kind == "JPEG2000" else {}))
    return file.getvalue()


def read_image(path: Path) -> object:
    """Read and check a picture; what comes out must be grey bytes."""
    from dmlm.io.images import check_image, read_grey

    grey = read_grey(path, min_size=8 if path.stat().st_size % 2 else None)
    assert grey.ndim == 2, grey.shape
    assert str(grey.dtype) == "uint8", grey.dtype
    return check_image(path)
