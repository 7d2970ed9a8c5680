"""Splits by patient: drawing them, keeping them in a file that vouches for itself, and finding leaks."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, Literal, get_args

from dmlm.errors import ConfigError, DatasetFormatError
from dmlm.io.atomic import write_json

Split = Literal["train", "val", "test"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)

_FORMAT: Final = 1


def draw_splits(patients: Iterable[str], ratios: Sequence[float], seed: int) -> dict[str, Split]:
    """Give each patient to one split, in the wanted ratios.

    Patients are ordered by a hash of seed and identifier, so that neither the order of the rows nor numpy's version
    matters. Every split with a ratio above zero gets at least one patient where there are enough.

    Args:
        patients: Identifiers; repetitions are allowed.
        ratios: Shares of train, val and test; they sum to 1.
        seed: Another seed gives another draw.

    Raises:
        ConfigError: If the ratios are not three shares of one whole.
    """
    # written so that nan, for which every comparison is false, is refused, too
    if len(ratios) != len(SPLITS) or not (min(ratios) >= 0 and abs(sum(ratios) - 1.0) <= 1e-6):
        msg = f"ratios must be three shares (train, val, test) that sum to 1, got {list(ratios)}"
        raise ConfigError(msg)
    ordered = sorted(set(patients), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    ends = [round(share * len(ordered)) for share in accumulate(ratios)]
    counts = [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    for place, ratio in enumerate(ratios):
        richest = counts.index(max(counts))
        if ratio > 0 and counts[place] == 0 and counts[richest] > 1:
            counts[place], counts[richest] = 1, counts[richest] - 1
    names = [split for split, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
    return dict(zip(ordered, names, strict=True))


def splits_hash(assignment: Mapping[str, str]) -> str:
    """Return the SHA-256 (hex) of which patient is in which split."""
    text = json.dumps(sorted(assignment.items()), ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_splits(path: str | os.PathLike[str], assignment: Mapping[str, Split], **origin: Any) -> None:  # noqa: ANN401
    """Write who is in which split, with its hash and plain facts about its ``origin`` (seed, ratios).

    Raises:
        ConfigError: If the file cannot be written.
    """
    members = {split: sorted(name for name, place in assignment.items() if place == split) for split in SPLITS}
    content = {"format": _FORMAT, **origin, "sha256": splits_hash(assignment), "patients": members}
    try:
        write_json(path, content)
    except OSError as error:
        msg = (
            f"{path}: the splits cannot be written ({error.strerror}); set split_file or DMLM_CACHE to a writable place"
        )
        raise ConfigError(msg) from error


def read_splits(path: str | os.PathLike[str]) -> dict[str, Split]:
    """Read what :func:`write_splits` wrote.

    Raises:
        DatasetFormatError: If the file is no such file, or was changed after it was written.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        assignment: dict[str, Split] = {name: split for split in SPLITS for name in content["patients"][split]}
        found, expected, version = content["sha256"], splits_hash(assignment), content["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path}: not a split file of dmlm ({type(error).__name__}: {error}); delete it to draw the splits anew"
        raise DatasetFormatError(msg) from error
    if version != _FORMAT:
        msg = f"{path}: split file of format {version}, this version of dmlm reads format {_FORMAT}; upgrade dmlm"
        raise DatasetFormatError(msg)
    if found != expected:
        msg = (
            f"{path}: its hash does not fit its patients: it was edited or damaged; restore it or draw the splits anew"
        )
        raise DatasetFormatError(msg)
    return assignment


def check_leaks(source: str, rows: Iterable[tuple[str, str, int]], kind: str = "patient") -> None:
    """Refuse splits that share a patient, or an image.

    Args:
        source: Name of the file, for the message.
        rows: ``(name, split, line)`` of each row.
        kind: What the names are.

    Raises:
        DatasetFormatError: If a name is in two splits; the first one is named.
    """
    seen: dict[str, tuple[str, int]] = {}
    leaking: dict[str, str] = {}
    for name, split, line in rows:
        old_split, old_line = seen.setdefault(name, (split, line))
        if split != old_split and name not in leaking:
            leaking[name] = f"'{name}' is in '{old_split}' (line {old_line}) and in '{split}' (line {line})"
    if leaking:
        others = f", and {len(leaking) - 1} more {kind}s in two splits" if len(leaking) > 1 else ""
        msg = (
            f"{source}: {kind} {next(iter(leaking.values()))}{others}; results would be too good: split by patient "
            "(split_column: null draws such splits), or set allow_leaks"
        )
        raise DatasetFormatError(msg)
