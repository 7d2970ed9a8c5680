"""Tables of MIMIC-CXR joined: one row per image, as integers and short strings (377,110 rows cost little)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.csv_columns import check_unique, find_table, read_columns, to_integers, to_labels
from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError

LabelSource = Literal["chexpert", "negbio", "radiologist", "none"]
"""``chexpert`` and ``negbio``: automatic labels of all reports. ``radiologist``: read by hand, test studies only."""

LABEL_NAMES: Final = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)
"""The 14 labels in the order of the release, which is alphabetical (CheXpert's is another)."""

METADATA: Final = "mimic-cxr-2.0.0-metadata.csv"
SPLIT: Final = "mimic-cxr-2.0.0-split.csv"
RECORDS: Final = "cxr-record-list.csv"
LABEL_FILES: Final = {
    "chexpert": ("mimic-cxr-2.0.0-chexpert.csv",),
    "negbio": ("mimic-cxr-2.0.0-negbio.csv",),
    "radiologist": ("mimic-cxr-2.1.0-test-set-labeled.csv",),
}
_SPLITS: Final = {"train": "train", "validate": "val", "test": "test"}


@dataclass
class Index:
    """Rows of MIMIC-CXR.

    Args:
        source: The table that lists the images.
        dicoms: Identifier of each image, ``[N]``.
        subjects: Patient, int64 ``[N]``.
        studies: Study, int64 ``[N]``.
        views: ViewPosition, ``""`` where blank; None where no table says it.
        dates: StudyDate as written (shifted into the future for each patient); None where no table says it.
    """

    source: Path
    dicoms: list[str]
    subjects: NDArray[np.int64]
    studies: NDArray[np.int64]
    views: list[str] | None
    dates: list[str] | None


def read_index(folders: Sequence[Path]) -> Index:
    """Read which images there are: the metadata table, or the record list of the DICOM release where there is none.

    Raises:
        DatasetNotFoundError: If neither table is in one of the folders.
        DatasetFormatError: If it is damaged, or lists an image twice.
    """
    path = find_table(folders, METADATA) or find_table(folders, RECORDS)
    if path is None:
        msg = (
            f"{folders[0]}: has neither {METADATA}[.gz] nor {RECORDS}[.gz]; data.root must be the folder of "
            "MIMIC-CXR(-JPG) that holds 'files', and data.tables the one with its tables if they are elsewhere"
        )
        raise DatasetNotFoundError(msg)
    columns = read_columns(path, ("dicom_id", "subject_id", "study_id"), ("ViewPosition", "StudyDate"))
    check_unique(path, "dicom_id", columns["dicom_id"])
    subjects = to_integers(path, "subject_id", columns["subject_id"])
    studies = to_integers(path, "study_id", columns["study_id"])
    _check_owners(path, subjects, studies)
    views, dates = columns.get("ViewPosition"), columns.get("StudyDate")
    return Index(path, columns["dicom_id"], subjects, studies, views, dates)


def read_splits(folders: Sequence[Path], index: Index) -> list[str] | None:
    """Return the official split of each row (``train``, ``val``, ``test``); None where the table is not there.

    Raises:
        DatasetFormatError: If it holds another split, lists an image twice or lacks one.
    """
    path = find_table(folders, SPLIT)
    if path is None:
        return None
    columns = read_columns(path, ("dicom_id", "split"))
    check_unique(path, "dicom_id", columns["dicom_id"])
    for line, name in enumerate(columns["split"], start=2):
        if name not in _SPLITS:
            msg = f"{path}, line {line}: split is '{name}'; expected train, validate or test"
            raise DatasetFormatError(msg)
    places = dict(zip(columns["dicom_id"], (_SPLITS[name] for name in columns["split"]), strict=True))
    try:
        return [places[name] for name in index.dicoms]
    except KeyError as error:
        msg = f"{path}: has no row for image {error.args[0]}, which {index.source.name} lists; download both anew"
        raise DatasetFormatError(msg) from error


def read_study_labels(
    folders: Sequence[Path], index: Index, source: LabelSource
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Return the names ``[C]`` and, per row, the labels of its study ``[N, C]``; nan where the study is not listed.

    Raises:
        ConfigError: If there is no such source.
        DatasetNotFoundError: If its table is not there.
        DatasetFormatError: If it holds an unknown value, or lists a study twice.
    """
    if source == "none":
        return (), np.zeros((len(index.dicoms), 0), np.float32)
    if source not in LABEL_FILES:
        msg = f"data.labels must be {', '.join(LABEL_FILES)} or none; got '{source}'"
        raise ConfigError(msg)
    path = find_table(folders, *LABEL_FILES[source])
    if path is None:
        msg = f"{folders[0]}: has no {LABEL_FILES[source][0]}[.gz]; copy it there, or set data.labels to none"
        raise DatasetNotFoundError(msg)
    columns = read_columns(path, ("study_id", *LABEL_NAMES))
    studies = to_integers(path, "study_id", columns["study_id"])
    check_unique(path, "study_id", studies)
    values = to_labels(path, columns, LABEL_NAMES)
    order = np.argsort(studies, kind="stable")
    labels = np.full((len(index.dicoms), len(LABEL_NAMES)), np.nan, np.float32)
    if len(studies):
        places = np.minimum(np.searchsorted(studies[order], index.studies), len(studies) - 1)
        known = studies[order][places] == index.studies
        labels[known] = values[order][places[known]]
    return LABEL_NAMES, labels


def _check_owners(path: Path, subjects: NDArray[np.int64], studies: NDArray[np.int64]) -> None:
    """Refuse a study of two patients: the join, and every split by patient, rests on this."""
    order = np.argsort(studies, kind="stable")
    clash = np.flatnonzero((np.diff(studies[order]) == 0) & (np.diff(subjects[order]) != 0))
    if len(clash):
        row = int(order[clash[0] + 1])
        msg = f"{path}, line {row + 2}: study {studies[row]} belongs to another subject above; download the table again"
        raise DatasetFormatError(msg)
