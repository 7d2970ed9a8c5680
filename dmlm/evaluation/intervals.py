"""Bootstrap confidence intervals by patient: images of one patient resemble each other and stay together.

A resample draws as many patients as there are, with replacement; an image then has the integer weight of its patient's
number of draws. The weighted AUC needs only the weights' sums over runs of equal label in the order of the scores, so
each class is sorted once and a resample costs one pass over the images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dmlm.errors import ConfigError, MismatchError
from dmlm.evaluation.classification import macro_mean
from dmlm.evaluation.ranking import FloatArray, known_rows

_CHUNK = 32  # resamples at a time: 25,596 images x 32 int32 weights are 3 MB, about a core's cache


class Interval(NamedTuple):
    """An estimate with its percentile interval.

    Args:
        value: The measure on the data as they are.
        low: Lower end; NaN where no resample counted.
        high: Upper end.
        skipped: Resamples left out because a class had one kind of label only.
    """

    value: float
    low: float
    high: float
    skipped: int


@dataclass(frozen=True)
class Intervals:
    """Intervals of the AUC.

    Args:
        auc: One interval per class.
        macro: Interval of the mean over the classes that have an AUC; a resample in which one of them is degenerate is
            skipped, so that every resample averages the same classes.
        resamples: Number of resamples drawn.
        groups: Number of patients.
        level: Coverage, 0..1.
    """

    auc: tuple[Interval, ...]
    macro: Interval
    resamples: int
    groups: int
    level: float

    def flat(self, prefix: str, names: Sequence[str]) -> dict[str, float]:
        """Flat keys ``{prefix}/auc_macro_low`` (``_high``, ``_skipped``), and per class ``{prefix}/auc_low/Edema``."""
        flat: dict[str, float] = {}
        for end in ("low", "high", "skipped"):
            flat[f"{prefix}/auc_macro_{end}"] = float(getattr(self.macro, end))
            flat.update(
                {
                    f"{prefix}/auc_{end}/{name}": float(getattr(row, end))
                    for name, row in zip(names, self.auc, strict=True)
                }
            )
        return flat


class _Runs(NamedTuple):
    """One class, sorted: which images (ascending score), where its runs start, and what each run is."""

    images: npt.NDArray[np.intp]
    starts: npt.NDArray[np.intp]
    present: npt.NDArray[np.bool_]
    tied: npt.NDArray[np.bool_]


def bootstrap_auc(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    groups: Sequence[Any] | npt.NDArray[Any],
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Intervals:
    """Percentile intervals of the AUC per class and of the macro AUC, resampling patients.

    Args:
        scores: ``(N, C)``.
        labels: 1 present, 0 absent; -1 and NaN are left out per class, ``(N, C)``.
        groups: Patient of each row, ``N`` strings or integers.
        n: Number of resamples.
        seed: Resample ``i`` depends on ``(seed, i)`` only, so the first 100 of 1,000 are those of a run with 100.
        level: Coverage of the intervals.

    Returns:
        The intervals; degenerate resamples are counted, not hidden.

    Raises:
        MismatchError: If the shapes do not belong together.
        ConfigError: If ``n`` or ``level`` is out of range.
    """
    table, marks = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if table.ndim != 2 or table.shape != marks.shape or len(groups) != len(table):
        msg = f"scores {table.shape} and labels {marks.shape} must both be (N, C) with N = {len(groups)} groups"
        raise MismatchError(msg)
    if not 0 < level < 1:
        msg = f"bootstrap needs a level between 0 and 1, got level={level}"
        raise ConfigError(msg)
    runs = [_sort(table[:, c], marks[:, c]) for c in range(table.shape[1])]
    value = np.array([_weighted_auc(run, np.ones((len(table), 1), np.int32))[0] for run in runs])
    drawn = np.empty((n, len(runs)))
    for place, weight in weight_chunks(groups, n, seed):
        for c, run in enumerate(runs):
            drawn[place, c] = _weighted_auc(run, weight)
    exists = np.isfinite(value)
    mean = drawn[:, exists].mean(axis=1) if exists.any() else np.full(n, np.nan)
    return Intervals(
        auc=tuple(percentiles(value[c], drawn[:, c], level) for c in range(len(runs))),
        macro=percentiles(macro_mean(value).value, mean, level),
        resamples=n,
        groups=len(np.unique(np.asarray(groups))),
        level=level,
    )


def bootstrap_means(
    values: npt.ArrayLike, groups: Sequence[Any] | npt.NDArray[Any], n: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[Interval, ...]:
    """Percentile intervals of column means, and of the mean of these, resampling patients.

    Args:
        values: Such as Dice per image and mask, ``(N, M)``; NaN (an image without the mask) is left out of its column.
        groups: Patient of each row.
        n: Number of resamples.
        seed: As in :func:`bootstrap_auc`.
        level: Coverage of the intervals.

    Returns:
        ``M + 1`` intervals, the last that of the mean over the columns that have a value.
    """
    table = np.asarray(values, dtype=np.float64)
    value = weighted_means(table, np.ones((len(table), 1), np.int32))[:, 0]
    drawn = np.empty((len(value), n))
    for place, weight in weight_chunks(groups, n, seed):
        drawn[:, place] = weighted_means(table, weight)
    exists = np.isfinite(value)
    mean = drawn[exists].mean(axis=0) if exists.any() else np.full(n, np.nan)
    columns = [percentiles(value[m], drawn[m], level) for m in range(len(value))]
    return (*columns, percentiles(macro_mean(value).value, mean, level))


def weight_chunks(
    groups: Sequence[Any] | npt.NDArray[Any], n: int, seed: int = 0
) -> Iterator[tuple[slice, npt.NDArray[np.int32]]]:
    """How often each row counts in each of ``n`` resamples of patients, a few resamples at a time.

    Resample ``i`` depends on the set of patients and on ``(seed, i)`` only: two models, or two measures, are compared
    on the same patients.

    Args:
        groups: Patient of each row, ``N`` strings or integers.
        n: Number of resamples.
        seed: Seed of the draws.

    Yields:
        Which resamples, and int32 ``(N, resamples)``.

    Raises:
        ConfigError: If ``n`` is not positive.
    """
    if n < 1:
        msg = f"bootstrap needs n >= 1 resamples, got n={n}"
        raise ConfigError(msg)
    group = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    patients = int(group.max()) + 1 if len(group) else 0
    for first in range(0, n, _CHUNK):
        end = min(first + _CHUNK, n)
        yield slice(first, end), _draws(patients, seed, first, end)[group]


def patient_weights(groups: Sequence[Any] | npt.NDArray[Any], n: int, seed: int = 0) -> npt.NDArray[np.int32]:
    """All of :func:`weight_chunks` at once, int32 ``(N, n)``; for few rows."""
    return np.concatenate([weight for _, weight in weight_chunks(groups, n, seed)], axis=1)


def weighted_means(values: FloatArray, weight: npt.NDArray[np.int32]) -> FloatArray:
    """Means of columns in each resample, float64 ``(M, n)``; NaN where a column has no value.

    Args:
        values: ``(N, M)``; NaN is left out.
        weight: Of :func:`weight_chunks`, ``(N, n)``.
    """
    known = np.isfinite(values).astype(np.float64)
    count = known.T @ weight
    total = np.nan_to_num(values).T @ weight
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)  # type: ignore[no-any-return]


def weighted_auc(scores: FloatArray, labels: FloatArray, weight: npt.NDArray[np.int32]) -> FloatArray:
    """AUC of one class in each resample, float64 ``(n,)``; NaN where it has one kind of label only.

    Args:
        scores: ``(N,)``.
        labels: 1 present, 0 absent; -1 and NaN are left out, ``(N,)``.
        weight: Of :func:`patient_weights`, ``(N, n)``.
    """
    return _weighted_auc(_sort(scores, labels), weight)


def percentiles(value: float, drawn: FloatArray, level: float = 0.95) -> Interval:
    """Percentile interval of a measure from its values in resamples; NaNs are left out and counted."""
    kept = drawn[np.isfinite(drawn)]
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2]) if len(kept) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high), len(drawn) - len(kept))


def _draws(patients: int, seed: int, first: int, end: int) -> npt.NDArray[np.int32]:
    """How often each patient is drawn in resamples ``first`` to ``end - 1``, int32 ``(patients, end - first)``."""
    drawn = np.empty((patients, end - first), np.int32)
    for place in range(end - first):
        rng = np.random.default_rng([seed, first + place])
        drawn[:, place] = np.bincount(rng.integers(0, max(patients, 1), patients), minlength=patients)
    return drawn


def _sort(scores: FloatArray, labels: FloatArray) -> _Runs:
    """Order one class by score, absent before present among equals, and cut it into runs.

    A run ends where the label changes, and where the score changes beside a tie of both labels: absent rows tied with
    present ones must stay apart from absent rows below them, because they count one half.
    """
    values, present = known_rows(scores, labels)
    order = np.lexsort((present, values))
    images = np.flatnonzero((labels == 0) | (labels == 1))[order]
    values, present = values[order], present[order]
    if not len(values):
        empty = np.zeros(0, np.bool_)
        return _Runs(images, np.zeros(0, np.intp), empty, empty)
    level = np.cumsum(np.diff(values, prepend=values[0]) != 0)
    share = np.bincount(level, weights=present) / np.bincount(level)
    mixed = ((share > 0) & (share < 1))[level]
    edge = (present[1:] != present[:-1]) | ((level[1:] != level[:-1]) & (mixed[1:] | mixed[:-1]))
    starts = np.flatnonzero(np.concatenate(([True], edge)))
    return _Runs(images, starts, present[starts], mixed[starts] & present[starts])


def _weighted_auc(runs: _Runs, weight: npt.NDArray[np.int32]) -> FloatArray:
    """AUC under integer weights ``(N, R)`` of the images, float64 ``(R,)``; NaN where a kind of label has no weight."""
    if not len(runs.starts):
        return np.full(weight.shape[1], np.nan)
    total = np.add.reduceat(weight.take(runs.images, axis=0), runs.starts, axis=0, dtype=np.float64)
    absent = np.where(runs.present[:, None], 0.0, total)
    below = np.cumsum(absent, axis=0)
    tied = runs.tied.nonzero()[0]
    below[tied] -= total[tied - 1] / 2  # the run before a tied present run is its absent partner
    present = np.where(runs.present[:, None], total, 0.0)
    pairs = present.sum(axis=0) * absent.sum(axis=0)
    area = np.full(weight.shape[1], np.nan)
    np.divide((present * below).sum(axis=0), pairs, out=area, where=pairs > 0)
    return area
