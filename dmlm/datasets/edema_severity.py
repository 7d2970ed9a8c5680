"""Edema severity: grades 0 to 3 of MIMIC-CXR studies, joined with the images of MIMIC-CXR."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets import mimic_cxr
from dmlm.datasets.edema_grades import COUNTS, FILES, JOINT_IMAGES, Reading, Source, find_grades, read_readings
from dmlm.datasets.image_presence import MissingImages, present_rows
from dmlm.datasets.mimic_cxr_reports import TextPolicy
from dmlm.datasets.splits import draw_splits
from dmlm.datasets.splits_published import by_ratios
from dmlm.datasets.table import StudyTable
from dmlm.datasets.table_splits import SplitPlan
from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError

LABEL_NAMES: Final = ("No Edema", "Vascular Congestion", "Interstitial Edema", "Alveolar Edema")
"""The grades 0 to 3; exactly one is present."""

TOTALS: Final[Mapping[str, int]] = {
    **{f"{name} rows": sum(counts) for name, counts in COUNTS.items()},
    "regex patients": 1_678,
    "joint_chestxray images": JOINT_IMAGES,
}
"""What the complete tables hold."""

HOW_TO_GET: Final = (
    "credentialed account on PhysioNet, project mimic-cxr-pe-severity 1.0.1, and MIMIC-CXR-JPG for the images; the "
    "list with folds is in the repository RayRuizhiLiao/joint_chestxray"
)

OPTIONAL_FILES: Final[Mapping[str, str]] = {
    FILES["expert"]: "grades of reports by a radiologist",
    FILES["consensus"]: "grades of images by several radiologists",
    FILES["joint_chestxray"]: "the published folds and test part",
}
"""Files that not every use needs -> what they are for."""

_MIMIC: Final = ("mimic", ".")
_LOG = logging.getLogger(__name__)


def recognise(folder: Path) -> bool:
    """Whether a folder holds one of the tables."""
    try:
        return any(find_grades(folder, source) is not None for source in FILES)
    except OSError:
        return False


def open_table(
    root: Path,
    source: Source = "regex",
    mimic: str | None = None,
    tables: str | None = None,
    reports_root: str | None = None,
    text: TextPolicy = "report",
    views: Literal["frontal", "all"] = "frontal",
    missing_images: MissingImages = "raise",
) -> StudyTable:
    """Open the grades with their images.

    Grades of reports are joined with every image of the study that has the wanted view: a study with two frontal films
    has two rows, one without any has none. Grades of images are joined by ``dicom_id``, whatever the view.

    Args:
        root: Folder of the tables.
        source: Whose grades.
        mimic: Folder of MIMIC-CXR; None looks in ``mimic`` below ``root``, then in ``root`` itself.
        tables: Folder of MIMIC-CXR's tables, where they are not beside its images.
        reports_root: Reports of MIMIC-CXR, see :func:`dmlm.datasets.mimic_cxr.open_table`.
        text: Which part of a report is its text.
        views: ``frontal`` takes PA and AP.
        missing_images: What happens to images that are listed but not there.

    Returns:
        One row per image; ``extra``: ``view``, ``dicom_id``, ``edema_grade`` (int), ``reader``, ``fold``.

    Raises:
        ConfigError: If an option is wrong.
        DatasetNotFoundError: If a table, MIMIC-CXR or its images are missing.
        DatasetFormatError: If a table is damaged, or none of its studies is in MIMIC-CXR.
    """
    readings = read_readings(root, source)
    home = _mimic(root, mimic)
    images = mimic_cxr.open_table(
        home, reports_root=reports_root, tables=tables, labels="none", text=text, missing_images="keep"
    )
    rows, matched = _join(readings, images, views)
    if not len(rows):
        msg = f"{root}: none of {len(readings):,} graded studies has a {views} image in {home}; check data.mimic"
        raise DatasetFormatError(msg)
    lost = len(readings) - len({id(item) for item in matched})
    if lost:
        _LOG.warning("%s: %d of %d readings have no such image in MIMIC-CXR", root, lost, len(readings))
    names = [images.images[row] for row in rows.tolist()]
    kept = present_rows(images.root, names, missing_images, patient_depth=2)
    table = images.take(rows[kept])
    chosen = [matched[place] for place in kept.tolist()]
    grades = np.array([item.grade for item in chosen], dtype=np.int64)
    return StudyTable(
        name="edema",
        root=images.root,
        label_names=LABEL_NAMES,
        images=table.images,
        study_ids=table.study_ids,
        patient_ids=table.patient_ids,
        labels=np.eye(4, dtype=np.float32)[grades],
        task="multiclass",
        text=table.text,
        extra={
            **table.extra,
            "edema_grade": grades,  # type: ignore[dict-item]  # an array is a sequence
            "reader": [item.reader for item in chosen],
            "fold": [item.fold for item in chosen],
        },
    )


def _mimic(root: Path, mimic: str | None) -> Path:
    if mimic is not None:
        return Path(mimic).expanduser()
    for name in _MIMIC:
        if mimic_cxr.recognise(root / name):
            return root / name
    msg = f"{root}: holds grades but no images; set data.mimic to the folder of MIMIC-CXR-JPG"
    raise DatasetNotFoundError(msg)


def _join(readings: list[Reading], images: StudyTable, views: str) -> tuple[NDArray[np.int64], list[Reading]]:
    """Return the rows of MIMIC-CXR that are graded, in its order, and the reading of each."""
    if views not in ("frontal", "all"):
        msg = f"data.views must be frontal or all, got '{views}'"
        raise ConfigError(msg)
    by_image = {item.dicom: item for item in readings if item.dicom}
    by_study = {item.study: item for item in readings if not item.dicom}
    seen = images.extra["view"]
    if by_study and views == "frontal" and not any(seen):
        msg = f"{images.root}: no metadata table says which films are frontal; set data.tables, or data.views to all"
        raise ConfigError(msg)
    rows, matched = [], []
    for row, (study, dicom) in enumerate(zip(images.study_ids, images.extra["dicom_id"], strict=True)):
        item = by_image.get(dicom)
        if item is None and (views == "all" or seen[row] in mimic_cxr.FRONTAL):
            item = by_study.get(str(study))
        if item is not None:
            rows.append(row)
            matched.append(item)
    return np.array(rows, dtype=np.int64), matched


def _joint_chestxray(table: StudyTable, plan: SplitPlan, fold: str) -> NDArray[Any]:  # noqa: ARG001 - one signature
    """Test on TEST, val is one fold, train the four others.

    Raises:
        ConfigError: If the table has no folds.
    """
    folds = np.asarray(table.extra["fold"], dtype="<U4")
    if not (folds != "").all():
        msg = "split 'joint_chestxray' needs the list with folds: set data.source to joint_chestxray"
        raise ConfigError(msg)
    return np.where(folds == "TEST", "test", np.where(folds == fold, "val", "train")).astype("<U5")


def _expert_test(table: StudyTable, plan: SplitPlan) -> NDArray[Any]:
    """Test on every study that a radiologist graded; train and val are drawn from the other patients.

    Raises:
        ConfigError: If no study was graded by a radiologist, or train and val have no share.
    """
    by_hand = np.isin(np.asarray(table.extra["reader"]), ["expert", "consensus"])
    if not by_hand.any() or by_hand.all():
        msg = "split 'expert_test' needs grades of both kinds: set data.source to best"
        raise ConfigError(msg)
    total = plan.ratios[0] + plan.ratios[1]
    if total <= 0:
        msg = "data.ratios: split 'expert_test' needs a share for train or val"
        raise ConfigError(msg)
    patients = np.asarray(table.patient_ids)
    free = ~np.isin(patients, np.unique(patients[by_hand]))
    places = draw_splits(patients[free].tolist(), (plan.ratios[0] / total, plan.ratios[1] / total, 0.0), plan.seed)
    # other studies of the test patients, read by machine only, are in no part
    split = np.where(by_hand, "test", "").astype("<U5")
    split[free] = [places[name] for name in patients[free].tolist()]
    return split


NAMED_SPLITS: Final[Mapping[str, Callable[[StudyTable, SplitPlan], NDArray[Any]]]] = {
    "paper": lambda table, plan: by_ratios(table, plan, (0.6, 0.2, 0.2)),
    "joint_chestxray": partial(_joint_chestxray, fold="1"),
    **{f"joint_chestxray_fold{fold}": partial(_joint_chestxray, fold=str(fold)) for fold in range(1, 6)},
    "expert_test": _expert_test,
}
"""``joint_chestxray`` validates on fold 1, ``joint_chestxray_foldN`` on fold N; ``expert_test`` needs ``best``."""
