"""Leaks between the parts of a split: the same image, the same patient, or nearly the same picture."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from dmlm.datasets.near_duplicates import MAX_DISTANCE, hash_files, near_pairs
from dmlm.datasets.table import StudyTable

Kind = Literal["image", "patient", "near-duplicate", "contamination"]
SHOWN: Final = 10
"""Examples of each kind that a report keeps."""


@dataclass(frozen=True)
class Leak:
    """One thing that is on both sides.

    Args:
        kind: What is shared.
        first: Where it is on one side, such as ``"train: images/1.png"``.
        second: Where it is on the other side.
        why: What makes it the same.
    """

    kind: Kind
    first: str
    second: str
    why: str


@dataclass
class LeakReport:
    """Leaks that were found.

    Args:
        checked: What was looked for.
        counts: Number of leaks, by ``"kind, side / side"``.
        examples: The first few of each kind.
    """

    checked: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    examples: list[Leak] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.counts

    def add(self, leaks: Iterable[tuple[str, str, Leak]]) -> None:
        """Take up leaks, each with the names of its two sides."""
        for one, other, leak in leaks:
            key = f"{leak.kind}, {one} / {other}"
            self.counts[key] = self.counts.get(key, 0) + 1
            if sum(shown.kind == leak.kind for shown in self.examples) < SHOWN:
                self.examples.append(leak)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"clean": self.clean, **asdict(self)}


def find_leaks(
    table: StudyTable,
    places: Sequence[str] | np.ndarray[Any, np.dtype[np.str_]],
    near_duplicates: bool = False,
    max_distance: int = MAX_DISTANCE,
) -> LeakReport:
    """Look for leaks between train, val and test.

    An image leaks when its id, or a file of the same bytes, is in two parts; each shared id, content or patient counts
    once for each pair of parts. Near-duplicates are pairs of images.

    Args:
        table: The rows.
        places: Part of each row; ``""`` is in none.
        near_duplicates: Whether to compare pictures, too (reads every image).
        max_distance: Bits of 512 in which two pictures may differ.

    Raises:
        ImageReadError: If a picture cannot be read.
    """
    parts = np.asarray(places, dtype=np.str_)
    report = LeakReport(checked=["image", "patient"])
    rows = np.flatnonzero(parts != "").tolist()
    report.add(_shared(table, parts, rows, [str(name) for name in table.study_ids], "image", "the same id"))
    report.add(_shared(table, parts, rows, [str(name) for name in table.patient_ids], "patient", "the same patient"))
    report.add(_shared(table, parts, rows, _contents(table, rows), "image", "files of the same bytes"))
    if near_duplicates:
        report.checked.append("near-duplicate")
        report.add(_near(table, parts, rows, max_distance))
    return report


def _shared(
    table: StudyTable,
    parts: np.ndarray[Any, np.dtype[np.str_]],
    rows: Sequence[int],
    keys: Sequence[Hashable | None],
    kind: Kind,
    why: str,
) -> Iterable[tuple[str, str, Leak]]:
    """Yield keys that occur in two parts; an image id counts only where its study has one image per part."""
    first: dict[Hashable, dict[str, int]] = defaultdict(dict)
    for row in rows:
        key = keys[row]
        if key is not None:
            first[key].setdefault(str(parts[row]), row)
    for key, found in first.items():
        for one, other in combinations(sorted(found), 2):
            names = [f"{part}: {table.images[found[part]]}" for part in (one, other)]
            yield one, other, Leak(kind, names[0], names[1], why if kind == "image" else f"{why} {key}")


def _contents(table: StudyTable, rows: Sequence[int]) -> list[Hashable | None]:
    """Return a key of the bytes of each file that could be equal to another one's; None where none has its length."""
    sizes: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        path = table.path(row)
        if path.is_file():
            sizes[path.stat().st_size].append(row)
    keys: list[Hashable | None] = [None] * len(table)
    for same in sizes.values():
        if len(same) > 1:
            for row in same:
                keys[row] = _digest(table.path(row))
    return keys


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _read(path)


def _read(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()  # Python 3.10 has no file_digest


def _near(
    table: StudyTable, parts: np.ndarray[Any, np.dtype[np.str_]], rows: Sequence[int], max_distance: int
) -> Iterable[tuple[str, str, Leak]]:
    """Yield near-duplicates of different patients; two films of one patient are a leak of the patient already."""
    hashes = hash_files([table.path(row) for row in rows])
    of_part = {
        part: [place for place, row in enumerate(rows) if parts[row] == part] for part in sorted(set(parts[rows]))
    }
    for one, other in combinations(of_part, 2):
        for left, right, distance in near_pairs(hashes[of_part[one]], hashes[of_part[other]], max_distance):
            row, match = rows[of_part[one][left]], rows[of_part[other][right]]
            if table.patient_ids[row] == table.patient_ids[match]:
                continue
            names = (f"{one}: {table.images[row]}", f"{other}: {table.images[match]}")
            yield one, other, Leak("near-duplicate", *names, f"the pictures differ in {distance} of 512 bits")
