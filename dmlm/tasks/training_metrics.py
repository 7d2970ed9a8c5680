"""Metrics of the training batches of an epoch, to see a gap to validation; coarse and cheap, by torchmetrics.

What is reported as a result is exact and lives in :mod:`dmlm.evaluation`. These see augmented images under changing
weights.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dmlm.tasks.classification_loss import classes_of

if TYPE_CHECKING:
    from torchmetrics import Metric

_THRESHOLDS = 101
_UNKNOWN = -1


def training_auroc(num_classes: int, exclusive: bool) -> Metric:
    """Macro AUC over an epoch, from counts at 101 thresholds: its memory does not grow, and processes add up.

    Args:
        num_classes: Number of labels ``C``.
        exclusive: Whether an image has one of them (classes, grades) or any number (findings).

    Returns:
        A metric of probabilities ``(B, C)`` and of what :func:`auroc_target` returns.
    """
    from torchmetrics.classification import MulticlassAUROC, MultilabelAUROC

    kind = MulticlassAUROC if exclusive else MultilabelAUROC
    metric: Metric = kind(num_classes, thresholds=_THRESHOLDS, ignore_index=_UNKNOWN, validate_args=False)
    return metric


def auroc_target(labels: Tensor, exclusive: bool) -> Tensor:
    """Labels for :func:`training_auroc`: int64 ``(B,)`` or ``(B, C)``, -1 where unknown or uncertain."""
    if exclusive:
        return classes_of(labels)
    return torch.where((labels == 0) | (labels == 1), labels, float(_UNKNOWN)).to(torch.int64)


def training_dice() -> Metric:
    """Dice of all pixels of an epoch together (the F1 of a pixel); a metric of probabilities and masks of any shape."""
    from torchmetrics.classification import BinaryF1Score

    metric: Metric = BinaryF1Score(validate_args=False)
    return metric


def taken(metric: Metric) -> Tensor:
    """Value of a metric over the epoch, which then starts anew; a label without both answers is left out quietly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value: Tensor = metric.compute()
    metric.reset()
    return value
