"""Contamination between data sets: RSNA is part of NIH, COVIDx negatives are of RSNA, edema grades are of MIMIC-CXR."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dmlm.datasets.leaks import Leak, LeakReport
from dmlm.datasets.near_duplicates import MAX_DISTANCE, hash_files, near_pairs
from dmlm.datasets.table import StudyTable
from dmlm.errors import DatasetFormatError

KNOWN: Final = {
    frozenset(("rsna", "nih")): "RSNA's images are a selection of NIH ChestX-ray14 under other names",
    frozenset(("covidx", "rsna")): "most negatives of COVIDx are images of RSNA Pneumonia",
    frozenset(("covidx", "nih")): "most negatives of COVIDx are images of RSNA Pneumonia, which are of NIH",
    frozenset(("edema", "mimic")): "the edema grades are of MIMIC-CXR's own patients",
}
"""Pairs of data sets that are known to overlap, and how."""

_SAME_PATIENTS: Final = frozenset(("edema", "mimic"))


def overlaps_of(name: str) -> dict[str, str]:
    """Return the data sets that are known to overlap with one, and how."""
    return {other: how for pair, how in KNOWN.items() if name in pair for other in pair - {name}}


def find_contamination(
    first: StudyTable,
    second: StudyTable,
    near_duplicates: bool = False,
    mapping: Path | None = None,
    max_distance: int = MAX_DISTANCE,
) -> LeakReport:
    """Look for images and patients of one data set in another.

    Names of images are compared, patients where both data sets number them alike (edema and MIMIC), then what
    ``mapping`` says, and with ``near_duplicates`` the pictures themselves: RSNA hides NIH's names, so that only a
    mapping or the pictures tell.

    Args:
        first: A data set, or the part of it that is pre-trained on.
        second: Another one, or the part of it that is tested on.
        near_duplicates: Whether to compare pictures (reads every image of both).
        mapping: CSV or JSON that pairs names of the two; RSNA's own JSON (``subset_img_id``, ``img_id``) fits.
        max_distance: Bits of 512 in which two pictures may differ.

    Raises:
        DatasetFormatError: If the mapping pairs no names.
        ImageReadError: If a picture cannot be read.
    """
    report = LeakReport(checked=["contamination"])
    sides = (first.name, second.name)
    names = [_by_name(table) for table in (first, second)]
    shared = sorted(set(names[0]) & set(names[1]))
    report.add(_found(first, second, ((names[0][key], names[1][key], "the same name") for key in shared)))
    if frozenset(sides) == _SAME_PATIENTS:
        patients = [{str(name): row for row, name in enumerate(table.patient_ids)} for table in (first, second)]
        both = sorted(set(patients[0]) & set(patients[1]))
        rows = ((patients[0][who], patients[1][who], f"the same patient {who}") for who in both)
        report.add(_found(first, second, rows))
    if mapping is not None:
        report.checked.append(f"mapping {mapping.name}")
        pairs = [pair for one, two in read_mapping(mapping) for pair in ((one, two), (two, one))]
        known = (
            (names[0][one], names[1][two], "the mapping") for one, two in pairs if one in names[0] and two in names[1]
        )
        report.add(_found(first, second, known))
    if near_duplicates:
        report.checked.append("near-duplicate")
        hashes = [hash_files([table.path(row) for row in range(len(table))]) for table in (first, second)]
        near = near_pairs(hashes[0], hashes[1], max_distance)
        report.add(_found(first, second, ((a, b, f"the pictures differ in {bits} of 512 bits") for a, b, bits in near)))
    return report


def read_mapping(path: Path) -> list[tuple[str, str]]:
    """Read pairs of names without their endings: a CSV whose first two columns pair them, or JSON of records.

    JSON records have ``subset_img_id`` and ``img_id`` (RSNA's published mapping), or are pairs.

    Raises:
        DatasetFormatError: If there is no pair in it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            records = json.loads(text)
            pairs = [
                (str(item["subset_img_id"]), str(item["img_id"]))
                if isinstance(item, dict)
                else (str(item[0]), str(item[1]))
                for item in records
            ]
        else:
            pairs = [(row[0].strip(), row[1].strip()) for row in csv.reader(text.splitlines()) if len(row) > 1]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        msg = f"{path}: pairs no names ({type(error).__name__}: {error}); expected a CSV or JSON of pairs of names"
        raise DatasetFormatError(msg) from error
    if not pairs:
        msg = f"{path}: pairs no names; expected a CSV or JSON of pairs of names"
        raise DatasetFormatError(msg)
    return [(_stem(one), _stem(two)) for one, two in pairs]


def _found(
    first: StudyTable, second: StudyTable, rows: Iterable[tuple[int, int, str]]
) -> Iterable[tuple[str, str, Leak]]:
    for one, two, why in rows:
        left, right = f"{first.name}: {first.images[one]}", f"{second.name}: {second.images[two]}"
        yield first.name, second.name, Leak("contamination", left, right, why)


def _by_name(table: StudyTable) -> dict[str, int]:
    """Return the row of each image's name without folder and ending."""
    return {_stem(str(image)): row for row, image in enumerate(table.images)}


def _stem(name: str) -> str:
    tail = name.replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = tail.rpartition(".")
    return stem if dot and len(suffix) <= 5 and not suffix.isdigit() else tail
