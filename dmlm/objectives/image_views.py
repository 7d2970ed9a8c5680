"""Another view of a batch of images, for objectives that compare two views: crop, rotation, contrast, brightness."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_SMALLEST = 0.4  # share of the area
_ROTATION = math.radians(10)
_CONTRAST, _BRIGHTNESS = 0.4, 0.2


def random_view(images: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a view of each image. No mirroring: sides mean something in a chest.

    Args:
        images: uint8 ``(B, 1, H, W)``.
        generator: CPU generator; equal states give equal views on every device.

    Returns:
        uint8 ``(B, 1, H, W)``; what lies outside of an image repeats its border.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(len(images), generator=generator) * (high - low) + low

    side = uniform(_SMALLEST, 1.0).sqrt()
    angle = uniform(-_ROTATION, _ROTATION)
    shift = [(1 - side) * uniform(-1.0, 1.0) for _ in range(2)]
    contrast, brightness = 1 + uniform(-_CONTRAST, _CONTRAST), uniform(-_BRIGHTNESS, _BRIGHTNESS)
    cosine, sine = side * angle.cos(), side * angle.sin()
    rows = [torch.stack([cosine, -sine, shift[0]], dim=1), torch.stack([sine, cosine, shift[1]], dim=1)]
    matrix = torch.stack(rows, dim=1).to(images.device)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    pixels = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    middle = pixels.mean((1, 2, 3), keepdim=True)
    wide = [value.to(images.device)[:, None, None, None] for value in (contrast, brightness)]
    return (middle + (pixels - middle) * wide[0] + 255 * wide[1]).clamp(0, 255).round().to(torch.uint8)
