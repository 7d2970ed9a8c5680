"""Which row of a table is in train, val or test: official, published by name, or drawn by patient and recorded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from dmlm.datasets.catalog import DATASETS
from dmlm.datasets.problems import nearest
from dmlm.datasets.splits import SPLITS, draw_splits, read_splits, write_splits
from dmlm.datasets.table import StudyTable
from dmlm.errors import ConfigError, DatasetFormatError
from dmlm.io.cache import cache_dir


@dataclass(frozen=True)
class SplitPlan:
    """How a table is split.

    Args:
        name: ``official``, ``ratios``, ``file`` (what ``dmlm data splits --out`` wrote), or a published split.
        ratios: Shares of train, val and test where splits are drawn.
        seed: Seed of the draw.
        file: JSON file that keeps the draw; None keeps it in the cache folder.
        allow_leaks: Whether a published split that leaks may be used.
    """

    name: str = "ratios"
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1)
    seed: int = 0
    file: str | None = None
    allow_leaks: bool = False


def assign_splits(table: StudyTable, plan: SplitPlan) -> np.ndarray[Any, np.dtype[np.str_]]:
    """Return the split of each row, ``[N]`` of ``"train"``, ``"val"``, ``"test"`` or ``""`` (left out).

    A data set's module may define ``NAMED_SPLITS``: a mapping from a published split's name to a function of
    ``(table, plan)`` that returns such an array.

    Raises:
        ConfigError: If there is no such split, or it leaks (a patient is in two parts) and ``allow_leaks`` is off.
        DatasetFormatError: If the recorded split does not know a patient of the table.
    """
    places = _assigned(table, plan)
    if not plan.allow_leaks:
        _refuse_leaks(table, places, plan)
    return places


def _assigned(table: StudyTable, plan: SplitPlan) -> np.ndarray[Any, np.dtype[np.str_]]:
    named = _named(table)
    if plan.name == "official" and plan.file is not None:
        msg = f"split 'official' is that of the files of '{table.name}'; leave out split_file ({plan.file})"
        raise ConfigError(msg)
    if plan.name in named:
        return _column(named[plan.name](table, plan))
    if plan.name == "official":
        if table.splits is None:
            msg = f"'{table.name}' has no official split; set data.split to {', '.join(_known(table))}"
            raise ConfigError(msg)
        return _column(table.splits)
    if plan.name == "file":
        return _from_file(table, plan)
    if plan.name == "ratios":
        return _drawn(table, plan)
    known = _known(table)
    hint = nearest(plan.name, known) or f"; known are {', '.join(known)}"
    msg = f"'{table.name}' has no split '{plan.name}'{hint}"
    raise ConfigError(msg)


def _refuse_leaks(table: StudyTable, places: np.ndarray[Any, np.dtype[np.str_]], plan: SplitPlan) -> None:
    """Whoever made the split, ourselves included: a patient in two parts is refused."""
    seen: dict[str, str] = {}
    leaking: dict[str, str] = {}
    for patient, part in zip(map(str, table.patient_ids), places.tolist(), strict=True):
        if part and seen.setdefault(patient, part) != part:
            leaking.setdefault(patient, f"'{patient}' is in '{seen[patient]}' and in '{part}'")
    if leaking:
        others = f", and {len(leaking) - 1:,} more patients are in two parts" if len(leaking) > 1 else ""
        source = plan.file if plan.name not in ("official", "ratios") and plan.file is not None else table.root
        first = next(iter(leaking.values()))
        msg = (
            f"{source}: the split '{plan.name}' of '{table.name}' leaks: patient {first}{others}; use split: ratios, "
            "or set allow_leaks to compare with results that were had in this way"
        )
        raise ConfigError(msg)


def _from_file(table: StudyTable, plan: SplitPlan) -> np.ndarray[Any, np.dtype[np.str_]]:
    """Take a split as ``dmlm data splits --out`` wrote it."""
    from dmlm.datasets.splits_manifest import read_manifest

    if plan.file is None:
        msg = "split 'file' needs the file that 'dmlm data splits --out FILE' wrote; set data.split_file"
        raise ConfigError(msg)
    return _column(read_manifest(Path(plan.file), table))


def _column(values: Any) -> np.ndarray[Any, np.dtype[np.str_]]:  # noqa: ANN401 - any sequence of strings
    return np.asarray(values, dtype="<U5")


def _named(table: StudyTable) -> dict[str, Any]:
    home = DATASETS.get(table.name)
    return {} if home is None else dict(getattr(import_module(home), "NAMED_SPLITS", {}))


def _known(table: StudyTable) -> list[str]:
    return [*([] if table.splits is None else ["official"]), "ratios", "file", *_named(table)]


def _drawn(table: StudyTable, plan: SplitPlan) -> np.ndarray[Any, np.dtype[np.str_]]:
    """Draw by patient, or take the draw that is on record; the record is part of the result's provenance."""
    patients = [str(name) for name in table.patient_ids]
    target = (
        Path(plan.file) if plan.file is not None else cache_dir() / "splits" / f"{_fingerprint(patients, plan)}.json"
    )
    if target.is_file():
        places = read_splits(target)
        unknown = sorted(set(patients) - set(places))
        if unknown:
            msg = f"{target}: does not know patient '{unknown[0]}' of {table.root}; delete it to draw the splits anew"
            raise DatasetFormatError(msg)
    else:
        places = draw_splits(patients, plan.ratios, plan.seed)
        write_splits(target, places, source=table.name, ratios=list(plan.ratios), seed=plan.seed)
    return _column([places[name] for name in patients])


def _fingerprint(patients: list[str], plan: SplitPlan) -> str:
    text = "\0".join([repr(plan.ratios), str(plan.seed), *sorted(set(patients)), *SPLITS])
    return hashlib.sha256(text.encode()).hexdigest()[:24]
