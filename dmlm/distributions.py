"""Diagonal Gaussians and the distances between them: KL, 2-Wasserstein, closed-form sampled distance.

All arithmetic runs in float32 with autocast switched off, whatever the dtype of the inputs: near the optimum a KL
computed in half precision is wrong by more than its value, and ``exp`` overflows float16 above 11.

Shapes: ``...`` is any batch shape, ``D`` the width. Log-variances are natural logarithms of the variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dmlm.errors import ConfigError

Reduce = Literal["mean", "sum"]


class Gaussian(NamedTuple):
    """A diagonal Gaussian per element.

    Args:
        mean: ``(..., D)``.
        logvar: Log-variance, ``(..., D)``.
    """

    mean: Tensor
    logvar: Tensor

    @property
    def std(self) -> Tensor:
        """Standard deviation, ``(..., D)``, float32."""
        return torch.exp(0.5 * self.logvar.float())

    @property
    def variance(self) -> Tensor:
        """Variance, ``(..., D)``, float32."""
        return torch.exp(self.logvar.float())

    def at(self, index: int | slice) -> Gaussian:
        """Select along the sequence axis (the last but one): an integer drops the axis, a slice keeps it."""
        return Gaussian(self.mean[..., index, :], self.logvar[..., index, :])

    def gather(self, index: Tensor) -> Gaussian:
        """Select per sample along the sequence axis.

        Args:
            index: int64 ``(B, K)`` positions into ``(B, N, D)``.

        Returns:
            ``(B, K, D)``.
        """
        wide = index.unsqueeze(-1).expand(-1, -1, self.mean.shape[-1])
        return Gaussian(self.mean.gather(1, wide), self.logvar.gather(1, wide))

    def detach(self) -> Gaussian:
        """Cut both parts out of the graph."""
        return Gaussian(self.mean.detach(), self.logvar.detach())

    def float(self) -> Gaussian:
        """Both parts in float32."""
        return Gaussian(self.mean.float(), self.logvar.float())

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw one reparameterised sample, ``(..., D)``: the gradient reaches mean and log-variance."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=torch.float32)
        return self.mean.float() + self.std * noise


def kl_divergence(p: Gaussian, q: Gaussian, reduce: Reduce = "mean") -> Tensor:
    """KL(p || q) between diagonal Gaussians (paper, Eq. 3), over the last dimension.

    With ``d = logvar_p - logvar_q`` this is ``0.5 * (expm1(d) - d + (mean_p - mean_q)^2 * exp(-logvar_q))`` per
    dimension; the ``expm1`` form keeps a relative error of 1e-6 where the textbook form loses all digits.

    Args:
        p: First distribution, ``(..., D)``; in training the predicted one.
        q: Second distribution, ``(..., D)``.
        reduce: ``"mean"`` divides by ``D`` so that the value does not grow with the width; ``"sum"`` is the textbook's.

    Returns:
        float32 ``(...)``, at least 0 up to rounding, in nats (per dimension for ``"mean"``).
    """
    with torch.autocast(p.mean.device.type, enabled=False):
        p, q = p.float(), q.float()
        delta = p.logvar - q.logvar
        value = 0.5 * (torch.expm1(delta) - delta + (p.mean - q.mean).square() * torch.exp(-q.logvar))
        return _reduce(value, reduce)


def wasserstein2(p: Gaussian, q: Gaussian, reduce: Reduce = "mean") -> Tensor:
    """Squared 2-Wasserstein distance of matching elements: ``|mean_p - mean_q|^2 + |std_p - std_q|^2`` (paper, Eq. 4).

    Exact for diagonal covariances. The direct difference is used, so it stays exact where the two are close.

    Args:
        p: ``(..., D)``.
        q: ``(..., D)``, broadcastable against ``p``.
        reduce: ``"mean"`` or ``"sum"`` over ``D``.

    Returns:
        float32 ``(...)``.
    """
    with torch.autocast(p.mean.device.type, enabled=False):
        value = (p.mean.float() - q.mean.float()).square() + (p.std - q.std).square()
        return _reduce(value, reduce)


def csd(p: Gaussian, q: Gaussian, reduce: Reduce = "mean") -> Tensor:
    """Closed-form sampled distance ``E|X - Y|^2`` of independent X ~ p, Y ~ q: ``|mean_p - mean_q|^2 + var_p + var_q``.

    Source: PCME++ (Chun, ICLR 2024), Eq. 1. Shapes as :func:`wasserstein2`.
    """
    with torch.autocast(p.mean.device.type, enabled=False):
        value = (p.mean.float() - q.mean.float()).square() + p.variance + q.variance
        return _reduce(value, reduce)


def pairwise_wasserstein2(p: Gaussian, q: Gaussian, reduce: Reduce = "mean", owners: Tensor | None = None) -> Tensor:
    """Squared 2-Wasserstein distance of every pair, without a ``(P, Q, D)`` tensor.

    One matrix product of ``[mean, std]``, whose expansion loses all digits at small distances; pairs that belong
    together, and become close in training, are replaced by the direct difference.

    Args:
        p: ``(P, D)``.
        q: ``(Q, D)``.
        reduce: ``"mean"`` or ``"sum"`` over ``D``.
        owners: int64 ``(Q,)``, row of ``p`` that each row of ``q`` belongs to; None means the row of its own number
            where ``P == Q``.

    Returns:
        float32 ``(P, Q)``, not negative.
    """
    with torch.autocast(p.mean.device.type, enabled=False):
        left = torch.cat([p.mean.float(), p.std], dim=-1)
        right = torch.cat([q.mean.float(), q.std], dim=-1)
        return _pairwise(left, right, None, _matching(p, q, owners, wasserstein2), p.mean.shape[-1], reduce)


def pairwise_csd(p: Gaussian, q: Gaussian, reduce: Reduce = "mean", owners: Tensor | None = None) -> Tensor:
    """Closed-form sampled distance of every pair; shapes as :func:`pairwise_wasserstein2`, see :func:`csd`."""
    with torch.autocast(p.mean.device.type, enabled=False):
        spread = p.variance.sum(-1)[:, None] + q.variance.sum(-1)[None, :]
        matching = _matching(p, q, owners, csd)
        return _pairwise(p.mean.float(), q.mean.float(), spread, matching, p.mean.shape[-1], reduce)


def pairwise_cosine(p: Gaussian, q: Gaussian) -> Tensor:
    """``2 - 2 cos`` of the means of every pair: W2 of layer-normalised means without the variances.

    Args:
        p: ``(P, D)``.
        q: ``(Q, D)``.

    Returns:
        float32 ``(P, Q)``.
    """
    with torch.autocast(p.mean.device.type, enabled=False):
        return 2.0 - 2.0 * F.normalize(p.mean.float(), dim=-1) @ F.normalize(q.mean.float(), dim=-1).t()


def standard_normal_kl(p: Gaussian, variance_only: bool = False) -> Tensor:
    """KL(p || N(0, I)) per dimension, the information-bottleneck guard: ``0.5 * (expm1(l) - l + mean^2)``.

    Args:
        p: ``(..., D)``.
        variance_only: Leave the mean out, where nothing else holds it away from 0.

    Returns:
        float32 ``(...)``, mean over ``D``.
    """
    with torch.autocast(p.mean.device.type, enabled=False):
        logvar = p.logvar.float()
        value = 0.5 * (torch.expm1(logvar) - logvar)
        if not variance_only:
            value = value + 0.5 * p.mean.float().square()
        return value.mean(-1)


def barycenter(components: Gaussian, weights: Tensor) -> Gaussian:
    """2-Wasserstein barycentre of diagonal Gaussians: weighted mean of means and of standard deviations.

    Args:
        components: ``(..., N, D)``.
        weights: ``(..., N)``, summing to 1 along the last axis.

    Returns:
        ``(..., D)``, float32.
    """
    with torch.autocast(components.mean.device.type, enabled=False):
        weight = weights.float().unsqueeze(-1)
        std = (weight * components.std).sum(-2)
        return Gaussian((weight * components.mean.float()).sum(-2), 2.0 * torch.log(std))


def bound_logvar(raw: Tensor, low: float, high: float) -> Tensor:
    """Bound a log-variance smoothly to ``(low, high)``: ``m + h * tanh((raw - m) / h)``; the gradient never dies.

    Args:
        raw: Any shape; computed in float32.
        low: Lower bound of the log-variance.
        high: Upper bound.
    """
    middle, half = (low + high) / 2, (high - low) / 2
    with torch.autocast(raw.device.type, enabled=False):
        return middle + half * torch.tanh((raw.float() - middle) / half)


def unbound_logvar(value: float, low: float, high: float) -> float:
    """Raw number that :func:`bound_logvar` maps to ``value``; used to initialise biases.

    Raises:
        ConfigError: If the value does not lie between the bounds, which no raw number is mapped to.
    """
    if not low < value < high:
        msg = f"logvar_init must lie inside logvar_range ({low}, {high}), got {value}"
        raise ConfigError(msg)
    middle, half = (low + high) / 2, (high - low) / 2
    return middle + half * math.atanh((value - middle) / half)


def _reduce(value: Tensor, reduce: Reduce) -> Tensor:
    return value.mean(-1) if reduce == "mean" else value.sum(-1)


class _Matching(NamedTuple):
    """Pairs that belong together: their rows and columns, int64 ``(Q,)``, and their direct distances, ``(Q,)``."""

    rows: Tensor
    columns: Tensor
    distance: Tensor


def _matching(
    p: Gaussian, q: Gaussian, owners: Tensor | None, direct: Callable[[Gaussian, Gaussian, Reduce], Tensor]
) -> _Matching | None:
    columns = torch.arange(len(q.mean), device=q.mean.device)
    if owners is None:
        return _Matching(columns, columns, direct(p, q, "sum")) if p.mean.shape == q.mean.shape else None
    return _Matching(owners, columns, direct(Gaussian(p.mean[owners], p.logvar[owners]), q, "sum"))


def _pairwise(
    left: Tensor, right: Tensor, extra: Tensor | None, matching: _Matching | None, width: int, reduce: Reduce
) -> Tensor:
    distance = left.square().sum(-1)[:, None] + right.square().sum(-1)[None, :] - 2.0 * (left @ right.t())
    distance = distance.clamp_min(0.0)
    if extra is not None:
        distance = distance + extra
    if matching is not None:
        distance = distance.index_put((matching.rows, matching.columns), matching.distance)
    return distance / width if reduce == "mean" else distance
