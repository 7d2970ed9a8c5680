"""The teacher: where the "true" distributions of masked elements come from."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from dmlm.errors import ConfigError
from dmlm.models.encoder import ProbabilisticEncoder

TargetKind = Literal["ema", "frozen", "online", "shared"]


class Teacher(nn.Module):
    """Targets of masked prediction.

    ``ema``: an exponential moving average of the encoder (default). ``frozen``: the encoder as it was at the start.
    ``online``: the encoder itself without gradient; only with a contrastive alignment. ``shared``: the encoder itself
    with gradient, the letter of Eq. 3, which collapses; there to be studied. The last two hold no copy.

    Args:
        encoder: The encoder that trains.
        kind: See above.
        momentum: Momentum at the start and at the end of training, on a half cosine.

    Raises:
        ConfigError: If the kind is unknown or the momentum out of range.
    """

    def __init__(
        self, encoder: ProbabilisticEncoder, kind: TargetKind = "ema", momentum: tuple[float, float] = (0.996, 1.0)
    ) -> None:
        super().__init__()
        if kind not in ("ema", "frozen", "online", "shared"):
            msg = f"target must be ema, frozen, online or shared, got '{kind}'"
            raise ConfigError(msg)
        check_momentum(momentum)
        self.kind, self.bounds = kind, tuple(momentum)
        self.encoder = copy.deepcopy(encoder).requires_grad_(requires_grad=False).eval() if self.has_copy else None

    @property
    def has_copy(self) -> bool:
        """Whether targets come from weights of the teacher's own."""
        return self.kind in ("ema", "frozen")

    def train(self, mode: bool = True) -> Teacher:
        """Stay in evaluation mode: targets have no dropout."""
        super().train(mode)
        if self.encoder is not None:
            self.encoder.eval()
        return self

    def copy_from(self, encoder: ProbabilisticEncoder) -> None:
        """Take over the encoder's present weights, for what changes it after the teacher was made."""
        if self.encoder is not None:
            self.encoder.load_state_dict(encoder.state_dict())

    def momentum(self, progress: float) -> float:
        """Momentum at ``progress`` (0..1) of the training."""
        return momentum_at(progress, *self.bounds)

    @torch.no_grad()
    def update(self, encoder: ProbabilisticEncoder, progress: float) -> None:
        """Move an ``ema`` teacher towards the encoder; call it once after each optimiser step.

        Args:
            encoder: The encoder that trains.
            progress: Share of all optimiser steps that are done, 0..1.
        """
        if self.kind != "ema" or self.encoder is None:
            return
        weight = 1.0 - self.momentum(progress)
        follow(self.encoder, encoder, weight)


def check_momentum(momentum: Sequence[float]) -> None:
    """Refuse a momentum with which a copy would leave its original instead of following it.

    Raises:
        ConfigError: If it is not two numbers in 0..1.
    """
    if len(momentum) != 2 or not all(0 <= value <= 1 for value in momentum):
        msg = f"momentum must be two numbers in 0..1, at the start and at the end of training, got {list(momentum)}"
        raise ConfigError(msg)


def momentum_at(progress: float, start: float, end: float) -> float:
    """Momentum on a half cosine from ``start`` to ``end`` at ``progress`` (0..1) of the training."""
    return end - (end - start) * 0.5 * (1.0 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


@torch.no_grad()
def follow(copied: nn.Module, leader: nn.Module, weight: float) -> None:
    """Move the weights of a copy by ``weight`` (0..1) towards its original's, and take over the buffers."""
    own: list[torch.Tensor] = list(copied.parameters())
    new: list[torch.Tensor] = list(leader.parameters())
    torch._foreach_lerp_(own, new, weight)
    for mine, theirs in zip(copied.buffers(), leader.buffers(), strict=True):
        mine.copy_(theirs)
