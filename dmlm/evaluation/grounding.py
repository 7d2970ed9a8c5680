"""Does a map of scores know where a finding is? Pointing, AUC over pixels and Dice of maps that are coarser than masks.

A map has one score per cell of a grid over the image, and every pixel has its cell's score: a mask then is, per cell,
a number of pixels, and measures over pixels need no map in the image's size. All are of one image.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dmlm.evaluation.ranking import FloatArray

MEASURES = ("pointing", "mask_auc", "probe_auc", "probe_dice")
"""What a frozen encoder is measured by, per image and finding: two of its zero-shot map, two of a probe of patches."""


def cell_pixels(masks: npt.ArrayLike, grid: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Count pixels per cell of a grid.

    Args:
        masks: 0 or 1, ``(..., H, W)``.
        grid: Rows and columns of cells.

    Returns:
        Pixels of the mask per cell in row-major order, float64 ``(..., N)``, and all pixels of each cell ``(N,)``.
    """
    pixels = np.asarray(masks, dtype=np.float64)
    down, across = (_belongs(size, cells) for size, cells in zip(pixels.shape[-2:], grid, strict=True))
    inside = down @ pixels @ across.T
    total: FloatArray = np.outer(down.sum(1), across.sum(1)).reshape(-1)
    return inside.reshape(*inside.shape[:-2], -1), total


def cell_points(
    masks: npt.ArrayLike, grid: tuple[int, int], at: tuple[float, float] = (0.5, 0.5)
) -> npt.NDArray[np.bool_]:
    """Whether the mask is there at one point of each cell.

    Args:
        masks: 0 or 1, ``(..., H, W)``.
        grid: Rows and columns of cells.
        at: Where in the cell, as shares of its height and width from its upper left corner.

    Returns:
        bool ``(..., N)``.
    """
    values = np.asarray(masks)
    rows, columns = (_points(*axis) for axis in zip(values.shape[-2:], grid, at, strict=True))
    found: npt.NDArray[np.bool_] = values[..., rows[:, None], columns] > 0
    return found.reshape(*found.shape[:-2], -1)


def pointing(scores: npt.ArrayLike, hit: npt.ArrayLike) -> float:
    """The pointing game: 1 if the centre of the cell with the highest score lies in the mask, else 0.

    Where several cells share the highest score, the mean over them: a map that says nothing has the mask's share.

    Args:
        scores: ``(N,)``.
        hit: Whether each cell's centre lies in the mask (:func:`cell_points`), ``(N,)``.
    """
    values = np.asarray(scores, dtype=np.float64)
    return float(np.asarray(hit, dtype=np.float64)[values == values.max()].mean())


def mask_auroc(scores: npt.ArrayLike, inside: npt.ArrayLike, total: npt.ArrayLike) -> float:
    """Probability that a pixel of the mask has a higher score than a pixel outside it, equal scores one half.

    Args:
        scores: ``(N,)``.
        inside: Pixels of the mask per cell, ``(N,)``.
        total: All pixels per cell, ``(N,)``.

    Returns:
        Value in 0..1 (0.5 is chance), or NaN where the mask is empty or the whole image.
    """
    present = np.asarray(inside, dtype=np.float64)
    level = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)[1]
    positive = np.bincount(level, weights=present)
    negative = np.bincount(level, weights=np.asarray(total, dtype=np.float64) - present)
    pairs = positive.sum() * negative.sum()
    if pairs == 0:
        return float("nan")
    below = np.cumsum(negative) - negative / 2
    return float((positive * below).sum() / pairs)


def mask_dice(said: npt.ArrayLike, inside: npt.ArrayLike, total: npt.ArrayLike) -> float:
    """Dice of a mask and of the cells that are said to belong to it; NaN where both are empty.

    Args:
        said: Whether each cell is said to belong to it, ``(N,)``.
        inside: Pixels of the mask per cell, ``(N,)``.
        total: All pixels per cell, ``(N,)``.
    """
    chosen, present = np.asarray(said, dtype=np.float64), np.asarray(inside, dtype=np.float64)
    size = chosen @ np.asarray(total, dtype=np.float64) + present.sum()
    return float(2 * (chosen @ present) / size) if size else float("nan")


def _belongs(size: int, cells: int) -> FloatArray:
    """Which of ``size`` pixels belong to which of ``cells``, 0 or 1, ``(cells, size)``."""
    belongs: FloatArray = (np.arange(size) * cells // size == np.arange(cells)[:, None]).astype(np.float64)
    return belongs


def _points(size: int, cells: int, at: float) -> npt.NDArray[np.int64]:
    return ((np.arange(cells) + at) * size / cells).astype(np.int64)
