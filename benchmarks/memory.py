"""Peak memory of activations per pair of the paper's size: bf16, texts of 256 tokens.

``python -m benchmarks.memory`` prints the figures. ``peak``: the most that torch's allocator holds at once during a
forward and backward pass, as its profiler records it; the difference between two batch sizes leaves out weights,
gradients and libraries. ``kept``: what autograd saves for the backward pass, without what checkpointing holds.
``chunks``: the default objective with ``chunk_size: 1``, the growth from a batch of two chunks to one of three.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.setting import BASE, build, draw, shapes, tokens_of_length
from benchmarks.step import autocast, trained
from dmlm.models import ProbabilisticEncoder
from dmlm.objectives import ObjectiveConfig, PretrainingObjective, Views
from dmlm.objectives.chunks import InChunks
from dmlm.planning.memory import activations

TOKENS = 256
SIZES = (1, 2)
IN_CHUNKS = (2, 3)
ONE_PASS = ObjectiveConfig(conditioning="joint", align_view="masked")


def measure() -> dict[str, float]:
    """Return MiB per pair of the default objective, of one student pass, with gradient checkpointing and in chunks."""
    figures: dict[str, float] = {}
    for name, config, saving, sizes in (
        ("default", ObjectiveConfig(), False, SIZES),
        ("one_pass", ONE_PASS, False, SIZES),
        ("checkpointing", ObjectiveConfig(), True, SIZES),
        ("one_pass_checkpointing", ONE_PASS, True, SIZES),
        ("chunks", ObjectiveConfig(), False, IN_CHUNKS),
    ):
        encoder, predictor = build(BASE, checkpointing=saving)
        encoder.train()
        objective = PretrainingObjective(config, encoder)
        for parameter in trained(encoder, predictor, objective):
            parameter.grad = torch.zeros_like(parameter)
        peaks, kept = [], []
        modules: tuple[Any, Any] = (encoder, predictor)
        if sizes is IN_CHUNKS:
            modules = (InChunks(encoder, 1), InChunks(predictor, 1))
        for batch in sizes:
            peak, saved = _peak(objective, modules, _views(encoder, batch))
            peaks.append(peak)
            kept.append(saved)
        figures[f"memory_peak_mib_per_pair_{name}"] = (peaks[1] - peaks[0]) / 2**20
        if sizes is IN_CHUNKS:
            continue
        figures[f"memory_kept_mib_per_pair_{name}"] = (kept[1] - kept[0]) / 2**20
        options = {"conditioning": config.conditioning, "align_view": config.align_view}
        planned = activations(shapes(encoder, predictor, options), TOKENS)
        figures[f"memory_planned_mib_per_pair_{name}"] = planned / 2**20
        del objective
        gc.collect()
    return figures


def _views(encoder: ProbabilisticEncoder, batch: int) -> Views:
    views = draw(encoder, batch)
    tokens = tokens_of_length(encoder, batch, TOKENS)
    mask = (torch.arange(TOKENS) % 10 < 3)[None].expand(batch, -1) & tokens.valid
    return views._replace(tokens=replace(tokens), text_mask=mask)


def _peak(objective: PretrainingObjective, modules: tuple[Any, Any], views: Views) -> tuple[int, int]:
    """Bytes that are allocated at most during a forward and backward pass, and that are kept between the two.

    Args:
        objective: Pre-training objective.
        modules: Encoder and predictor, whole or in chunks.
        views: Batch.
    """
    encoder, predictor = modules
    weights = {parameter.untyped_storage().data_ptr() for parameter in trained(encoder, predictor, objective)}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()  # alive until the backward pass, so its address is its own
        return tensor

    def step() -> None:
        with autocast(half=True), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = objective(encoder, predictor, views).loss
        loss.backward()

    return allocated(step), sum(kept.values())


def allocated(work: Callable[[], object]) -> int:
    """Bytes of tensors that are alive at once at most during some work, beside those that are alive before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results.events()
    changes = sorted((int(event.start_ns()), int(event.nbytes())) for event in events if event.name() == "[memory]")
    return max(accumulate(change for _, change in changes))


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
