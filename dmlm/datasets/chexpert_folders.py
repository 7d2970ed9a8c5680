"""Where the patients of a CheXpert download lie: small or full, one folder or the batches of the AIMI download."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from dmlm.errors import DatasetFormatError

Part = Literal["train", "valid", "test"]
_BATCH: Final = re.compile(r"\(train \d\)")
_MOST_ENTRIES: Final = 1000


@dataclass(frozen=True)
class Folders:
    """Folders of a download.

    Args:
        root: Folder that everything is relative to.
        tables: Folders that may hold the tables, nearest first.
        patients: ``(part, patient)`` -> folder that holds it, relative to ``root`` (``""``: ``root`` itself).
    """

    root: Path
    tables: tuple[Path, ...]
    patients: dict[tuple[str, str], str]


def candidates(root: Path) -> list[Path]:
    """Return ``root`` and the folders one and two levels below it that may be part of a download."""
    found = [root]
    for level in (_children(root), *[_children(child) for child in _children(root)]):
        found.extend(level)
    return found


def find_patients(root: Path) -> Folders:
    """List the patients of each part.

    Raises:
        DatasetFormatError: If a patient is in two folders, such as the small and the full release side by side.
    """
    places = candidates(root)
    patients: dict[tuple[str, str], str] = {}
    for place in places:
        holders = [(part, place / part) for part in ("train", "valid", "test")]
        if _BATCH.search(place.name):
            holders.append(("train", place))
        for part, folder in holders:
            relative = folder.relative_to(root).as_posix() if folder != root else ""
            for patient in _patients(folder):
                if (other := patients.setdefault((part, patient), relative)) != relative:
                    msg = (
                        f"{root}: {part} {patient} is in '{other}' and in '{relative}'; "
                        "give data.root the one release that you mean"
                    )
                    raise DatasetFormatError(msg)
    return Folders(root, tuple(places), patients)


def _children(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _MOST_ENTRIES) if entry.is_dir()]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if not name.startswith(("patient", "study", "."))]


def _patients(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.name.startswith("patient")]
    except OSError:
        return []
