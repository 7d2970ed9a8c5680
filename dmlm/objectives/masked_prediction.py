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

    ``target_pred`` is KL(target || predicted): the optimal variance is the target's plus the squared error of the mean.
    ``pred_target`` is the paper's KL(predicted || target): its optimal variance is the harmonic mean of the target's
    variances, whatever the error; it copies the target and is no uncertainty. ``symmetric`` is their mean; ``mse``
    compares means only (deterministic control).

    Args:
        direction: See above.
        reduce_dims: ``"mean"`` or ``"sum"`` over the width; sums drown the alignment loss.
        beta_nll: Exponent of the variance (without gradient) that weights each dimension, 0 for the plain KL. It is the
            variance that the KL divides by, so that small ones take less of the gradient: the predicted one in
            ``target_pred`` (Seitzer et al., ICLR 2022), the target's in ``pred_target``.

    Raises:
        ConfigError: If an option is unknown or out of range.
    """

    def __init__(
        self, direction: Direction = "target_pred", reduce_dims: Reduce = "mean", beta_nll: float = 0.0
    ) -> None:
        super().__init__()
        if direction not in ("pred_target", "target_pred", "symmetric", "mse"):
            msg = f"direction must be pred_target, target_pred, symmetric or mse, got '{direction}'"
            raise ConfigError(msg)
        if not 0 <= beta_nll <= 1:
            msg = f"beta_nll must lie in 0..1, got {beta_nll}"
            raise ConfigError(msg)
        if beta_nll and direction == "mse":
            msg = f"beta_nll {beta_nll} weights by variances, and kl_direction mse has none; set beta_nll to 0"
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
        return masked_mean(self._distance(predicted, target), valid)

    def _distance(self, predicted: Gaussian, target: Gaussian) -> Tensor:
        if self.direction == "target_pred":
            return self._kl(target, predicted)
        if self.direction == "pred_target":
            return self._kl(predicted, target)
        if self.direction == "symmetric":
            return 0.5 * (self._kl(predicted, target) + self._kl(target, predicted))
        # predicted variances take no part, but a process of a distributed run waits for every gradient
        error = (predicted.mean.float() - target.mean.float()).square() + 0.0 * predicted.logvar.float()
        return error.mean(-1) if self.reduce_dims == "mean" else error.sum(-1)

    def _kl(self, p: Gaussian, q: Gaussian) -> Tensor:
        """KL(p || q), each dimension weighted by a power of q's variance."""
        if not self.beta_nll:
            return kl_divergence(p, q, self.reduce_dims)
        weight = torch.exp(self.beta_nll * q.logvar.detach().float())
        # reshaping the width into an element axis gives the KL unreduced
        p, q = (Gaussian(side.mean.unsqueeze(-1), side.logvar.unsqueeze(-1)) for side in (p, q))
        value = weight * kl_divergence(p, q)
        return value.mean(-1) if self.reduce_dims == "mean" else value.sum(-1)
