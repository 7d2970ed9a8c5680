"""Do probabilities mean what they say? Calibration errors, reliability curves, Platt scaling fitted on validation.

Everything here speaks about the probability of *one finding being present* (not about the confidence of a predicted
class): a group of images with probability 0.3 should have the finding in 30 % of cases. Labels -1 and NaN are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dmlm.errors import ConfigError, MismatchError
from dmlm.evaluation.classification import macro_mean
from dmlm.evaluation.ranking import BoolArray, FloatArray, known_rows


class Reliability(NamedTuple):
    """Probability against frequency, per non-empty bin.

    Args:
        probability: Mean probability in the bin, float64 ``(K,)``.
        frequency: Share of present rows in the bin, float64 ``(K,)``.
        rows: Rows in the bin, int64 ``(K,)``.
    """

    probability: FloatArray
    frequency: FloatArray
    rows: npt.NDArray[np.int64]


def reliability_curve(
    probs: npt.ArrayLike, labels: npt.ArrayLike, bins: int = 15, adaptive: bool = False
) -> Reliability:
    """Bin the probabilities and compare their mean with the frequency of the finding.

    Args:
        probs: Probabilities 0..1, ``(N,)``.
        labels: ``(N,)``.
        bins: Number of bins, closed on the right (Guo et al. 2017, section 2).
        adaptive: Bins at quantiles, so that each holds about as many rows; else of equal width. Equal probabilities
            always share a bin, so the order of rows never matters.

    Returns:
        The non-empty bins, ascending.

    Raises:
        ConfigError: If ``bins`` is not positive.
        MismatchError: If a probability is outside 0..1.
    """
    if bins < 1:
        msg = f"bins must be at least 1, got {bins}"
        raise ConfigError(msg)
    chance, present = known_rows(probs, labels)
    if not len(chance):
        return Reliability(np.zeros(0), np.zeros(0), np.zeros(0, np.int64))
    if chance.min() < 0 or chance.max() > 1:
        msg = f"probabilities must lie in 0..1, got {chance.min():g}..{chance.max():g}: pass sigmoid(scores)"
        raise MismatchError(msg)
    edges = np.linspace(0, 1, bins + 1)
    if adaptive:
        edges = np.quantile(chance, edges, method="inverted_cdf")  # edges are values, free of interpolation noise
    index = np.searchsorted(edges[1:-1], chance, side="left")
    count = np.bincount(index, minlength=bins)
    filled = count > 0
    total = np.maximum(count, 1)
    probability = np.bincount(index, weights=chance, minlength=bins) / total
    frequency = np.bincount(index, weights=present, minlength=bins) / total
    return Reliability(probability[filled], frequency[filled], count[filled].astype(np.int64))


def expected_calibration_error(
    probs: npt.ArrayLike, labels: npt.ArrayLike, bins: int = 15, adaptive: bool = False
) -> float:
    """Mean absolute gap between probability and frequency, weighted by the bins' rows (ECE).

    Args:
        probs: Probabilities 0..1, ``(N,)``.
        labels: ``(N,)``.
        bins: See :func:`reliability_curve`.
        adaptive: See :func:`reliability_curve`.

    Returns:
        Value in 0..1, or NaN without labelled rows.
    """
    curve = reliability_curve(probs, labels, bins, adaptive)
    if not len(curve.rows):
        return float("nan")
    return float(np.average(np.abs(curve.probability - curve.frequency), weights=curve.rows))


def brier_score(probs: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Mean squared difference of probability and label, 0..1, or NaN without labelled rows."""
    chance, present = known_rows(probs, labels)
    return float(np.square(chance - present).mean()) if len(chance) else float("nan")


def calibration_metrics(probs: npt.ArrayLike, labels: npt.ArrayLike, prefix: str) -> dict[str, float]:
    """Class means of the calibration measures: ``{prefix}/ece_macro``, ``ece_adaptive_macro``, ``brier_macro``.

    Args:
        probs: Probabilities 0..1, ``(N, C)``.
        labels: ``(N, C)``.
        prefix: First part of the keys.
    """
    columns = list(zip(np.asarray(probs).T, np.asarray(labels).T, strict=True))
    return {
        f"{prefix}/ece_macro": macro_mean([expected_calibration_error(p, y) for p, y in columns]).value,
        f"{prefix}/ece_adaptive_macro": macro_mean(
            [expected_calibration_error(p, y, adaptive=True) for p, y in columns]
        ).value,
        f"{prefix}/brier_macro": macro_mean([brier_score(p, y) for p, y in columns]).value,
    }


