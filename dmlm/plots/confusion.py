"""Confusion matrices: which class is answered for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dmlm.errors import MismatchError
from dmlm.plots.figures import SMALL_SIZE, TEXT_SIZE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST = 22


def confusion_figure(confusion: npt.ArrayLike, names: Sequence[str]) -> Figure:
    """Counts of answers by true class; the shade is the share of the true class's rows.

    Args:
        confusion: Rows of class i answered as class j at ``[i, j]``, ``(K, K)``.
        names: The ``K`` classes.

    Returns:
        The figure; a class without rows has counts of 0 and no shares.

    Raises:
        MismatchError: If the matrix is not ``(K, K)``.
    """
    table = np.asarray(confusion, dtype=np.float64)
    count = len(names)
    if table.shape != (count, count) or not count:
        msg = f"a confusion matrix of {count} classes must be ({count}, {count}), got {table.shape}"
        raise MismatchError(msg)
    rows = table.sum(axis=1)
    share = np.divide(table, rows[:, None], out=np.zeros_like(table), where=rows[:, None] > 0)
    side = max(3.4, 0.75 * count + 1.6)
    figure = new_figure(side + 0.6, side)
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i in range(count):
        for j in range(count):
            colour = "white" if share[i, j] > 0.55 else "black"
            text = f"{table[i, j]:,.0f}" + (f"\n{100 * share[i, j]:.0f} %" if rows[i] else "")
            axes.text(j, i, text, ha="center", va="center", fontsize=SMALL_SIZE, color=colour)
    shown = [name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…" for name in names]
    axes.set_xticks(range(count), shown, rotation=30, ha="right", fontsize=SMALL_SIZE)
    axes.set_yticks(range(count), shown, fontsize=SMALL_SIZE)
    axes.set_xlabel("answer", fontsize=TEXT_SIZE)
    axes.set_ylabel("truth", fontsize=TEXT_SIZE)
    return figure
