"""The tables of NIH ChestX-ray14, in both versions: findings of each image, boxes, official lists."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from dmlm.datasets.boxes import Box
from dmlm.datasets.csv_columns import find_table
from dmlm.datasets.problems import nearest
from dmlm.datasets.text_lines import read_lines
from dmlm.errors import DatasetFormatError, some_of
from dmlm.io.bounded import opened_table

LABEL_NAMES: Final = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
"""The 14 findings in the order of the authors' paper, spelled as in the files."""
BOX_NAMES: Final = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
)
"""The eight findings that have boxes; the file of boxes spells Infiltration as ``Infiltrate``."""
ENTRIES: Final = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
BOXES: Final = "BBox_List_2017.csv"
LISTS: Final = {"train_val_list.txt": "train", "test_list.txt": "test"}

_NORMAL: Final = "No Finding"
_SIDE: Final = 1024
_FIRST: Final = ("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age")
_SEX: Final = ("Patient Gender", "Patient Sex")
_PATIENT: Final = re.compile(r"[0-9]{1,8}")
_AGE: Final = re.compile(r"0*([0-9]{1,5})([YMD]?)$")


class Entry(NamedTuple):
    """One image: findings that are present, patient (8 digits), age in years (-1 unknown), sex, view."""

    findings: tuple[str, ...]
    patient: str
    age: float
    sex: str
    view: str


def read_entries(path: Path) -> dict[str, Entry]:
    """Read ``Data_Entry_2017*.csv``.

    The header's brackets hold commas (``OriginalImage[Width,Height]``), and version 1 ends its lines in a comma: the
    first seven columns are read by name, what follows is passed over.

    Returns:
        File name -> entry, in the order of the file.

    Raises:
        DatasetFormatError: If a column, a finding or an age is unknown, or an image is listed twice.
    """
    rows = _rows(path)
    header = rows[0] if rows else []
    sex = next((name for name in _SEX if name in header), _SEX[0])
    wanted = (*_FIRST, sex, "View Position")
    gone = [name for name in wanted if name not in header]
    if gone:
        hint = nearest(gone[0], header) or f"; it has {some_of(header) or 'no header'}"
        msg = f"{path}: has no column '{gone[0]}'{hint}"
        raise DatasetFormatError(msg)
    places = [header.index(name) for name in wanted]
    entries: dict[str, Entry] = {}
    for line, row in enumerate(rows[1:], start=2):
        if len(row) <= max(places):
            msg = f"{path}, line {line}: has {len(row)} fields, expected at least {max(places) + 1}; mend this line"
            raise DatasetFormatError(msg)
        image, labels, _, patient, age, gender, view = (row[place] for place in places)
        findings = tuple(name.strip() for name in labels.split("|"))
        unknown = [name for name in findings if name not in LABEL_NAMES and name != _NORMAL]
        if unknown or (_NORMAL in findings and len(findings) > 1):
            what = f"unknown finding '{unknown[0]}'{nearest(unknown[0], LABEL_NAMES)}" if unknown else f"'{labels}'"
            msg = f"{path}, line {line}: {what}; expected names of the 14 findings, or '{_NORMAL}' alone"
            raise DatasetFormatError(msg)
        if image in entries:
            msg = f"{path}, line {line}: '{image}' is listed twice; keep one of its rows"
            raise DatasetFormatError(msg)
        if not _PATIENT.fullmatch(patient):
            msg = f"{path}, line {line}: Patient ID is '{patient[:40]}'; expected a whole number"
            raise DatasetFormatError(msg)
        present = () if findings == (_NORMAL,) else findings
        entries[image] = Entry(present, patient.zfill(8), _age(path, line, age), gender, view)
    return entries


def read_boxes(folders: Sequence[Path]) -> dict[str, list[Box]]:
    """Read ``BBox_List_2017.csv`` where it is there: file name -> boxes.

    Its header parses to nine names, its rows to six fields: columns count by place.

    Raises:
        DatasetFormatError: If a row is no box of a known finding.
    """
    path = find_table(folders, BOXES)
    if path is None:
        return {}
    boxes: dict[str, list[Box]] = {}
    for line, row in enumerate(_rows(path)[1:], start=2):
        name = {"Infiltrate": "Infiltration"}.get(row[1], row[1]) if len(row) > 1 else ""
        try:
            x, y, width, height = (float(cell) / _SIDE for cell in row[2:6])
        except ValueError:
            name = ""
        if name not in BOX_NAMES:
            msg = f"{path}, line {line}: '{','.join(row)[:60]}' is no image, finding and box of four numbers"
            raise DatasetFormatError(msg)
        if not (width > 0 and height > 0 and min(x, y) >= 0 and x + width <= 1.001 and y + height <= 1.001):
            msg = f"{path}, line {line}: the box does not lie in an image of {_SIDE} x {_SIDE} pixels"
            raise DatasetFormatError(msg)
        # edges were rounded to a tenth of a pixel, some beyond the image
        boxes.setdefault(row[0], []).append(Box(name, x, y, min(x + width, 1.0), min(y + height, 1.0)))
    return boxes


def read_lists(folders: Sequence[Path], images: Sequence[str]) -> list[str] | None:
    """Return the official part of each image (``train``, ``test`` or ``""``); None where a list is not there.

    Raises:
        DatasetFormatError: If an image is in both lists.
    """
    parts: dict[str, str] = {}
    for name, part in LISTS.items():
        path = find_table(folders, name)
        if path is None:
            return None
        for line, image in enumerate((cell.strip() for cell in read_lines(path)), start=1):
            if image and parts.setdefault(image, part) != part:
                msg = f"{path}, line {line}: '{image}' is in the other list, too; download the lists again"
                raise DatasetFormatError(msg)
    return [parts.get(image, "") for image in images]


def _rows(path: Path) -> list[list[str]]:
    """Return the rows of a CSV with stripped cells; blank lines at the end are dropped."""
    with opened_table(path) as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    while rows and not any(rows[-1]):
        rows.pop()
    return rows


def _age(path: Path, line: int, text: str) -> float:
    """Return years; version 1 writes ``058Y``, ``011M``, ``005D``."""
    if not text:
        return -1.0
    match = _AGE.match(text)
    if match is None:
        msg = f"{path}, line {line}: Patient Age is '{text}'; expected a number such as 58 or 058Y"
        raise DatasetFormatError(msg)
    return int(match[1]) / {"": 1.0, "Y": 1.0, "M": 12.0, "D": 365.25}[match[2]]
