"""What cutting a batch into parts means for the loss: say it, or refuse it, before training starts."""

from __future__ import annotations

import logging

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dmlm.errors import ConfigError

logger = logging.getLogger(__name__)


def check_batches(encoder: nn.Module, chunk_size: int | None, accumulated: int, *, contrasts: bool) -> None:
    """Say what accumulating gradients means, and refuse chunks that would not be exact.

    Args:
        encoder: What trains, in training mode.
        chunk_size: ``model.chunk_size``.
        accumulated: ``trainer.accumulate_grad_batches``.
        contrasts: Whether the loss compares the pairs of a batch with each other.

    Raises:
        ConfigError: If batches are cut into chunks although batch normalisation looks across the batch.
    """
    looks_across = any(isinstance(part, _BatchNorm) and part.training for part in encoder.modules())
    if chunk_size is not None and looks_across:
        msg = (
            "model.chunk_size needs an encoder whose rows do not depend on each other, but this one has batch "
            "normalisation: set model.encoder.image.freeze_norm true, or model.chunk_size null"
        )
        raise ConfigError(msg)
    if contrasts:
        advice = "for the gradient of the large batch set data.batch_size to it and model.chunk_size to what fits"
        warn_accumulated(accumulated, "texts", advice)


def warn_accumulated(accumulated: int, others: str, advice: str) -> None:
    """Say that batches whose gradients are added up are not compared with each other.

    Args:
        accumulated: ``trainer.accumulate_grad_batches``.
        others: What an image is compared with.
        advice: What to do.
    """
    if accumulated > 1:
        logger.warning(
            "trainer.accumulate_grad_batches=%d: every image is compared with the %s of its own small batch only; %s",
            accumulated,
            others,
            advice,
        )