@dataclass(frozen=True)
class Platt:
    """Probability ``sigmoid(scale * score + bias)`` per class; ``1 / scale`` is the temperature.

    Args:
        scale: Never negative, so calibration cannot turn a ranking around, float64 ``(C,)``. It is 0 where the
            validation scores rank the class no better than chance: every image then gets the prevalence.
        bias: float64 ``(C,)``.
        fitted: False where validation had one kind of label only; scale 1 and bias 0 stand there, bool ``(C,)``.
    """

    scale: FloatArray
    bias: FloatArray
    fitted: BoolArray

    def __call__(self, scores: npt.ArrayLike) -> FloatArray:
        """Calibrated probabilities of scores ``(N, C)``, float64 ``(N, C)``."""
        return sigmoid(np.asarray(scores, dtype=np.float64) * self.scale + self.bias)


def fit_platt(val_scores: npt.ArrayLike, val_labels: npt.ArrayLike) -> Platt:
    """Fit temperature and bias per class on validation data (never on test data), by Newton's method.

    Minimises the cross-entropy to Platt's softened targets ``(n+ + 1) / (n+ + 2)`` and ``1 / (n- + 2)`` (Platt 1999;
    Lin, Lin and Weng 2007), which keeps the fit finite where scores separate the labels.

    Args:
        val_scores: Finite log-odds, ``(M, C)``.
        val_labels: 1 present, 0 absent; -1 and NaN are left out per class, ``(M, C)``.

    Returns:
        The calibration.

    Raises:
        MismatchError: If the shapes differ, or a score is infinite.
    """
    table, marks = np.asarray(val_scores, dtype=np.float64), np.asarray(val_labels, dtype=np.float64)
    if table.ndim != 2 or table.shape != marks.shape:
        msg = f"validation scores {table.shape} and labels {marks.shape} must both be (M, C)"
        raise MismatchError(msg)
    count = table.shape[1]
    scale, bias, fitted = np.ones(count), np.zeros(count), np.zeros(count, np.bool_)
    for c in range(count):
        values, present = known_rows(table[:, c], marks[:, c])
        if not np.isfinite(values).all():
            msg = f"validation scores of class {c} are infinite: calibration needs finite log-odds"
            raise MismatchError(msg)
        if present.any() and not present.all():
            scale[c], bias[c] = _fit_class(values, present)
            fitted[c] = True
    return Platt(scale, bias, fitted)


def _fit_class(scores: FloatArray, present: BoolArray) -> tuple[float, float]:
    """Scale and bias of one class: damped Newton on standardised scores, where the problem is well conditioned."""
    n_positive, n_negative = int(present.sum()), int((~present).sum())
    target = np.where(present, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    base = float(np.log(target.mean() / (1 - target.mean())))
    center, spread = float(scores.mean()), float(scores.std())
    if spread <= 1e-12 * max(1.0, abs(center)):
        return 0.0, base
    design = np.stack([(scores - center) / spread, np.ones_like(scores)], axis=1)
    theta = np.array([0.0, base])
    loss = _cross_entropy(design @ theta, target)
    for _ in range(100):
        chance = sigmoid(design @ theta)
        gradient = design.T @ (chance - target) / len(target)
        hessian = (design * (chance * (1 - chance))[:, None]).T @ design / len(target)
        step = np.linalg.solve(hessian + 1e-12 * np.eye(2), gradient)
        while (trial := _cross_entropy(design @ (theta - step), target)) > loss and np.abs(step).max() > 1e-12:
            step = step / 2
        if trial > loss or np.abs(step).max() <= 1e-12:
            break
        theta, loss = theta - step, trial
    if theta[0] <= 0:  # convex: with the scale held at or above 0, the best point lies on the border
        return 0.0, base
    return float(theta[0] / spread), float(theta[1] - theta[0] * center / spread)


def _cross_entropy(logits: FloatArray, target: FloatArray) -> float:
    return float((np.logaddexp(0, logits) - target * logits).mean())


def sigmoid(values: npt.ArrayLike) -> FloatArray:
    """Logistic function without overflow, float64, any shape."""
    return np.exp(-np.logaddexp(0, -np.asarray(values, dtype=np.float64)))
