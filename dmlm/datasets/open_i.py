"""Open-i, the Indiana University chest X-rays: reports as XML (folder or archive), images as PNG, DICOM or JPEG."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import numpy as np

from dmlm.datasets.csv_columns import find_table, read_columns
from dmlm.datasets.image_presence import MissingImages, present_rows
from dmlm.datasets.open_i_labels import LABEL_NAMES, labels_of
from dmlm.datasets.open_i_reports import ARCHIVE, FOLDER, OpenIReport, find_reports, read_reports
from dmlm.datasets.table import StudyTable
from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError

TOTALS: Final[Mapping[str, int]] = {"reports": 3_955, "images": 7_470, "studies": 3_851}
"""What the complete collection holds (counted from its reports); studies are reports with an image."""

HOW_TO_GET: Final = (
    "free download from Open-i of the U.S. National Library of Medicine: NLMCXR_reports.tgz, NLMCXR_png.tgz"
)

NAMED_SPLITS: Final[Mapping[str, object]] = {}
"""No split of this collection is published by identifiers that the library could make."""

PROJECTIONS: Final = "indiana_projections.csv"
"""Table of the Kaggle copy (``uid,filename,projection``); the collection itself does not name projections."""

OPTIONAL_FILES: Final[Mapping[str, str]] = {PROJECTIONS: "which films are frontal"}
"""Files that not every use needs -> what they are for."""

_SUFFIXES: Final = (".png", ".dcm", ".jpg", ".jpeg")
_KEY: Final = re.compile(r"^(?:CXR\d+_(?=\d+_IM)|CXR)?(.+?)(?:\.dcm)?$")


def recognise(folder: Path) -> bool:
    """Whether a folder holds the reports of Open-i."""
    try:
        place = find_reports(folder)
        if place is None or place.is_file():
            return place is not None and (folder.is_dir() or place.name == ARCHIVE)
        return b"<eCitation" in next(place.glob("*.xml")).read_bytes()[:200]
    except OSError:
        return False


def describe_layout(root: Path) -> str:
    """Say in a few words how the collection lies on disk."""
    place = find_reports(root)
    images = sorted({path.rpartition("/")[0] or "." for path in _image_files(root).values()})
    reports = "no reports" if place is None else f"reports in {place.name}"
    shown = ", ".join(images[:3]) + (" ..." if len(images) > 3 else "")
    return f"{reports}, {f'images in {shown}' if images else 'no images'}"


def open_table(
    root: Path,
    views: Literal["frontal", "all"] = "all",
    missing_images: MissingImages = "raise",
    images_root: str | None = None,
) -> StudyTable:
    """Open the collection.

    Args:
        root: Folder that holds ``ecgen-radiology`` (or its XML files, or ``NLMCXR_reports.tgz``) and, at any depth,
            the images.
        views: ``frontal`` needs ``indiana_projections.csv`` of the Kaggle copy below ``root``.
        missing_images: What happens to images that a report names but that are not there; ``keep`` opens the reports
            without any image.
        images_root: Folder of the images, where they are elsewhere.

    Returns:
        One row per image, in the order of the reports; the 104 reports without an image have none. The source does not
        say who the patient is: every report counts as a patient. ``extra``: ``view`` (``FRONTAL``, ``LATERAL`` or
        blank), ``caption``, ``mesh`` (terms indexed by hand, joined by ``|``).

    Raises:
        ConfigError: If an option is wrong, or frontal films are asked for and nothing says which they are.
        DatasetNotFoundError: If reports or images are missing.
        DatasetFormatError: If a file is damaged.
    """
    if views not in ("frontal", "all"):
        msg = f"data.views must be frontal or all, got '{views}'"
        raise ConfigError(msg)
    reports = read_reports(root)
    base = Path(images_root).expanduser() if images_root is not None else (root if root.is_dir() else root.parent)
    files = _image_files(base)
    if not files and missing_images != "keep":
        msg = (
            f"{base}: holds {len(reports):,} reports but no image; unpack NLMCXR_png.tgz there, set data.images_root, "
            "or set data.missing_images to keep for the texts alone"
        )
        raise DatasetNotFoundError(msg)
    pairs = [(report, image, caption) for report in reports for image, caption in report.images]
    _check_images(root, pairs)
    projections = _projections(base)
    if views == "frontal":
        if projections is None:
            msg = f"{base}: no {PROJECTIONS} says which films are frontal; copy it there, or set data.views to all"
            raise ConfigError(msg)
        pairs = [pair for pair in pairs if projections.get(_key(pair[1])) == "FRONTAL"]
    images = [files.get(_key(image), f"NLMCXR_png/{image}.png") for _, image, _ in pairs]
    kept = present_rows(base, images, _policy(base, images, files, missing_images), patient_depth=0).tolist()
    chosen = [pairs[row] for row in kept]
    seen = projections or {}
    return StudyTable(
        name="openi",
        root=base,
        label_names=LABEL_NAMES,
        images=[images[row] for row in kept],
        study_ids=[f"CXR{report.number}" for report, _, _ in chosen],
        patient_ids=[f"CXR{report.number}" for report, _, _ in chosen],
        labels=np.array([labels_of(report.major) for report, _, _ in chosen], np.float32).reshape(
            len(chosen), len(LABEL_NAMES)
        ),
        text=_Texts([report.text for report, _, _ in chosen]),
        extra={
            "view": [seen.get(_key(image), "") for _, image, _ in chosen],
            "caption": [caption for _, _, caption in chosen],
            "mesh": ["|".join(report.major) for report, _, _ in chosen],
        },
    )


class _Texts:
    """Text of a row; reports of one study share their string."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __call__(self, row: int) -> str:
        return self.texts[row]


