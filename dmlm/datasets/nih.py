"""NIH ChestX-ray14: 14 findings read from reports by a program, boxes for a few, in any of its folder layouts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal

import numpy as np

from dmlm.datasets.boxes import Box, BoxMasks
from dmlm.datasets.csv_columns import find_table
from dmlm.datasets.image_index import MissingImages, index_images, names_of, settle_missing, subfolders
from dmlm.datasets.nih_tables import BOX_NAMES, BOXES, ENTRIES, LABEL_NAMES, Entry, read_boxes, read_entries, read_lists
from dmlm.datasets.splits_published import Places, by_ratios, check_sizes, from_lists, refuse_leak, with_val
from dmlm.datasets.table import StudyTable
from dmlm.datasets.table_splits import SplitPlan
from dmlm.errors import DatasetFormatError, DatasetNotFoundError

__all__ = ["HOW_TO_GET", "LABEL_NAMES", "NAMED_SPLITS", "TOTALS", "describe_layout", "open_table", "recognise"]

TOTALS: Final = {
    "images": 112_120,
    "patients": 30_805,
    "Infiltration": 19_894,
    "Effusion": 13_317,
    "Atelectasis": 11_559,
    "Nodule": 6_331,
    "Mass": 5_782,
    "Pneumothorax": 5_302,
    "Consolidation": 4_667,
    "Pleural_Thickening": 3_385,
    "Cardiomegaly": 2_776,
    "Emphysema": 2_516,
    "Edema": 2_303,
    "Fibrosis": 1_686,
    "Pneumonia": 1_431,
    "Hernia": 227,
    "boxes": 984,
}
HOW_TO_GET: Final = (
    "download images_001 to images_012, Data_Entry_2017_v2020.csv, BBox_List_2017.csv, train_val_list.txt and "
    "test_list.txt from the NIH Clinical Center's box, or the Kaggle data set nih-chest-xrays/data"
)

OPTIONAL_FILES: Final = {
    "BBox_List_2017.csv": "boxes",
    "train_val_list.txt": "official split",
    "test_list.txt": "official split",
}
"""Files that not every use needs -> what they are for."""

_LOG = logging.getLogger(__name__)
_SIDE: Final = 1024
_DEPTH: Final = 4


def recognise(folder: Path) -> bool:
    """Whether the folder (or one in it) has the table of entries."""
    return find_table(subfolders(folder), *ENTRIES) is not None


def describe_layout(root: Path) -> str:
    """Say in a few words how the images lie on disk."""
    folders = sorted({path.rpartition("/")[0] or "." for path in index_images(root, _DEPTH).values()})
    shown = ", ".join(f"{name}/" for name in folders[:2])
    return f"images in {shown}{f' and {len(folders) - 2} more folders' if len(folders) > 2 else ''}"


def open_table(
    root: Path,
    rows: Literal["all", "boxes"] = "all",
    missing_images: MissingImages = "raise",
    stored: Iterable[str] | None = None,
) -> StudyTable:
    """Open the data set; images may lie in ``images_001/images``, ``images``, ``all_classes`` or any folder below.

    Args:
        root: Folder with the tables, or the one above it.
        rows: ``boxes`` keeps the 880 images that have boxes; only then there are masks (filled boxes of eight
            findings), since an image without boxes was not looked at for them.
        missing_images: ``raise`` refuses a folder that lacks listed images, ``drop`` leaves them out.
        stored: Names of the images in a store that is used instead of the files, which need not be there.

    Returns:
        A table with the 14 labels (all 0 for "No Finding") and ``extra`` ``boxes`` (lists of
        :class:`dmlm.datasets.boxes.Box`), ``age`` (years, -1 unknown), ``sex``, ``view``. The official split has no
        validation part; ``split: official`` draws one by patient.

    Raises:
        DatasetNotFoundError: If the table of entries or images are missing.
        DatasetFormatError: If a table says something impossible.
    """
    root = Path(root)
    path = find_table(subfolders(root), *ENTRIES)
    if path is None:
        msg = f"{root}: has neither {' nor '.join(ENTRIES)}; {HOW_TO_GET}"
        raise DatasetNotFoundError(msg)
    folders = [path.parent, root, *subfolders(root)]
    entries = read_entries(path)
    boxes = read_boxes(folders)
    files = index_images(root, _DEPTH) if stored is None else names_of(stored)
    names = {image: files.get(image.rpartition(".")[0], "") for image in entries}
    if rows == "boxes":
        if not boxes:
            msg = f"{root}: has no {BOXES}, which rows: boxes needs; {HOW_TO_GET}"
            raise DatasetNotFoundError(msg)
        strange = next((image for image in boxes if image not in entries), None)
        if strange is not None:
            msg = f"{root}: {BOXES} names '{strange}', which {path.name} does not list; download both again"
            raise DatasetFormatError(msg)
        names = {image: place for image, place in names.items() if image in boxes}
    missing = [image for image, place in names.items() if not place]
    settle_missing(root, path.name, missing, len(names), missing_images, HOW_TO_GET, stored is not None)
    kept = [image for image, place in names.items() if place]
    column = {name: place for place, name in enumerate(LABEL_NAMES)}
    labels = np.zeros((len(kept), len(LABEL_NAMES)), np.float32)
    for row, image in enumerate(kept):
        labels[row, [column[name] for name in entries[image].findings]] = 1.0
    found = _of_labels({image: boxes.get(image, []) for image in kept}, entries)
    return StudyTable(
        name="nih",
        root=root,
        label_names=LABEL_NAMES,
        images=[names[image] for image in kept],
        study_ids=[image.rpartition(".")[0] for image in kept],
        patient_ids=[entries[image].patient for image in kept],
        labels=labels,
        splits=read_lists(folders, kept),
        masks=BoxMasks(found, BOX_NAMES, _SIDE) if rows == "boxes" else None,
        mask_names=BOX_NAMES if rows == "boxes" else (),
        extra={
            "boxes": found,
            "age": [entries[image].age for image in kept],
            "sex": [entries[image].sex for image in kept],
            "view": [entries[image].view for image in kept],
        },
    )


def _of_labels(boxes: Mapping[str, list[Box]], entries: Mapping[str, Entry]) -> list[list[Box]]:
    """Leave out boxes of findings that the table of entries does not give their image: one of the two is wrong."""
    kept = [[box for box in found if box.finding in entries[image].findings] for image, found in boxes.items()]
    strange = [image for (image, found), left in zip(boxes.items(), kept, strict=True) if len(left) < len(found)]
    if strange:
        _LOG.warning(
            "%s: %d images have boxes of findings that their labels do not name (first: '%s'); the boxes are left out",
            BOXES,
            len(strange),
            strange[0],
        )
    return kept


def _official(table: StudyTable, plan: SplitPlan) -> Places:
    """The authors' lists (86,524 and 25,596 images); validation is drawn by patient from the first."""
    places = with_val(table, plan)
    joined = np.where(places == "val", "train", places)
    check_sizes(table, plan, joined, TOTALS["images"], (86_524, 0, 25_596))
    return places


def _listed(table: StudyTable, plan: SplitPlan) -> Places:
    return from_lists(table, plan, [(str(name),) for name in table.study_ids])


def _chexnet(table: StudyTable, plan: SplitPlan) -> Places:
    return check_sizes(table, plan, _listed(table, plan), TOTALS["images"], (78_468, 11_219, 22_433))


def _lovt(table: StudyTable, plan: SplitPlan) -> Places:
    refuse_leak(table, plan, "12, 13 and 5 patients of its parts are in another part, too")
    return _listed(table, plan)


NAMED_SPLITS: Final = {
    "official": _official,
    "paper": lambda table, plan: by_ratios(table, plan, (0.8, 0.1, 0.1)),
    "mrm": _chexnet,
    "chexnet": _chexnet,
    "benchx": _chexnet,
    "lovt": _lovt,
}
"""All but ``official`` and ``paper`` are lists (``split_file``); ``lovt`` is of the 880 images with boxes."""
