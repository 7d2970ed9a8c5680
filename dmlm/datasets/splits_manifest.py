"""A split written down image by image, with its hash, so that another machine uses the same and can prove it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from dmlm.datasets.splits import SPLITS, Split
from dmlm.datasets.table import StudyTable
from dmlm.errors import ConfigError, DatasetFormatError
from dmlm.io.atomic import write_json

_FORMAT: Final = "dmlm-image-split-1"

Places = np.ndarray[Any, np.dtype[np.str_]]


def manifest_hash(members: Mapping[Split, Sequence[str]]) -> str:
    """Return the SHA-256 (hex) of which image is in which part, whatever the order."""
    text = json.dumps({split: sorted(members[split]) for split in SPLITS}, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(path: Path, table: StudyTable, places: Places, **origin: Any) -> dict[str, Any]:  # noqa: ANN401
    """Write which image is in which part, with sizes, hash and plain facts about the ``origin``.

    Args:
        path: JSON file.
        table: The rows.
        places: Part of each row; images in no part are left out.
        **origin: How the split was had: its name, ratios, seed.

    Returns:
        What was written.

    Raises:
        ConfigError: If the file cannot be written.
    """
    rows_of = {split: np.flatnonzero(places == split).tolist() for split in SPLITS}
    members = {split: sorted(str(table.images[row]) for row in rows_of[split]) for split in SPLITS}
    patients = {split: len({str(table.patient_ids[row]) for row in rows_of[split]}) for split in SPLITS}
    content = {
        "format": _FORMAT,
        "dataset": table.name,
        **origin,
        "sizes": {split: len(members[split]) for split in SPLITS},
        "patients": patients,
        "sha256": manifest_hash(members),
        "images": members,
    }
    try:
        write_json(path, content)
    except OSError as error:
        msg = f"{path}: the split cannot be written ({error.strerror}); give --out another place"
        raise ConfigError(msg) from error
    return content


def read_manifest(path: Path, table: StudyTable) -> Places:
    """Return the part of each row as a manifest has it; rows that it does not name are in none.

    Raises:
        DatasetFormatError: If it is no manifest of this data set, was changed after it was written, names an image
            twice, or names images that are not there.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        members = {split: [str(name) for name in content["images"][split]] for split in SPLITS}
        name, expected, form = content["dataset"], content["sha256"], content["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path}: not a split that 'dmlm data splits' wrote ({type(error).__name__}: {error}); write it anew"
        raise DatasetFormatError(msg) from error
    if form != _FORMAT or name != table.name:
        msg = f"{path}: is a split of '{name}' in format {form}; expected '{table.name}' in format {_FORMAT}"
        raise DatasetFormatError(msg)
    if manifest_hash(members) != expected:
        msg = f"{path}: its hash does not fit its images: it was edited or damaged; restore it or write it anew"
        raise DatasetFormatError(msg)
    part_of = {image: split for split in SPLITS for image in members[split]}
    if len(part_of) != sum(map(len, members.values())):
        msg = f"{path}: names an image in two parts; write it anew"
        raise DatasetFormatError(msg)
    missing = sorted(set(part_of) - set(map(str, table.images)))
    if missing:
        msg = f"{path}: names {len(missing):,} images that {table.root} does not have (first: '{missing[0]}')"
        raise DatasetFormatError(msg)
    return np.array([part_of.get(str(image), "") for image in table.images], dtype="<U5")
