"""Labels as targets (what an uncertain label counts as, which rows are known) and the losses over them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dmlm.errors import ConfigError, DatasetFormatError
from dmlm.models.classifier import HeadTask
from dmlm.reports import canonical_name

UncertainPolicy = Literal["ignore", "zeros", "ones", "chexpert_mixed"]
UnknownPolicy = Literal["ignore", "zeros"]

_MIXED_ONES = ("Atelectasis", "Edema", "Pleural Effusion")
"""Findings whose uncertain label counts as present in GLoRIA's and MGCA's mapping; all others count as absent."""

_HEAVIEST = 100.0  # a label with one positive among many thousands would otherwise drown every other


class LossRows(NamedTuple):
    """Loss of each row as a weighted sum, so that any grouping of rows into batches gives the same mean.

    Args:
        total: Weighted sum of the row's losses, float32 ``(B,)``.
        weight: Sum of the weights, ``(B,)``; 0 where nothing is known.
    """

    total: Tensor
    weight: Tensor

    def mean(self) -> Tensor:
        """Weighted mean over the rows; 0, with a gradient of 0, where nothing is known."""
        return self.total.sum() / self.weight.sum().clamp_min(1e-12)


def resolve_uncertain(labels: Tensor, names: Sequence[str], policy: UncertainPolicy) -> Tensor:
    """Replace the uncertain labels (-1).

    Args:
        labels: 1, 0, -1 or nan, ``(B, C)``.
        names: Names of the labels, for ``chexpert_mixed``.
        policy: ``ignore`` (nan: takes no part; U-Ignore), ``zeros`` (U-Zeros), ``ones`` (U-Ones) of CheXpert (Irvin et
            al. 2019), or ``chexpert_mixed``: present for Atelectasis, Edema and Pleural Effusion, absent otherwise.

    Returns:
        1, 0 or nan, ``(B, C)``.
    """
    if policy == "chexpert_mixed":
        value = labels.new_tensor([float(canonical_name(name) in _MIXED_ONES) for name in names]).expand_as(labels)
    else:
        value = torch.full_like(labels, {"ignore": torch.nan, "zeros": 0.0, "ones": 1.0}[policy])
    return torch.where(labels == -1, value, labels)


def resolve_unknown(labels: Tensor, policy: UnknownPolicy) -> Tensor:
    """Replace the labels that are not known (nan): ``ignore`` leaves them, ``zeros`` calls them absent.

    CheXpert leaves blank what its report does not mention; GLoRIA, MGCA and most others train on that as absent.
    """
    return torch.nan_to_num(labels, nan=0.0) if policy == "zeros" else labels


def classes_of(labels: Tensor) -> Tensor:
    """Class of each row of one-hot labels ``(B, C)``, int64 ``(B,)``; -1 where it is not known."""
    known = (labels == 1).sum(1) == 1
    return torch.where(known, (labels == 1).to(torch.int64).argmax(1), -1)


def label_loss(
    logits: Tensor, labels: Tensor, task: HeadTask, weights: Tensor | None = None, smoothing: float = 0.0
) -> LossRows:
    """Loss of logits against labels.

    ``multilabel``: binary cross-entropy of every known label, weighted among present ones; ``multiclass``:
    cross-entropy; ``ordinal``: binary cross-entropy of each step "above grade k" (CORAL, Cao et al. 2020, Eq. 4).

    Args:
        logits: Of a :class:`dmlm.models.classifier.ClassifierHead`.
        labels: 1, 0 or nan, ``(B, C)``; -1 counts as unknown.
        task: What the head predicts.
        weights: Weight of each label's present cases, or of each class, ``(C,)``.
        smoothing: Share of each target that is spread evenly, 0..1.
    """
    logits = logits.float()
    if task == "multilabel":
        known = (labels == 0) | (labels == 1)
        target = torch.where(known, labels, 0.0) * (1 - smoothing) + 0.5 * smoothing
        each = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weights, reduction="none")
        return LossRows((each * known).sum(1), known.sum(1).float())
    classes = classes_of(labels)
    known_row = (classes >= 0).float()
    index = classes.clamp_min(0)
    if task == "multiclass":
        each = F.cross_entropy(logits, index, label_smoothing=smoothing, reduction="none")
    else:
        steps = torch.arange(logits.shape[1], device=logits.device)
        target = (index[:, None] > steps).float() * (1 - smoothing) + 0.5 * smoothing
        each = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1)
    weight = known_row if weights is None else known_row * weights[index]
    return LossRows(each * weight, weight)


def balanced_weights(labels: NDArray[np.float32], names: Sequence[str], task: HeadTask) -> Tensor:
    """Weights that make rare classes count as much as frequent ones, float32 ``(C,)``.

    ``multilabel``: absent over present cases, at most 100; else rows over ``C`` times the class's rows. A label without
    a present case gets 1, with a warning.

    Args:
        labels: Training labels after :func:`resolve_uncertain`, ``(N, C)``.
        names: Names of the labels.
        task: What the head predicts.
    """
    present, absent = (labels == 1).sum(0), (labels == 0).sum(0)
    empty = present == 0
    if empty.any():
        listed = ", ".join(name for name, none in zip(names, empty, strict=True) if none)
        warnings.warn(f"class_weights: no positive training case of {listed}; weight 1 is used", stacklevel=2)
    top = absent if task == "multilabel" else np.full(len(names), present.sum() / len(names))
    weights = np.where(empty, 1.0, top / np.maximum(present, 1))
    return torch.from_numpy(np.clip(weights, None, _HEAVIEST).astype(np.float32))


def check_labels(labels: NDArray[np.float32], names: Sequence[str], task: str, split: str) -> None:
    """Refuse labels that a task cannot have, and warn of classes without a positive.

    Args:
        labels: ``(N, C)``.
        names: Names of the labels.
        task: ``multilabel``, ``binary`` or ``multiclass``.
        split: Name of the split, for messages.

    Raises:
        DatasetFormatError: If a label is not 1, 0, -1 or nan, or an exclusive class is not the only one of its row.
    """
    wrong = ~(np.isnan(labels) | np.isin(labels, (-1.0, 0.0, 1.0)))
    if wrong.any():
        row, column = (int(place) for place in np.argwhere(wrong)[0])
        msg = (
            f"{split}: the label '{names[column]}' of sample {row} is {labels[row, column]:g}; expected 1 (present), "
            "0 (absent), -1 (uncertain) or nan (unknown)"
        )
        raise DatasetFormatError(msg)
    count = (labels == 1).sum(1)
    if task == "multiclass":
        bad = (count > 1) | (labels == 0).all(1)
        if bad.any():
            row = int(bad.argmax())
            msg = f"{split}: sample {row} has {count[row]} of the classes {', '.join(names)}; expected exactly one"
            raise DatasetFormatError(msg)
    missing = [name for name, there in zip(names, (labels == 1).any(0), strict=True) if not there]
    if missing:
        warnings.warn(f"{split}: no positive case of {', '.join(missing)}", stacklevel=2)


def check_loss_options(
    policy: str, unknown: str, smoothing: float, weights: str | Sequence[float] | None, num_classes: int
) -> None:
    """Refuse options of the loss that cannot work.

    Raises:
        ConfigError: If one is out of range.
    """
    if policy not in get_args(UncertainPolicy):
        msg = f"uncertain must be one of {', '.join(get_args(UncertainPolicy))}, got '{policy}'"
        raise ConfigError(msg)
    if unknown not in get_args(UnknownPolicy):
        msg = f"unknown must be one of {', '.join(get_args(UnknownPolicy))}, got '{unknown}'"
        raise ConfigError(msg)
    if not 0 <= smoothing < 1:
        msg = f"label_smoothing must be in [0, 1), got {smoothing}"
        raise ConfigError(msg)
    if weights is None or weights == "balanced":
        return
    if isinstance(weights, str) or len(weights) != num_classes or min(weights) <= 0:
        msg = f"class_weights must be 'balanced' or {num_classes} positive numbers, got {weights}"
        raise ConfigError(msg)
