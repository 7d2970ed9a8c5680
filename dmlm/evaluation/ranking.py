"""Measures of one finding's ranking, free of any threshold, and the curves and thresholds that come from the ranking.

All functions take one finding: ``scores`` of shape ``(N,)`` (any real scale, larger means more likely present) and
``labels`` of shape ``(N,)`` (1 present, 0 absent; -1 uncertain and NaN unknown are left out). They are computed in
float64 from counts, so the order of the rows never matters and equal scores are one point of every curve.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dmlm.errors import DatasetFormatError, DMLMError, MismatchError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class ROC(NamedTuple):
    """Receiver operating characteristic from (0, 0) to (1, 1), a point per distinct score, float64 ``(K + 1,)``."""

    false_positive_rate: FloatArray
    true_positive_rate: FloatArray


class PrecisionRecall(NamedTuple):
    """Precision and recall of ``score >= threshold``, laid out as scikit-learn's ``precision_recall_curve``.

    ``precision`` and ``recall`` are float64 ``(K + 1,)`` and end in the point (1, 0), which has no threshold;
    ``threshold`` is float64 ``(K,)``, the distinct scores, ascending.
    """

    precision: FloatArray
    recall: FloatArray
    threshold: FloatArray


class Optimum(NamedTuple):
    """The threshold that is best for a measure, and the measure there; both NaN where a kind of label is missing."""

    threshold: float
    value: float


class _Counts(NamedTuple):
    """Cumulative counts at each distinct score, descending: how many rows at or above it are present and absent."""

    threshold: FloatArray
    true_positive: FloatArray
    false_positive: FloatArray

    @property
    def one_sided(self) -> bool:
        """Whether present or absent rows are missing, so that nothing can be ranked."""
        return len(self.threshold) == 0 or self.true_positive[-1] == 0 or self.false_positive[-1] == 0


def known_rows(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Leave out the rows without a label.

    Args:
        scores: ``(N,)``.
        labels: ``(N,)``; 1 present, 0 absent, -1 uncertain, NaN unknown.

    Returns:
        Scores of the rows labelled 0 or 1, float64 ``(M,)``, and whether the finding is present there, bool ``(M,)``.

    Raises:
        MismatchError: If the shapes differ or are not one-dimensional.
        DatasetFormatError: If a label is something else.
        DMLMError: If a score of a labelled row is NaN.
    """
    values, marks = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if values.shape != marks.shape or values.ndim != 1:
        msg = f"scores and labels of one finding must both be (N,), got {values.shape} and {marks.shape}"
        raise MismatchError(msg)
    known = (marks == 0) | (marks == 1)
    foreign = ~(known | (marks == -1) | np.isnan(marks))
    if foreign.any():
        row = int(foreign.argmax())
        msg = f"label {marks[row]:g} in row {row}: expected 1 present, 0 absent, -1 uncertain or NaN unknown"
        raise DatasetFormatError(msg)
    values = values[known]
    if np.isnan(values).any():
        row = int(np.flatnonzero(known)[np.isnan(values).argmax()])
        msg = f"score in row {row} is NaN, so nothing can be ranked: the model's outputs are not numbers"
        raise DMLMError(msg)
    return values, marks[known] == 1


def _counts(scores: npt.ArrayLike, labels: npt.ArrayLike) -> _Counts:
    values, present = known_rows(scores, labels)
    threshold, inverse = np.unique(values, return_inverse=True)
    positive = np.bincount(inverse, weights=present, minlength=len(threshold))[::-1]
    total = np.bincount(inverse, minlength=len(threshold))[::-1]
    return _Counts(threshold[::-1], np.cumsum(positive), np.cumsum(total - positive))


