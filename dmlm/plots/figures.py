"""Curves of an evaluation as matplotlib figures: one small panel per finding, without pyplot and its global state.

A figure goes to a file by :func:`save_figure`, or to TensorBoard by ``SummaryWriter.add_figure``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from dmlm.errors import ConfigError, MismatchError
from dmlm.evaluation.calibration import expected_calibration_error, reliability_curve
from dmlm.evaluation.ranking import auroc, average_precision, known_rows, precision_recall_curve, roc_curve
from dmlm.evaluation.uncertainty import aurc, risk_coverage
from dmlm.io.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _GREY, _LIGHT = "#1f5a94", "#8a8a8a", "#d5dde6"
CYCLE = ("#1f5a94", "#c8571b", "#2e8b57", "#8a4fa3", "#7a5c2e", "#c23b6b")  # told apart by dashes as well
DASHES: tuple[Literal["-", "--", "-.", ":"], ...] = ("-", "--", "-.", ":")
SMALL_SIZE, TEXT_SIZE = 7.5, 9.0


def roc_figure(scores: npt.ArrayLike, labels: npt.ArrayLike, names: Sequence[str]) -> Figure:
    """ROC curve and AUC per finding; the dashed line is chance.

    Args:
        scores: ``(N, C)``.
        labels: 1 present, 0 absent; -1 and NaN are left out per class, ``(N, C)``.
        names: The ``C`` findings.

    Returns:
        The figure; a finding with one kind of label has a panel that says so.

    Raises:
        MismatchError: If shapes and names do not belong together.
    """
    table, marks = _columns(scores, labels, names)
    figure, panels = _panels(names, "false positive rate", "true positive rate")
    for c, axes in enumerate(panels):
        axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=0.8)
        curve = roc_curve(table[:, c], marks[:, c])
        if curve is None:
            _say_one_sided(axes)
            continue
        axes.plot(curve.false_positive_rate, curve.true_positive_rate, color=_BLUE, linewidth=1.4)
        _note(axes, f"AUC {auroc(table[:, c], marks[:, c]):.3f}", "lower")
    return figure


def pr_figure(scores: npt.ArrayLike, labels: npt.ArrayLike, names: Sequence[str]) -> Figure:
    """Precision-recall curve and its area per finding; the dashed line is the prevalence, which chance would reach.

    Arguments, result and errors are those of :func:`roc_figure`.
    """
    table, marks = _columns(scores, labels, names)
    figure, panels = _panels(names, "recall", "precision")
    for c, axes in enumerate(panels):
        curve = precision_recall_curve(table[:, c], marks[:, c])
        if curve is None:
            _say_one_sided(axes)
            continue
        prevalence = float((marks[:, c] == 1).sum() / np.isin(marks[:, c], (0, 1)).sum())
        axes.axhline(prevalence, color=_GREY, linestyle="--", linewidth=0.8)
        found = curve.recall > 0  # the point (1, 0), and absent cases above every present one, would draw a bar at 0
        recall, precision = curve.recall[found][::-1], curve.precision[found][::-1]
        steps = np.append(0.0, recall), np.append(precision[0], precision)
        axes.step(*steps, where="pre", color=_BLUE, linewidth=1.4)  # the area under these steps is the AUPRC
        area = average_precision(table[:, c], marks[:, c])
        _note(axes, f"AUPRC {area:.3f}\nprevalence {prevalence:.3f}", "upper")
    return figure


def reliability_figure(
    probs: npt.ArrayLike, labels: npt.ArrayLike, names: Sequence[str], bins: int = 15, adaptive: bool = False
) -> Figure:
    """Frequency of a finding against its probability, with the calibration error; the dashed line is perfect.

    The pale bars show where the probabilities lie, as shares of the largest bin on a third of the panel's
    height; a larger point stands for more cases.

    Args:
        probs: Probabilities 0..1, ``(N, C)``.
        labels: 1 present, 0 absent; -1 and NaN are left out per class, ``(N, C)``.
        names: The ``C`` findings.
        bins: Number of bins.
        adaptive: Bins at quantiles instead of equal width.

    Returns:
        The figure.

    Raises:
        MismatchError: If shapes and names do not belong together, or a probability is outside 0..1.
    """
    table, marks = _columns(probs, labels, names)
    figure, panels = _panels(names, "probability", "frequency")
    for c, axes in enumerate(panels):
        chance, present = known_rows(table[:, c], marks[:, c])
        if not len(chance):
            _note(axes, "no labels", "middle")
            continue
        histogram, edges = np.histogram(chance, bins=bins, range=(0, 1))
        axes.bar(edges[:-1], histogram / histogram.max() / 3, width=1 / bins, align="edge", color=_LIGHT, linewidth=0)
        axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=0.8)
        curve = reliability_curve(chance, present, bins, adaptive)
        axes.plot(curve.probability, curve.frequency, color=_BLUE, linewidth=0.8, alpha=0.6)
        weight = 3 + 27 * np.sqrt(curve.rows / curve.rows.max())
        axes.scatter(curve.probability, curve.frequency, s=weight, color=_BLUE, linewidths=0, zorder=3, clip_on=False)
        error = expected_calibration_error(chance, present, bins, adaptive)
        _note(axes, f"ECE {error:.3f}", "upper left")
    return figure


def risk_coverage_figure(uncertainties: Mapping[str, npt.ArrayLike], errors: npt.ArrayLike) -> Figure:
    """Mean error among the most certain cases, one line per kind of uncertainty, between a useless and a perfect one.

    Args:
        uncertainties: Uncertainty by name, ``(N,)`` each, larger is less certain.
        errors: Error per case, 0 for a good answer, ``(N,)``.

    Returns:
        The figure.

    Raises:
        MismatchError: If there are no cases, or shapes differ.
    """
    loss = np.asarray(errors, dtype=np.float64)
    if not loss.size or not uncertainties:
        msg = "a risk-coverage figure needs at least one case and one uncertainty"
        raise MismatchError(msg)
    figure = new_figure(5.6, 3.6)
    axes = figure.add_subplot()
    dress(axes)
    for index, (name, uncertainty) in enumerate(uncertainties.items()):
        curve = risk_coverage(uncertainty, loss)
        (line,) = axes.plot(curve.coverage, curve.risk, linewidth=1.5, linestyle=DASHES[index % len(DASHES)])
        line.set_color(CYCLE[index % len(CYCLE)])
        line.set_label(f"{name} (AURC {aurc(uncertainty, loss):.3f})")
    best = risk_coverage(loss, loss)
    useless = f"no information (AURC {loss.mean():.3f})"
    axes.axhline(float(loss.mean()), color=_GREY, linestyle="--", linewidth=0.9, label=useless)
    perfect = f"perfect order (AURC {best.risk.mean():.3f})"
    axes.plot(best.coverage, best.risk, color=_GREY, linestyle=":", linewidth=1.1, label=perfect)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=-0.02 * float(axes.get_ylim()[1]))  # a line at 0 stays visible
    axes.set_xlabel("coverage: share of cases kept, most certain first", fontsize=TEXT_SIZE)
    axes.set_ylabel("risk: mean error of the kept cases", fontsize=TEXT_SIZE)
    figure.legend(loc="outside lower center", ncols=2, fontsize=SMALL_SIZE, frameon=False)
    return figure


def save_figure(fig: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure completely or not at all, in the format of the file's extension (PNG at 150 dots per inch).

    Args:
        fig: The figure.
        path: Where to; missing parent folders are made.

    Returns:
        The path.

    Raises:
        ConfigError: If the extension is not one that matplotlib writes.
    """
    target = Path(path)
    extension = target.suffix[1:].lower()
    if extension not in fig.canvas.get_supported_filetypes():
        msg = f"cannot write a figure to {target}: use .png, .pdf or .svg"
        raise ConfigError(msg)
    with atomic_path(target) as temporary:
        fig.savefig(temporary, format=extension, dpi=150)
    return target


