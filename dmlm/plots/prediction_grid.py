"""Films beside what a model says of them: truth, prediction, and where it is unsure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dmlm.errors import ConfigError
from dmlm.plots.figures import _figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TRUTH, _ANSWER = "#3ddc84", "#ff5e3c"


@dataclass(frozen=True)
class GridCase:
    """One study of a grid.

    Args:
        image: Grey values, uint8 ``[H, W]``.
        uncertainty: Uncertainty over the image, any scale, ``[h, w]``; None draws none.
        text: Lines beneath the film, such as truth and probabilities.
        truth: True mask ``[H, W]``; None where there is none.
        answer: Predicted mask ``[H, W]``; None where there is none.
    """

    image: NDArray[np.uint8]
    uncertainty: NDArray[np.floating] | None
    text: str
    truth: NDArray[np.bool_] | None = None
    answer: NDArray[np.bool_] | None = None


def prediction_grid(cases: Sequence[GridCase], uncertainty_name: str, columns: int = 4) -> Figure:
    """Draw each film, with the outlines of true and predicted masks, and its uncertainty map beside it.

    All maps share one colour scale, so that a bright one is more uncertain than a dark one.

    Args:
        cases: The studies.
        uncertainty_name: What the maps show, for the caption.
        columns: Studies per row.

    Returns:
        The figure.

    Raises:
        ConfigError: If there is no case.
    """
    if not cases:
        msg = "a prediction grid needs at least one study"
        raise ConfigError(msg)
    columns = min(columns, len(cases))
    rows = -(-len(cases) // columns)
    maps = [case.uncertainty for case in cases if case.uncertainty is not None]
    low, high = (min(map(np.min, maps)), max(map(np.max, maps))) if maps else (0.0, 1.0)
    wide = 2 if maps else 1
    lines = max(case.text.count("\n") + 1 for case in cases)
    figure = _figure(1.6 * wide * columns + 0.2, (1.75 + 0.13 * lines) * rows + 0.35)
    masked = any(case.truth is not None for case in cases)
    for number, case in enumerate(cases):
        first = wide * columns * (number // columns) + wide * (number % columns) + 1
        axes = figure.add_subplot(rows, wide * columns, first)
        _film(axes, case.image)
        if case.truth is not None:
            _outline(axes, case.truth, _TRUTH, "-")
        if case.answer is not None:
            _outline(axes, case.answer, _ANSWER, "--")
        axes.set_xlabel(case.text, fontsize=6.5, loc="left")
        if case.uncertainty is not None:
            beside = figure.add_subplot(rows, wide * columns, first + 1)
            _film(beside, case.image)
            height, width = case.image.shape
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            shown = beside.imshow(case.uncertainty, cmap="magma", vmin=low, vmax=high, alpha=0.6, extent=extent)
            shown.set_interpolation("bilinear")
    captions = [f"solid green: truth, dashed red: prediction"] if masked else []
    captions += [f"right: {uncertainty_name}, {low:.3g} (dark) to {high:.3g} (bright)"] if maps else []
    figure.suptitle("; ".join(captions), fontsize=8)
    return figure


def choose_cases(error: NDArray[np.floating], uncertainty: NDArray[np.floating], count: int = 8) -> list[int]:
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
    lists = [np.argsort(-np.nan_to_num(error, nan=-np.inf), kind="stable"), np.argsort(uncertainty, kind="stable")]
    lists += [np.argsort(-uncertainty, kind="stable"), np.concatenate([spaced, np.arange(total)])]
    chosen: dict[int, None] = {}
    for place in range(total):
        for order in lists:
            if len(chosen) < min(count, total):
                chosen.setdefault(int(order[place]))
    return list(chosen)


def _film(axes: Axes, image: NDArray[np.uint8]) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])


def _outline(axes: Axes, mask: NDArray[np.bool_], colour: str, style: str) -> None:
    if mask.any() and not mask.all():
        axes.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=0.9, linestyles=[style])
