"""Peak memory of activations per pair of the paper's size: bf16, texts of 256 tokens.

``python -m benchmarks.memory`` prints the figures. What a batch adds to the peak of the process (Linux resets it) is
measured at two sizes; the difference per pair leaves out weights, gradients and libraries. ``kept`` is what torch says
that it keeps for the backward pass.
"""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.machine import one_thread
from benchmarks.setting import BASE, build, draw, shapes, tokens_of_length
from benchmarks.step import autocast, trained
from dmlm.models import CrossModalPredictor, ProbabilisticEncoder
from dmlm.objectives import ObjectiveConfig, PretrainingObjective, Views
from dmlm.planning.memory import activations

TOKENS = 256
SIZES = (1, 2)
ONE_PASS = ObjectiveConfig(conditioning="joint", align_view="masked")


def measure() -> dict[str, float]:
    """Return MiB per pair of the default objective, of one student pass, and with gradient checkpointing."""
    one_thread()
    figures: dict[str, float] = {}
    encoder, predictor = build(BASE)
    for name, config, saving in (
        ("default", ObjectiveConfig(), False),
        ("one_pass", ONE_PASS, False),
        ("checkpointing", ObjectiveConfig(), True),
    ):
        if saving:
            encoder, predictor = build(BASE, checkpointing=True)
        encoder.train()
        objective = PretrainingObjective(config, encoder)
        for parameter in trained(encoder, predictor, objective):
            parameter.grad = torch.zeros_like(parameter)
        peaks, kept = [], []
        for batch in SIZES:
            peak, saved = _peak(objective, encoder, predictor, _views(encoder, batch))
            peaks.append(peak)
            kept.append(saved)
        step = SIZES[1] - SIZES[0]
        figures[f"memory_peak_mib_per_pair_{name}"] = (peaks[1] - peaks[0]) / step / 2**20
        figures[f"memory_kept_mib_per_pair_{name}"] = (kept[1] - kept[0]) / step / 2**20
        if not saving:
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


def _peak(
    objective: PretrainingObjective, encoder: ProbabilisticEncoder, predictor: CrossModalPredictor, views: Views
) -> tuple[int, int]:
    """Bytes that a forward and backward pass adds to the process at most, and what the backward pass keeps."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in trained(encoder, predictor, objective)}
    kept: dict[int, int] = {}
    held = []  # a freed storage's address would be counted once for two

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(tensor.detach())
        return tensor

    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status("VmRSS")
    with autocast(half=True):
        loss = objective(encoder, predictor, views).loss
    loss.backward()
    peak = _status("VmHWM") - before
    del loss
    with autocast(half=True), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        objective(encoder, predictor, views)
    return peak, sum(kept.values())


def _status(name: str) -> int:
    """A size of this process in bytes, of Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