def new_figure(width: float, height: float) -> Figure:
    """Make an empty white figure of this many inches, laid out by constraints, without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08)
    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)  # fixes the canvas, whatever backend the user's session has
    return figure


def _panels(names: Sequence[str], x_label: str, y_label: str) -> tuple[Figure, list[Axes]]:
    """A grid of square panels on the unit square, titled by finding, in 3 to 5 columns with few empty places."""
    count = len(names)
    columns = count if count <= 3 else min((5, 4, 3), key=lambda wide: (-count % wide, -wide))
    rows = math.ceil(count / columns)
    size = 3.4 if count == 1 else 2.0
    figure = new_figure(size * columns + 0.4, (size + 0.25) * rows + 0.3)
    panels = []
    for index, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, index + 1)
        dress(axes)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.tick_params(labelleft=index % columns == 0)
        axes.set_title(name if len(name) <= 26 else name[:25] + "…", fontsize=TEXT_SIZE)
        panels.append(axes)
    figure.supxlabel(x_label, fontsize=TEXT_SIZE)
    figure.supylabel(y_label, fontsize=TEXT_SIZE)
    return figure, panels


def dress(axes: Axes) -> None:
    """Give axes the look of all our figures: no frame, a light grid, small numbers."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL_SIZE, length=2.5)
    axes.grid(color="#ececec", linewidth=0.6)
    axes.set_axisbelow(True)


def _note(axes: Axes, text: str, where: str) -> None:
    """Small text in a corner, on white, so that a curve behind it does not cross the letters."""
    x, y, across, up = {
        "lower": (0.97, 0.05, "right", "bottom"),
        "upper": (0.97, 0.96, "right", "top"),
        "upper left": (0.04, 0.96, "left", "top"),
        "middle": (0.5, 0.5, "center", "center"),
    }[where]
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.0}
    axes.text(x, y, text, transform=axes.transAxes, ha=across, va=up, fontsize=SMALL_SIZE, bbox=box)


def _say_one_sided(axes: Axes) -> None:
    _note(axes, "needs present\nand absent cases", "middle")


def _columns(
    values: npt.ArrayLike, labels: npt.ArrayLike, names: Sequence[str]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    table, marks = np.asarray(values, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if table.ndim != 2 or table.shape != marks.shape or table.shape[1] != len(names) or not names:
        msg = f"scores {table.shape} and labels {marks.shape} must both be (N, {len(names)}), one column per name"
        raise MismatchError(msg)
    return table, marks
