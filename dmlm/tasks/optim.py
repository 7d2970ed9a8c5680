"""The optimiser of every task: AdamW with two rates, warm-up and a cosine (paper, section 4.1)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from dmlm.errors import ConfigError
from dmlm.tasks.layer_rates import by_layer

_NO_DECAY = re.compile(
    r"(^|[._])(pos|position|abs_pos|rel_pos|type|token_type|cls|mask|reg|dist)_?(embed|embedding|token)s?(\.weight)?$"
    r"|(^|[._])(position|positions|query|queries|scale|logit_scale|temperature|gamma)$"
)

_IMAGE_SIDE = "encoder.image."
_TEXT_SIDE = ("encoder.text.", "encoder.text_head.")


@dataclass(frozen=True)
class OptimConfig:
    """Rates and schedule; ``--model.optim.lr 1e-4`` on the command line.

    Args:
        lr: Peak rate of what starts from scratch (heads, predictor, scale).
        encoder_lr: Peak rate of the pre-trained image and text towers.
        text_lr: Peak rate of the text tower and its head together; None gives the tower ``encoder_lr`` and the head
            ``lr``. Where both towers start from scratch, a text side that moves much slower than the images keeps the
            statements of different findings apart until the images can tell them apart.
        weight_decay: Decoupled weight decay of matrices; norms, biases, tokens, positions and scales have none.
        betas: AdamW's decay rates of the first and second moment.
        warmup_fraction: Share of all steps in which the rates rise linearly, ``0..1``.
        min_lr: Rate at the end of the cosine for the ``lr`` groups; the others end at the same fraction of their peak.
        layer_decay: The rate of the image tower falls by this factor per layer from its last to its first, above 0 up
            to 1 (1: one rate for all layers).
    """

    lr: float = 3e-4
    encoder_lr: float = 1e-5
    text_lr: float | None = None
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_fraction: float = 0.05
    min_lr: float = 1e-6
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot work; a list from YAML becomes a tuple."""
        object.__setattr__(self, "betas", (float(self.betas[0]), float(self.betas[1])))
        for name in ("lr", "encoder_lr", "text_lr", "weight_decay", "min_lr"):
            if not 0 <= (getattr(self, name) or 0) < math.inf:
                msg = f"optim.{name} must be finite and not negative, got {getattr(self, name)}"
                raise ConfigError(msg)
        if not all(0 <= beta < 1 for beta in self.betas):
            msg = f"optim.betas must lie in [0, 1), got {self.betas}"
            raise ConfigError(msg)
        if not self.lr or self.min_lr > self.lr:
            msg = f"optim.lr must be positive and at least optim.min_lr ({self.min_lr}), got {self.lr}"
            raise ConfigError(msg)
        if not 0 <= self.warmup_fraction < 1:
            msg = f"optim.warmup_fraction must be in [0, 1), got {self.warmup_fraction}"
            raise ConfigError(msg)
        if not 0 < self.layer_decay <= 1:
            msg = f"optim.layer_decay must be in (0, 1], got {self.layer_decay}"
            raise ConfigError(msg)


def configure(
    module: nn.Module, encoder_parameters_prefixes: Sequence[str], config: OptimConfig, total_steps: float
) -> dict[str, Any]:
    """Make what ``configure_optimizers`` returns: AdamW and a schedule that advances every step.

    Args:
        module: Owner of the parameters; those that need no gradient are left out.
        encoder_parameters_prefixes: Names that start so get ``encoder_lr``, e.g. ``("encoder.image.",)``.
        config: Rates and schedule.
        total_steps: Optimiser steps of the whole run, ``trainer.estimated_stepping_batches``.

    Raises:
        ConfigError: If the run has no end (the cosine needs one) or nothing is trainable.
    """
    if not math.isfinite(total_steps) or total_steps < 1:
        msg = (
            f"the cosine schedule needs the run's length, got {total_steps} steps: set trainer.max_epochs or max_steps"
        )
        raise ConfigError(msg)
    groups = parameter_groups(module, encoder_parameters_prefixes, config)
    optimizer = _adamw(groups, config, fused=not _clips_scaled_gradients(module))
    scheduler = LambdaLR(optimizer, schedule(config, int(total_steps)))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "lr"}}


def parameter_groups(
    module: nn.Module, encoder_parameters_prefixes: Sequence[str], config: OptimConfig
) -> list[dict[str, Any]]:
    """Split trainable parameters into ``new``, ``encoder`` and, with ``text_lr``, ``text``, each with a ``_no_decay``.

    With ``layer_decay`` the image tower's are split further, one group per layer. Groups without parameters are left
    out.

    Raises:
        ConfigError: If no parameter is trainable.
    """
    prefixes = tuple(encoder_parameters_prefixes)
    rates = {"new": config.lr, "encoder": config.encoder_lr, "text": config.text_lr}
    named: dict[str, list[nn.Parameter]] = {f"{rate}{end}": [] for rate in rates for end in ("", "_no_decay")}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            rate = "encoder" if prefixes and name.startswith(prefixes) else "new"
            if config.text_lr is not None and name.startswith(_TEXT_SIDE):
                rate = "text"
            decays = parameter.ndim > 1 and not _NO_DECAY.search(name)
            named[rate if decays else f"{rate}_no_decay"].append(parameter)
    groups: list[dict[str, Any]] = [
        {
            "params": parameters,
            "name": name,
            "lr": rates[name.removesuffix("_no_decay")],
            "weight_decay": 0.0 if name.endswith("no_decay") else config.weight_decay,
        }
        for name, parameters in named.items()
        if parameters
    ]
    if not groups:
        msg = f"{type(module).__name__} has no trainable parameter"
        raise ConfigError(msg)
    if config.layer_decay < 1:
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        tower = module.get_submodule(_IMAGE_SIDE.rstrip("."))
        groups = by_layer(groups, names, _IMAGE_SIDE, tower, config.layer_decay)
    return groups


def schedule(config: OptimConfig, total_steps: int) -> Callable[[int], float]:
    """Return step -> factor of the peak rate: a line up to 1, then half a cosine down to ``min_lr / lr``.

    The factor is the same for all groups, so that the ratio of their rates stays. It peaks at step ``warmup`` and
    reaches its end at the last step; later steps keep the end value.
    """
    warmup = round(config.warmup_fraction * total_steps)
    floor = config.min_lr / config.lr
    decay_steps = max(1, total_steps - 1 - warmup)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / decay_steps)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def _adamw(groups: list[dict[str, Any]], config: OptimConfig, *, fused: bool) -> AdamW:
    if fused:
        try:
            return AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
        except RuntimeError:  # this build or device has no fused kernel
            pass
    return AdamW(groups, lr=config.lr, betas=config.betas)


def _clips_scaled_gradients(module: nn.Module) -> bool:
    """Whether Lightning will clip gradients under a loss scaler, which it refuses to do with a fused optimiser."""
    if not isinstance(module, LightningModule):
        return False
    try:
        trainer = module.trainer
    except RuntimeError:  # not attached to a trainer
        return False
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return isinstance(scaler, torch.amp.GradScaler) and bool(trainer.gradient_clip_val)
