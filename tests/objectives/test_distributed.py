"""Several gloo processes give the losses, gradients and teacher of one process with the concatenated batch."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import example_views, tiny_encoder, tiny_predictor
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from dmlm.objectives import ObjectiveConfig, PretrainingObjective, Statements, Views
from dmlm.objectives.chunks import InChunks

TENSORS = ("images", "image_mask", "text_mask", "report_facts", "text_facts", "text_keys")
CONFIGS = {
    "default": ObjectiveConfig(),
    "csd_bce": ObjectiveConfig(alignment="csd_bce", positives="same_text", target="online"),
    "joint": ObjectiveConfig(conditioning="joint", align_view="masked", kl_direction="symmetric"),
    "attract": ObjectiveConfig(alignment="attract"),
    "local": ObjectiveConfig(local_weight=0.5),
    "twin": ObjectiveConfig(kl_direction="mse", alignment="cosine", vib_weight=0.0, local_weight=0.5),
    "maskvlm": ObjectiveConfig(
        masked_weight=0.5,
        text_weight=0.0,
        image_weight=0.0,
        kl_direction="mse",
        token_anchor=1.0,
        pixel_anchor=1.0,
        alignment="cosine",
        target="online",
        vib_weight=0.0,
    ),
    "waiting": ObjectiveConfig(masked_start=0.5),
    "bound": ObjectiveConfig(scale_init=5.0, scale_max=5.0, local_weight=0.5),  # the scale has gone beyond its bound
    "half": ObjectiveConfig(token_anchor=0.5),  # the last process's texts have nothing to hide
}
WAYS = {
    "plain": {},
    "static": {"static_graph": True, "gradient_as_bucket_view": True},
    "chunks": {"static_graph": True},
    "fp16": {},
}
CASES = [
    *((name, "plain") for name in ("attract", "bound", "csd_bce", "default", "joint", "local", "maskvlm", "twin")),
    ("half", "plain"),
    ("waiting", "static"),
    ("default", "chunks"),
    ("default", "fp16"),
]
BATCH = 8


class Whole(nn.Module):
    """Everything that trains, as one module for DDP."""

    def __init__(self, config: ObjectiveConfig, chunk_size: int | None = None) -> None:
        super().__init__()
        self.chunk_size = chunk_size
        self.encoder, self.predictor = tiny_encoder(), tiny_predictor()
        self.objective = PretrainingObjective(config, self.encoder)
        if config == CONFIGS["bound"]:
            with torch.no_grad():
                self.objective.alignment.log_scale.add_(0.1)

    def forward(self, views: Views, progress: float) -> torch.Tensor:
        parts = (self.encoder, self.predictor)
        if self.chunk_size is not None:
            parts = tuple(InChunks(part, self.chunk_size) for part in parts)
        return self.objective(*parts, views, progress).loss


def part(views: Views, rows: slice) -> Views:
    further = views.statements
    count = len(views.images)
    rounds = [further[n].unflatten(0, (-1, count))[:, rows].flatten(0, 1) for n in (1, 2, 3)]
    taken = {name: getattr(views, name)[rows] for name in TENSORS}
    return Views(tokens=views.tokens.rows(rows), statements=Statements(further.tokens, *rounds), **taken)


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def train(model: nn.Module, whole: Whole, rows: slice) -> dict:
    """Two steps of gradient descent, at the start and at the end of a training: losses, gradients, teacher."""
    results = {}
    for step, progress in enumerate((0.0, 0.9)):
        model.zero_grad()
        views = example_views(whole.encoder, BATCH, seed=step, statements=2)
        if whole.objective.config == CONFIGS["half"]:
            views.text_mask[BATCH // 2 :] = False
        loss = model(part(views, rows), progress)
        loss.backward()
        mean = loss.detach().clone()
        if dist.is_initialized():
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
        results[f"loss {step}"] = mean
        results |= {f"gradient {step} {key}": value.clone() for key, value in gradients(whole).items()}
        with torch.no_grad():
            for parameter in whole.parameters():
                if parameter.grad is not None:
                    parameter -= 0.05 * parameter.grad
        whole.objective.teacher.update(whole.encoder, progress)
    teacher = whole.objective.teacher.encoder
    kept = {} if teacher is None else dict(teacher.named_parameters())
    return results | {f"teacher {key}": value.detach().clone() for key, value in kept.items()}


def worker(rank: int, world: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    results = {}
    for name, way in CASES:
        whole = Whole(CONFIGS[name], 1 if way == "chunks" else None).eval()
        model = DistributedDataParallel(whole, **WAYS[way])
        if way == "fp16":
            model.register_comm_hook(None, fp16_compress_hook)
        result = train(model, whole, slice(rank * BATCH // world, (rank + 1) * BATCH // world))
        for key in [key for key in result if key.startswith("teacher")]:  # the same on every process
            first = result[key].clone()
            dist.broadcast(first, 0)
            assert torch.equal(first, result[key]), key
        results[f"{name} {way}"] = result
    if rank == 0:
        torch.save(results, Path(folder) / "results.pt")
    dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as connection:
        connection.bind(("127.0.0.1", 0))
        return connection.getsockname()[1]


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def processes(request, tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("ddp")
    mp.spawn(worker, (request.param, free_port(), str(folder)), nprocs=request.param)
    return torch.load(folder / "results.pt", weights_only=True)


@pytest.fixture(scope="module")
def one() -> dict:
    results = {}
    for name, config in CONFIGS.items():
        whole = Whole(config).eval()
        results[name] = train(whole, whole, slice(0, BATCH))
    return results


@pytest.mark.parametrize(("name", "way"), CASES)
def test_processes_equal_one(name: str, way: str, processes: dict, one: dict) -> None:
    """To 1e-5 in float32; what the compression hook sends in float16 comes back to half precision."""
    given, wanted = processes[f"{name} {way}"], one[name]
    assert given.keys() == wanted.keys()
    if way == "fp16":
        wanted = {key: value for key, value in wanted.items() if key.startswith(("gradient 0", "loss"))}
    for key, value in wanted.items():
        coarse = 2e-3 * float(value.abs().max()) if way == "fp16" else 0.0
        torch.testing.assert_close(
            given[key], value, atol=1e-5 + coarse, rtol=1e-4, msg=lambda m, key=key: f"{key}: {m}"
        )
