"""Groups of similar length within a batch, so that little is computed on padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def length_groups(lengths: Sequence[int], most: int) -> list[np.ndarray]:  # type: ignore[type-arg]
    """Split a batch into at most ``most`` groups of similar length with the least padding (by dynamic programming).

    Args:
        lengths: Tokens of each text.
        most: Most groups; each further group must save at least 5 % of the tokens to be worth its launch.

    Returns:
        Row numbers of each group; together a permutation of the batch.
    """
    order = np.argsort(np.asarray(lengths), kind="stable")
    ordered = np.asarray(lengths)[order]
    count = len(ordered)
    sizes = np.arange(1, count + 1)
    cost = sizes * ordered  # one group holding the first n rows, padded to the n-th
    cuts: list[np.ndarray] = []  # type: ignore[type-arg]
    best, chosen = int(cost[-1]), 1
    tables = []
    for groups in range(2, min(most, count) + 1):
        candidates = cost[None, :-1] + (sizes[1:, None] - sizes[None, :-1]) * ordered[1:, None]
        candidates = np.where(sizes[None, :-1] < sizes[1:, None], candidates, np.iinfo(np.int64).max)
        tables.append(candidates.argmin(1) + 1)  # rows before the last group, for the first n = 2.. rows
        cost = np.concatenate([[cost[0]], candidates.min(1)])
        if cost[-1] <= best - 0.05 * int(count * ordered[-1]):
            best, chosen = int(cost[-1]), groups
    end = count
    for table in reversed(tables[: chosen - 1]):
        start = int(table[end - 2]) if end > 1 else 0
        cuts.append(order[start:end])
        end = start
    return [group for group in [order[:end], *reversed(cuts)] if len(group)]
