"""Where a model looks, by covering parts of the image: works with every model and needs nothing but its answers.

The map says by how much the log-odds of an answer fall when a square is covered with the image's mean grey (Zeiler and
Fergus 2014). It is a statement about the model, not about the disease.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray


def occlusion_map(
    probability: Callable[[torch.Tensor], NDArray[np.float64]], image: torch.Tensor, column: int, grid: int = 7
) -> NDArray[np.float64]:
    """Cover one square after the other.

    Args:
        probability: From images uint8 ``(B, 1, S, S)`` to probabilities ``(B, C)``.
        image: uint8 ``(1, S, S)``.
        column: Which answer.
        grid: Squares per side.

    Returns:
        Fall of the log-odds when the square is covered, float64 ``(grid, grid)``; negative where covering raises them.
    """
    edges = np.linspace(0, image.shape[-1], grid + 1).round().astype(int)
    covered = [image]
    grey = int(image.float().mean().round())
    for top, bottom in pairwise(edges):
        for left, right in pairwise(edges):
            changed = image.clone()
            changed[:, top:bottom, left:right] = grey
            covered.append(changed)
    chance = np.clip(probability(torch.stack(covered))[:, column], 1e-9, 1 - 1e-9)
    odds = np.log(chance) - np.log1p(-chance)
    return np.asarray((odds[0] - odds[1:]).reshape(grid, grid), dtype=np.float64)
