"""Linear probe: how much a frozen encoder's features tell a linear classifier.

L2-regularised logistic regression per class on standardised features, the strength chosen per class on validation AUC.
The problem is convex and starts from zero in float64 on the CPU: there is no seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from dmlm.errors import ConfigError, MismatchError
from dmlm.evaluation.ranking import FloatArray, auroc

if TYPE_CHECKING:
    from torch import Tensor

L2_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class Logistic(NamedTuple):
    """Log-odds ``features @ weight + bias``: ``weight`` float64 ``(D, C)``, ``bias`` float64 ``(C,)``."""

    weight: FloatArray
    bias: FloatArray

    def scores(self, features: npt.ArrayLike) -> FloatArray:
        """Log-odds of features ``(N, D)``, float64 ``(N, C)``."""
        return np.asarray(np.asarray(features, dtype=np.float64) @ self.weight + self.bias)


class ProbeResult(NamedTuple):
    """Result of :func:`linear_probe`.

    Args:
        test_scores: Log-odds on the test features, float64 ``(N, C)``.
        val_scores: Log-odds on the validation features, for threshold rules and calibration, float64 ``(M, C)``.
        l2: Chosen strength per class, float64 ``(C,)``.
        val_auc: Validation AUC at that strength, float64 ``(C,)``; NaN where validation has one kind of label only.
    """

    test_scores: FloatArray
    val_scores: FloatArray
    l2: FloatArray
    val_auc: FloatArray


def fit_logistic(features: npt.ArrayLike, labels: npt.ArrayLike, l2: float) -> Logistic:
    """Fit one logistic regression per class: ``mean cross-entropy + l2 / 2 * |w|^2``, the bias free.

    The same minimum as scikit-learn's ``LogisticRegression(C=1 / (l2 * n))`` with ``n`` labelled rows. A class with one
    kind of label gets weight 0 and the log-odds of its smoothed prevalence ``(n+ + 1) / (n + 2)``.

    Args:
        features: ``(N, D)``; standardise them first.
        labels: 1 present, 0 absent; -1 and NaN are left out per class, ``(N, C)``.
        l2: Strength, positive.

    Returns:
        The classifiers.

    Raises:
        MismatchError: If the rows do not belong together.
        ConfigError: If the strength is not positive.
    """
    return _fit_path(*_rows(features, labels, "training"), [l2])[0]


def _fit_path(x: FloatArray, y: FloatArray, strengths: Sequence[float]) -> list[Logistic]:
    """Fit at each strength in turn, each from the minimum before it.

    L-BFGS works in the principal axes of the features, each scaled by its curvature at the start. The penalty is
    written in the old coordinates, so the minimum is the same; it is reached in some 30 steps although features of an
    encoder are strongly correlated.
    """
    import torch

    if min(strengths) <= 0:
        msg = f"l2 must be positive, got {min(strengths)}"
        raise ConfigError(msg)
    known, present = (y == 0) | (y == 1), y == 1
    n, n_positive = known.sum(axis=0), present.sum(axis=0)
    two_sided = (n_positive > 0) & (n_positive < n)
    prior = (n_positive + 1) / (n + 2)
    weight, bias = np.zeros((x.shape[1], y.shape[1])), np.log(prior / (1 - prior))
    if not two_sided.any():
        return [Logistic(weight, bias)] * len(strengths)
    power, axes = np.linalg.eigh(x.T @ x / max(len(x), 1))
    curvature = np.maximum(power, 0)[:, None] * (prior * (1 - prior))[two_sided]
    fits = []
    # the test loop may run in inference mode, where nothing has a gradient
    with torch.inference_mode(mode=False), torch.enable_grad():
        inputs = torch.from_numpy(x @ axes)
        target = torch.from_numpy(present[:, two_sided].astype(np.float64))
        share = torch.from_numpy(known[:, two_sided] / n[two_sided])
        w, b = torch.zeros(curvature.shape, dtype=torch.float64), torch.from_numpy(bias[two_sided])
        for l2 in strengths:
            scale = torch.from_numpy(1 / np.sqrt(curvature + l2))
            w, b = _minimise(inputs, target, share, l2, scale, w, b)
            weight, bias = weight.copy(), bias.copy()
            weight[:, two_sided], bias[two_sided] = axes @ w.numpy(), b.numpy()
            fits.append(Logistic(weight, bias))
    return fits


def _minimise(
    inputs: Tensor, target: Tensor, share: Tensor, l2: float, scale: Tensor, w: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    """Weights ``(D, C)`` and biases ``(C,)`` at the minimum, from those given; ``scale`` is that of the steps."""
    import torch

    u, b = (w / scale).requires_grad_(), b.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [u, b], max_iter=1000, tolerance_grad=1e-8, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        w = u * scale
        logits = inputs @ w + b
        cross_entropy = torch.nn.functional.softplus(logits) - target * logits
        loss = (share * cross_entropy).sum() + 0.5 * l2 * w.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return (u * scale).detach(), b.detach()


def linear_probe(
    train_x: npt.ArrayLike,
    train_y: npt.ArrayLike,
    val_x: npt.ArrayLike,
    val_y: npt.ArrayLike,
    test_x: npt.ArrayLike,
    l2_grid: Sequence[float] = L2_GRID,
) -> ProbeResult:
    """Train linear classifiers on features and score the test features.

    Args:
        train_x: Features, ``(T, D)``; their mean and standard deviation standardise all three sets.
        train_y: 1 present, 0 absent; -1 and NaN are left out per class, ``(T, C)``.
        val_x: Features that choose the strength, ``(M, D)``.
        val_y: Their labels, ``(M, C)``.
        test_x: Features to score, ``(N, D)``.
        l2_grid: Strengths to try. Each class takes the one with its best validation AUC, the stronger among equals; a
            class without a validation AUC takes the strength with the best mean over the other classes.

    Returns:
        Test scores, validation scores and the choices.

    Raises:
        MismatchError: If the arrays do not belong together.
        ConfigError: If the grid is empty or not positive.
    """
    if not len(l2_grid):
        msg = "l2_grid must hold at least one strength"
        raise ConfigError(msg)
    (x, y), (val, val_labels) = _rows(train_x, train_y, "training"), _rows(val_x, val_y, "validation")
    test = np.asarray(test_x, dtype=np.float64)
    if (
        not len(x)
        or test.ndim != 2
        or val.shape[1] != x.shape[1]
        or test.shape[1] != x.shape[1]
        or val_labels.shape[1] != y.shape[1]
    ):
        msg = f"features {x.shape}, {val.shape}, {test.shape} and labels {y.shape}, {val_labels.shape} disagree"
        raise MismatchError(msg)
    mean, std = x.mean(axis=0), x.std(axis=0)
    std[std <= 1e-12 * np.maximum(1.0, np.abs(mean))] = 1.0  # a constant feature says nothing, and must not divide by 0
    x, val, test = (x - mean) / std, (val - mean) / std, (test - mean) / std

    grid = sorted(l2_grid, reverse=True)
    fits = _fit_path(x, y, grid)
    val_scores = np.stack([fit.scores(val) for fit in fits])
    test_scores = np.stack([fit.scores(test) for fit in fits])
    auc = np.array(
        [[auroc(column, marks) for column, marks in zip(scores.T, val_labels.T, strict=True)] for scores in val_scores]
    )
    ranked = ~np.isnan(auc[0])  # the labels decide, the same for every strength
    choice = np.zeros(y.shape[1], dtype=np.intp)
    if ranked.any():
        choice[:] = auc[:, ranked].mean(axis=1).argmax()
        choice[ranked] = auc[:, ranked].argmax(axis=0)
    column = np.arange(y.shape[1])
    return ProbeResult(
        test_scores=test_scores[choice, :, column].T,
        val_scores=val_scores[choice, :, column].T,
        l2=np.asarray(grid, dtype=np.float64)[choice],
        val_auc=auc[choice, column],
    )


def _rows(features: npt.ArrayLike, labels: npt.ArrayLike, split: str) -> tuple[FloatArray, FloatArray]:
    x, y = np.asarray(features, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        msg = f"{split} features {x.shape} and labels {y.shape} must be (N, D) and (N, C) with the same N"
        raise MismatchError(msg)
    if not np.isfinite(x).all():
        msg = f"{split} features of row {int((~np.isfinite(x)).any(axis=1).argmax())} are not finite"
        raise MismatchError(msg)
    return x, y
