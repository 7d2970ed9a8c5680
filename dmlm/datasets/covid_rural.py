"""COVID-Rural: 221 radiographs of COVID-19 with masks of their opacities."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Final

import numpy as np

from dmlm.datasets.image_index import MissingImages, index_images, subfolders
from dmlm.datasets.mask_files import MaskFiles
from dmlm.datasets.splits_published import Places, by_ratios, check_sizes, from_lists
from dmlm.datasets.table import StudyTable
from dmlm.datasets.table_splits import SplitPlan
from dmlm.errors import DatasetFormatError, DatasetNotFoundError

LABEL_NAMES: Final = ("COVID-19",)
MASK_NAMES: Final = ("Opacity",)
TOTALS: Final = {"images": 221, "patients": 104}
HOW_TO_GET: Final = (
    "download the repository haimingt/opacity_segmentation_covid_chest_X_ray (folder covid_rural_annot with jpgs and "
    "pngs_masks); its images come from the COVID-19-AR collection of The Cancer Imaging Archive"
)

_ID: Final = re.compile(r"(COVID-19-AR-\d+)_\d\d-\d\d-\d{4}-XR")
_LOG = logging.getLogger(__name__)


def recognise(folder: Path) -> bool:
    """Whether the folder (or one up to two levels below) has ``jpgs`` and ``pngs_masks``."""
    return _place(folder) is not None


def describe_layout(root: Path) -> str:
    """Say in a few words where the images lie."""
    place = _place(root)
    return "" if place is None else f"jpgs and pngs_masks in {place.name}/"


def open_table(root: Path, missing_images: MissingImages = "raise") -> StudyTable:
    """Open the data set. All images show COVID-19: what there is to learn are the masks.

    An image without a mask was not annotated and is passed over, with a warning.

    Args:
        root: The repository's folder, ``covid_rural_annot``, or one above.
        missing_images: ``raise`` refuses masks whose image is not there, ``drop`` passes over them.

    Raises:
        DatasetNotFoundError: If the folders or images are missing.
        DatasetFormatError: If a file's name is none of the data set.
    """
    place = _place(Path(root))
    if place is None:
        msg = f"{root}: has no folders jpgs and pngs_masks; {HOW_TO_GET}"
        raise DatasetNotFoundError(msg)
    images, masks = index_images(place / "jpgs", 0), index_images(place / "pngs_masks", 0)
    alone = sorted(set(images) - set(masks))
    if alone:
        _LOG.warning("%s: %d images have no mask and are left out (first: %s)", place, len(alone), alone[0])
    lost = sorted(set(masks) - set(images))
    if lost and missing_images == "raise":
        msg = (
            f"{place / 'jpgs'}: {len(lost)} masks have no image (first: '{lost[0]}'); copy the images again, or leave "
            "them out with missing_images: drop"
        )
        raise DatasetNotFoundError(msg)
    ids = sorted(set(images) & set(masks))
    odd = next((name for name in ids if _ID.fullmatch(name) is None), None)
    if odd is not None or not ids:
        msg = f"{place / 'jpgs'}: expected names such as COVID-19-AR-16406541_01-19-2012-XR.jpg, found {odd or 'none'}"
        raise DatasetFormatError(msg)
    return StudyTable(
        name="covid_rural",
        root=place,
        label_names=LABEL_NAMES,
        images=[f"jpgs/{images[name]}" for name in ids],
        study_ids=ids,
        patient_ids=[name.partition("_")[0] for name in ids],
        labels=np.ones((len(ids), 1), np.float32),
        task="binary",
        masks=MaskFiles([place / "pngs_masks" / masks[name] for name in ids]),
        mask_names=MASK_NAMES,
    )


def _place(root: Path) -> Path | None:
    for folder in subfolders(root):
        for place in (folder, folder / "covid_rural_annot"):
            if (place / "jpgs").is_dir() and (place / "pngs_masks").is_dir():
                return place
    return None


def _lovt(table: StudyTable, plan: SplitPlan) -> Places:
    places = from_lists(table, plan, [(str(name),) for name in table.study_ids])
    return check_sizes(table, plan, places, TOTALS["images"], (133, 44, 44))


NAMED_SPLITS: Final = {"paper": lambda table, plan: by_ratios(table, plan, (0.6, 0.2, 0.2)), "lovt": _lovt}
"""``lovt`` is a set of lists (``split_file``)."""
