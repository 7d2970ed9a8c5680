"""CheXpert: small or full, in any of its folder layouts, with the validation and test labels read by radiologists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.chexpert_folders import Folders, candidates, find_patients
from dmlm.datasets.chexpert_rows import Rows, join_rows, read_part, read_test
from dmlm.datasets.csv_columns import find_table, read_columns
from dmlm.datasets.image_presence import MissingImages, present_rows, probe_files
from dmlm.datasets.splits import draw_splits
from dmlm.datasets.table import StudyTable
from dmlm.datasets.table_splits import SplitPlan
from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError

LABEL_NAMES: Final = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""The 14 labels in the order of the release (MIMIC-CXR's is another)."""

COMPETITION: Final = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
"""The five tasks of the competition."""

TOTALS: Final[Mapping[str, int]] = {
    "train images": 223_414,
    "train patients": 64_540,
    "train frontal images": 191_027,
    "val images": 234,
    "val patients": 200,
    "test studies": 500,
}
"""What the complete release holds; the test studies come with CheXlocalize."""

HOW_TO_GET: Final = (
    "register at Stanford AIMI (chexpertchestxrays-u20210408), or the small release; test images come with "
    "CheXlocalize, their labels are groundtruth.csv of rajpurkarlab/cheXpert-test-set-labels"
)

OPTIONAL_FILES: Final[Mapping[str, str]] = {
    "valid.csv": "validation by radiologists",
    "groundtruth.csv": "labels of the test images of CheXlocalize",
    "chexpert_5x200.csv": "the images of CheXpert5x200, to hold them out",
}
"""Files that not every use needs -> what they are for."""

Labeler = Literal["chexpert", "chexbert", "visualchexbert"]
LIST_5X200: Final = "chexpert_5x200.csv"
"""List of the 1,000 training images of CheXpert5x200, with a column ``Path``."""

_TABLES: Final[Mapping[str, str]] = {
    "chexpert": "train.csv",
    "chexbert": "train_cheXbert.csv",
    "visualchexbert": "train_visualCheXbert.csv",
}
_PATH: Final = re.compile(r"(train|valid|test)/(patient\d+)/(study\d+)/([^/]+)$")


def recognise(folder: Path) -> bool:
    """Whether a folder holds CheXpert: a training table with its columns."""
    try:
        path = find_table(candidates(folder), *_TABLES.values())
        return path is not None and "Frontal/Lateral" in path.open(encoding="utf-8-sig", errors="replace").readline()
    except OSError:
        return False


def describe_layout(root: Path) -> str:
    """Say in a few words how the data set lies on disk."""
    found = find_patients(root).patients
    places: dict[str, set[str]] = {}
    for (part, _), folder in found.items():
        places.setdefault(part, set()).add(folder or ".")
    return "; ".join(f"{part} in {', '.join(sorted(folders))}" for part, folders in places.items())


def open_table(
    root: Path,
    labels: Literal["all", "competition"] = "all",
    labeler: Labeler = "chexpert",
    views: Literal["frontal", "all"] = "all",
    missing_images: MissingImages = "raise",
    test_labels: str | None = None,
    held_out: str | None = None,
) -> StudyTable:
    """Open CheXpert.

    Args:
        root: Folder of the release (``CheXpert-v1.0``, ``CheXpert-v1.0-small``, the AIMI download with its batches), or
            the folder above it. CheXlocalize's ``CheXpert/test`` may lie there too.
        labels: All 14, or the five of the competition.
        labeler: Whose training labels.
        views: ``frontal`` leaves lateral films out.
        missing_images: What happens to images that are listed but not there.
        test_labels: ``groundtruth.csv``; None looks for it below ``root``.
        held_out: List of CheXpert5x200 (column ``Path``); None looks for ``chexpert_5x200.csv`` below ``root``.

    Returns:
        One row per image: train, then valid, then test where its labels are there. Labels are 1, 0, -1 (uncertain) and
        nan (not mentioned); what becomes of -1 and nan is the task's choice. ``extra``: ``view`` (AP, PA, LL, RL,
        LATERAL, or blank for frontal test films), ``plane``, ``sex``, ``age``, ``in_5x200``.

    Raises:
        ConfigError: If an option is wrong.
        DatasetNotFoundError: If tables or images are missing.
        DatasetFormatError: If a table is damaged, or two releases lie side by side.
    """
    for name, value, known in (
        ("labels", labels, ("all", "competition")),
        ("labeler", labeler, tuple(_TABLES)),
        ("views", views, ("frontal", "all")),
    ):
        if value not in known:
            msg = f"data.{name} must be {' or '.join(known)}, got '{value}'"
            raise ConfigError(msg)
    folders = find_patients(root)
    table = find_table(folders.tables, _TABLES[labeler])
    if table is None:
        msg = f"{root}: holds no {_TABLES[labeler]}; data.root must be the folder of the release or the one above"
        raise DatasetNotFoundError(msg)
    parts = [read_part(table, "train", LABEL_NAMES)]
    _check_train(table, parts[0])
    valid = find_table(folders.tables, "valid.csv")
    if valid is not None:
        parts.append(read_part(valid, "valid", LABEL_NAMES))
    truth = find_table(folders.tables, "groundtruth.csv") if test_labels is None else Path(test_labels).expanduser()
    if truth is not None:
        parts.append(read_test(truth, folders, LABEL_NAMES, missing_images))
    rows = join_rows(parts)
    if views == "frontal":
        rows = rows.take(np.flatnonzero(np.array(rows.planes) == "Frontal"))
    images = _images(folders, rows, table.parent, missing_images)
    keep = _present(folders, rows, images, missing_images)
    rows, images = rows.take(keep), [images[row] for row in keep.tolist()]
    chosen = LABEL_NAMES if labels == "all" else COMPETITION
    listed = find_table(folders.tables, LIST_5X200) if held_out is None else Path(held_out).expanduser()
    return StudyTable(
        name="chexpert",
        root=root,
        label_names=chosen,
        images=images,
        study_ids=[f"{patient}/{study}" for patient, study in zip(rows.patients, rows.studies, strict=True)],
        patient_ids=rows.patients,
        labels=rows.labels[:, [LABEL_NAMES.index(name) for name in chosen]],
        splits=[{"valid": "val"}.get(part, part) for part in rows.parts],
        extra={
            "view": rows.views,
            "plane": rows.planes,
            "sex": rows.sexes,
            "age": rows.ages,
            "in_5x200": _listed(listed, rows),
        },
    )


