"""Phantoms in the layout of the RSNA Pneumonia Detection Challenge."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Final

import numpy as np

from dmlm.datasets.phantom.studies import PhantomStudy, make_patient
from dmlm.datasets.rsna import CLASSES
from dmlm.datasets.synthesize.films import phantom_patients, write_csv
from dmlm.datasets.synthesize.kaggle_dicom import Kind, write_kaggle_dicom

_SIDE: Final = 1024
_MOST_BOXES: Final = 4
_KINDS: Final[dict[int, Kind]] = {1: "inverted", 2: "deep"}


def write(out: Path, patients: int, seed: int, image_size: int) -> None:
    """Write ``stage_2_train_images``, ``stage_2_test_images`` (without labels) and the tables.

    Consolidations are the opacities with boxes, in 1024-pixel space whatever ``image_size``. Among the edge cases: an
    image with four boxes, repeated rows of classes, one MONOCHROME1 and one 16-bit file.

    Args:
        out: Folder to write to.
        patients: Patients, at least 3; each image gets an id of its own, as in the challenge.
        seed: Another seed gives other patients.
        image_size: Height and width of the films, in pixels (1024 in the challenge).
    """
    rng = np.random.default_rng([seed, 5])
    rows: list[tuple[object, ...]] = []
    classes: list[tuple[str, str]] = []
    most = 0
    studies = [study for _, several in phantom_patients(patients, seed, image_size) for study in several]
    for number, study in enumerate(studies):
        name = str(uuid.UUID(bytes=rng.bytes(16), version=4))
        path = out / "stage_2_train_images" / f"{name}.dcm"
        write_kaggle_dicom(path, study.image, name, study.view, _KINDS.get(number, "jpeg"))
        boxes = _boxes(study)
        if boxes and not most:
            boxes, most = _quarters(boxes[0]), _MOST_BOXES
        rows.extend((name, *(float(edge) for edge in box), 1) for box in boxes)
        if not boxes:
            rows.append((name, "", "", "", "", 0))
        kind = CLASSES[2] if boxes else CLASSES[0] if not any(study.labels) else CLASSES[1]
        classes.extend([(name, kind)] * max(1, len(boxes)))
    write_csv(out / "stage_2_train_labels.csv", ("patientId", "x", "y", "width", "height", "Target"), rows)
    write_csv(out / "stage_2_detailed_class_info.csv", ("patientId", "class"), classes)
    unlabelled = []
    for number in range(3):
        name = str(uuid.UUID(bytes=rng.bytes(16), version=4))
        image = make_patient(seed, "test", 10_000 + number, image_size)[0].image
        write_kaggle_dicom(out / "stage_2_test_images" / f"{name}.dcm", image, name, "AP")
        unlabelled.append((name, "0.5 0 0 100 100"))
    write_csv(out / "stage_2_sample_submission.csv", ("patientId", "PredictionString"), unlabelled)


def _boxes(study: PhantomStudy) -> list[tuple[int, int, int, int]]:
    """Return x, y, width and height of the opacities, whole numbers in 1024-pixel space."""
    found = []
    for edges in study.boxes.get("Consolidation", [])[:_MOST_BOXES]:
        x0, y0, x1, y1 = (round(edge * _SIDE) for edge in edges)
        found.append((x0, y0, max(1, x1 - x0), max(1, y1 - y0)))
    return found


def _quarters(box: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    """Cut a box into four, so that one image has as many as any image of the challenge."""
    x, y, width, height = box
    half, lower = max(1, width // 2), max(1, height // 2)
    return [(left, top, half, lower) for left in (x, x + width - half) for top in (y, y + height - lower)]
