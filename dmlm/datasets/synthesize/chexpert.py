"""Phantoms in the layouts of CheXpert, with the cases that broke published loaders."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.chexpert import LABEL_NAMES, LIST_5X200
from dmlm.datasets.phantom.studies import PhantomStudy
from dmlm.datasets.synthesize.films import lateral, phantom_patients, refuse_existing, write_csv, write_jpeg

Layout = Literal["small", "full", "aimi"]

HEADER: Final = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABEL_NAMES)
_NAMES: Final = {"Nodule": "Lung Lesion", "Pleural Thickening": "Pleural Other"}
_VALUES: Final = {"present": "1.0", "absent": "0.0", "uncertain": "-1.0"}
_PARTS: Final = {"train": "train", "val": "valid", "test": "test"}


def write(out: Path, patients: int, seed: int, image_size: int) -> None:
    """Write ``CheXpert-v1.0-small`` with train and valid, and CheXlocalize's test images with ``groundtruth.csv``.

    Args:
        out: Folder to write to.
        patients: Patients, at least 3.
        seed: Another seed gives other patients.
        image_size: Height and width of the films, in pixels.

    Raises:
        ConfigError: If the folder holds such a tree already.
    """
    write_layout(out, patients, seed, image_size, "small")


def write_layout(out: Path, patients: int, seed: int, image_size: int, layout: Layout) -> None:
    """Write one of the layouts in which people have CheXpert.

    Args:
        out: Folder to write to.
        patients: Patients, at least 3.
        seed: Seed.
        image_size: Height and width of the films, in pixels.
        layout: ``small`` and ``full`` differ in the name of their folder and in the prefix of ``Path``; ``aimi``
            has the folders of the batches, and the tables in the first of them.

    Raises:
        ConfigError: If the folder holds such a tree already.
    """
    name = "CheXpert-v1.0-small" if layout == "small" else "CheXpert-v1.0"
    first = f"{name} batch 1 (validate & csv)" if layout == "aimi" else name
    refuse_existing(out, first, "CheXpert", "groundtruth.csv")
    rows: dict[str, list[tuple[str, ...]]] = {"train": [], "valid": []}
    truth: list[tuple[str, ...]] = []
    listed: list[tuple[str, ...]] = []
    for number, (split, studies) in enumerate(phantom_patients(patients, seed, image_size)):
        part = _PARTS[split]
        patient = f"patient{number + {'train': 1, 'valid': 64_541, 'test': 64_741}[part]:05d}"
        if part == "test":
            home = out / "CheXpert" / "test"
        elif layout == "aimi" and part == "train":
            # two of the three training batches in use; one of them unpacked without its inner folder
            home = out / f"{name} batch {2 + number % 2} (train {1 + number % 2})" / ("train" if number % 2 else "")
        else:
            home = out / first / part
        for place, study in enumerate(studies, start=1):
            folder = f"{patient}/study{place}"
            labels = _labels(study, complete=part != "train")
            sex = "Unknown" if number == 2 else ("Female" if number % 2 else "Male")
            person = (sex, str(20 + (number * 7) % 70))
            films: list[tuple[str, str, str, NDArray[np.uint8]]] = [
                ("view1_frontal.jpg", "Frontal", study.view, study.image)
            ]
            if (number + place) % 3 == 0:
                films.append(("view2_lateral.jpg", "Lateral", "", lateral(study.image)))
            for file, plane, view, film in films:
                write_jpeg(home / folder / file, film)
                if part != "test":
                    row = (f"{name}/{part}/{folder}/{file}", *person, plane, view, *labels)
                    rows[part].append(row)
                    if part == "train" and plane == "Frontal" and number in (0, 1):
                        listed.append((row[0],))
            if part == "test":
                truth.append((f"CheXpert-v1.0/test/{folder}", *labels))
    for part, cells in rows.items():
        write_csv(out / first / f"{part}.csv", HEADER, cells)
    write_csv(out / "groundtruth.csv", ("Study", *LABEL_NAMES), truth)
    write_csv(out / LIST_5X200, ("Path",), listed)


def _labels(study: PhantomStudy, complete: bool) -> tuple[str, ...]:
    """Cells of the labels: what the report says, or (read by radiologists) what is there, without blanks."""
    if complete:
        from dmlm.datasets.phantom.findings import LABEL_NAMES as PHANTOM_NAMES

        there = {_NAMES.get(name, name): value for name, value in zip(PHANTOM_NAMES, study.labels, strict=True)}
        return tuple(f"{there.get(name, 0)}.0" for name in LABEL_NAMES)
    said = {_NAMES.get(item.finding, item.finding): _VALUES[item.existence] for item in study.observations}
    if not any(value != "0.0" and name != "Support Devices" for name, value in said.items()):
        said["No Finding"] = "1.0"
    return tuple(said.get(name, "") for name in LABEL_NAMES)
