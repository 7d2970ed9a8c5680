"""Which studies of a test to show: bad answers, certain ones, doubtful ones, and some at random places."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def choose_cases(error: NDArray[Any], uncertainty: NDArray[Any], count: int = 8) -> list[int]:
    """Rows worth looking at: a quarter each of the worst, the most certain, the most uncertain, and evenly spaced ones.

    Args:
        error: Error of each row, larger is worse, ``(N,)``; nan where there is no truth.
        uncertainty: Uncertainty of each row, ``(N,)``.
        count: How many rows to choose, at most ``N``.

    Returns:
        Distinct rows.
    """
    total = len(error)
    spaced = np.linspace(0, max(total - 1, 0), num=max(count, 1)).astype(int)
    orders = [
        np.argsort(-np.nan_to_num(error, nan=-np.inf), kind="stable"),
        np.argsort(uncertainty, kind="stable"),
        np.argsort(-uncertainty, kind="stable"),
        np.concatenate([spaced, np.arange(total)]),
    ]
    chosen: dict[int, None] = {}
    for place in range(total):
        for order in orders:
            if len(chosen) < min(count, total):
                chosen.setdefault(int(order[place]))
    return list(chosen)
