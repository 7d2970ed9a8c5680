"""Parts of a training split for label-efficiency curves: nested, by patient, stratified, seeded.

No peer nests its fractions (MRM's 1 % list shares only chance with its 10 % list), so that their curves mix the effect
of more data with that of other data. Here 1 % is inside 10 %, which is inside 100 %, and no patient is cut in two.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.base import ChestXrayDataset, RawSample, SampleKey
from dmlm.errors import ConfigError, MismatchError


def nested_order(patients: Sequence[str], labels: NDArray[np.float32], seed: int) -> tuple[list[str], int]:
    """Order patients so that every beginning of the list is a good sample of the whole.

    Each patient belongs to the stratum of the rarest label that is present in any of its samples (or to "none"). Within
    a stratum patients are ordered by a hash of seed and name; patient ``i`` of ``n`` gets the place ``(i + 0.5) / n``,
    and all are sorted by place, so that every beginning holds the strata in their proportions. Before all that come the
    few patients who together have each label at least once, so that the smallest fraction misses no label.

    Args:
        patients: Patient of each sample, ``N`` names.
        labels: float32 ``[N, C]``: 1 present; anything else (0, -1, nan) counts as not present.
        seed: Another seed gives another order.

    Returns:
        All patients, and how many at the start are there for their labels.

    Raises:
        MismatchError: If there are not as many patients as rows of labels.
    """
    if labels.ndim != 2 or len(patients) != len(labels):
        msg = f"labels must be [N, C] with one row per sample, got {list(labels.shape)} for {len(patients)} samples"
        raise MismatchError(msg)
    names, owner = np.unique(np.asarray(patients, dtype=np.str_), return_inverse=True)
    present = np.zeros((len(names), labels.shape[1]), dtype=bool)
    np.logical_or.at(present, owner.reshape(-1), labels == 1)
    counts = present.sum(0)
    rarest_first = [int(column) for column in np.argsort(counts, kind="stable") if counts[column]]
    ranks = [hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in names]
    shuffled = sorted(range(len(names)), key=ranks.__getitem__)
    stratum = np.full(len(names), -1)
    for column in reversed(rarest_first):  # the rarest is written last and stays
        stratum[present[:, column]] = column
    place = np.zeros(len(names))
    for value in np.unique(stratum):
        members = [index for index in shuffled if stratum[index] == value]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    order = sorted(range(len(names)), key=lambda index: (place[index], ranks[index]))
    first: list[int] = []
    for column in rarest_first:
        if not present[first, column].any():
            first.append(next(index for index in order if present[index, column]))
    chosen = set(first)
    return [str(names[index]) for index in (*first, *(index for index in order if index not in chosen))], len(first)


def nested_fraction(
    patients: Sequence[str], labels: NDArray[np.float32], fraction: float, seed: int = 0
) -> NDArray[np.int64]:
    """Choose the samples of a fraction of the patients.

    Args:
        patients: Patient of each sample, ``N`` names.
        labels: float32 ``[N, C]``: 1 present; see :func:`nested_order`.
        fraction: Share of the patients, above 0 up to 1; rounded up. Never fewer patients than it takes to have each
            label once.
        seed: Another seed gives other patients; a smaller fraction of the same seed lies inside a larger one.

    Returns:
        Rows in ascending order, int64 ``[n]``.

    Raises:
        ConfigError: If the fraction is out of range.
        MismatchError: If there are not as many patients as rows of labels.
    """
    if not 0 < fraction <= 1:
        msg = f"data.fraction must be above 0 and at most 1 (0.01 is 1 %), got {fraction}"
        raise ConfigError(msg)
    order, needed = nested_order(patients, labels, seed)
    kept = set(order[: max(needed, math.ceil(fraction * len(order) - 1e-9))])
    return np.array([row for row, name in enumerate(patients) if str(name) in kept], dtype=np.int64)


class DatasetPart(ChestXrayDataset):
    """Some samples of a data set; each keeps its own ``index`` and augmentation.

    Args:
        whole: The data set.
        rows: Which of its samples, int64 ``[n]``.
    """

    def __init__(self, whole: ChestXrayDataset, rows: NDArray[np.int64]) -> None:
        super().__init__(whole.image_size, whole.transform, whole.seed)
        self.whole, self.rows = whole, rows
        self.label_names = whole.label_names

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | SampleKey) -> dict[str, object]:
        """Return one sample; see :meth:`dmlm.datasets.ChestXrayDataset.__getitem__`."""
        index, epoch = key if isinstance(key, SampleKey) else (int(key), 0)
        return self.whole[SampleKey(int(self.rows[index]), epoch)]

    def __getitems__(self, keys: Sequence[int | SampleKey]) -> list[dict[str, object]]:
        """Return the samples of a batch; see :meth:`dmlm.datasets.ChestXrayDataset.__getitems__`."""
        if type(self).__getitem__ is not DatasetPart.__getitem__:
            return [self[key] for key in keys]  # a subclass makes samples in its own way
        places = [key if isinstance(key, SampleKey) else SampleKey(int(key), 0) for key in keys]
        return self.whole.__getitems__([SampleKey(int(self.rows[index]), epoch) for index, epoch in places])

    def read(self, index: int) -> RawSample:
        """Read the study at ``index`` as it is stored."""
        return self.whole.read(int(self.rows[index]))

    @property
    def labels(self) -> NDArray[np.float32]:
        """Labels of these samples, float32 ``[n, C]``."""
        return self.whole.labels[self.rows]  # type: ignore[no-any-return]

    @property
    def patient_ids(self) -> list[str]:
        """Patient of each of these samples."""
        names = self.whole.patient_ids
        return [names[row] for row in self.rows]

    def text_lengths(self) -> NDArray[np.int64]:
        """Words of the free-text reports of these samples."""
        return self.whole.text_lengths()[self.rows]

    @property
    def mask_names(self) -> tuple[str, ...]:
        """Names of the masks."""
        return self.whole.mask_names
