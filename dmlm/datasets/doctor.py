"""Examine a folder: which data set it holds, whether it is complete, and which of its files are damaged."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.catalog import DATASETS, open_table, recognise
from dmlm.datasets.image_files import find_unreadable
from dmlm.datasets.image_index import subfolders
from dmlm.datasets.leaks_across import overlaps_of
from dmlm.datasets.synthesize import read_marker
from dmlm.datasets.table import StudyTable
from dmlm.errors import DatasetNotFoundError, DMLMError
from dmlm.io.images import read_grey

QUICK_ROWS: Final = 256
"""Images that a quick examination reads, spread over the table."""

_THREADS: Final = 8


@dataclass
class Examination:
    """What was found.

    Args:
        root: The folder.
        dataset: Short name of the data set.
        layout: How it lies on disk, where the data set's module can tell.
        synthetic: Whether ``dmlm data synthesize`` wrote it.
        counts: What there is, by name.
        expected: What a complete copy has, by name; only names of ``counts`` are compared.
        problems: What is wrong, one line each; missing images among it.
        corrupt: Damaged file -> why.
        absent: Optional files that are not there -> what they are for.
        overlaps: Other data set -> which of its images or patients are in this one, too.
        checked_images: How many images were read.
        how_to_get: Where the data set comes from.
    """

    root: str
    dataset: str
    layout: str = ""
    synthetic: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    corrupt: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    overlaps: dict[str, str] = field(default_factory=dict)
    checked_images: int = 0
    how_to_get: str = ""

    @property
    def well(self) -> bool:
        """Whether nothing is wrong; optional files may be absent."""
        return not self.problems and not self.corrupt

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"well": self.well, **asdict(self)}


def examine(root: Path, name: str = "auto", quick: bool = False) -> Examination:
    """Examine a folder.

    A data set that cannot be opened is a problem of the examination, not an error.

    Args:
        root: The folder.
        name: Which data set it is meant to be; ``auto`` recognises it.
        quick: Read :data:`QUICK_ROWS` images instead of all.

    Raises:
        DatasetNotFoundError: If there is no such folder, or it holds no known data set.
        ConfigError: If there is no data set of that name.
    """
    if not root.is_dir():
        what = "is a file" if root.is_file() else "no such folder"
        msg = f"{root}: {what}; give the folder as it was downloaded and unpacked"
        raise DatasetNotFoundError(msg)
    marker = read_marker(root)
    if name == "auto":
        name = marker["dataset"] if marker is not None else recognise(root)
    if name not in DATASETS:
        open_table(name, root)  # raises, and names what is known
    home: Any = import_module(DATASETS[name])
    found = Examination(str(root), name, synthetic=marker is not None, how_to_get=str(getattr(home, "HOW_TO_GET", "")))
    found.overlaps = overlaps_of(name)
    try:
        found.layout = home.describe_layout(root) if hasattr(home, "describe_layout") else ""
        found.absent = home.absent_files(root) if hasattr(home, "absent_files") else _absent(root, home)
        found.expected = {"images": int(marker["images"])} if marker is not None else _totals(home, root)
    except DMLMError as error:
        found.problems.append(_line(error))
    table = _open(name, root, home, found)
    if table is not None:
        found.counts = counts_of(table)
        if table.text is not None and not quick:
            found.counts["studies with report"] = _count_reports(table, table.text)
        _compare(found)
        _read_files(table, found, quick)
    found.problems = list(dict.fromkeys(found.problems))
    return found


def counts_of(table: StudyTable) -> dict[str, int]:
    """Count a table: images, studies, patients, boxes, each label that is present, images of the official parts."""
    counts = {
        "images": len(table),
        "studies": len(set(map(str, table.study_ids))),
        "patients": len(set(map(str, table.patient_ids))),
    }
    if "boxes" in table.extra:
        counts["boxes"] = sum(len(boxes) for boxes in table.extra["boxes"])
    present: NDArray[np.int64] = (table.labels == 1).sum(axis=0)
    counts |= dict(zip(table.label_names, present.tolist(), strict=True))
    if table.splits is not None:
        names, numbers = np.unique(np.asarray(table.splits, dtype=np.str_), return_counts=True)
        counts |= {f"{part or 'unlisted'} images": int(number) for part, number in zip(names, numbers, strict=True)}
    return counts


def _count_reports(table: StudyTable, text: Callable[[int], str]) -> int:
    from tqdm import tqdm

    _, first = np.unique(np.asarray(table.study_ids, dtype=np.str_), return_index=True)
    rows = tqdm(first.tolist(), desc="reading reports", disable=len(first) < 500)
    return sum(bool(text(row).strip()) for row in rows)


def _open(name: str, root: Path, home: Any, found: Examination) -> StudyTable | None:  # noqa: ANN401 - a module
    """Open the table; where images are missing, say so and open what is there."""
    try:
        return open_table(name, root)
    except DMLMError as error:
        found.problems.append(_line(error))
    if "missing_images" not in inspect.signature(home.open_table).parameters:
        return None
    try:
        return open_table(name, root, missing_images="drop")
    except DMLMError:  # the first error says more
        return None


def _totals(home: Any, root: Path) -> dict[str, int]:  # noqa: ANN401 - a module
    """Return the totals of a complete copy; a module with several versions says which this is."""
    totals: Mapping[str, int] = home.totals_of(root) if hasattr(home, "totals_of") else getattr(home, "TOTALS", {})
    return dict(totals)


def _compare(found: Examination) -> None:
    for what, expected in found.expected.items():
        count = found.counts.get(what)
        if count is not None and count != expected:
            found.problems.append(f"{what}: {count:,}, a complete copy has {expected:,}")


def _absent(root: Path, home: Any) -> dict[str, str]:  # noqa: ANN401 - a module
    files: Mapping[str, str] = getattr(home, "OPTIONAL_FILES", {})
    places = subfolders(root)
    return {
        name: purpose
        for name, purpose in files.items()
        if not any((place / end).is_file() for place in places for end in (name, f"{name}.gz"))
    }


def _read_files(table: StudyTable, found: Examination, quick: bool) -> None:
    """Read images, and masks on the images' grid."""
    rows = np.arange(len(table))
    if quick and len(rows) > QUICK_ROWS:
        rows = np.unique(np.linspace(0, len(rows) - 1, QUICK_ROWS).round().astype(np.int64))
    chosen = rows.tolist()
    found.checked_images = len(chosen)
    unreadable = find_unreadable([str(table.path(row)) for row in chosen])
    found.corrupt |= {path: why.removeprefix(f"{path}: ") for path, why in unreadable.items()}
    if table.masks is not None:
        found.corrupt |= _bad_masks(table, [row for row in chosen if str(table.path(row)) not in unreadable])


def _bad_masks(table: StudyTable, rows: Sequence[int]) -> dict[str, str]:
    from tqdm import tqdm

    with ThreadPoolExecutor(_THREADS) as pool:
        answers = list(
            tqdm(
                pool.map(lambda row: _mask_complaint(table, row), rows),
                total=len(rows),
                desc="checking masks",
                disable=len(rows) < 500,
            )
        )
    return {f"mask of {table.images[row]}": why for row, why in zip(rows, answers, strict=True) if why}


def _mask_complaint(table: StudyTable, row: int) -> str:
    if table.masks is None:
        return ""
    try:
        mask = table.masks(row)
        shape = read_grey(table.path(row), min_size=64).shape
    except DMLMError as error:
        return _line(error)
    if abs(mask.shape[1] * shape[1] / (mask.shape[2] * shape[0]) - 1.0) > 0.05:  # a scaled image is rounded
        return f"it is {mask.shape[1]} x {mask.shape[2]}, which is not the form of its image"
    return ""


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
