"""How the cost grows: with processes, tokens, image size, batch and the number of images.

``python -m benchmarks.scaling`` prints the figures. CPU seconds of all processes per pair, so that two processes on two
cores that others use, too, can be compared with one.
"""

from __future__ import annotations

import json
import math
import os
import socket
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.machine import best, one_thread
from benchmarks.setting import SMALL, build, draw, tokens_of_length
from dmlm.datamodules.samplers import EpochSampler
from dmlm.models import TimmImageEncoder
from dmlm.objectives import ObjectiveConfig, PretrainingObjective, Views

STEPS, BATCH = 4, 8


class _Whole(nn.Module):
    """Model and objective as one module, which is what DDP wraps."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.predictor = build(SMALL)
        self.objective = PretrainingObjective(ObjectiveConfig(), self.encoder)

    def forward(self, views: Views) -> Tensor:
        return self.objective(self.encoder, self.predictor, views).loss  # type: ignore[no-any-return]


def measure(rounds: int = 2) -> dict[str, float]:
    """Return ratios of the cost per pair, and exponents of growth (2 is quadratic)."""
    one_thread()
    return {**processes(), **growth(rounds), **images()}


def processes() -> dict[str, float]:
    """CPU seconds per pair with two processes (gloo) over one."""
    seconds = {world: _run(world) / (world * BATCH * STEPS) for world in (1, 2)}
    return {
        "scaling_cpu_seconds_per_pair_1_process": seconds[1],
        "scaling_cpu_seconds_per_pair_2_processes": seconds[2],
        "scaling_cost_per_pair_2_over_1_x": seconds[2] / seconds[1],
    }


def growth(rounds: int) -> dict[str, float]:
    """Cost of a step per pair at twice the tokens, batch or image side."""
    whole = _Whole()
    encoder = whole.encoder

    def text(length: int) -> object:
        tokens = tokens_of_length(encoder, 4, length)
        return lambda: encoder.text(tokens).tokens.sum().backward()

    def step(batch: int) -> object:
        views = draw(encoder, batch)
        tokens = tokens_of_length(encoder, batch, 64)
        mask = (torch.arange(64) % 10 < 3)[None].expand(batch, -1) & tokens.valid
        fixed = views._replace(tokens=tokens, text_mask=mask)
        return lambda: whole(fixed).backward()

    def image(side: int) -> object:
        tower = TimmImageEncoder(SMALL.vit, pretrained=False, image_size=side)
        films = torch.zeros(4, 1, side, side, dtype=torch.uint8)
        return lambda: tower(films).patches.sum().backward()

    sides = {
        **{f"tokens_{n}": text(n) for n in (128, 256, 512)},
        **{f"batch_{n}": step(n) for n in (4, 8, 16)},
        **{f"side_{n}": image(n) for n in (224, 448)},
    }
    times = best(sides, rounds)  # type: ignore[arg-type]
    return {
        "scaling_tokens_exponent_128_512": math.log(times["tokens_512"] / times["tokens_128"], 4),
        "scaling_batch_exponent_4_16": math.log(times["batch_16"] / times["batch_4"], 4),
        "scaling_image_pixels_exponent": math.log(times["side_448"] / times["side_224"], 4),
    }


def images() -> dict[str, float]:
    """Milliseconds to draw the order of an epoch, for a tenth of MIMIC-CXR and for all of it."""
    figures = {}
    for count in (37_711, 377_110):
        sampler = EpochSampler(range(count), shuffle=True)  # type: ignore[arg-type]
        start = time.process_time()
        sum(1 for _ in sampler)
        figures[f"scaling_epoch_order_{count}_images_ms"] = 1e3 * (time.process_time() - start)
    return figures


def _run(world: int) -> float:
    """CPU seconds of all processes for the steps, without their start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        spawn(_train, (world, port, folder), nprocs=world)
        return sum(float(path.read_text(encoding="utf-8")) for path in Path(folder).iterdir())


def _train(rank: int, world: int, port: int, folder: str) -> None:
    one_thread()
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=world)
    model = _Whole()
    trained = DistributedDataParallel(model, gradient_as_bucket_view=True, static_graph=True)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    start = 0.0
    for step in range(STEPS + 1):
        if step == 1:  # the first one allocates
            start = time.process_time()
        optimizer.zero_grad()
        trained(draw(model.encoder, BATCH, seed=step * world + rank)).backward()
        optimizer.step()
        model.objective.teacher.update(model.encoder, 0.0)
    (Path(folder) / str(rank)).write_text(str(time.process_time() - start), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
