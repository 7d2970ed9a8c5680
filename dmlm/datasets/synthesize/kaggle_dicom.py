"""DICOM files as the RSNA and SIIM challenges distribute them: 8-bit, JPEG baseline; and the odd ones."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["jpeg", "inverted", "deep"]


def write_kaggle_dicom(path: Path, image: NDArray[np.uint8], patient: str, view: str, kind: Kind = "jpeg") -> None:
    """Write one radiograph; folders are made.

    Args:
        path: File; its stem becomes part of the identifiers.
        image: Grey values as they are to be seen, uint8 ``[H, W]``.
        patient: PatientID.
        view: ViewPosition.
        kind: ``jpeg``: MONOCHROME2, 8 bits, JPEG baseline. ``inverted``: MONOCHROME1, 8 bits, uncompressed, so that
            stored values are 255 minus those seen. ``deep``: MONOCHROME2, 16 bits, uncompressed, values times 257.

    Raises:
        MissingDependencyError: If pydicom is not installed.
    """
    try:
        import pydicom
        from pydicom.dataset import FileDataset, FileMetaDataset
        from pydicom.encaps import encapsulate
        from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid
    except ImportError as error:
        from dmlm.errors import MissingDependencyError

        raise MissingDependencyError("pydicom", "dicom") from error  # noqa: EM101 - a package, not a message
    from PIL import Image

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.stem])
    meta.TransferSyntaxUID = JPEGBaseline8Bit if kind == "jpeg" else ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = generate_uid(entropy_srcs=[path.stem, "study"])
    data.SeriesInstanceUID = generate_uid(entropy_srcs=[path.stem, "series"])
    data.PatientID, data.PatientName, data.Modality, data.ViewPosition = patient, patient, "CR", view
    data.BodyPartExamined, data.PixelSpacing = "CHEST", [0.143, 0.143]
    data.Rows, data.Columns = image.shape
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.PhotometricInterpretation = "MONOCHROME1" if kind == "inverted" else "MONOCHROME2"
    bits = 16 if kind == "deep" else 8
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    if kind == "jpeg":
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=92)
        data.PixelData = encapsulate([stream.getvalue()])
        data["PixelData"].is_undefined_length = True
        data.LossyImageCompression = "01"
    elif kind == "inverted":
        data.PixelData = (255 - image).astype(np.uint8).tobytes() + b"\0" * (image.size % 2)
    else:
        data.PixelData = (image.astype(np.uint16) * 257).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, data, enforce_file_format=True)
