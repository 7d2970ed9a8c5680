"""Tables of edema severity: readings of reports and images, by machine and by radiologists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from dmlm.datasets.csv_columns import check_unique, find_table, read_columns
from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError

Source = Literal["regex", "expert", "consensus", "best", "joint_chestxray"]
"""``regex``: rules over reports. ``expert``: reports read by a radiologist. ``consensus``: images read by several.
``best``: the most trusted of these for each study. ``joint_chestxray``: the list of images with folds and a test part
that published work trains on."""

FILES: Final[Mapping[str, str]] = {
    "regex": "regex_report_edema_severity.csv",
    "expert": "expert_report_edema_severity.csv",
    "consensus": "consensus_image_edema_severity.csv",
    "joint_chestxray": "mimic-cxr-sub-img-edema-split-manualtest.csv",
}
COUNTS: Final[Mapping[str, tuple[int, int, int, int]]] = {
    "regex": (2801, 1497, 1736, 676),
    "expert": (216, 98, 105, 66),
    "consensus": (61, 44, 20, 16),
}
"""Rows of each grade in the release."""
JOINT_IMAGES: Final = 6_742
JOINT_TEST_IMAGES: Final = 531

_FOLDS: Final = ("1", "2", "3", "4", "5", "TEST")
_TRUST: Final = ("consensus", "expert", "regex")


@dataclass(frozen=True)
class Reading:
    """One graded study or image.

    Args:
        study: study_id.
        dicom: dicom_id where an image was graded, ``""`` where a report was.
        grade: 0 none, 1 vascular congestion, 2 interstitial edema, 3 alveolar edema.
        reader: Which table it is from.
        fold: ``1`` to ``5`` or ``TEST`` (joint_chestxray), ``""`` elsewhere.
    """

    study: str
    dicom: str
    grade: int
    reader: str
    fold: str = ""


def read_readings(root: Path, source: Source) -> list[Reading]:
    """Read one table, or for ``best`` all three of the release.

    Raises:
        ConfigError: If there is no such source.
        DatasetNotFoundError: If a table is not there.
        DatasetFormatError: If it holds another grade or fold, lists something twice, or is altered.
    """
    if source == "best":
        best: dict[str, Reading] = {}
        for name in _TRUST:
            for item in _read(root, name):
                if item.study not in best:
                    # an image's reading stands for its study, so that all films of the study count
                    best[item.study] = Reading(item.study, "", item.grade, item.reader)
        return list(best.values())
    if source not in FILES:
        msg = f"data.source must be {', '.join(FILES)} or best; got '{source}'"
        raise ConfigError(msg)
    return _read(root, source)


def find_grades(root: Path, source: str) -> Path | None:
    """Return the table of a source at or below ``root``, None where there is none."""
    return find_table(
        [root, root / "1.0.1", root / "metadata", root / "mimic-cxr-pe-severity" / "1.0.1"], FILES[source]
    )


def _read(root: Path, source: str) -> list[Reading]:
    path = find_grades(root, source)
    if path is None:
        msg = f"{root}: holds no {FILES[source]}; download it there, or choose another data.source"
        raise DatasetNotFoundError(msg)
    joint, by_image = source == "joint_chestxray", source in ("joint_chestxray", "consensus")
    required = ["study_id", *(["dicom_id"] if by_image else []), *(["fold"] if joint else [])]
    # the published list spells its column 'edeme_severity'
    columns = read_columns(path, required, ("edema_severity", "edeme_severity"))
    grades = columns.get("edema_severity", columns.get("edeme_severity"))
    if grades is None:
        msg = f"{path}: has neither a column 'edema_severity' nor 'edeme_severity'"
        raise DatasetFormatError(msg)
    check_unique(path, "dicom_id" if by_image else "study_id", columns["dicom_id" if by_image else "study_id"])
    _check_values(path, "edema severity", grades, ("0", "1", "2", "3", "0.0", "1.0", "2.0", "3.0"), "0, 1, 2 or 3")
    blank = [""] * len(grades)
    folds = columns.get("fold", blank)
    if joint:
        _check_values(path, "fold", folds, _FOLDS, "1 to 5 or TEST")
    numbers = [int(float(cell)) for cell in grades]
    _check_counts(path, source, numbers, folds)
    rows = zip(columns["study_id"], columns.get("dicom_id", blank), numbers, folds, strict=True)
    return [Reading(study.removeprefix("s"), dicom, grade, source, fold) for study, dicom, grade, fold in rows]


def _check_values(path: Path, name: str, cells: Sequence[str], known: Sequence[str], expected: str) -> None:
    for line, cell in enumerate(cells, start=2):
        if cell not in known:
            msg = f"{path}, line {line}: {name} is '{cell}'; expected {expected}"
            raise DatasetFormatError(msg)


def _check_counts(path: Path, source: str, grades: Sequence[int], folds: Sequence[str]) -> None:
    """A table of the released length must have the released counts."""
    if source in COUNTS and len(grades) == sum(COUNTS[source]):
        found = tuple(np.bincount(grades, minlength=4).tolist())
        if found != COUNTS[source]:
            msg = f"{path}: has the released number of rows but {found} of grades 0 to 3 instead of {COUNTS[source]}"
            raise DatasetFormatError(msg)
    if source == "joint_chestxray" and len(grades) == JOINT_IMAGES and list(folds).count("TEST") != JOINT_TEST_IMAGES:
        msg = (
            f"{path}: has all {JOINT_IMAGES} rows but {list(folds).count('TEST')} of fold TEST, not {JOINT_TEST_IMAGES}"
        )
        raise DatasetFormatError(msg)
