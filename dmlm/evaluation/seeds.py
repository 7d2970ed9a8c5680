"""Mean and standard deviation of metrics over runs that differ in their seed only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Spread(NamedTuple):
    """A metric over runs.

    Args:
        mean: Mean over the runs in which the metric exists; NaN where it exists in none.
        std: Sample standard deviation (divisor ``runs - 1``); NaN for fewer than two runs.
        runs: Number of runs in which the metric exists.
    """

    mean: float
    std: float
    runs: int

    def text(self, digits: int = 1, scale: float = 100.0) -> str:
        """``"91.9 ± 0.2"``, without the deviation for one run, ``"-"`` for none.

        Args:
            digits: Decimal places.
            scale: Factor, 100 for percent.
        """
        if not self.runs:
            return "-"
        mean = f"{scale * self.mean:.{digits}f}"
        return mean if self.runs < 2 else f"{mean} ± {scale * self.std:.{digits}f}"


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of the finite values."""
    array = np.asarray(values, dtype=np.float64)
    finite = array[np.isfinite(array)]
    mean = float(finite.mean()) if len(finite) else float("nan")
    return Spread(mean, float(finite.std(ddof=1)) if len(finite) > 1 else float("nan"), len(finite))


def over_seeds(runs: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Every metric that at least one run has.

    Args:
        runs: Contents of the runs' ``metrics.json``.

    Returns:
        By metric, in the order of first appearance.
    """
    keys = dict.fromkeys(key for run in runs for key in run)
    return {key: spread([run.get(key, float("nan")) for run in runs]) for key in keys}
