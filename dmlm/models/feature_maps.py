"""Feature maps of an image tower at four depths, for decoders that draw masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dmlm.models.checkpointing import run_blocks
from dmlm.models.image import ImageEncoder, TimmImageEncoder

LEVELS = 4


@dataclass(frozen=True)
class MapShapes:
    """What :func:`feature_maps` gives for a tower.

    Args:
        channels: Width of each of the four maps, from shallow to deep.
        strides: Pixels of the image per step of each map.
        has_prefix: Whether each map comes with a class token.
    """

    channels: tuple[int, ...]
    strides: tuple[float, ...]
    has_prefix: bool


def feature_maps(tower: ImageEncoder, images: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
    """Return the maps of four depths and the class token that belongs to each.

    A ViT of timm gives four evenly spaced blocks, with the tower's own gradient checkpointing; a CNN of timm its last
    four stages (the first one repeated where there are fewer). Any other tower gives its last patches four times.

    Args:
        tower: The image tower.
        images: uint8 ``(B, 1, H, W)``.

    Returns:
        Four maps ``(B, C_i, H_i, W_i)`` from shallow to deep, and four class tokens ``(B, 1, C_i)`` or Nones.
    """
    if not isinstance(tower, TimmImageEncoder):
        patches = tower(images).patches
        return [_as_map(patches, tower.patch_grid)] * LEVELS, [None] * LEVELS
    pixels = tower.normalise(images)
    model = tower.model
    if not tower.is_vit:
        stages = list(model.forward_intermediates(pixels, intermediates_only=True, output_fmt="NCHW"))
        stages = [stages[0]] * (LEVELS - len(stages)) + stages[-LEVELS:]
        return stages, [None] * LEVELS
    depth = len(model.blocks)
    blocks = [max(0, round((level + 1) * depth / LEVELS) - 1) for level in range(LEVELS)]
    # as timm's forward_intermediates, which knows nothing of the tower's checkpointing
    tokens = model.norm_pre(model._pos_embed(model.patch_embed(pixels)))
    start, by_block = 0, {}
    for block in sorted(set(blocks)):  # fewer blocks than levels: some serve twice
        tokens = run_blocks(model.blocks[start : block + 1], tokens, tower.gradient_checkpointing)
        by_block[block], start = model.norm(tokens), block + 1
    maps = {block: _as_map(found[:, tower.prefix :], tower.patch_grid) for block, found in by_block.items()}
    prefixes = [by_block[block][:, :1] if tower.prefix else None for block in blocks]
    return [maps[block] for block in blocks], prefixes


@torch.no_grad()
def map_shapes(tower: ImageEncoder) -> MapShapes:
    """Find out which maps a tower gives, by looking at one black image."""
    training = tower.training
    blank = torch.zeros(1, 1, tower.image_size, tower.image_size, dtype=torch.uint8, device=tower.pixel_mean.device)
    maps, prefixes = feature_maps(tower.eval(), blank)
    tower.train(training)
    return MapShapes(
        tuple(int(found.shape[1]) for found in maps),
        tuple(tower.image_size / int(found.shape[2]) for found in maps),
        prefixes[0] is not None,
    )


def _as_map(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patches ``(B, N, F)`` in row-major order as a map ``(B, F, rows, columns)``."""
    return patches.transpose(1, 2).reshape(len(patches), -1, *grid).contiguous()
