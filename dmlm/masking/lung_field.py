"""Where the lungs are in a frontal chest radiograph: two boxes per image, from grey values alone, for a whole batch.

Lungs are the two dark fields beside the brightest vertical strip. Darkness that stands out from its surroundings is
summed into profiles on either side of that strip; the places where the profiles have gathered most of their mass,
stretched by fixed constants, are the edges of the boxes. No part of it is learned. The stretching constants were set by
least squares on the boxes of 461 radiographs that are not in the test split of ``benchmarks/masking_coverage.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 48
"""Pixels of the square in which lungs are looked for."""

_BLACK = 12.0  # grey levels above the darkest that still count as the empty frame around a body
_OUTSIDE = -0.7  # darkness of what lies beyond the image: chest wall
_MIN_CONTRAST = 0.15


class LungField(NamedTuple):
    """Where the lungs are.

    Args:
        boxes: float32 ``(B, 2, 4)``: x0, y0, x1, y1 as fractions of the image's width and height, first the patient's
            right lung (on the image's left), then the left one.
        found: bool ``(B,)``; False where nothing looks like two lungs, and the boxes are those of an average film.
    """

    boxes: Tensor
    found: Tensor


def locate_lungs(images: Tensor, valid: Tensor | None = None) -> LungField:
    """Find the lungs of frontal radiographs.

    Args:
        images: ``(B, 1, H, W)``, any dtype, 0 (black) to 255, lungs dark.
        valid: bool ``(B, 48, 48)``, where an image has content; None where it has content everywhere.

    Returns:
        Boxes of both lungs, and whether they were found.
    """
    dark = _darkness(shrunk(images, SIDE)[:, 0], valid)
    centre = (torch.arange(SIDE, device=dark.device) + 0.5) / SIDE
    middle = _midline(dark, centre)
    mass = torch.sigmoid(6.0 * (dark - 0.5 * _surroundings(dark) - 0.2))
    offset = centre[None] - middle[:, None]
    edges = [_edges(mass, side * offset, centre) for side in (-1.0, 1.0)]
    reach = 0.5 * (edges[0][0] + edges[1][0])
    top = 0.5 * (edges[0][1] + edges[1][1])
    bottom = 0.5 * (edges[0][2] + edges[1][2])
    boxes = torch.stack([_box(side, middle, reach, top, bottom, edges[i][2]) for i, side in enumerate((-1.0, 1.0))], 1)
    boxes = boxes.clamp(0.0, 1.0)
    found = _contrast(dark, boxes, centre) > _MIN_CONTRAST
    return LungField(torch.where(found[:, None, None], boxes, boxes.new_tensor(AVERAGE)), found)


def shrunk(images: Tensor, side: int) -> Tensor:
    """Average images ``(B, 1, H, W)`` down (or up) to ``side`` rows and columns, float32."""
    height, width = images.shape[-2:]
    if (height, width) == (side, side):
        return images.float()
    if height % side == 0 and width % side == 0:  # the same result, several times as fast
        return F.avg_pool2d(images.float(), (height // side, width // side))
    return F.adaptive_avg_pool2d(images.float(), side)


AVERAGE = ((0.04, 0.08, 0.47, 0.84), (0.525, 0.08, 0.96, 0.86))
"""Boxes of an average film, right and left."""


def _darkness(grey: Tensor, valid: Tensor | None) -> Tensor:
    """Standardised darkness ``(B, S, S)`` of the body; the empty frame around it counts as chest wall."""
    above = grey - grey.amin((1, 2), keepdim=True)
    frame = torch.zeros_like(grey, dtype=torch.bool) if valid is None else ~valid
    above = above.masked_fill(frame, 0.0)
    for axis in (1, 2):
        bright = (above >= _BLACK).float()
        frame = frame | (bright.cumsum(axis) == 0) | (bright.flip(axis).cumsum(axis) == 0).flip(axis)
    body = (~frame).float()
    count = body.sum((1, 2), keepdim=True).clamp_min(1.0)
    mean = (grey * body).sum((1, 2), keepdim=True) / count
    spread = ((grey - mean).square() * body).sum((1, 2), keepdim=True).div(count).sqrt().clamp_min(1.0)
    return torch.where(frame, torch.full_like(grey, -0.5), (mean - grey) / spread)


def _surroundings(dark: Tensor) -> Tensor:
    """Mean over 25 by 25 cells around each: differences of cumulative sums, whatever the width."""
    total = F.pad(dark, (12, 12, 12, 12), value=_OUTSIDE)
    for axis in (1, 2):
        total = total.cumsum(axis)
        first = total.narrow(axis, 24, 1)
        rest = total.narrow(axis, 25, SIDE - 1) - total.narrow(axis, 0, SIDE - 1)
        total = torch.cat([first, rest], axis)
    return total / 625.0


def _midline(dark: Tensor, centre: Tensor) -> Tensor:
    """Column ``(B,)`` of the strip that is brightest against both its sides, from 0 to 1."""
    rows = ((centre > 0.15) & (centre < 0.65)).float()
    profile = (dark * rows[None, :, None]).sum(1) / rows.sum()
    near, far = 2, 11  # half a strip of 4 columns, and the fields beside it
    total = F.pad(F.pad(profile, (far, far), value=_OUTSIDE).cumsum(1), (1, 0))
    place = torch.arange(SIDE + 1, device=dark.device) + far
    strip = (total[:, place + near] - total[:, place - near]) / (2 * near)
    right = (total[:, place - near] - total[:, place - far]) / (far - near)
    left = (total[:, place + far] - total[:, place + near]) / (far - near)
    border = torch.arange(SIDE + 1, device=dark.device) / SIDE
    score = torch.minimum(left, right) - strip - 0.1 * ((border - 0.5) / 0.05).square()
    return (torch.softmax(score / 0.05, 1) * border).sum(1)


def _edges(mass: Tensor, offset: Tensor, centre: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distance from the midline, upper and lower row, within which 94 % of one lung's mass lie, each ``(B,)``."""
    across = torch.exp(-0.5 * ((offset - 0.25) / 0.13) ** 4)[:, None, :]
    down = torch.exp(-0.5 * ((centre - 0.45) / 0.32) ** 4)[None, :, None]
    lung = mass * across * down
    rows = lung.sum(2)
    # ordered by distance from the midline, so that one cumulative sum serves both sides
    columns, distance = lung.sum(1), offset
    order = distance.argsort(1)
    share = columns.gather(1, order).cumsum(1) / columns.sum(1, keepdim=True).clamp_min(1e-6)
    reach = distance.gather(1, order).gather(1, (share < 0.94).sum(1, keepdim=True).clamp_max(SIDE - 1))[:, 0]
    return reach, _quantile(rows, 0.06), _quantile(rows, 0.94)


def _quantile(mass: Tensor, share: float) -> Tensor:
    """Place ``(B,)`` from 0 to 1 below which a share of the mass ``(B, S)`` lies, between borders linearly."""
    total = F.pad(mass.cumsum(1) / mass.sum(1, keepdim=True).clamp_min(1e-6), (1, 0))
    cell = (total < share).sum(1, keepdim=True).clamp(1, mass.shape[1])
    below, above = total.gather(1, cell - 1), total.gather(1, cell)
    inside = ((share - below) / (above - below).clamp_min(1e-6)).clamp(0.0, 1.0)
    return ((cell - 1 + inside) / mass.shape[1])[:, 0]


def _box(side: float, middle: Tensor, reach: Tensor, top: Tensor, bottom: Tensor, own_bottom: Tensor) -> Tensor:
    """Stretch the extent of the darkness to that of the lung, ``(B, 4)``; dense bases and apices are not dark."""
    half = 0.46 + 0.3 * (reach - 0.37) + 0.3 * (bottom - 0.68)
    upper = 0.08 + 0.3 * (top - 0.11) + 0.35 * (bottom - 0.68)
    lower = 0.85 + 1.1 * (bottom - 0.68) + 0.5 * (own_bottom - bottom)
    inner, outer = middle + side * 0.03, middle + side * half
    return torch.stack([torch.minimum(inner, outer), upper, torch.maximum(inner, outer), lower], 1)


def _contrast(dark: Tensor, boxes: Tensor, centre: Tensor) -> Tensor:
    """How much darker the boxes' cores are than the strip between them, in standard deviations, ``(B,)``."""
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    low, high = boxes[..., 1] + 0.15 * height, boxes[..., 1] + 0.7 * height
    left, right = boxes[..., 0] + 0.25 * width, boxes[..., 2] - 0.2 * width
    rows = (centre > low[..., None]) & (centre < high[..., None])
    columns = (centre > left[..., None]) & (centre < right[..., None])
    cores = (rows[..., :, None] & columns[..., None, :]).float()
    between = (centre > boxes[:, 0, 2, None] - 0.03) & (centre < boxes[:, 1, 0, None] + 0.03)
    strip = (rows[:, 0, :, None] & between[:, None, :]).float()
    inside = (dark[:, None] * cores).sum((2, 3)) / cores.sum((2, 3)).clamp_min(1.0)
    outside = (dark * strip).sum((1, 2)) / strip.sum((1, 2)).clamp_min(1.0)
    return inside.amin(1) - outside
