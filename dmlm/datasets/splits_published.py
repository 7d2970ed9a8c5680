"""What published splits are made of: draws as scikit-learn makes them, lists of names, sizes that must come out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.splits import SPLITS, draw_splits
from dmlm.datasets.table import StudyTable
from dmlm.datasets.table_splits import SplitPlan, assign_splits
from dmlm.datasets.text_lines import read_lines
from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError

Places = np.ndarray[Any, np.dtype[np.str_]]

_STEMS: Final[Mapping[str, tuple[str, ...]]] = {
    "train": ("train", "train_list", "training"),
    "val": ("val", "valid", "validation", "validate", "val_list"),
    "test": ("test", "test_list"),
}


def random_split(count: int, test: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split ``count`` rows as scikit-learn's ``train_test_split(random_state=seed)`` does without strata.

    Args:
        count: Number of rows.
        test: How many of them go into the second part.
        seed: Seed of numpy's legacy generator.

    Returns:
        Rows of the first and of the second part, in drawn order.
    """
    order: NDArray[np.int64] = np.random.RandomState(seed).permutation(count)
    train: NDArray[np.int64] = order[test:]
    rest: NDArray[np.int64] = order[:test]
    return train, rest


def stratified_split(
    classes: Sequence[int] | NDArray[np.int64], test: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split rows as scikit-learn's ``train_test_split(stratify=classes, random_state=seed)`` does.

    Args:
        classes: Class of each row.
        test: How many rows go into the second part.
        seed: Seed of numpy's legacy generator.

    Returns:
        Rows of the first and of the second part, in drawn order.
    """
    generator = np.random.RandomState(seed)
    _, owner, counts = np.unique(np.asarray(classes), return_inverse=True, return_counts=True)
    members = [np.flatnonzero(owner.reshape(-1) == place) for place in range(len(counts))]
    first = _shares(counts, len(owner) - test, generator)
    second = _shares(counts - first, test, generator)
    parts: tuple[list[int], list[int]] = ([], [])
    for rows, early, late in zip(members, first, second, strict=True):
        drawn = rows[generator.permutation(len(rows))]
        parts[0].extend(drawn[:early].tolist())
        parts[1].extend(drawn[early : early + late].tolist())
    train: NDArray[np.int64] = generator.permutation(np.array(parts[0], dtype=np.int64))
    rest: NDArray[np.int64] = generator.permutation(np.array(parts[1], dtype=np.int64))
    return train, rest


def _shares(counts: NDArray[np.int64], total: int, generator: np.random.RandomState) -> NDArray[np.int64]:
    """Divide ``total`` among classes in proportion; what rounding leaves over goes to the largest remainders."""
    wanted = counts / counts.sum() * total
    shares = np.floor(wanted)
    left = int(total - shares.sum())
    for remainder in sorted(set((wanted - shares).tolist()), reverse=True):
        if left <= 0:
            break
        tied = np.flatnonzero(wanted - np.floor(wanted) == remainder)
        chosen = generator.choice(tied, size=min(len(tied), left), replace=False)
        shares[chosen] += 1
        left -= len(chosen)
    whole: NDArray[np.int64] = shares.astype(np.int64)
    return whole


def with_val(table: StudyTable, plan: SplitPlan) -> Places:
    """Return the official split; where it has no validation part, one is drawn by patient from its training part.

    The share is ``ratios[1] / (ratios[0] + ratios[1])`` of the training patients.

    Raises:
        ConfigError: If the table has no official split.
    """
    if table.splits is None:
        msg = f"{table.root}: the files say nothing about an official split of '{table.name}'; use split: ratios"
        raise ConfigError(msg)
    places = np.asarray(table.splits, dtype="<U5")
    if (places == "val").any():
        return places
    rows = np.flatnonzero(places == "train")
    train, val = plan.ratios[0], plan.ratios[1]
    if train + val <= 0:
        msg = "ratios leave nothing for training and validation; give shares above 0"
        raise ConfigError(msg)
    patients = [str(table.patient_ids[row]) for row in rows.tolist()]
    drawn = draw_splits(patients, (train / (train + val), val / (train + val), 0.0), plan.seed)
    places[rows] = [drawn[name] for name in patients]
    return places


def by_ratios(table: StudyTable, plan: SplitPlan, ratios: tuple[float, float, float]) -> Places:
    """Draw splits by patient in a paper's ratios."""
    return assign_splits(table, replace(plan, name="ratios", ratios=ratios))


def from_lists(table: StudyTable, plan: SplitPlan, names: Sequence[Sequence[str]]) -> Places:
    """Read a published split from its own lists: ``plan.file`` is the folder of ``train``, ``val`` and ``test`` files.

    A list is a ``.txt`` or ``.csv`` with one image a line; the first field counts (a file name, a stem or an id), and a
    first line that names no image is a header. An image in two lists leaks: with ``allow_leaks`` it counts for test
    before val before train. Listed images that the table does not have are passed over; images in no list are left out.

    Args:
        table: The rows.
        plan: ``file`` names the folder.
        names: For each row the names under which lists may know it.

    Raises:
        ConfigError: If ``plan.file`` is not given, or the lists share an image and ``allow_leaks`` is off.
        DatasetNotFoundError: If a list is missing.
        DatasetFormatError: If a list names nothing that is known.
    """
    if plan.file is None or not Path(plan.file).is_dir():
        msg = (
            f"the split '{plan.name}' of '{table.name}' is a set of lists that its authors publish: put train, val and "
            f"test lists (.txt or .csv) into a folder and set split_file to it (now: {plan.file})"
        )
        raise ConfigError(msg)
    rows_of: dict[str, list[int]] = {}
    for row, known in enumerate(names):
        for name in set(known):
            rows_of.setdefault(name, []).append(row)
    places = np.full(len(table), "", dtype="<U5")
    twice: list[str] = []
    for split in SPLITS:
        path = _list_file(Path(plan.file), split)
        listed = [row for name in _listed(path, rows_of) for row in rows_of.get(name, ())]
        if not listed:
            msg = f"{path}: names no image of {table.root}; expected file names or ids of '{table.name}', one a line"
            raise DatasetFormatError(msg)
        twice.extend(table.images[row] for row in set(listed) if places[row])
        places[listed] = split
    if twice and not plan.allow_leaks:
        msg = f"{plan.file}: {len(set(twice))} images are in two lists (such as '{twice[0]}'); {_MEND}"
        raise ConfigError(msg)
    return places


def refuse_leak(table: StudyTable, plan: SplitPlan, why: str) -> None:
    """Refuse a published split that is known to leak, unless the plan allows it.

    Raises:
        ConfigError: Saying how it leaks and what to use instead.
    """
    if not plan.allow_leaks:
        msg = f"the split '{plan.name}' of '{table.name}' leaks: {why}; {_MEND}"
        raise ConfigError(msg)


_MEND: Final = "use split: ratios, or set allow_leaks to compare with results that were had in this way"


def check_sizes(table: StudyTable, plan: SplitPlan, places: Places, total: int, sizes: Sequence[int]) -> Places:
    """Return ``places`` if a complete data set gives the published sizes; a part of it is not checked.

    Raises:
        DatasetFormatError: If the data set has ``total`` images, but the split other sizes.
    """
    found = [int((places == split).sum()) for split in SPLITS]
    if len(table) == total and found != list(sizes):
        msg = f"{table.root}: the split '{plan.name}' has sizes {found}, published are {list(sizes)}; check the lists"
        raise DatasetFormatError(msg)
    return places


def _list_file(folder: Path, split: str) -> Path:
    for stem in _STEMS[split]:
        for suffix in (".txt", ".csv"):
            if (folder / f"{stem}{suffix}").is_file():
                return folder / f"{stem}{suffix}"
    msg = f"{folder}: has no list for '{split}' (expected {split}.txt or {split}.csv); download the published lists"
    raise DatasetNotFoundError(msg)


def _listed(path: Path, known: Mapping[str, object]) -> list[str]:
    """Return the first field of each line, as the table knows it."""
    names = []
    for line in read_lines(path):
        field = re.split(r"[,\t]", line.strip(), maxsplit=1)[0].strip().strip('"')
        for name in (field, field.split(" ", 1)[0]):  # a text list may go on with labels after a space
            tail = name.rpartition("/")[2]
            found = next((form for form in (name, tail, tail.rpartition(".")[0]) if form in known), None)
            if found is not None:
                names.append(found)
                break
    return names
