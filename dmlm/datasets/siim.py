"""SIIM-ACR Pneumothorax: radiographs with a pneumothorax or without, and its mask, in any of five layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from dmlm.datasets.image_index import MissingImages
from dmlm.datasets.siim_layouts import HOW_TO_GET, find_layout, read_layout
from dmlm.datasets.splits_published import (
    Places,
    by_ratios,
    check_sizes,
    from_lists,
    random_split,
    refuse_leak,
    stratified_split,
    with_val,
)
from dmlm.datasets.table import StudyTable
from dmlm.datasets.table_splits import SplitPlan
from dmlm.errors import ConfigError, DatasetNotFoundError

__all__ = [
    "HOW_TO_GET",
    "LABEL_NAMES",
    "NAMED_SPLITS",
    "TOTALS",
    "describe_layout",
    "open_table",
    "recognise",
    "totals_of",
]

LABEL_NAMES: Final = ("Pneumothorax",)
TOTALS: Final = {"images": 12_047, "Pneumothorax": 2_669}
"""Stage 1 training (10,675) and test (1,372) images together; a file of stage 1 training rows alone has fewer."""


def recognise(folder: Path) -> bool:
    """Whether the folder (or one in it) has one of the five layouts."""
    return find_layout(folder) is not None


def describe_layout(root: Path) -> str:
    """Say in a few words how the data set lies on disk."""
    found = find_layout(root)
    return "" if found is None else f"layout {found[0]} in {found[1].name}/"


def totals_of(root: Path) -> dict[str, int]:
    """Return the totals of a complete copy: of stage 1 training alone where that is all that there is."""
    found = find_layout(root)
    if found is not None and found[0] == "A":
        folders = {entry.name for entry in found[1].iterdir()}
        if "dicom-images-train" in folders and "dicom-images-test" not in folders:
            return {"images": 10_675}
    return dict(TOTALS)


def open_table(root: Path, missing_images: MissingImages = "raise") -> StudyTable:
    """Open the data set in whichever layout it has (:mod:`dmlm.datasets.siim_layouts`).

    Images without a row in the csv are passed over. The data set hides patients (an id is an image), so splits keep
    images apart and not patients.

    Args:
        root: Folder of the data set, or the one above it.
        missing_images: ``raise`` refuses a folder that lacks listed images, ``drop`` leaves them out.

    Returns:
        A table with one label, one mask and, as ``extra["csv_lines"]``, the lines of the csv that speak of each image.
        The official split is that of stage 1, where the layout tells it.

    Raises:
        DatasetNotFoundError: If no layout is found, or images or masks are missing.
        DatasetFormatError: If a table or a run-length code says something impossible.
    """
    root = Path(root)
    found = find_layout(root)
    if found is None:
        msg = f"{root}: none of the five layouts of SIIM-ACR Pneumothorax (see docs/datasets/siim); {HOW_TO_GET}"
        raise DatasetNotFoundError(msg)
    layout, folder = found
    films = read_layout(layout, folder, missing_images)
    return StudyTable(
        name="siim",
        root=folder,
        label_names=LABEL_NAMES,
        images=films.images,
        study_ids=films.ids,
        patient_ids=films.ids,
        labels=films.positive[:, None],
        splits=films.splits,
        task="binary",
        masks=films.masks,
        mask_names=LABEL_NAMES,
        extra={"csv_lines": films.lines},
    )


def _official(table: StudyTable, plan: SplitPlan) -> Places:
    """Test set of stage 1; validation drawn from the rest where the layout has none."""
    if table.splits is not None and len(set(table.study_ids)) < len(table):
        refuse_leak(table, plan, "an image is in two of the folders of this layout")
    return with_val(table, plan)


def _benchx(table: StudyTable, plan: SplitPlan) -> Places:
    """BenchX: test set of stage 1; as many validation images drawn by class with random_state 42 (layout C alone)."""
    stems = [Path(image).stem for image in table.images]
    if plan.file is not None or not all("_train_" in stem or "_test_" in stem for stem in stems):
        places = from_lists(table, plan, [(stem, str(name)) for stem, name in zip(stems, table.study_ids, strict=True)])
        return check_sizes(table, plan, places, TOTALS["images"], (9_303, 1_372, 1_372))
    positive = sorted((stem, row) for row, stem in enumerate(stems) if "_train_1" in stem)
    negative = sorted((stem, row) for row, stem in enumerate(stems) if "_train_0" in stem)
    test = np.array([row for row, stem in enumerate(stems) if "_test_" in stem], dtype=np.int64)
    rows = np.array([row for _, row in (*positive, *negative)], dtype=np.int64)
    if not 0 < len(test) < len(rows):
        msg = f"{table.root}: {len(test)} test and {len(rows)} training images; 'benchx' needs more of the latter"
        raise ConfigError(msg)
    train, val = stratified_split([1] * len(positive) + [0] * len(negative), len(test), 42)
    places = np.full(len(table), "", dtype="<U5")
    places[rows[train]], places[rows[val]], places[test] = "train", "val", "test"
    return check_sizes(table, plan, places, TOTALS["images"], (9_303, 1_372, 1_372))


def _gloria(table: StudyTable, plan: SplitPlan) -> Places:
    """GLoRIA, MGCA, ECAMP: rows of the csv drawn 70/15/15 (random_state 0), so an image falls into several parts.

    With leaks allowed an image counts for test before val before train.
    """
    refuse_leak(table, plan, "it draws rows of the csv, and an image with several rows falls into several parts")
    lines = table.extra["csv_lines"]
    count = sum(len(numbers) for numbers in lines)
    if not count:
        msg = f"the split '{plan.name}' draws rows of train-rle.csv, which this layout of SIIM does not have"
        raise ConfigError(msg)
    owner = np.array([row for _, row in sorted((line, row) for row, own in enumerate(lines) for line in own)])
    train, rest = random_split(count, int(np.ceil(0.3 * count)), 0)
    test, val = random_split(len(rest), int(np.ceil(0.5 * len(rest))), 0)
    places = np.full(len(table), "", dtype="<U5")
    places[owner[train]] = "train"
    places[owner[rest[val]]] = "val"
    places[owner[rest[test]]] = "test"
    return places


def _lovt(table: StudyTable, plan: SplitPlan) -> Places:
    names = [(str(name),) for name in table.study_ids]
    return check_sizes(table, plan, from_lists(table, plan, names), TOTALS["images"], (7_229, 2_409, 2_409))


def _mrm(table: StudyTable, plan: SplitPlan) -> Places:
    refuse_leak(table, plan, "478, 494 and 124 of the images of its parts are in another part, too")
    return from_lists(table, plan, [(Path(table.images[row]).stem, str(n)) for row, n in enumerate(table.study_ids)])


NAMED_SPLITS: Final = {
    "official": _official,
    "paper": lambda table, plan: by_ratios(table, plan, (0.6, 0.2, 0.2)),
    "benchx": _benchx,
    "lovt": _lovt,
    "mrm": _mrm,
    "gloria": _gloria,
    "mgca": _gloria,
    "ecamp": _gloria,
}
"""``lovt``, ``mrm`` and, outside of layout C, ``benchx`` are lists (``split_file``)."""
