"""The cross-modal predictor: distributions of what was masked, from what stayed visible and from the other modality."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dmlm._config import Configurable
from dmlm.distributions import Gaussian, bound_logvar, unbound_logvar
from dmlm.errors import ConfigError
from dmlm.models.checkpointing import Checkpointing, check_checkpointing, run_blocks

Context = Literal["mean", "sample"]


class CrossModalPredictor(Configurable, nn.Module):
    """Predict Gaussians at masked places (paper, Eq. 2): ``p(h_t | I, visible T)`` and ``p(h_p | visible I, T)``.

    Queries exist at masked places only; they attend to each other, then to the visible elements of their own modality
    together with the elements of the other one. Two directions have their own weights unless ``share_directions``.
    Which view of the other modality is given decides the form: its full view (two directions, the default of
    :class:`dmlm.tasks.DMLMPretrainModule`) or its masked view (joint form).

    Args:
        embed_dim: Width ``D`` of the encoder's distributions.
        width: Inner width; divisible by ``4`` and by ``num_heads``.
        depth: Blocks per direction, at least 1.
        num_heads: Attention heads.
        context: Feed the ``"mean"`` of visible elements, or one reparameterised ``"sample"`` while training.
        share_directions: One stack of blocks for both directions.
        logvar_init: Predicted log-variance at the start.
        logvar_range: Bounds of the predicted log-variance.
        gradient_checkpointing: True computes the inside of each block again in the backward pass instead of keeping it;
            ``"selective"`` keeps the matrix products; ``"auto"`` does so where that is worth it; False keeps all.

    Raises:
        ConfigError: If the numbers do not fit each other.
    """

    def __init__(
        self,
        embed_dim: int = 768,
        width: int = 384,
        depth: int = 4,
        num_heads: int = 6,
        context: Context = "mean",
        share_directions: bool = False,
        logvar_init: float = -3.0,
        logvar_range: tuple[float, float] = (-6.0, 2.0),
        gradient_checkpointing: Checkpointing = "auto",
    ) -> None:
        super().__init__()
        if width < 1 or num_heads < 1 or width % 4 or width % num_heads:
            msg = f"width must be divisible by 4 and by num_heads ({num_heads}), got {width}"
            raise ConfigError(msg)
        if depth < 1:
            msg = f"predictor.depth must be at least 1, got {depth}"
            raise ConfigError(msg)
        if context not in ("mean", "sample"):
            msg = f"context must be mean or sample, got '{context}'"
            raise ConfigError(msg)
        check_checkpointing(gradient_checkpointing)
        self.embed_dim, self.width, self.context = embed_dim, width, context
        shape = (embed_dim, width, depth, num_heads, logvar_init, logvar_range, gradient_checkpointing)
        self.image = _Direction(*shape)
        self.text = self.image if share_directions else _Direction(*shape)
        self.image_in, self.text_in = nn.Linear(embed_dim, width), nn.Linear(embed_dim, width)
        self.image_query = nn.Parameter(torch.empty(width).normal_(std=0.02))
        self.type_embed = nn.Parameter(torch.empty(2, width).normal_(std=0.02))

    def predict_text(
        self,
        query: Tensor,
        query_valid: Tensor,
        text: Gaussian,
        text_visible: Tensor,
        image: Gaussian,
        grid: tuple[int, int],
        image_index: Tensor | None = None,
    ) -> Gaussian:
        """Predict masked tokens.

        Args:
            query: int64 ``(B, Q)`` positions of masked tokens, padded.
            query_valid: bool ``(B, Q)``.
            text: Masked view of the text, ``(B, L, D)`` (mask tokens at masked places start the queries).
            text_visible: bool ``(B, L)``, True at tokens that are neither padding nor masked.
            image: Image elements, ``(B, 1 + K, D)``.
            grid: Rows and columns of the patch grid.
            image_index: int64 ``(B, K)`` patch positions of the image elements; None means all patches.

        Returns:
            Gaussian of float32 ``(B, Q, D)``; what stands at invalid queries has no meaning.
        """
        own = self._text_elements(text)
        queries = own.gather(1, query.unsqueeze(-1).expand(-1, -1, self.width))
        other = self._image_elements(image, grid, image_index)
        memory = torch.cat([own, other], dim=1)
        visible = torch.cat([text_visible, text_visible.new_ones(other.shape[:2])], dim=1)
        return self.text(queries, query_valid, memory, visible)  # type: ignore[no-any-return]

    def predict_image(
        self,
        query: Tensor,
        image: Gaussian,
        image_index: Tensor,
        text: Gaussian,
        text_visible: Tensor,
        grid: tuple[int, int],
    ) -> Gaussian:
        """Predict masked patches.

        Args:
            query: int64 ``(B, Q)`` positions of masked patches.
            image: Masked view of the image, ``(B, 1 + K, D)``.
            image_index: int64 ``(B, K)`` patch positions of its visible patches.
            text: Text elements, ``(B, L, D)``.
            text_visible: bool ``(B, L)``, True at elements that may be read.
            grid: Rows and columns of the patch grid.

        Returns:
            Gaussian of float32 ``(B, Q, D)``.
        """
        positions = grid_positions(*grid, self.width, query.device)
        queries = self.image_query + self.type_embed[0] + positions[query]
        own, other = self._image_elements(image, grid, image_index), self._text_elements(text)
        memory = torch.cat([own, other], dim=1)
        visible = torch.cat([text_visible.new_ones(own.shape[:2]), text_visible], dim=1)
        valid = torch.ones_like(query, dtype=torch.bool)
        return self.image(queries, valid, memory, visible)  # type: ignore[no-any-return]

    def _point(self, elements: Gaussian) -> Tensor:
        return elements.sample() if self.context == "sample" and self.training else elements.mean

    def _image_elements(self, image: Gaussian, grid: tuple[int, int], index: Tensor | None) -> Tensor:
        positions = grid_positions(*grid, self.width, image.mean.device)
        places = positions.expand(len(image.mean), -1, -1) if index is None else positions[index]
        own: Tensor = self.image_in(self._point(image))
        return own + self.type_embed[0] + F.pad(places, (0, 0, 1, 0))

    def _text_elements(self, text: Gaussian) -> Tensor:
        positions = line_positions(text.mean.shape[1], self.width, text.mean.device)
        return self.text_in(self._point(text)) + self.type_embed[1] + positions  # type: ignore[no-any-return]


class _Direction(nn.Module):
    """Blocks and output layers of one direction."""

    def __init__(
        self,
        embed_dim: int,
        width: int,
        depth: int,
        num_heads: int,
        logvar_init: float,
        logvar_range: tuple[float, float],
        gradient_checkpointing: Checkpointing,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = gradient_checkpointing
        self.blocks = nn.ModuleList(_Block(width, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.mean, self.logvar = nn.Linear(width, embed_dim), nn.Linear(width, embed_dim)
        self.logvar_range = tuple(logvar_range)
        nn.init.zeros_(self.logvar.weight)
        nn.init.constant_(self.logvar.bias, unbound_logvar(logvar_init, *logvar_range))

    def forward(self, queries: Tensor, valid: Tensor, memory: Tensor, visible: Tensor) -> Gaussian:
        hidden = self.norm(run_blocks(self.blocks, queries, self.gradient_checkpointing, valid, memory, visible))
        low, high = self.logvar_range
        return Gaussian(self.mean(hidden).float(), bound_logvar(self.logvar(hidden), low, high))


class _Block(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.self_norm, self.cross_norm, self.memory_norm, self.mlp_norm = (nn.LayerNorm(width) for _ in range(4))
        self.self_attention, self.cross_attention = _Attention(width, num_heads), _Attention(width, num_heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, queries: Tensor, valid: Tensor, memory: Tensor, visible: Tensor) -> Tensor:
        normed = self.self_norm(queries)
        # an invalid query attends to all: a row without any key would be NaN
        queries = queries + self.self_attention(normed, normed, valid[:, None, :] | ~valid[:, :, None])
        queries = queries + self.cross_attention(
            self.cross_norm(queries), self.memory_norm(memory), visible[:, None, :]
        )
        return queries + self.mlp(self.mlp_norm(queries))  # type: ignore[no-any-return]


class _Attention(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key_value, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )

    def forward(self, queries: Tensor, memory: Tensor, allowed: Tensor) -> Tensor:
        batch, count, width = queries.shape
        heads = (batch, -1, self.num_heads, width // self.num_heads)
        query = self.query(queries).reshape(heads).transpose(1, 2)
        key, value = (part.reshape(heads).transpose(1, 2) for part in self.key_value(memory).chunk(2, dim=-1))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed.unsqueeze(1))
        return self.out(mixed.transpose(1, 2).reshape(batch, count, width))  # type: ignore[no-any-return]


def line_positions(length: int, width: int, device: torch.device) -> Tensor:
    """Sine-cosine codes of positions ``0..length-1``, float32 ``(length, width)``."""
    return _sincos(torch.arange(length, device=device, dtype=torch.float32), width)


def grid_positions(rows: int, columns: int, width: int, device: torch.device) -> Tensor:
    """Sine-cosine codes of a patch grid in row-major order, float32 ``(rows * columns, width)``: half for each axis."""
    row, column = torch.meshgrid(
        torch.arange(rows, device=device, dtype=torch.float32),
        torch.arange(columns, device=device, dtype=torch.float32),
        indexing="ij",
    )
    return torch.cat([_sincos(row.reshape(-1), width // 2), _sincos(column.reshape(-1), width // 2)], dim=-1)


def _sincos(positions: Tensor, width: int) -> Tensor:
    rates = torch.exp(
        torch.arange(width // 2, device=positions.device) * (-math.log(10_000.0) / max(width // 2 - 1, 1))
    )
    angles = positions[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
