"""Confusion matrices: which class is answered for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dmlm.errors import MismatchError
from dmlm.plots.figures import _figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion_figure(confusion: npt.ArrayLike, names: Sequence[str]) -> Figure:
    """Counts of answers by true class; the shade is the share of the true class's rows.

    Args:
        confusion: Rows of class i answered as class j at ``[i, j]``, ``(K, K)``.
        names: The ``K`` classes.

    Returns:
        The figure.

    Raises:
        MismatchError: If the matrix is not ``(K, K)``.
    """
    table = np.asarray(confusion, dtype=np.float64)
    count = len(names)
    if table.shape != (count, count) or not count:
        msg = f"a confusion matrix of {count} classes must be ({count}, {count}), got {table.shape}"
        raise MismatchError(msg)
    rows = table.sum(axis=1, keepdims=True)
    share = np.divide(table, rows, out=np.zeros_like(table), where=rows > 0)
    side = max(3.4, 0.75 * count + 1.6)
    figure = _figure(side + 0.6, side)
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i in range(count):
        for j in range(count):
            colour = "white" if share[i, j] > 0.55 else "black"
            text = f"{table[i, j]:,.0f}\n{100 * share[i, j]:.0f} %"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(count), names, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(count), names, fontsize=8)
    axes.set_xlabel("answer", fontsize=9)
    axes.set_ylabel("truth", fontsize=9)
    return figure
