"""Measuring on a shared machine: CPU time of one thread, the sides of a ratio in turn, and the rate of matrix products.

Other processes take turns on the cores, so wall time says little; the CPU time of one thread does not count what others
do (they still share caches and clocks, which is why the sides of a ratio alternate).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import torch

SIDE = 2048


def one_thread() -> None:
    """Let torch compute in one thread: threads that wait for each other would count as CPU time."""
    torch.set_num_threads(1)


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def alternate(sides: Mapping[str, Callable[[], object]], rounds: int, warm: int = 1) -> dict[str, list[float]]:
    """Time the sides in turn.

    Args:
        sides: What to time, by name.
        rounds: How often each.
        warm: Untimed calls of each before.

    Returns:
        CPU seconds of each call.
    """
    for _ in range(warm):
        for work in sides.values():
            work()
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            taken[name].append(cpu_seconds(work))
    return taken


def best(sides: Mapping[str, Callable[[], object]], rounds: int = 3, warm: int = 1) -> dict[str, float]:
    """Least CPU seconds of each side; see :func:`alternate`."""
    return {name: min(times) for name, times in alternate(sides, rounds, warm).items()}


class MatrixRate:
    """Rate of large matrix products, sampled between other measurements.

    Args:
        dtype: Of the matrices.
        side: Their rows and columns.
    """

    def __init__(self, dtype: torch.dtype = torch.bfloat16, side: int = SIDE) -> None:
        generator = torch.Generator().manual_seed(0)
        self.left, self.right = (torch.randn(side, side, generator=generator).to(dtype) for _ in range(2))
        self.rates: list[float] = []
        self.left @ self.right

    def sample(self, products: int = 4) -> float:
        """Take one more sample; returns operations a second of CPU time."""
        seconds = cpu_seconds(lambda: [self.left @ self.right for _ in range(products)])
        self.rates.append(2.0 * len(self.left) ** 3 * products / seconds)
        return self.rates[-1]

    @property
    def rate(self) -> float:
        """Median of the samples."""
        return median(self.rates)


@cache
def half_is_faster() -> tuple[bool, float]:
    """Whether this CPU multiplies faster in bf16 than in float32 (older ones have no instruction for it); the ratio."""
    half, single = (
        MatrixRate(torch.bfloat16, 768),
        MatrixRate(torch.float32, 768),
    )  # without the instruction it takes long
    for _ in range(3):
        half.sample(1), single.sample(4)
    ratio = max(half.rates) / max(single.rates)
    return ratio > 1.0, ratio


def median(values: Sequence[float]) -> float:
    """Middle value; the mean of the two middle ones."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
