"""Masked distribution prediction: KL between predicted and true distributions at masked places (paper, Eq. 3)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from dmlm.distributions import Gaussian, Reduce, kl_divergence
from dmlm.errors import ConfigError
from dmlm.objectives.distributed import masked_mean

Direction = Literal["pred_target", "target_pred", "symmetric", "mse"]


class MaskedPredictionLoss(nn.Module):
    """Distance between predicted and target Gaussians, averaged over the masked elements of the global batch.

    ``pred_target`` is the paper's KL(predicted || target). Its optimal variance is the harmonic mean of the target's
    variances, whatever the error: it copies the target and is no uncertainty. ``target_pred`` is the direction whose
    variance grows with the error. ``symmetric`` is their mean; ``mse`` compares means only (deterministic control).

    Args:
        direction: See above.
        reduce_dims: ``"mean"`` or ``"sum"`` over the width; sums drown the alignment loss.
        beta_nll: Exponent of the target variance that weights each dimension (0 is the plain KL); tempers the factor
            ``1 / var`` where variances become small. Idea: Seitzer et al., ICLR 2022.

    Raises:
        ConfigError: If an option is unknown or out of range.
    """

    def __init__(
        self, direction: Direction = "pred_target", reduce_dims: Reduce = "mean", beta_nll: float = 0.0
    ) -> None:
        super().__init__()
        if direction not in ("pred_target", "target_pred", "symmetric", "mse"):
            msg = f"direction must be pred_target, target_pred, symmetric or mse, got '{direction}'"
            raise ConfigError(msg)
        if not 0 <= beta_nll <= 1:
            msg = f"beta_nll must lie in 0..1, got {beta_nll}"
            raise ConfigError(msg)
        self.direction, self.reduce_dims, self.beta_nll = direction, reduce_dims, beta_nll

    def forward(self, predicted: Gaussian, target: Gaussian, valid: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            predicted: ``(B, Q, D)``.
            target: ``(B, Q, D)``; detach it unless the shared-target variant is wanted.
            valid: bool ``(B, Q)``, False at padding.

        Returns:
            Scalar float32, 0 if nothing is masked.
        """
        if predicted.mean.shape[1] == 0:
            return 0.0 * (predicted.mean.float().sum() + predicted.logvar.float().sum())
        return masked_mean(self._distance(predicted, target), valid)

    def _distance(self, predicted: Gaussian, target: Gaussian) -> Tensor:
        reduce = self.reduce_dims
        if self.beta_nll:
            # the same KL per dimension, weighted: reshaping the width into an element axis gives it unreduced
            predicted, target = (Gaussian(g.mean.unsqueeze(-1), g.logvar.unsqueeze(-1)) for g in (predicted, target))
            weight = torch.exp(self.beta_nll * target.logvar.detach().float().squeeze(-1))
            value = weight * self._divergence(predicted, target, "sum")
            return value.mean(-1) if reduce == "mean" else value.sum(-1)
        return self._divergence(predicted, target, reduce)

    def _divergence(self, predicted: Gaussian, target: Gaussian, reduce: Reduce) -> Tensor:
        if self.direction == "pred_target":
            return kl_divergence(predicted, target, reduce)
        if self.direction == "target_pred":
            return kl_divergence(target, predicted, reduce)
        if self.direction == "symmetric":
            return 0.5 * (kl_divergence(predicted, target, reduce) + kl_divergence(target, predicted, reduce))
        # predicted variances take no part, but a process of a distributed run waits for every gradient
        error = (predicted.mean.float() - target.mean.float()).square() + 0.0 * predicted.logvar.float()
        return error.mean(-1) if reduce == "mean" else error.sum(-1)
