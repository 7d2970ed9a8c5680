"""Watch for collapse: the losses can look healthy while every image has the same representation."""

from __future__ import annotations

import logging
from typing import Literal

import torch
from torch import Tensor

from dmlm.errors import CollapseError, ConfigError

logger = logging.getLogger(__name__)

CollapseAction = Literal["warn", "stop", "off"]


def spread(elements: Tensor) -> Tensor:
    """How much rows differ: root mean variance over the batch, divided by the root mean square.

    Args:
        elements: ``(B, D)``.

    Returns:
        Scalar in 0..1: 0 where all rows are equal (collapse), 1 where they share nothing. NaN with fewer than 2 rows:
        there is nothing to compare, and 0 would count as collapse.
    """
    elements = elements.detach().float()
    if len(elements) < 2:
        return elements.new_full((), torch.nan)
    return (elements.var(0, unbiased=False).mean() / elements.square().mean().clamp_min(1e-12)).sqrt()


class CollapseMonitor:
    """Name what collapsed, once per quantity, after it stayed below its floor for some checks in a row.

    Args:
        min_spread: Floors of :func:`spread` per quantity, e.g. ``{"image_spread": 0.05}``.
        patience: Checks in a row below the floor before anything is said.
        action: ``"warn"`` logs a warning, ``"stop"`` raises, ``"off"`` does nothing.

    Raises:
        ConfigError: If the action is unknown, or a floor is negative.
    """

    def __init__(self, min_spread: dict[str, float], patience: int = 5, action: CollapseAction = "warn") -> None:
        if action not in ("warn", "stop", "off"):
            msg = f"collapse action must be warn, stop or off, got '{action}'"
            raise ConfigError(msg)
        for name, floor in min_spread.items():
            if not floor >= 0:
                msg = f"min_spread of {name} must be 0 or more, got {floor}"
                raise ConfigError(msg)
        self.min_spread, self.patience, self.action = dict(min_spread), patience, action
        self.below = dict.fromkeys(min_spread, 0)
        self.collapsed: list[str] = []

    def update(self, values: dict[str, float], step: int) -> None:
        """Check current values.

        Args:
            values: Quantities by name; unknown names are ignored.
            step: Optimiser step, for the message.

        Raises:
            CollapseError: If a quantity collapsed and the action is ``"stop"``.
        """
        if self.action == "off":
            return
        for name, floor in self.min_spread.items():
            if name not in values:
                continue
            self.below[name] = self.below[name] + 1 if values[name] < floor else 0
            if self.below[name] >= self.patience and name not in self.collapsed:
                self.collapsed.append(name)
                msg = (
                    f"collapse of {name} at step {step}: {values[name]:.4f} stayed below {floor} for "
                    f"{self.patience} checks; all inputs get nearly the same distribution. "
                    "Use alignment contrastive and target ema, or a reconstruction anchor (see docs/method.md)"
                )
                if self.action == "stop":
                    raise CollapseError(msg)
                logger.warning(msg)