def auroc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Area under the ROC curve: the probability that a present row outranks an absent one, ties counting one half.

    Args:
        scores: ``(N,)``.
        labels: ``(N,)``; -1 and NaN are left out.

    Returns:
        Value in 0..1, or NaN where only one kind of label is there.
    """
    counts = _counts(scores, labels)
    if counts.one_sided:
        return float("nan")
    steps = np.diff(counts.false_positive, prepend=0.0)
    middle = counts.true_positive - np.diff(counts.true_positive, prepend=0.0) / 2  # half of the ties
    return float((steps * middle).sum() / (counts.true_positive[-1] * counts.false_positive[-1]))


def average_precision(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Area under the precision-recall curve as the step sum ``sum_k (R_k - R_{k-1}) P_k`` (no interpolation).

    Args:
        scores: ``(N,)``.
        labels: ``(N,)``; -1 and NaN are left out.

    Returns:
        Value in 0..1 (chance is the prevalence), or NaN where only one kind of label is there.
    """
    counts = _counts(scores, labels)
    if counts.one_sided:
        return float("nan")
    precision = counts.true_positive / (counts.true_positive + counts.false_positive)
    return float((np.diff(counts.true_positive, prepend=0.0) * precision).sum() / counts.true_positive[-1])


def roc_curve(scores: npt.ArrayLike, labels: npt.ArrayLike) -> ROC | None:
    """ROC curve with one point per distinct score, or ``None`` where only one kind of label is there."""
    counts = _counts(scores, labels)
    if counts.one_sided:
        return None
    rates = (np.concatenate(([0.0], side / side[-1])) for side in (counts.false_positive, counts.true_positive))
    return ROC(*rates)


def precision_recall_curve(scores: npt.ArrayLike, labels: npt.ArrayLike) -> PrecisionRecall | None:
    """Precision-recall curve, equal to scikit-learn's, or ``None`` where only one kind of label is there."""
    counts = _counts(scores, labels)
    if counts.one_sided:
        return None
    precision = counts.true_positive / (counts.true_positive + counts.false_positive)
    recall = counts.true_positive / counts.true_positive[-1]
    return PrecisionRecall(np.append(precision[::-1], 1.0), np.append(recall[::-1], 0.0), counts.threshold[::-1])


def best_f1_threshold(scores: npt.ArrayLike, labels: npt.ArrayLike) -> Optimum:
    """The lowest threshold with the largest F1 of ``score >= threshold``, in MedKLIP's own order of operations.

    MedKLIP's test script (``Sample_zero-shot_Classification_CXR14/test.py``): F1 is ``2 R P / (R + P)`` over the points
    of the precision-recall curve, 0 where both vanish; the threshold is that of the first maximum.

    Args:
        scores: ``(N,)``.
        labels: ``(N,)``; -1 and NaN are left out.

    Returns:
        Threshold (on the scale of the scores) and the F1 there.
    """
    curve = precision_recall_curve(scores, labels)
    if curve is None:
        return Optimum(float("nan"), float("nan"))
    both = curve.recall + curve.precision
    f1 = np.divide(2 * curve.recall * curve.precision, both, out=np.zeros_like(both), where=both != 0)
    best = int(f1.argmax())  # never the last point, whose recall and F1 are 0
    return Optimum(float(curve.threshold[best]), float(f1[best]))


def best_mcc_threshold(scores: npt.ArrayLike, labels: npt.ArrayLike) -> Optimum:
    """The lowest threshold with the largest Matthews correlation of ``score >= threshold`` (CheXzero's choice).

    Args:
        scores: ``(N,)``.
        labels: ``(N,)``; -1 and NaN are left out.

    Returns:
        Threshold (on the scale of the scores) and the correlation there.
    """
    counts = _counts(scores, labels)
    if counts.one_sided:
        return Optimum(float("nan"), float("nan"))
    hit, false = counts.true_positive[::-1], counts.false_positive[::-1]
    value = matthews(hit, false, hit[0] - hit, false[0] - false)
    best = int(value.argmax())
    return Optimum(float(counts.threshold[::-1][best]), float(value[best]))


def matthews(hit: npt.ArrayLike, false: npt.ArrayLike, missed: npt.ArrayLike, rejected: npt.ArrayLike) -> FloatArray:
    """Matthews correlation of counts: true positives, false positives, false negatives, true negatives.

    Returns:
        Value in -1..1 per element; 0 where a margin of the table is empty (scikit-learn's convention).
    """
    tp, fp, fn, tn = (np.asarray(part, dtype=np.float64) for part in (hit, false, missed, rejected))
    margins = np.sqrt((tp + fp) * (tn + fn)) * np.sqrt((tp + fn) * (tn + fp))
    return np.asarray(np.divide(tp * tn - fp * fn, margins, out=np.zeros_like(margins), where=margins != 0))
