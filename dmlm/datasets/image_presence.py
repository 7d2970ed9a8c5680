"""Whether the images that a table lists are on disk: folders of patients are listed, a few files are looked at."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dmlm.errors import ConfigError, DatasetNotFoundError

MissingImages = Literal["raise", "drop", "keep"]
"""``raise`` refuses a folder that lacks images, ``drop`` leaves their rows out, ``keep`` does not look."""

_PROBES: Final = 64
_LOG = logging.getLogger(__name__)


def present_rows(root: Path, images: Sequence[str], missing: MissingImages, patient_depth: int) -> NDArray[np.int64]:
    """Return the rows whose images are to be used.

    ``raise`` lists the folders above those of the patients (a few listings, also for hundreds of thousands of images),
    so that a patient without a folder is noticed, and looks at 64 files spread over the table. ``drop`` looks at every
    file.

    Args:
        root: Folder that the paths are relative to.
        images: Relative paths.
        missing: What to do.
        patient_depth: Which part of a path is the patient's folder, counted from 0.

    Raises:
        ConfigError: If ``missing`` is no such policy.
        DatasetNotFoundError: If images are missing under ``raise``, or all are under ``drop``.
    """
    everything = np.arange(len(images))
    if missing == "keep" or not len(images):
        return everything
    if missing == "drop":
        rows = np.array([row for row in everything.tolist() if (root / images[row]).is_file()], dtype=np.int64)
        if not len(rows):
            msg = f"{root}: none of the {len(images):,} images is there, the first is {images[0]}; check data.root"
            raise DatasetNotFoundError(msg)
        if len(rows) < len(images):
            _LOG.warning("%s: %d of %d images are missing and left out", root, len(images) - len(rows), len(images))
        return rows
    if missing != "raise":
        msg = f"missing_images must be raise, drop or keep, got '{missing}'"
        raise ConfigError(msg)
    patients = {"/".join(image.split("/")[: patient_depth + 1]): row for row, image in enumerate(images)}
    there = {
        f"{parent}/{name}" if parent else name
        for parent in {patient.rpartition("/")[0] for patient in patients}
        for name in _names(root / parent)
    }
    absent = sorted(set(patients) - there)
    if absent:
        msg = (
            f"{root}: {len(absent):,} of the {len(patients):,} patients listed have no folder, the first is "
            f"{absent[0]}: the download is not complete or not unpacked; complete it, or set data.missing_images "
            "to drop"
        )
        raise DatasetNotFoundError(msg)
    probe_files(root, images)
    return everything


def probe_files(root: Path, images: Sequence[str]) -> None:
    """Look at 64 files spread over a table.

    Raises:
        DatasetNotFoundError: If one of them is missing.
    """
    for row in sorted({round(place) for place in np.linspace(0, len(images) - 1, _PROBES)}):
        if not (root / images[row]).is_file():
            msg = (
                f"{root / images[row]}: listed but missing ({_PROBES} files were looked at); complete the download, "
                "or set data.missing_images to drop"
            )
            raise DatasetNotFoundError(msg)


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:
        return []