def _images(folders: Folders, rows: Rows, beside: Path, missing: MissingImages) -> list[str]:
    """Return the relative path of each image; a patient without a folder is taken to be beside the table."""
    absent = sorted({key for key in zip(rows.parts, rows.patients, strict=True) if key not in folders.patients})
    if absent and missing == "raise":
        msg = (
            f"{folders.root}: {len(absent):,} patients listed have no folder, the first is {'/'.join(absent[0])}: the "
            "download is not complete or not unpacked; complete it, or set data.missing_images to drop"
        )
        raise DatasetNotFoundError(msg)
    default = beside.relative_to(folders.root) if beside.is_relative_to(folders.root) else Path()
    images = []
    for part, patient, study, file in zip(rows.parts, rows.patients, rows.studies, rows.files, strict=True):
        base = folders.patients.get((part, patient), (default / part).as_posix())
        images.append(f"{base}/{patient}/{study}/{file}" if base else f"{patient}/{study}/{file}")
    return images


def _present(folders: Folders, rows: Rows, images: list[str], missing: MissingImages) -> NDArray[np.int64]:
    if missing != "raise":
        return present_rows(folders.root, images, missing, patient_depth=0)
    if len(images):
        probe_files(folders.root, images)
    return np.arange(len(rows.parts))


def _check_train(table: Path, rows: Rows) -> None:
    if len(rows.parts) != TOTALS["train images"]:
        return
    found = {"train patients": len(set(rows.patients)), "train frontal images": rows.planes.count("Frontal")}
    for name, count in found.items():
        if count != TOTALS[name]:
            msg = f"{table}: has all {len(rows.parts):,} rows but {count:,} {name} instead of {TOTALS[name]:,}"
            raise DatasetFormatError(msg)


def _listed(path: Path | None, rows: Rows) -> list[bool]:
    """Return which rows are in CheXpert5x200."""
    if path is None:
        return [False] * len(rows.parts)
    listed = set()
    for line, cell in enumerate(read_columns(path, ("Path",))["Path"], start=2):
        found = _PATH.search(cell)
        if found is None:
            msg = (
                f"{path}, line {line}: Path is '{cell}'; expected one like train/patient00001/study1/view1_frontal.jpg"
            )
            raise DatasetFormatError(msg)
        listed.add(found.groups())
    return [key in listed for key in zip(rows.parts, rows.patients, rows.studies, rows.files, strict=True)]


def _chexpert_valid(table: StudyTable, plan: SplitPlan) -> NDArray[Any]:
    """Test on the 234 films of valid.csv; train and val are drawn by patient from train.csv, without 5x200 patients."""
    origin = _origin(table)
    held = _held_patients(table)
    train, val = plan.ratios[0], plan.ratios[1]
    if train + val <= 0:
        msg = "data.ratios: split 'chexpert_valid' needs a share for train or val"
        raise ConfigError(msg)
    patients = np.asarray(table.patient_ids)
    free = (origin == "train") & ~np.isin(patients, list(held))
    total = train + val
    places = draw_splits(patients[free].tolist(), (train / total, val / total, 0.0), plan.seed)
    split = np.where(origin == "val", "test", "").astype("<U5")
    split[free] = [places[name] for name in patients[free].tolist()]
    return split


def _chexpert5x200(table: StudyTable, plan: SplitPlan) -> NDArray[Any]:  # noqa: ARG001 - one signature for all
    """Test on the 1,000 listed films; val is valid.csv, train has none of the test patients.

    Raises:
        ConfigError: If there is no list.
        DatasetFormatError: If the complete release is there and the sizes are not the published ones.
    """
    origin = _origin(table)
    test = np.asarray(table.extra["in_5x200"], dtype=bool)
    if not test.any():
        msg = f"{table.root}: split 'chexpert5x200' needs {LIST_5X200} (column Path) there, or data.held_out"
        raise ConfigError(msg)
    patients = np.asarray(table.patient_ids)
    split = np.where(origin == "test", "", origin).astype("<U5")
    split[np.isin(patients, list(_held_patients(table)))] = ""
    split[test] = "test"
    if (origin == "train").sum() == TOTALS["train images"] and test.sum() == 1000:
        left = int((split == "train").sum())
        if left != 216_478:
            msg = f"{table.root}: {left:,} training images remain without those of {LIST_5X200}, expected 216,478"
            raise DatasetFormatError(msg)
    return split


def _origin(table: StudyTable) -> NDArray[Any]:
    return np.asarray([] if table.splits is None else table.splits, dtype="<U5")


def _held_patients(table: StudyTable) -> set[str]:
    return {str(name) for name, held in zip(table.patient_ids, table.extra["in_5x200"], strict=True) if held}


NAMED_SPLITS: Final = {
    "chexpert_valid": _chexpert_valid,
    "chexpert5x200": _chexpert5x200,
    "paper": lambda table, plan: _chexpert_valid(table, replace(plan, ratios=(0.8, 0.2, 0.0))),
}
"""Published splits; ``official`` is train.csv, valid.csv and the test labels."""
