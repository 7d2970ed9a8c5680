"""RSNA Pneumonia Detection Challenge: radiographs as DICOM (or converted), a class for each, boxes around opacities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.boxes import Box, BoxMasks
from dmlm.datasets.csv_columns import find_table, read_columns
from dmlm.datasets.image_index import MissingImages, index_images, names_of, settle_missing, subfolders
from dmlm.datasets.splits_published import (
    Places,
    by_ratios,
    check_sizes,
    from_lists,
    random_split,
    stratified_split,
)
from dmlm.datasets.table import StudyTable
from dmlm.datasets.table_splits import SplitPlan
from dmlm.errors import DatasetFormatError, DatasetNotFoundError

LABEL_NAMES: Final = ("Pneumonia",)
CLASSES: Final = ("Normal", "No Lung Opacity / Not Normal", "Lung Opacity")
"""The radiologists' classes, in the order of the labels with ``labels="class"``; the last is the positive one."""
TOTALS: Final = {"images": 26_684, "Pneumonia": 6_012, "boxes": 9_555}
HOW_TO_GET: Final = (
    "accept the rules of the Kaggle competition rsna-pneumonia-detection-challenge and download its data "
    "(stage_2_train_images, stage_2_train_labels.csv, stage_2_detailed_class_info.csv)"
)

OPTIONAL_FILES: Final = {"stage_2_detailed_class_info.csv": "the three classes"}
"""Files that not every use needs -> what they are for."""

_LABELS: Final = "stage_2_train_labels.csv"
_CLASS_INFO: Final = "stage_2_detailed_class_info.csv"
_SIDE: Final = 1024
_TEST: Final = ("stage_2_test_images",)


def recognise(folder: Path) -> bool:
    """Whether the folder (or one in it) has the challenge's table of labels."""
    return find_table(subfolders(folder), _LABELS) is not None


def describe_layout(root: Path) -> str:
    """Say in a few words how the data set lies on disk."""
    images = index_images(root, 3, ("stage_2_train_images",), _TEST)
    first = next(iter(images.values()), "")
    kind = "DICOM as downloaded" if first.endswith((".dcm", ".dicom")) else "converted images"
    return f"{kind} in {first.rpartition('/')[0] or '.'}/"


def open_table(
    root: Path,
    labels: Literal["target", "class"] = "target",
    missing_images: MissingImages = "raise",
    stored: Iterable[str] | None = None,
) -> StudyTable:
    """Open the 26,684 training radiographs; the 3,000 test radiographs have no official labels and are passed over.

    Images may be the DICOM files or PNG, JPEG, ... of the same names in any folder below ``root``. Boxes of the table
    are in 1024-pixel space, whatever the size of the images. Patients are unknown (an id is an image), so splits keep
    images apart and not patients.

    Args:
        root: Folder with the tables.
        labels: ``target``: one label, Pneumonia (the challenge's Target). ``class``: the three classes of
            ``stage_2_detailed_class_info.csv``, exactly one of them 1.
        missing_images: ``raise`` refuses a folder that lacks listed images, ``drop`` leaves them out.
        stored: Names of the images in a store that is used instead of the files, which need not be there.

    Returns:
        A table with ``extra["boxes"]`` (list of :class:`dmlm.datasets.boxes.Box`) and ``extra["class"]`` (name, ``""``
        where the file of classes is not there).

    Raises:
        DatasetNotFoundError: If a table or images are missing.
        DatasetFormatError: If a row says something impossible.
    """
    root = Path(root)
    path = find_table(subfolders(root), _LABELS)
    if path is None:
        msg = f"{root}: has no {_LABELS}; {HOW_TO_GET}"
        raise DatasetNotFoundError(msg)
    boxes = _read_boxes(path)
    classes = _read_classes(path.parent, boxes, needed=labels == "class")
    files = index_images(root, 3, ("stage_2_train_images",), _TEST) if stored is None else names_of(stored)
    missing = [name for name in boxes if name not in files]
    settle_missing(root, path.name, missing, len(boxes), missing_images, HOW_TO_GET, stored is not None)
    ids = [name for name in boxes if name in files]
    found = [boxes[name] for name in ids]
    named = [classes.get(name, "") for name in ids]
    values = (
        np.array([[float(bool(item))] for item in found], np.float32)
        if labels == "target"
        else np.array([[float(name == one) for one in CLASSES] for name in named], np.float32)
    )
    return StudyTable(
        name="rsna",
        root=root,
        label_names=LABEL_NAMES if labels == "target" else CLASSES,
        images=[files[name] for name in ids],
        study_ids=ids,
        patient_ids=ids,
        labels=values.reshape(len(ids), -1),
        task="binary" if labels == "target" else "multiclass",
        masks=BoxMasks(found, LABEL_NAMES, _SIDE),
        mask_names=LABEL_NAMES,
        extra={"boxes": found, "class": named},
    )


def _read_boxes(path: Path) -> dict[str, list[Box]]:
    """Read the boxes of each image, in the order of the file; an image without opacity has none."""
    columns = read_columns(path, ("patientId", "x", "y", "width", "height", "Target"))
    boxes: dict[str, list[Box]] = {}
    wanted = ("patientId", "Target", "x", "y", "width", "height")
    rows = zip(*(columns[name] for name in wanted), strict=True)
    for line, (name, target, *cells) in enumerate(rows, start=2):
        if not name:
            msg = f"{path}, line {line}: patientId is blank; mend this line"
            raise DatasetFormatError(msg)
        if target not in ("0", "1"):
            msg = f"{path}, line {line}: Target is '{target}'; expected 0 or 1"
            raise DatasetFormatError(msg)
        if target == "0":
            if any(cells) or name in boxes:
                what = "has a box, but Target 0" if any(cells) else "has Target 0, but is listed already"
                msg = f"{path}, line {line}: '{name}' {what}; download the file again"
                raise DatasetFormatError(msg)
            boxes[name] = []
            continue
        if name in boxes and not boxes[name]:
            msg = f"{path}, line {line}: '{name}' has Target 1 here and Target 0 above; download the file again"
            raise DatasetFormatError(msg)
        boxes.setdefault(name, []).append(_box(path, line, cells))
    return boxes


