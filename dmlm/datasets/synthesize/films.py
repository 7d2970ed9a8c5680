"""What the generators of layouts share: phantom patients in splits, JPEG and DICOM files, the words of a report."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.phantom.studies import PhantomStudy, make_patient
from dmlm.datasets.splits import Split
from dmlm.errors import ConfigError, MissingDependencyError
from dmlm.io.atomic import atomic_path

_SECTION: Final = re.compile(r"^(INDICATION|FINDINGS|IMPRESSION):", re.MULTILINE)


def phantom_patients(patients: int, seed: int, image_size: int) -> Iterator[tuple[Split, list[PhantomStudy]]]:
    """Draw patients: 70 % train, 10 % val, 20 % test, at least one each.

    Args:
        patients: How many, at least 3.
        seed: Another seed gives other patients.
        image_size: Height and width of the films, in pixels.

    Raises:
        ConfigError: If there are fewer than three.
    """
    if patients < 3:
        msg = f"--patients must be at least 3, one for each split; got {patients}"
        raise ConfigError(msg)
    val, test = max(1, round(0.1 * patients)), max(1, round(0.2 * patients))
    counts: dict[Split, int] = {"train": patients - val - test, "val": val, "test": test}
    for split, count in counts.items():
        for number in range(count):
            yield split, make_patient(seed, split, number, image_size)


def sections_of(study: PhantomStudy) -> dict[str, str]:
    """Return the sections of a phantom's report by lower-case name."""
    parts = _SECTION.split(study.text)
    return {name.lower(): text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def lateral(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a stand-in for a lateral film, uint8 ``[H, W]``: the frontal one squeezed and blurred, no anatomy."""
    import cv2

    height, width = image.shape
    narrow = cv2.resize(cv2.GaussianBlur(image, (0, 0), max(1.0, width / 60)), (width // 2, height))
    film: NDArray[np.uint8] = np.full_like(image, 4)
    film[:, width // 4 : width // 4 + width // 2] = narrow
    return film


def write_jpeg(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a grey JPEG; folders are made."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=95)


def write_dicom(path: Path, image: NDArray[np.uint8], patient: str, view: str) -> None:
    """Write an uncompressed 12-bit DICOM radiograph; folders are made.

    Raises:
        MissingDependencyError: If pydicom is not installed.
    """
    try:
        import pydicom
        from pydicom.dataset import FileDataset, FileMetaDataset
        from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
    except ImportError as error:
        package, extra = "pydicom", "dicom"
        raise MissingDependencyError(package, extra) from error
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.stem])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientID, data.Modality, data.ViewPosition, data.BodyPartExamined = patient, "DX", view, "CHEST"
    data.Rows, data.Columns = image.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.WindowCenter, data.WindowWidth = 2048, 4096
    data.PixelData = (image.astype(np.uint16) * 16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, data, enforce_file_format=True)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV, gzipped (the same bytes for the same rows) where the name ends in ``.gz``."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    data = text.getvalue().encode()
    with atomic_path(path) as target:
        target.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def refuse_existing(out: Path, *names: str) -> None:
    """Refuse a folder that holds one of these already.

    Raises:
        ConfigError: If it does.
    """
    for name in names:
        if (out / name).exists():
            msg = f"{out / name}: exists already; give an empty folder"
            raise ConfigError(msg)
