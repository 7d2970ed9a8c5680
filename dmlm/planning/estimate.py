"""Time of a training: operations over what GPUs reach, what optimiser, network and loader add, and the bottleneck."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dmlm.errors import ConfigError
from dmlm.planning.flops import StepFlops, step_flops
from dmlm.planning.hardware import Cluster
from dmlm.planning.memory import Memory, pairs_that_fit, parameters, process_memory
from dmlm.planning.shapes import Shapes

_OPTIMIZER_BYTES = 28.0
"""AdamW reads weight, gradient and two moments, and writes weight and moments: 7 floats a parameter."""
_TEACHER_BYTES = 12.0
_BACKWARD_SHARE = 2 / 3
"""Part of a step in which gradients become ready, so that their exchange can hide behind it."""


@dataclass(frozen=True)
class Run:
    """A training to plan.

    Args:
        images: Image-text pairs of an epoch.
        epochs: Epochs; -1 where ``max_steps`` ends the training.
        batch: Pairs per process and step.
        tokens: Tokens of the texts: one number for all, or a sample of lengths.
        half: Mixed precision (fp16, bf16) instead of float32.
        utilisation: Share of the GPU's peak that the matrix products reach.
        network: Between nodes, bytes a second.
        loader_rate: Images a second that a core reads and augments.
        loader_cores: Cores per process that load.
        accumulate: Batches per optimiser step.
        max_steps: Most optimiser steps; -1 for as many as the epochs have.

    Raises:
        ConfigError: If a number cannot be.
    """

    images: int
    epochs: int
    batch: int
    tokens: Sequence[float]
    half: bool = True
    utilisation: float = 0.3
    network: float = 12.5e9
    loader_rate: float = 2500.0
    loader_cores: int = 4
    accumulate: int = 1
    max_steps: int = -1

    def __post_init__(self) -> None:
        if self.max_steps != -1 and self.max_steps <= 0:
            msg = f"max_steps must be positive, or -1 for no limit, got {self.max_steps}"
            raise ConfigError(msg)
        if self.epochs <= 0 and (self.epochs != -1 or self.max_steps == -1):
            msg = f"epochs must be positive, or -1 where trainer.max_steps is set, got {self.epochs}"
            raise ConfigError(msg)
        for name in ("images", "batch", "accumulate", "loader_cores", "loader_rate", "network"):
            if not getattr(self, name) > 0:  # NaN is neither above nor below
                msg = f"{name} must be positive, got {getattr(self, name)}"
                raise ConfigError(msg)
        if not self.tokens or not all(1 <= count < math.inf for count in self.tokens):
            msg = f"tokens must be a number of at least 1, got {list(self.tokens)}"
            raise ConfigError(msg)
        if not 0 < self.utilisation <= 1:
            msg = f"utilisation must be above 0 and at most 1, got {self.utilisation}"
            raise ConfigError(msg)


class Estimate(NamedTuple):
    """What a training takes; times in seconds per optimiser step, unless named otherwise.

    Args:
        flops: Per pair.
        memory: Of a process.
        steps: Optimiser steps of the training.
        compute: Matrix products.
        optimizer: AdamW and the teacher's average.
        exchange: All-reduce of the gradients, as far as it does not hide behind the backward pass.
        exchange_all: All of it.
        loader: Reading and augmenting the images, while all the others run.
        step: What a step takes.
        hours: What the training takes.
        images_per_second: Of all GPUs together.
        bottleneck: ``matrix products``, ``memory bandwidth``, ``network`` or ``loader``.
        fits: Whether the memory suffices.
        largest_batch: Most pairs per process that fit, 0 if none.
    """

    flops: StepFlops
    memory: Memory
    steps: int
    compute: float
    optimizer: float
    exchange: float
    exchange_all: float
    loader: float
    step: float
    hours: float
    images_per_second: float
    bottleneck: str
    fits: bool
    largest_batch: int


def estimate(shapes: Shapes, run: Run, cluster: Cluster) -> Estimate:
    """Estimate time, memory and bottleneck.

    Raises:
        ConfigError: If the images do not fill one step.
    """
    gpu, pairs = cluster.gpu, run.batch * run.accumulate
    steps_per_epoch = run.images // (pairs * cluster.total)
    if steps_per_epoch == 0:
        msg = f"{run.images} images do not fill one step of {pairs * cluster.total} pairs; lower --batch-size"
        raise ConfigError(msg)
    limits = [steps_per_epoch * run.epochs] * (run.epochs > 0) + [run.max_steps] * (run.max_steps > 0)
    steps = min(limits)
    flops = step_flops(shapes, run.tokens)
    peak = gpu.half if run.half else gpu.single
    compute = pairs * flops.total / (peak * run.utilisation)
    counts = parameters(shapes)
    trained = sum(counts.values())
    followed = (trained - counts["predictor"]) * shapes.teacher
    optimizer = (_OPTIMIZER_BYTES * trained + _TEACHER_BYTES * followed) / gpu.bandwidth
    exchange_all = _all_reduce(4.0 * trained, cluster, run.network)
    exchange = max(0.0, exchange_all - _BACKWARD_SHARE * compute / run.accumulate)
    loader = pairs / (run.loader_rate * run.loader_cores)
    working = compute + optimizer + exchange
    step = max(working, loader)
    parts = {"matrix products": compute, "memory bandwidth": optimizer, "network": exchange}
    bottleneck = "loader" if loader > working else max(parts, key=lambda name: parts[name])
    mean_tokens = sum(run.tokens) / len(run.tokens)
    memory = process_memory(shapes, mean_tokens, run.batch, run.half)
    room = (gpu.memory - (memory.total - memory.activations)) / (1 if run.half else 2)
    return Estimate(
        flops,
        memory,
        steps,
        compute,
        optimizer,
        exchange,
        exchange_all,
        loader,
        step,
        steps * step / 3600,
        pairs * cluster.total / step,
        bottleneck,
        memory.total <= gpu.memory,
        pairs_that_fit(shapes, mean_tokens, room),
    )


def _all_reduce(size: float, cluster: Cluster, network: float) -> float:
    """Ring all-reduce: ``2 (n - 1) / n`` of the bytes cross the slowest link."""
    if cluster.total == 1:
        return 0.0
    inside = 2 * (cluster.per_node - 1) / cluster.per_node * size / cluster.gpu.link
    across = 2 * (cluster.nodes - 1) / cluster.nodes * size / network
    return inside + across
