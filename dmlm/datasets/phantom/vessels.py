"""Pulmonary vessels of a patient: drawn at random with the patient, grown into lines when a film needs them."""

from __future__ import annotations

from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.phantom.canvas import Points

_TRUNKS: Final = 9


class Vessels:
    """Pulmonary vessels of one side: three generations of branches, thinner and shorter each.

    What is random is drawn at once, in the order of growth; the shape follows when a film is drawn, since it takes
    three times as long and reports do without.

    Args:
        side: The patient's side, ``"right"`` or ``"left"``.
        rng: Draws the branches.
    """

    def __init__(self, side: str, rng: np.random.Generator) -> None:
        self.side = side
        count = _TRUNKS
        self._trunks = rng.normal(0.0, 0.07, count), rng.uniform(0.8, 1.2, count), rng.uniform(0.8, 1.2, count)
        self._roots = rng.normal(0.0, 0.012, (count, 2))
        self._bends = [rng.normal(0.0, 0.35, count)]
        self._forks = []
        for _ in range(3):
            count *= 2
            at, way, turn = rng.integers(1, 5, count), rng.integers(0, 2, count), rng.uniform(0.35, 0.8, count)
            shorter, thinner = rng.uniform(0.45, 0.68, count), rng.uniform(0.45, 0.65, count)
            self._forks.append((at, np.where(way, turn, -turn), shorter, thinner))
            self._bends.append(rng.normal(0.0, 0.35, count))

    @cached_property
    def lines(self) -> tuple[Points, NDArray[np.float64]]:
        """Points ``[K, 3, 2]`` and widths ``[K]`` (fractions of the film) of lines from the hilum outward."""
        hilum = np.array([0.432, 0.452] if self.side == "right" else [0.578, 0.432])
        outward = -1.0 if self.side == "right" else 1.0
        # from straight up to steeply down; lower-zone vessels are longer and wider
        heading = np.linspace(-1.30, 1.32, _TRUNKS) + self._trunks[0]
        low = np.clip(0.5 + 0.5 * np.sin(heading), 0.0, 1.0)
        length = (0.17 + 0.06 * low) * self._trunks[1]
        width = (0.0062 + 0.0050 * low) * self._trunks[2]
        start = hilum + self._roots
        lines, widths = [], []
        steps = np.linspace(0.0, 1.0, 5)
        for generation, bend in enumerate(self._bends):
            angle = heading[:, None] + bend[:, None] * steps
            stride = (length / 4)[:, None] * np.ones(5)
            stride[:, 0] = 0.0
            x = start[:, :1] + outward * np.cumsum(stride * np.cos(angle), axis=1)
            y = start[:, 1:] + np.cumsum(stride * np.sin(angle), axis=1)
            line = np.stack([x, y], axis=2)
            # each line is cut in two so that it tapers
            lines.extend([line[:, :3], line[:, 2:]])
            widths.extend([width, 0.7 * width])
            if generation == len(self._forks):
                break
            at, turn, shorter, thinner = self._forks[generation]
            parent = np.repeat(np.arange(len(heading)), 2)
            start = line[parent, at]
            heading = heading[parent] + bend[parent] * steps[at] + turn
            length = length[parent] * shorter
            width = np.maximum(width[parent] * thinner, 0.0012)
        return np.concatenate(lines), np.concatenate(widths)
