"""Phantoms graded for edema, in the layout of ``mimic-cxr-pe-severity``, with the MIMIC-CXR tree that it refers to."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dmlm.datasets.edema_grades import FILES
from dmlm.datasets.splits import draw_splits
from dmlm.datasets.synthesize.films import refuse_existing, write_csv
from dmlm.datasets.synthesize.mimic import DICOM, JPG, WrittenStudy, write_trees


def write(out: Path, patients: int, seed: int, image_size: int) -> None:
    """Write the four tables, and ``mimic`` with images and reports.

    Expert and consensus studies are subsets of the regex studies; some reports are misread by the rules; a study has
    two frontal films and one has none; the list with folds spells its column ``edeme_severity``.

    Args:
        out: Folder to write to.
        patients: Patients, at least 3.
        seed: Another seed gives other patients.
        image_size: Larger side of the films, in pixels.

    Raises:
        ConfigError: If the folder holds such tables already.
    """
    refuse_existing(out, *FILES.values(), "mimic")
    written = write_trees(out / "mimic" / JPG, out / "mimic" / DICOM, patients, seed, image_size)
    rng = np.random.default_rng([seed, 1])
    graded = [item for place, item in enumerate(written) if place % 10 != 9]
    by_machine = [min(3, item.edema_grade + int(rng.random() < 0.1)) for item in graded]
    rows = [(item.subject, item.study, grade) for item, grade in zip(graded, by_machine, strict=True)]
    write_csv(out / FILES["regex"], ("subject_id", "study_id", "edema_severity"), rows)
    tested = {item.subject for item in graded if item.split == "test"}
    expert = [item for item in graded if item.subject in tested]
    write_csv(
        out / FILES["expert"],
        ("subject_id", "study_id", "edema_severity"),
        [(item.subject, item.study, item.edema_grade) for item in expert],
    )
    consensus = [item for item in expert if _frontal(item)][::2]
    write_csv(
        out / FILES["consensus"],
        ("subject_id", "study_id", "dicom_id", "edema_severity"),
        [(item.subject, item.study, _frontal(item)[0], item.edema_grade) for item in consensus],
    )
    write_csv(
        out / FILES["joint_chestxray"],
        ("subject_id", "study_id", "dicom_id", "edeme_severity", "fold"),
        _joint(graded, by_machine, tested, seed),
    )


def _joint(graded: list[WrittenStudy], by_machine: list[int], tested: set[int], seed: int) -> list[tuple[object, ...]]:
    """Folds by patient; the test part has what is there instead of what the rules read."""
    others = sorted({str(item.subject) for item in graded} - {str(subject) for subject in tested})
    folds = {name: str(1 + place % 5) for place, name in enumerate(draw_splits(others, (1.0, 0.0, 0.0), seed))}
    rows: list[tuple[object, ...]] = []
    for item, grade in zip(graded, by_machine, strict=True):
        fold = "TEST" if item.subject in tested else folds[str(item.subject)]
        value = item.edema_grade if fold == "TEST" else grade
        rows.extend((item.subject, item.study, name, value, fold) for name in _frontal(item)[:1])
    return rows


def _frontal(study: WrittenStudy) -> list[str]:
    return [name for name, view, _ in study.films if view in ("PA", "AP")]