def _policy(base: Path, images: list[str], files: Mapping[str, str], missing: MissingImages) -> MissingImages:
    """All files are listed already: ``raise`` needs no further look, and names the first that is missing."""
    if missing != "raise":
        return missing
    there = set(files.values())
    absent = [image for image in images if image not in there]
    if absent:
        msg = (
            f"{base}: {len(absent):,} of {len(images):,} images named by reports are missing, the first is "
            f"{absent[0]}; complete the download, or set data.missing_images to drop"
        )
        raise DatasetNotFoundError(msg)
    return "keep"


def _key(name: str) -> str:
    """Return what is common to the names of an image: ``CXR1_1_IM-0001-3001``, ``1_IM-0001-3001.dcm``."""
    found = _KEY.match(name)
    return name if found is None else found[1]


def _image_files(base: Path) -> dict[str, str]:
    """Return relative path by key; PNG before DICOM before JPEG where an image is there twice."""
    found: dict[str, tuple[int, str]] = {}
    for folder, folders, names in os.walk(base):
        folders[:] = sorted(name for name in folders if name != FOLDER and not name.startswith("."))
        for name in sorted(names):
            stem, dot, ending = name.rpartition(".")
            suffix = f"{dot}{ending}".lower()
            if suffix in _SUFFIXES and "IM-" in stem:
                rank = _SUFFIXES.index(suffix)
                relative = (Path(folder) / name).relative_to(base).as_posix()
                key = _key(stem)
                if found.get(key, (-1, ""))[0] == rank and Path(found[key][1]).parent != Path(relative).parent:
                    msg = f"{base}: '{found[key][1]}' and '{relative}' have one name; move what is no film away"
                    raise DatasetFormatError(msg)
                if key not in found or rank < found[key][0]:
                    found[key] = (rank, relative)
    return {key: path for key, (_, path) in found.items()}


def _projections(base: Path) -> dict[str, str] | None:
    path = find_table([base], PROJECTIONS)
    if path is None:
        return None
    columns = read_columns(path, ("filename", "projection"))
    projections = {}
    for line, (name, projection) in enumerate(zip(columns["filename"], columns["projection"], strict=True), start=2):
        if projection.upper() not in ("FRONTAL", "LATERAL"):
            msg = f"{path}, line {line}: projection is '{projection}'; expected Frontal or Lateral"
            raise DatasetFormatError(msg)
        projections[_key(name.removesuffix(".png"))] = projection.upper()
    return projections


def _check_images(root: Path, pairs: list[tuple[OpenIReport, str, str]]) -> None:
    owners: dict[str, int] = {}
    for report, image, _ in pairs:
        if image in owners:
            msg = f"{root}: image '{image}' is named by CXR{owners[image]} and CXR{report.number}; keep one"
            raise DatasetFormatError(msg)
        owners[image] = report.number
