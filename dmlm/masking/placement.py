"""From maps on the average film to the patches of a batch: onto each image's lungs, then along with its crop and turn.

Everything meets in one frame: the upright centre square of the stored image (what an image shows without augmentation),
with x and y from 0 to 1. Lungs are located in it; the transform's matrix leads from it to the pixels of the model.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dmlm.masking.atlas import LUNG_MIDDLE, LUNG_SPAN
from dmlm.masking.image import MaskContext
from dmlm.masking.lung_field import SIDE, LungField, locate_lungs

_FINE = 42  # least samples along an axis; several per patch, so that the mean over a patch is meant


class Frame(NamedTuple):
    """Affine maps between the upright square and the image, both as fractions of their side.

    Args:
        to_square: float32 ``(B, 2, 3)``, from the image to the upright square.
        to_image: float32 ``(B, 2, 3)``, from the upright square to the image.
    """

    to_square: Tensor
    to_image: Tensor


def place(maps: Tensor, context: MaskContext) -> tuple[Tensor, LungField]:
    """Lay maps of the average film onto the patches of a batch.

    Args:
        maps: float ``(B, G, G)`` over the average film.
        context: The batch.

    Returns:
        float32 ``(B, N)``, each patch's mean of its map, and where the lungs are in the upright square. Where no lungs
        were found, those of an average film are taken.
    """
    frame = upright(context)
    lungs = lungs_in_square(context.images, frame)
    rows, columns = context.grid
    per_row, per_column = math.ceil(_FINE / rows), math.ceil(_FINE / columns)
    points = _points(rows * per_row, columns * per_column, maps.device)
    inside = _affine(frame.to_square.to(maps.device), points)
    values = _sample(maps[:, None].float(), _onto_average(inside, lungs.boxes.to(maps.device)))
    return F.avg_pool2d(values, (per_row, per_column)).flatten(1), lungs


def upright(context: MaskContext) -> Frame:
    """Find how the images of a batch were cut from their stored images; without a matrix they count as uncut."""
    device = context.images.device
    same = torch.eye(3, device=device)[:2].expand(len(context.images), 2, 3)
    if context.matrix is None or context.stored_size is None:
        return Frame(same, same)
    height, width = context.images.shape[-2:]
    stored = context.stored_size.to(device).float()
    short = stored.amin(1)
    # fractions of the square -> stored pixel indices (pixel i covers i to i + 1) -> model pixels -> fractions
    square = torch.zeros(len(stored), 3, 3, device=device)
    square[:, 0, 0] = square[:, 1, 1] = short
    square[:, 0, 2], square[:, 1, 2] = 0.5 * (stored[:, 1] - short) - 0.5, 0.5 * (stored[:, 0] - short) - 0.5
    square[:, 2, 2] = 1.0
    to_pixels = context.matrix.to(device).float() @ square
    to_pixels[:, :, 2] += 0.5
    to_image = to_pixels / to_pixels.new_tensor([width, height])[None, :, None]
    linear = torch.linalg.inv(to_image[:, :, :2])
    return Frame(torch.cat([linear, -linear @ to_image[:, :, 2:]], dim=2), to_image)


def lungs_in_square(images: Tensor, frame: Frame) -> LungField:
    """Locate lungs in the upright square; what a crop cut off counts as the empty frame of the film."""
    factor = max(1, images.shape[-1] // (2 * SIDE))
    small = F.avg_pool2d(images.float(), factor) if factor > 1 else images.float()
    points = _affine(frame.to_image, _points(SIDE, SIDE, images.device))
    valid = ((points > 0) & (points < 1)).all(-1)
    return locate_lungs(_sample(small, points), valid)


def _points(rows: int, columns: int, device: torch.device) -> Tensor:
    """Centres of cells as fractions, float32 ``(rows, columns, 2)``: x, y."""
    y, x = (torch.arange(rows, device=device) + 0.5) / rows, (torch.arange(columns, device=device) + 0.5) / columns
    return torch.stack([x[None, :].expand(rows, columns), y[:, None].expand(rows, columns)], -1)


def _affine(matrix: Tensor, points: Tensor) -> Tensor:
    """Map points ``(rows, columns, 2)`` by each matrix ``(B, 2, 3)``: ``(B, rows, columns, 2)``."""
    return torch.einsum("bij,hwj->bhwi", matrix[:, :, :2], points) + matrix[:, None, None, :, 2]


def _sample(values: Tensor, points: Tensor) -> Tensor:
    return F.grid_sample(values, 2.0 * points - 1.0, mode="bilinear", padding_mode="zeros", align_corners=False)


def _onto_average(points: Tensor, lungs: Tensor) -> Tensor:
    """Map points of the upright square to the average film, so that located lungs meet its lungs.

    Piecewise linear in x (outer edge of the right lung, midline, outer edge of the left lung), linear in y.
    """
    right, left = lungs[:, 0], lungs[:, 1]
    middle = 0.5 * (right[:, 2] + left[:, 0])
    x0, y0, x1, y1 = LUNG_SPAN
    towards_right = (LUNG_MIDDLE - x0) / (middle - right[:, 0]).clamp_min(0.05)
    towards_left = (x1 - LUNG_MIDDLE) / (left[:, 2] - middle).clamp_min(0.05)
    offset = points[..., 0] - middle[:, None, None]
    x = LUNG_MIDDLE + offset * torch.where(offset < 0, towards_right[:, None, None], towards_left[:, None, None])
    top, bottom = 0.5 * (right[:, 1] + left[:, 1]), 0.5 * (right[:, 3] + left[:, 3])
    y = y0 + (points[..., 1] - top[:, None, None]) * ((y1 - y0) / (bottom - top).clamp_min(0.05))[:, None, None]
    return torch.stack([x, y], -1)
