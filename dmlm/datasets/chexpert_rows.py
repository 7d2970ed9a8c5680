"""Rows of CheXpert's tables as columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.chexpert_folders import Folders
from dmlm.datasets.csv_columns import check_unique, read_columns, to_labels
from dmlm.datasets.image_presence import MissingImages
from dmlm.errors import DatasetFormatError, DatasetNotFoundError

_PATH: Final = re.compile(r"(?:^|/)(train|valid|test)/(patient\d+)/(study\d+)/([^/]+)$")
_STUDY: Final = re.compile(r"(?:^|/)test/(patient\d+)/(study\d+)/?$")


@dataclass(frozen=True)
class Rows:
    """Columns of equal length ``N``; ``labels`` is float32 ``[N, 14]``, ``ages`` are years (nan unknown)."""

    parts: list[str]
    patients: list[str]
    studies: list[str]
    files: list[str]
    planes: list[str]
    views: list[str]
    sexes: list[str]
    ages: list[float]
    labels: NDArray[np.float32]

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """Return these rows, in this order."""
        chosen = rows.tolist()
        lists = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "labels"}
        return Rows(
            **{name: [column[row] for row in chosen] for name, column in lists.items()}, labels=self.labels[rows]
        )


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Put parts one behind the other."""
    names = [item.name for item in fields(Rows) if item.name != "labels"]
    columns = {name: [cell for part in parts for cell in getattr(part, name)] for name in names}
    return Rows(**columns, labels=np.concatenate([part.labels for part in parts]))


def read_part(path: Path, part: str, label_names: Sequence[str]) -> Rows:
    """Read ``train.csv`` or ``valid.csv``; the first folder of ``Path`` (the distribution's name) does not matter.

    Args:
        path: The table.
        part: ``train`` or ``valid``; a row of another part is refused.
        label_names: Label columns, in the order wanted.

    Raises:
        DatasetFormatError: If a column is missing, a path or a value is not as in the release, or an image is listed
            twice.
    """
    table = read_columns(path, ("Path", "Frontal/Lateral", *label_names), ("Sex", "Age", "AP/PA"))
    check_unique(path, "Path", table["Path"])
    keys: list[tuple[str, ...]] = []
    for line, cell in enumerate(table["Path"], start=2):
        found = _PATH.search(cell)
        if found is None or found[1] != part:
            msg = (
                f"{path}, line {line}: Path is '{cell}'; expected one like "
                f"CheXpert-v1.0/{part}/patient00001/study1/view1_frontal.jpg"
            )
            raise DatasetFormatError(msg)
        keys.append(found.groups())
    for line, cell in enumerate(table["Frontal/Lateral"], start=2):
        if cell not in ("Frontal", "Lateral"):
            msg = f"{path}, line {line}: Frontal/Lateral is '{cell}'; expected Frontal or Lateral"
            raise DatasetFormatError(msg)
    blank = [""] * len(keys)
    planes = table["Frontal/Lateral"]
    return Rows(
        parts=[key[0] for key in keys],
        patients=[key[1] for key in keys],
        studies=[key[2] for key in keys],
        files=[key[3] for key in keys],
        planes=planes,
        views=[
            view or ("LATERAL" if plane == "Lateral" else "")
            for view, plane in zip(table.get("AP/PA", blank), planes, strict=True)
        ],
        sexes=table.get("Sex", blank),
        ages=[float(age) if age.isdigit() else float("nan") for age in table.get("Age", blank)],
        labels=to_labels(path, table, label_names),
    )


def read_test(path: Path, folders: Folders, label_names: Sequence[str], missing: MissingImages) -> Rows:
    """Read ``groundtruth.csv``, which labels studies, and list the images of each study.

    The table does not name images: a study whose folder is not there has no row, unless ``missing`` is ``raise``.

    Raises:
        DatasetNotFoundError: If the folder of a study is missing or holds no image.
        DatasetFormatError: If the table is not as released.
    """
    table = read_columns(path, ("Study", *label_names))
    check_unique(path, "Study", table["Study"])
    labels = to_labels(path, table, label_names)
    patients, studies, files, of = [], [], [], []
    for row, cell in enumerate(table["Study"]):
        found = _STUDY.search(cell)
        if found is None:
            msg = f"{path}, line {row + 2}: Study is '{cell}'; expected one like CheXpert-v1.0/test/patient64741/study1"
            raise DatasetFormatError(msg)
        patient, study = found.groups()
        base = folders.root / folders.patients.get(("test", patient), "test")
        names = sorted(item.name for item in (base / patient / study).glob("[!.]*.jpg"))
        if not names and missing == "raise":
            msg = (
                f"{base / patient / study}: no image of this test study is there; copy the test images of CheXlocalize "
                f"below {folders.root}, or move {path.name} away"
            )
            raise DatasetNotFoundError(msg)
        for name in names:
            patients.append(patient)
            studies.append(study)
            files.append(name)
            of.append(row)
    planes = ["Lateral" if "lateral" in name else "Frontal" for name in files]
    return Rows(
        parts=["test"] * len(files),
        patients=patients,
        studies=studies,
        files=files,
        planes=planes,
        views=["LATERAL" if plane == "Lateral" else "" for plane in planes],
        sexes=[""] * len(files),
        ages=[float("nan")] * len(files),
        labels=labels[np.array(of, dtype=np.int64)],
    )
