"""Losses of masks, per image, so that the mean over a split does not depend on how it was batched."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

SegmentationLoss = Literal["dice_bce", "bce", "focal", "focal_dice"]


def mask_loss(logits: Tensor, masks: Tensor, kind: SegmentationLoss = "dice_bce") -> Tensor:
    """Loss of each image, mean over its masks, float32 ``(B,)``.

    ``dice_bce``: soft Dice loss plus binary cross-entropy (MedKLIP). ``bce``: the latter alone (BenchX). ``focal``:
    focal loss with exponent 2 (Lin et al. 2017, Eq. 4). ``focal_dice``: ten times the focal loss minus the logarithm of
    the soft Dice (MGCA).

    Args:
        logits: ``(B, M, H, W)``.
        masks: 0 or 1, ``(B, M, H, W)``.
        kind: Which loss.
    """
    logits, masks = logits.float(), masks.float()
    pixels = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    if kind.startswith("focal"):
        pixels = (1 - torch.exp(-pixels)).square() * pixels  # exp(-cross-entropy) is the probability of the truth
    plane = pixels.mean((2, 3))
    if kind in ("bce", "focal"):
        return plane.mean(1)
    dice = soft_dice(torch.sigmoid(logits), masks)
    each = plane + 1 - dice if kind == "dice_bce" else 10 * plane - torch.log(dice)
    return each.mean(1)


def soft_dice(probability: Tensor, masks: Tensor) -> Tensor:
    """Dice of probabilities, ``(2 I + 1) / (P + T + 1)`` per image and mask, ``(B, M)``: 1 where both are empty."""
    both = (probability * masks).sum((2, 3))
    total = probability.sum((2, 3)) + masks.sum((2, 3))
    return (2 * both + 1) / (total + 1)
