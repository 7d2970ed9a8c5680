"""MIMIC-CXR v2, JPG or DICOM: images with their reports, labels and official split, as PhysioNet distributes them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dmlm.datasets.csv_columns import find_table
from dmlm.datasets.image_presence import MissingImages, present_rows
from dmlm.datasets.mimic_cxr_reports import ARCHIVE, Reports, ReportText, TextPolicy, check_reports, find_reports
from dmlm.datasets.mimic_cxr_special import RELEASED_CASES, read_special_cases
from dmlm.datasets.mimic_cxr_tables import (
    LABEL_FILES,
    METADATA,
    RECORDS,
    SPLIT,
    Index,
    LabelSource,
    read_index,
    read_splits,
    read_study_labels,
)
from dmlm.datasets.table import StudyTable
from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError

OFFICIAL_SIZES: Final[Mapping[str, int]] = {"train": 368_960, "val": 2_991, "test": 5_159}
"""Images in the parts of the official split."""

TOTALS: Final[Mapping[str, int]] = {
    "images": 377_110,
    "studies": 227_835,
    "patients": 65_379,
    "studies with report": 227_835,
    **{f"{part} images": count for part, count in OFFICIAL_SIZES.items()},
}
"""What the complete release holds."""

HOW_TO_GET: Final = (
    "credentialed account and data use agreement on PhysioNet, projects mimic-cxr-jpg (images, tables) and mimic-cxr "
    f"(reports: {ARCHIVE})"
)

OPTIONAL_FILES: Final[Mapping[str, str]] = {
    METADATA: "views, without which frontal films cannot be chosen",
    SPLIT: "the official split",
    **{name: f"labels: {source}" for source, names in LABEL_FILES.items() for name in names},
}
"""Tables that not every use needs -> what they are for."""

FRONTAL: Final = ("PA", "AP")
"""Values of ViewPosition that count as frontal."""

EmptyReports = Literal["keep", "drop", "raise"]
"""Studies without text: ``keep`` them (their labels speak), ``drop`` them, or ``raise``. The last two read every report
once when the data set is opened, with a progress bar."""

_HOMES: Final = tuple(
    f"{prefix}{project}{version}"
    for prefix in ("", "files/", "physionet.org/files/")
    for project in ("", "mimic-cxr-jpg", "mimic-cxr")
    for version in ("", "/2.1.0", "/2.0.0")
)
_SUFFIXES: Final = (".jpg", ".dcm", ".png")
_LOG = logging.getLogger(__name__)


def recognise(folder: Path) -> bool:
    """Whether a folder holds MIMIC-CXR: one of its tables, and images."""
    try:
        homes = _homes(folder)
        return find_table(homes, METADATA, RECORDS) is not None and any(_has_groups(home) for home in homes)
    except OSError:
        return False


def describe_layout(root: Path) -> str:
    """Say in a few words how the data set lies on disk."""
    homes = _homes(root)
    images = next((home for home in homes if _has_groups(home)), None)
    reports = find_reports(homes)
    parts = [
        "no images" if images is None else f"images in {_within(root, images / 'files')}",
        "no reports" if reports is None else f"reports in {_within(root, reports.place)}",
    ]
    return ", ".join(parts)


def absent_files(root: Path) -> dict[str, str]:
    """Return what is not there and what it is for."""
    homes = _homes(root)
    absent = {name: purpose for name, purpose in OPTIONAL_FILES.items() if find_table(homes, name) is None}
    return absent if find_reports(homes) is not None else {ARCHIVE: "the reports, to pre-train on", **absent}


def open_table(
    root: Path,
    reports_root: str | None = None,
    tables: str | None = None,
    labels: LabelSource = "chexpert",
    views: Literal["frontal", "all"] = "all",
    text: TextPolicy = "report",
    empty_reports: EmptyReports = "keep",
    missing_images: MissingImages = "raise",
    special_cases: str | None = None,
) -> StudyTable:
    """Open MIMIC-CXR.

    Args:
        root: Folder that holds ``files/p10/...`` with JPG (or PNG of the same names) or DICOM, or a folder above it in
            PhysioNet's layout. Tables may be ``.csv`` or ``.csv.gz``.
        reports_root: Where the reports are, unpacked or as ``mimic-cxr-reports.zip``; None looks below ``root``.
        tables: Folder of the tables, where they are not beside ``files``.
        labels: Whose labels.
        views: ``frontal`` takes PA and AP.
        text: Which part of a report is its text.
        empty_reports: What happens to studies without text.
        missing_images: What happens to images that are listed but not there.
        special_cases: CSV of the studies whose conclusion is chosen by hand, see
            :func:`dmlm.datasets.mimic_cxr_special.read_special_cases`; None takes the 54 of the release.

    Returns:
        One row per image in the order of the metadata table; ``extra`` holds ``view`` and ``dicom_id``, and where
        known ``study_date``. Without reports ``text`` is None.

    Raises:
        ConfigError: If an option is wrong, or cannot work with what is there.
        DatasetNotFoundError: If tables, images or reports are missing.
        DatasetFormatError: If a table is damaged or contradicts another.
    """
    homes = _homes(root)
    places = [Path(tables).expanduser()] if tables is not None else homes
    index = read_index(places)
    splits = read_splits(places, index)
    names, values = read_study_labels(places, index, labels)
    _check_totals(index, splits)
    rows = _of_view(index, views)
    base, paths = _images(homes, index, rows, missing_images)
    rows = rows[present_rows(base, paths, missing_images, patient_depth=2)]
    function = _text(homes, reports_root, index, text, special_cases)
    if function is not None:
        rows = _with_text(function, rows, index, empty_reports)
    elif empty_reports != "keep":
        msg = f"{root}: no reports were found, so data.empty_reports cannot be '{empty_reports}'; set data.reports_root"
        raise ConfigError(msg)
    if not len(rows):
        msg = (
            f"{root}: no image is left of the {len(index.dicoms):,} listed; loosen views, empty_reports, missing_images"
        )
        raise DatasetFormatError(msg)
    suffix = Path(paths[0]).suffix
    table = StudyTable(
        name="mimic",
        root=base,
        label_names=names,
        images=[_path(index, row, suffix) for row in rows.tolist()],
        study_ids=index.studies[rows].astype("<U8"),  # type: ignore[arg-type]  # an array is a sequence
        patient_ids=index.subjects[rows].astype("<U8"),  # type: ignore[arg-type]
        labels=values[rows],
        splits=None if splits is None else [splits[row] for row in rows.tolist()],
        text=None if function is None else _Rows(function, rows),
        extra=_extra(index, rows),
    )
    _LOG.info("%s: %d images of MIMIC-CXR", base, len(table))
    return table


class _Rows:
    """Text of a row of the table, which is a part of the index."""

    def __init__(self, function: Callable[[int], str], rows: NDArray[np.int64]) -> None:
        self.function, self.rows = function, rows

    def __call__(self, row: int) -> str:
        return self.function(int(self.rows[row]))


def _homes(root: Path) -> list[Path]:
    """Return the folders at or below ``root`` that the release may lie in, those with JPG first."""
    found = [root / home if home else root for home in _HOMES]
    return [folder for folder in found if folder.is_dir()] or [root]


def _within(root: Path, place: Path) -> str:
    return place.relative_to(root).as_posix() if place.is_relative_to(root) else str(place)


def _has_groups(home: Path) -> bool:
    return any((home / "files" / f"p1{digit}").is_dir() for digit in range(10))


def _extra(index: Index, rows: NDArray[np.int64]) -> dict[str, list[Any]]:
    chosen = rows.tolist()
    extra = {
        "dicom_id": [index.dicoms[row] for row in chosen],
        "view": [""] * len(chosen) if index.views is None else [index.views[row] for row in chosen],
    }
    if index.dates is not None:
        extra["study_date"] = [index.dates[row] for row in chosen]
    return extra


def _of_view(index: Index, views: str) -> NDArray[np.int64]:
    if views == "all":
        return np.arange(len(index.dicoms))
    if views != "frontal":
        msg = f"data.views must be frontal or all, got '{views}'"
        raise ConfigError(msg)
    if index.views is None:
        msg = (
            f"{index.source}: does not say which images are frontal; put {METADATA}.gz of MIMIC-CXR-JPG into "
            "data.tables, or set data.views to all"
        )
        raise ConfigError(msg)
    return np.flatnonzero([view in FRONTAL for view in index.views])


def _path(index: Index, row: int, suffix: str) -> str:
    subject = str(index.subjects[row])
    return f"files/p{subject[:2]}/p{subject}/s{index.studies[row]}/{index.dicoms[row]}{suffix}"


def _images(homes: list[Path], index: Index, rows: NDArray[np.int64], missing: MissingImages) -> tuple[Path, list[str]]:
    """Return the folder that holds images, and the relative path of each row; a few rows decide folder and kind."""
    probes = rows[sorted({round(place) for place in np.linspace(0, len(rows) - 1, 64)})].tolist() if len(rows) else []
    # of a small part of the download these may all be absent; who drops what is absent has every file looked at anyway
    for looked_for in (probes, rows.tolist()) if missing == "drop" else (probes,):
        for home in homes:
            for suffix in _SUFFIXES:
                if any((home / _path(index, row, suffix)).is_file() for row in looked_for):
                    return home, [_path(index, row, suffix) for row in rows.tolist()]
    if missing == "keep":  # the images are elsewhere, such as in a store: JPG is what most people have
        home = next((home for home in homes if _has_groups(home)), homes[0])
        return home, [_path(index, row, ".jpg") for row in rows.tolist()]
    count = len(rows) if missing == "drop" else len(probes)
    msg = (
        f"{homes[0]}: none of {count:,} images looked for is there, such as "
        f"{_path(index, probes[0], '.jpg') if probes else 'any'} (or .dcm); data.root must hold the folder 'files'"
    )
    raise DatasetNotFoundError(msg)


def _text(
    homes: list[Path], reports_root: str | None, index: Index, policy: TextPolicy, special_cases: str | None
) -> ReportText | None:
    special = RELEASED_CASES if special_cases is None else read_special_cases(Path(special_cases).expanduser())
    where = homes if reports_root is None else [Path(reports_root).expanduser()]
    if reports_root is not None and where[0].is_dir():
        where = _homes(where[0])
    reports: Reports | None = find_reports([place for place in where if place.exists()])
    if reports is None:
        if reports_root is None:
            return None
        msg = (
            f"{reports_root}: holds no reports; expected {ARCHIVE}, or the folder it unpacks to "
            "(files/p10/p10000032/s50414267.txt)"
        )
        raise DatasetNotFoundError(msg)
    check_reports(reports, index.subjects, index.studies, str(reports_root or homes[0]))
    return ReportText(reports, index.subjects, index.studies, policy, special)


def _with_text(text: ReportText, rows: NDArray[np.int64], index: Index, policy: EmptyReports) -> NDArray[np.int64]:
    if policy == "keep":
        return rows
    if policy not in ("drop", "raise"):
        msg = f"data.empty_reports must be keep, drop or raise, got '{policy}'"
        raise ConfigError(msg)
    studies, first = np.unique(index.studies[rows], return_index=True)
    reading = tqdm(rows[first].tolist(), desc="reading reports", unit="report", disable=None, leave=False)
    empty = studies[[not text(row).strip() for row in reading]]
    if len(empty) and policy == "raise":
        msg = (
            f"{index.source}: {len(empty):,} studies have no text, the first is {empty[0]}; set data.empty_reports to "
            "keep or drop, or data.text to report"
        )
        raise DatasetFormatError(msg)
    if len(empty):
        _LOG.warning("%s: %d studies without text are left out", index.source, len(empty))
    return rows[~np.isin(index.studies[rows], empty)]


def _check_totals(index: Index, splits: list[str] | None) -> None:
    """A table with as many rows as the whole release must be the whole release."""
    if len(index.dicoms) != TOTALS["images"]:
        return
    found = {"studies": len(np.unique(index.studies)), "patients": len(np.unique(index.subjects))}
    wanted = {name: TOTALS[name] for name in found}
    if splits is not None:
        found |= {name: splits.count(name) for name in OFFICIAL_SIZES}
        wanted |= OFFICIAL_SIZES
    wrong = [f"{found[name]:,} {name} instead of {wanted[name]:,}" for name in wanted if found[name] != wanted[name]]
    if wrong:
        msg = f"{index.source}: has all {TOTALS['images']:,} images but {', '.join(wrong)}; download the tables again"
        raise DatasetFormatError(msg)
