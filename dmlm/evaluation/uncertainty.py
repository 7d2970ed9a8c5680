"""Does uncertainty know where the errors are? Risk against coverage, error detection, rank correlation, entropy.

``uncertainty`` and ``errors`` are ``(N,)``, one pair per case (an image, or an image and a finding). Uncertainty is on
any scale, larger means less certain; an error is any loss that is 0 for a good answer (1 for a wrong decision, or a
Brier term).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dmlm.errors import DMLMError, MismatchError
from dmlm.evaluation.classification import macro_mean
from dmlm.evaluation.ranking import FloatArray, auroc, known_rows


class RiskCoverage(NamedTuple):
    """Mean error among the most certain cases.

    Args:
        coverage: Share of cases kept, ``1/N .. 1``, float64 ``(N,)``.
        risk: Mean error of the kept cases, float64 ``(N,)``.
    """

    coverage: FloatArray
    risk: FloatArray


def risk_coverage(uncertainty: npt.ArrayLike, errors: npt.ArrayLike) -> RiskCoverage:
    """Keep the most certain cases first and follow the mean error (Geifman and El-Yaniv 2017).

    Cases of equal uncertainty enter with their mean error, the expectation over their orders.

    Args:
        uncertainty: ``(N,)``.
        errors: ``(N,)``.

    Returns:
        The curve; empty for ``N = 0``.

    Raises:
        MismatchError: If the shapes differ.
        DMLMError: If a value is NaN.
    """
    doubt, loss = _cases(uncertainty, errors)
    level, count = np.unique(doubt, return_inverse=True, return_counts=True)[1:]
    mean = np.bincount(level, weights=loss, minlength=len(count)) / count
    kept = np.arange(1, len(doubt) + 1)
    return RiskCoverage(kept / max(len(doubt), 1), np.cumsum(np.repeat(mean, count)) / kept)


def aurc(uncertainty: npt.ArrayLike, errors: npt.ArrayLike) -> float:
    """Area under the risk-coverage curve, the mean of the risk over all coverages ``k / N``; lower is better.

    A useless uncertainty has the mean error; NaN for ``N = 0``.
    """
    risk = risk_coverage(uncertainty, errors).risk
    return float(risk.mean()) if len(risk) else float("nan")


def decision_aurc(probs: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Class mean of :func:`aurc` of the decisions at one half, the most certain (by entropy) kept first.

    Args:
        probs: Probabilities 0..1, ``(N, C)``.
        labels: 1 present, 0 absent; -1 and NaN are left out per class, ``(N, C)``.

    Returns:
        Mean over the classes that have a label; NaN where none has.
    """
    found = []
    for column, marks in zip(np.asarray(probs).T, np.asarray(labels).T, strict=True):
        chance, present = known_rows(column, marks)
        found.append(aurc(binary_entropy(chance), (chance >= 0.5) != present))
    return macro_mean(found).value


def error_auroc(uncertainty: npt.ArrayLike, wrong: npt.ArrayLike) -> float:
    """Probability that a wrong answer is more uncertain than a right one, ties one half.

    Args:
        uncertainty: ``(N,)``.
        wrong: 1 or true where the answer was wrong, else 0, ``(N,)``.

    Returns:
        Value in 0..1 (0.5 is chance), or NaN where all answers are right, or all wrong.
    """
    return auroc(uncertainty, wrong)


def spearman(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Spearman's rank correlation, equal values sharing their mean rank.

    Args:
        first: ``(N,)``.
        second: ``(N,)``.

    Returns:
        Value in -1..1, or NaN where one side is constant or there are fewer than two cases.
    """
    ranks = [_mean_ranks(side) for side in _cases(first, second)]
    if len(ranks[0]) < 2:
        return float("nan")
    a, b = (side - side.mean() for side in ranks)
    norm = np.sqrt((a @ a) * (b @ b))
    return float(np.clip(a @ b / norm, -1, 1)) if norm > 0 else float("nan")


def binary_entropy(probs: npt.ArrayLike) -> FloatArray:
    """Entropy of yes-or-no answers in nats, 0..log 2, any shape; probabilities 0 and 1 give 0."""
    p = np.asarray(probs, dtype=np.float64)
    q = 1 - p
    return -p * np.log(np.where(p > 0, p, 1)) - q * np.log(np.where(q > 0, q, 1)) + 0.0  # + 0.0: never minus zero


def uncertainty_metrics(
    uncertainty: npt.ArrayLike, wrong: npt.ArrayLike, prefix: str, errors: npt.ArrayLike | None = None
) -> dict[str, float]:
    """The measures of one uncertainty: ``{prefix}/aurc``, ``error_auroc``, ``error_spearman``, ``error_rate``.

    Args:
        uncertainty: ``(N,)``.
        wrong: 1 where the decision was wrong, else 0, ``(N,)``.
        prefix: First part of the keys, e.g. ``classify/uncertainty/entropy``.
        errors: Graded errors for the rank correlation, ``(N,)``; without them ``wrong`` is used.
    """
    marks = np.asarray(wrong, dtype=np.float64)
    return {
        f"{prefix}/aurc": aurc(uncertainty, marks),
        f"{prefix}/error_auroc": error_auroc(uncertainty, marks),
        f"{prefix}/error_spearman": spearman(uncertainty, marks if errors is None else errors),
        f"{prefix}/error_rate": float(marks.mean()) if len(marks) else float("nan"),
    }


def _mean_ranks(values: FloatArray) -> FloatArray:
    """Ranks 1..N, equal values sharing their mean, float64 ``(N,)``."""
    level, count = np.unique(values, return_inverse=True, return_counts=True)[1:]
    mean: FloatArray = (np.cumsum(count) - (count - 1) / 2)[level]
    return mean


def _cases(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        msg = f"expected two arrays of one length (N,), got {a.shape} and {b.shape}"
        raise MismatchError(msg)
    if np.isnan(a).any() or np.isnan(b).any():
        msg = "uncertainty and errors must not be NaN: leave out the cases without a label"
        raise DMLMError(msg)
    return a, b
