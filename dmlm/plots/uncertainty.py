"""How answers and doubts change as images get worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dmlm.plots.figures import CYCLE, DASHES, SMALL_SIZE, TEXT_SIZE, dress, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def corruption_figure(metrics: Mapping[str, float], doubts: Sequence[str], prefix: str = "uncertainty") -> Figure:
    """Draw errors, AUC and calibration by level of corruption, and how well each doubt tells spoilt images from clean.

    Args:
        metrics: Keys of :func:`dmlm.evaluation.uncertainty_study.uncertainty_study`.
        doubts: Names of the kinds of uncertainty.
        prefix: First part of the keys.

    Returns:
        The figure.
    """
    figure = new_figure(7.6, 3.4)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    levels = sorted(int(key.rpartition("@")[2]) for key in metrics if key.startswith(f"{prefix}/error_rate@"))
    shown = {"auc_macro": "macro AUC", "error_rate": "error rate", "ece_macro": "calibration error"}
    for place, (key, label) in enumerate(shown.items()):
        values = [metrics[f"{prefix}/{key}@{level}"] for level in levels]
        left.plot(levels, values, color=CYCLE[place], linestyle=DASHES[place], marker="o", markersize=3, label=label)
    for place, name in enumerate(doubts):
        values = [0.5] + [metrics[f"{prefix}/{name}/corruption_auroc@{level}"] for level in levels[1:]]
        (line,) = right.plot(levels, values, marker="o", markersize=3, label=name.replace("_", " "))
        line.set(color=CYCLE[place % len(CYCLE)], linestyle=DASHES[place % len(DASHES)])
    right.axhline(0.5, color="#8a8a8a", linewidth=0.9, linestyle="--")
    for axes, title in ((left, "answers"), (right, "doubt: spoilt against clean (AUROC)")):
        dress(axes)
        axes.set_xlabel("level of corruption", fontsize=TEXT_SIZE)
        axes.set_title(title, fontsize=TEXT_SIZE)
        axes.set_xticks(levels)
        axes.set_ylim(0, 1.02)
        axes.legend(fontsize=SMALL_SIZE, frameon=False)
    return figure