def _box(path: Path, line: int, cells: Sequence[str]) -> Box:
    try:
        x, y, width, height = (float(cell) for cell in cells)
    except ValueError:
        msg = f"{path}, line {line}: Target 1 needs a box of four numbers, got '{','.join(cells)}'"
        raise DatasetFormatError(msg) from None
    if not (width > 0 and height > 0 and x >= 0 and y >= 0 and x + width <= _SIDE and y + height <= _SIDE):
        msg = f"{path}, line {line}: box {','.join(cells)} does not lie in an image of {_SIDE} x {_SIDE} pixels"
        raise DatasetFormatError(msg)
    return Box(LABEL_NAMES[0], x / _SIDE, y / _SIDE, (x + width) / _SIDE, (y + height) / _SIDE)


def _read_classes(folder: Path, boxes: dict[str, list[Box]], needed: bool) -> dict[str, str]:
    """Read the class of each image; rows are repeated as often as an image has boxes."""
    path = find_table([folder], _CLASS_INFO)
    if path is None:
        if needed:
            msg = f"{folder}: has no {_CLASS_INFO}, which labels: class needs; {HOW_TO_GET}"
            raise DatasetNotFoundError(msg)
        return {}
    columns = read_columns(path, ("patientId", "class"))
    classes: dict[str, str] = {}
    for line, (name, kind) in enumerate(zip(columns["patientId"], columns["class"], strict=True), start=2):
        if kind not in CLASSES:
            msg = f"{path}, line {line}: class is '{kind}'; expected {', '.join(CLASSES)}"
            raise DatasetFormatError(msg)
        if classes.setdefault(name, kind) != kind:
            msg = f"{path}, line {line}: '{name}' is '{kind}' here and '{classes[name]}' above; download the file again"
            raise DatasetFormatError(msg)
        if name in boxes and bool(boxes[name]) != (kind == CLASSES[-1]):
            msg = f"{path}, line {line}: '{name}' is '{kind}', which does not fit its boxes in {_LABELS}"
            raise DatasetFormatError(msg)
    unknown = next((name for name in boxes if name not in classes), None)
    if unknown is not None:
        msg = f"{path}: has no row for '{unknown}' of {_LABELS}; download the file again"
        raise DatasetFormatError(msg)
    return classes


def _positive(table: StudyTable) -> NDArray[np.int64]:
    return np.array([len(boxes) > 0 for boxes in table.extra["boxes"]], dtype=np.int64)


def _places(count: int, order: NDArray[np.int64], *parts: tuple[str, NDArray[np.int64]]) -> Places:
    places = np.full(count, "", dtype="<U5")
    for name, rows in parts:
        places[order[rows]] = name
    return places


def _mgca(table: StudyTable, plan: SplitPlan) -> Places:
    """MGCA's (and GLoRIA's) 70/15/15 for classification: ids sorted, two draws with random_state 0."""
    return check_sizes(table, plan, _drawn_twice(table, 0.3), TOTALS["images"], (18_678, 4_003, 4_003))


def _mgca_segment(table: StudyTable, plan: SplitPlan) -> Places:
    """MGCA's 60/20/20 for boxes and masks: as for classification, with 10,674 images outside of training."""
    return check_sizes(table, plan, _drawn_twice(table, 0.4), TOTALS["images"], (16_010, 5_337, 5_337))


def _drawn_twice(table: StudyTable, share: float) -> Places:
    """Draw a share of the sorted ids, then divide it into test and val."""
    order = np.argsort(np.asarray(table.study_ids))
    train, rest = random_split(len(table), int(np.ceil(share * len(table))), 0)
    test, val = random_split(len(rest), int(np.ceil(0.5 * len(rest))), 0)
    return _places(len(table), order, ("train", train), ("val", rest[val]), ("test", rest[test]))


def _benchx(table: StudyTable, plan: SplitPlan) -> Places:
    """BenchX's 70/15/15: ids sorted, two draws stratified by Target with random_state 42."""
    order = np.argsort(np.asarray(table.study_ids))
    classes = _positive(table)[order]
    train, rest = stratified_split(classes, int(np.ceil(0.3 * len(table))), 42)
    val, test = stratified_split(classes[rest], int(np.ceil(0.5 * len(rest))), 42)
    places = _places(len(table), order, ("train", train), ("val", rest[val]), ("test", rest[test]))
    return check_sizes(table, plan, places, TOTALS["images"], (18_678, 4_003, 4_003))


def _lists(sizes: tuple[int, int, int], total: int) -> Callable[[StudyTable, SplitPlan], Places]:
    def read(table: StudyTable, plan: SplitPlan) -> Places:
        places = from_lists(table, plan, [(str(name),) for name in table.study_ids])
        return check_sizes(table, plan, places, total, sizes)

    return read


NAMED_SPLITS: Final = {
    "paper": lambda table, plan: by_ratios(table, plan, (0.6, 0.2, 0.2)),
    "mgca": _mgca,
    "mgca_segment": _mgca_segment,
    "benchx": _benchx,
    "lovt": _lists((16_010, 5_337, 5_337), TOTALS["images"]),
    "mrm": _lists((25_184, 1_500, 0), TOTALS["images"]),
}
"""``lovt`` and ``mrm`` are lists (``split_file``); MRM's third list names test images that have no official labels."""
