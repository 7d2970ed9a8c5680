"""Peak memory of activations per pair of the paper's size: bf16, texts of 256 tokens.

``python -m benchmarks.memory`` prints the figures. ``peak``: the most that torch's allocator holds at once during a
forward and backward pass, as its profiler records it; ``kept``: what it holds between the two. The difference between
two batch sizes leaves out weights, gradients and libraries. ``chunks``: the default objective with ``chunk_size: 1``,
the growth from a batch of two chunks to one of three.

What is kept grows with width and depth, so the towers measured are a quarter as wide (processors without bf16 take a
quarter of an hour for the widths of the paper) and of a few layers; what one more of them adds is added for all that
are missing, and all of it counts four times. That is within 1.5 MiB of the paper's towers (345.8 MiB where all is
kept).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.setting import BASE, Size, build, draw, shapes, tokens_of_length
from benchmarks.step import autocast, trained
from dmlm.models import ProbabilisticEncoder
from dmlm.models.checkpointing import Checkpointing
from dmlm.objectives import ObjectiveConfig, PretrainingObjective, Views
from dmlm.objectives.chunks import InChunks
from dmlm.planning.memory import activations

TOKENS = 256
SIZES = (1, 2)
IN_CHUNKS = (2, 3)
ONE_PASS = ObjectiveConfig(conditioning="joint", align_view="masked")
_NARROWER = 4
_FEW = 3
"""Layers from which on the peak of checkpointed towers, and of chunks, lies where that of deep ones lies."""
_BACKWARD = "dmlm: backward"


def measure() -> dict[str, float]:
    """Return MiB per pair of the default objective, of one student pass, with gradient checkpointing and in chunks."""
    figures: dict[str, float] = {}
    for name, config, saving, sizes in (
        ("default", ObjectiveConfig(), "selective", SIZES),  # what "auto" is at the paper's widths
        ("one_pass", ONE_PASS, "selective", SIZES),
        ("keeping_all", ObjectiveConfig(), False, SIZES),
        ("checkpointing", ObjectiveConfig(), True, SIZES),
        ("one_pass_checkpointing", ONE_PASS, True, SIZES),
        ("chunks", ObjectiveConfig(), "selective", IN_CHUNKS),
    ):
        kind: Any = saving
        depth = _FEW if saving is True or sizes is IN_CHUNKS else 1
        peak, kept = _per_pair(config, kind, depth, sizes)
        if sizes is not IN_CHUNKS:  # which hold distributions, whatever the depth
            deeper = _per_pair(config, kind, depth + 1, sizes)
            more = BASE.vit_layers - depth
            peak, kept = (a + more * (b - a) for a, b in zip((peak, kept), deeper, strict=True))
        figures[f"memory_peak_mib_per_pair_{name}"] = peak
        if sizes is IN_CHUNKS:  # what a batch of chunks keeps between the passes is next to nothing
            continue
        figures[f"memory_kept_mib_per_pair_{name}"] = kept
        options = {"conditioning": config.conditioning, "align_view": config.align_view}
        planned = activations(shapes(*build(BASE, kind), options), TOKENS)
        figures[f"memory_planned_mib_per_pair_{name}"] = planned / 2**20
    return figures


def _per_pair(config: ObjectiveConfig, saving: Checkpointing, layers: int, sizes: tuple[int, int]) -> list[float]:
    """MiB of the peak and of what is kept that the larger of two batches needs more, with towers of some layers."""
    encoder, predictor = build(Size("vit_tiny_patch16_224", layers, 192, layers, 192, 96, 4), saving)
    encoder.train()
    objective = PretrainingObjective(config, encoder)
    for parameter in trained(encoder, predictor, objective):
        parameter.grad = torch.zeros_like(parameter)
    modules: tuple[Any, Any] = (encoder, predictor)
    if sizes is IN_CHUNKS:
        modules = (InChunks(encoder, 1), InChunks(predictor, 1))
    small, large = (_step(objective, modules, _views(encoder, batch)) for batch in sizes)
    return [_NARROWER * (b - a) / 2**20 for a, b in zip(small, large, strict=True)]


def _views(encoder: ProbabilisticEncoder, batch: int) -> Views:
    views = draw(encoder, batch)
    tokens = tokens_of_length(encoder, batch, TOKENS)
    mask = (torch.arange(TOKENS) % 10 < 3)[None].expand(batch, -1) & tokens.valid
    return views._replace(tokens=replace(tokens), text_mask=mask)


def _step(objective: PretrainingObjective, modules: tuple[Any, Any], views: Views) -> tuple[int, int]:
    """Bytes that are allocated at most during a forward and backward pass, and between the two."""

    def step() -> None:
        with autocast(half=True):
            loss = objective(*modules, views).loss
        with record_function(_BACKWARD):
            loss.backward()

    events = _recorded(step)
    begin = next(int(event.start_ns()) for event in events if event.name() == _BACKWARD)
    changes = _changes(events)
    return max(accumulate(size for _, size in changes)), sum(size for moment, size in changes if moment < begin)


def allocated(work: Callable[[], object]) -> int:
    """Bytes of tensors that are alive at once at most during some work, beside those that are alive before."""
    return max(accumulate(size for _, size in _changes(_recorded(work))))


def _recorded(work: Callable[[], object]) -> list[Any]:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    assert profiler.profiler is not None
    return list(profiler.profiler.kineto_results.events())


def _changes(events: list[Any]) -> list[tuple[int, int]]:
    """Moments and bytes of what was asked for and (negative) given back."""
    return sorted((int(event.start_ns()), int(event.nbytes())) for event in events if event.name() == "[memory]")


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
