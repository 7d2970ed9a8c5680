"""Heads that turn a feature sequence into diagonal Gaussians (the paper's probability distribution encoders)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dmlm.distributions import Gaussian, bound_logvar, unbound_logvar
from dmlm.errors import ConfigError
from dmlm.models.checkpointing import Checkpointing, check_checkpointing, run

HeadKind = Literal["attn", "mlp"]


class GaussianHead(nn.Module):
    """Map features to a Gaussian per element (paper, Eq. 1).

    ``attn`` follows MAP's distribution encoder (Ji et al., CVPR 2023): after a linear layer with GELU, half of the
    heads of one self-attention layer give the mean and half the log-variance, each refined by its own small MLP, so
    that the variance of an element can depend on the whole sequence. ``mlp`` sees one element at a time and is smaller.

    Two additions: the last layers of the variance branch start at zero around ``logvar_init``, and the log-variance is
    bounded smoothly to ``logvar_range``. Means pass a layer norm without affine part (``norm_mean``), so that
    ``|mean|^2 = D`` and standard deviations have a fixed yardstick. The last step runs in float32.

    Args:
        in_dim: Width of the features.
        dim: Width ``D`` of the distributions.
        kind: ``"attn"`` or ``"mlp"``.
        num_heads: Attention heads for mean and log-variance together; an even number that divides ``dim``.
        logvar_init: Log-variance at the start of training.
        logvar_range: Bounds of the log-variance.
        norm_mean: Whether means are layer-normalised.
        gradient_checkpointing: What the backward pass computes again instead of keeping it, as that of a tower's layers
            (:class:`dmlm.models.TimmImageEncoder`).

    Raises:
        ConfigError: If the numbers do not fit each other.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        kind: HeadKind = "attn",
        num_heads: int = 12,
        logvar_init: float = -3.0,
        logvar_range: tuple[float, float] = (-6.0, 2.0),
        norm_mean: bool = True,
        gradient_checkpointing: Checkpointing = "auto",
    ) -> None:
        super().__init__()
        check_checkpointing(gradient_checkpointing)
        self.gradient_checkpointing = gradient_checkpointing
        low, high = logvar_range
        self.kind, self.dim, self.logvar_range, self.norm_mean = kind, dim, (low, high), norm_mean
        if dim < 1:
            msg = f"the width of the distributions (embed_dim) must be at least 1, got {dim}"
            raise ConfigError(msg)
        if kind == "attn":
            if num_heads < 1 or num_heads % 2 or dim % num_heads:
                msg = f"num_heads must be even and divide dim = {dim}, got {num_heads}"
                raise ConfigError(msg)
            self.num_heads = num_heads
            self.inner = nn.Sequential(nn.Linear(in_dim, dim), nn.GELU(), nn.LayerNorm(dim))
            self.skip = nn.Identity() if in_dim == dim else nn.Linear(in_dim, dim)
            self.qkv = nn.Linear(
                dim, 3 * dim
            )  # the first half of the heads serves the mean, the second the log-variance
            self.mean_out, self.logvar_out = nn.Linear(dim // 2, dim), nn.Linear(dim // 2, dim)
            self.mean_mlp, self.logvar_mlp = _mlp(dim, dim), _mlp(dim, dim)
        elif kind == "mlp":
            self.trunk = nn.Sequential(nn.LayerNorm(in_dim), nn.Linear(in_dim, dim), nn.GELU())
            self.mean_out, self.logvar_out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        else:
            msg = f"kind of a GaussianHead must be attn or mlp, got '{kind}'"
            raise ConfigError(msg)
        last: list[Any] = [self.logvar_out] if kind == "mlp" else [self.logvar_out, self.logvar_mlp[-1]]
        for layer in last:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.logvar_out.bias, unbound_logvar(logvar_init, low, high))

    def forward(self, features: Tensor, valid: Tensor | None = None, index: Tensor | None = None) -> Gaussian:
        """Compute the distributions.

        Args:
            features: ``(B, L, in_dim)``.
            valid: bool ``(B, L)``, False at padding; None means all valid. Padding is not attended to.
            index: int64 ``(B, Q)``, positions whose distributions are wanted; None means all. The others are not
                computed (an ``attn`` head still reads them).

        Returns:
            Gaussian of float32 ``(B, L, D)``, or ``(B, Q, D)``.
        """
        kind = self.gradient_checkpointing
        return run(self._distributions, kind, self, features, valid, index)  # type: ignore[no-any-return]

    def _distributions(self, features: Tensor, valid: Tensor | None, index: Tensor | None) -> Gaussian:
        mean, logvar = self._before_norm(features, valid, index)
        with torch.autocast(features.device.type, enabled=False):
            mean = mean.float()
            if self.norm_mean:
                mean = F.layer_norm(mean, (self.dim,))
            return Gaussian(mean, bound_logvar(logvar, *self.logvar_range))

    @torch.no_grad()
    def center(self, features: Tensor, valid: Tensor | None = None) -> None:
        """Move the origin of the means, so that the first elements of these sequences average zero.

        Sequences that share most of their features (statements with the same words around the finding) otherwise
        start as almost the same vector. Only a bias changes.

        Args:
            features: ``(B, L, in_dim)``.
            valid: bool ``(B, L)``, False at padding; None means all valid.
        """
        last: Any = self.mean_out if self.kind == "mlp" else self.mean_mlp[-1]
        last.bias -= self._before_norm(features, valid)[0][:, 0].mean(0)

    def _before_norm(
        self, features: Tensor, valid: Tensor | None, index: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if self.kind == "attn":
            return self._attend(features, valid, index)
        hidden = self.trunk(features if index is None else gather_rows(features, index))
        return self.mean_out(hidden), self.logvar_out(hidden)

    def _attend(self, features: Tensor, valid: Tensor | None, index: Tensor | None) -> tuple[Tensor, Tensor]:
        # shape[0] and not len(): len() is a plain int, and an exported graph would have this batch size for good
        hidden, heads = self.inner(features), (features.shape[0], -1, self.num_heads, self.dim // self.num_heads)
        if index is None:
            parts = self.qkv(hidden).chunk(3, dim=-1)
        else:  # queries at the wanted positions only
            features = gather_rows(features, index)
            weight, bias, dim = self.qkv.weight, self.qkv.bias, self.dim
            query = F.linear(gather_rows(hidden, index), weight[:dim], bias[:dim])
            parts = (query, *F.linear(hidden, weight[dim:], bias[dim:]).chunk(2, dim=-1))
        query, key, value = (part.reshape(heads).transpose(1, 2) for part in parts)
        mask = None if valid is None else valid[:, None, None, :]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mean_heads, logvar_heads = (part.transpose(1, 2).flatten(2) for part in attended.chunk(2, dim=1))
        mean = self.skip(features) + self.mean_out(mean_heads)
        logvar = self.logvar_out(logvar_heads)
        return mean + self.mean_mlp(mean), logvar + self.logvar_mlp(logvar)


def gather_rows(elements: Tensor, index: Tensor) -> Tensor:
    """Select positions of each sequence: ``(B, L, F)`` and int64 ``(B, Q)`` give ``(B, Q, F)``."""
    return elements.gather(1, index.unsqueeze(-1).expand(-1, -1, elements.shape[-1]))


def _mlp(dim: int, out_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, out_dim))
