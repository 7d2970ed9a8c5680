"""COVIDx CXR, versions 4 to 9 and CXR-4: radiographs of COVID-19, pneumonia and normal chests from many sources."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np

from dmlm.datasets.covidx_lists import LABELS, Row, parse_line, read_list, vocabulary_of
from dmlm.datasets.image_index import MissingImages, index_images, settle_missing, subfolders
from dmlm.datasets.splits_published import by_ratios, with_val
from dmlm.datasets.table import StudyTable
from dmlm.datasets.text_lines import read_lines
from dmlm.errors import ConfigError, DatasetNotFoundError

TOTALS: Final = {"images": 30_882}
"""Of version 9B (30,482 training and 400 test images); :data:`VERSIONS` has those of others."""
VERSIONS: Final = {
    "7A": (15_111, 300),
    "7B": (15_464, 200),
    "8A": (15_599, 400),
    "8B": (15_952, 400),
    "9A": (30_130, 400),
    "9B": (30_482, 400),
}
"""Lines of the training and test list of each version."""
HOW_TO_GET: Final = (
    "download the Kaggle data set andyczhao/covidx-cxr2 (train, test, train.txt, test.txt; val in CXR-4), or make it "
    "with the scripts of the COVID-Net repository, whose labels folder has the lists of each version"
)

_LIST: Final = re.compile(r"(train|test|val)(?:[-_ ]?(?:split|covidx)?[-_ ]?(?:cxr-?)?v?(\d+[abc]?))?\.txt", re.I)
_FOLDERS: Final = {"train": ("train",), "val": ("val",), "test": ("test", "competition_test")}


def recognise(folder: Path) -> bool:
    """Whether the folder (or one in it) has lists of COVIDx."""
    try:
        for place in subfolders(folder):
            for path in _lists(place).get("train", {}).values():
                with path.open(encoding="utf-8-sig") as file:
                    if parse_line(file.readline()) is not None:
                        return True
    except (OSError, UnicodeDecodeError):
        return False
    return False


def describe_layout(root: Path) -> str:
    """Say in a few words which lists there are."""
    place = _place(root)
    return "lists " + ", ".join(path.name for part in _lists(place).values() for path in part.values())


def totals_of(root: Path) -> dict[str, int]:
    """Return the totals of the version that a folder has; nothing for a version that is not in :data:`VERSIONS`."""
    lists = _lists(_place(root))
    names = [name for name in lists["train"] if name in VERSIONS]
    if "" in lists["train"] and "" in lists.get("test", {}):
        lengths = tuple(len(read_lines(lists[part][""])) for part in ("train", "test"))
        names = [key for key, sizes in VERSIONS.items() if lengths == sizes]
    if len(names) != 1:
        return {}
    train, test = VERSIONS[names[0]]
    return {"images": train + test, "train images": train, "test images": test}


def open_table(root: Path, version: str | None = None, missing_images: MissingImages = "raise") -> StudyTable:
    """Open a version of COVIDx CXR.

    Versions with the classes positive and negative (B, CXR-4) have one label, COVID-19; those with three classes (A,
    and 4 to 6) have Normal, Pneumonia and COVID-19, exactly one of them 1.

    Args:
        root: Folder with ``train.txt``, ``train/``, ...; the lists may also be in a folder ``labels``.
        version: Which lists to take where several versions lie side by side (``train_COVIDx9B.txt``): ``"9B"``.
        missing_images: ``raise`` refuses a folder that lacks listed images, ``drop`` leaves them out.

    Returns:
        A table with ``extra["source"]`` (``rsna``, ``ricord``, ...; ``""`` where lists do not say).

    Raises:
        ConfigError: If there are several versions and none was chosen.
        DatasetNotFoundError: If lists or images are missing.
        DatasetFormatError: If a line cannot be read.
    """
    root = Path(root)
    place = _place(root)
    lists = _chosen(place, version)
    base = place if any((place / name).is_dir() for names in _FOLDERS.values() for name in names) else place.parent
    rows: list[tuple[str, str, Row]] = []
    missing: list[str] = []
    listed = 0
    for part, path in lists.items():
        folders = [name for name in _FOLDERS[part] if (base / name).is_dir()]
        files = {
            name: f"{folder}/{file}"
            for folder in reversed(folders)
            for name, file in index_images(base / folder, 1, by_stem=False).items()
        }
        for row in read_list(path):
            listed += 1
            if row.file in files:
                rows.append((files[row.file], part, row))
            else:
                missing.append(row.file)
    settle_missing(
        base, " and ".join(path.name for path in lists.values()), missing, listed, missing_images, HOW_TO_GET
    )
    vocabulary = vocabulary_of({row.kind: lists[part].name for _, part, row in rows})
    names = LABELS[vocabulary]
    kinds = [vocabulary.index(row.kind) for _, _, row in rows]
    single = len(names) == 1
    labels = np.array([[float(kind == 0)] for kind in kinds] if single else np.eye(len(names))[kinds], np.float32)
    return StudyTable(
        name="covidx",
        root=base,
        label_names=names,
        images=[image for image, _, _ in rows],
        study_ids=[row.file.rpartition(".")[0] for _, _, row in rows],
        patient_ids=[row.patient for _, _, row in rows],
        labels=labels,
        splits=[part for _, part, _ in rows],
        task="binary" if single else "multiclass",
        extra={"source": [row.source for _, _, row in rows]},
    )


def _place(root: Path) -> Path:
    """Return the folder that has the lists."""
    for place in subfolders(root):
        if "train" in _lists(place):
            return place
    msg = f"{root}: has no list train.txt (or train_COVIDx9B.txt, ...); {HOW_TO_GET}"
    raise DatasetNotFoundError(msg)


def _lists(place: Path) -> dict[str, dict[str, Path]]:
    """Return the lists in a folder: part -> version (upper case, ``""`` where the name has none) -> file."""
    found: dict[str, dict[str, Path]] = {}
    try:
        entries = sorted(place.iterdir())
    except OSError:
        return {}
    for path in entries:
        match = _LIST.fullmatch(path.name)
        if match is not None:
            found.setdefault(match[1].lower(), {})[(match[2] or "").upper()] = path
    return found


def _chosen(place: Path, version: str | None) -> dict[str, Path]:
    """Return the list of each part of one version."""
    lists = _lists(place)
    known = sorted(lists["train"])
    wanted = known[0] if version is None and len(known) == 1 else (version or "").upper().removeprefix("V")
    if wanted not in lists["train"] or (version is None and len(known) > 1 and "" not in known):
        shown = ", ".join(name or "(no version)" for name in known)
        msg = f"{place}: has lists of the versions {shown}; set version to one of them"
        raise ConfigError(msg)
    chosen = {part: lists[part][wanted] for part in _FOLDERS if wanted in lists.get(part, {})}
    if "test" not in chosen:
        msg = f"{place}: has {chosen['train'].name}, but no list for test of the same version; {HOW_TO_GET}"
        raise DatasetNotFoundError(msg)
    return chosen


NAMED_SPLITS: Final = {
    "official": with_val,
    "paper": lambda table, plan: by_ratios(table, plan, (0.7, 0.2, 0.1)),
}
