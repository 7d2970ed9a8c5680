"""Two gloo processes give the loss and the gradients of one process with the concatenated batch."""

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
from torch.nn.parallel import DistributedDataParallel

from dmlm.models.tokens import TokenBatch
from dmlm.objectives import ObjectiveConfig, PretrainingObjective, Statements, Views

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
}


class Whole(nn.Module):
    """Everything that trains, as one module for DDP."""

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__()
        self.encoder, self.predictor = tiny_encoder(), tiny_predictor()
        self.objective = PretrainingObjective(config, self.encoder)

    def forward(self, views: Views) -> torch.Tensor:
        return self.objective(self.encoder, self.predictor, views).loss


def part(views: Views, rows: slice) -> Views:
    tokens = views.tokens
    cut = TokenBatch(
        *(getattr(tokens, name)[rows] for name in ("input_ids", "valid", "words", "sections")),
        lengths=tokens.lengths[rows],
    )
    further = views.statements
    count = len(views.images)
    rounds = [further[n].unflatten(0, (-1, count))[:, rows].flatten(0, 1) for n in (1, 2, 3)]
    taken = {name: getattr(views, name)[rows] for name in TENSORS}
    return Views(tokens=cut, statements=Statements(further.tokens, *rounds), **taken)


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def worker(rank: int, world: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    results = {}
    for name, config in CONFIGS.items():
        model = DistributedDataParallel(Whole(config).eval())
        views = example_views(model.module.encoder, 8, statements=2)
        loss = model(part(views, slice(rank * 8 // world, (rank + 1) * 8 // world)))
        loss.backward()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        results[name] = {"loss": mean / world, "gradients": gradients(model.module)}
    if rank == 0:
        torch.save(results, Path(folder) / "results.pt")
    dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as connection:
        connection.bind(("127.0.0.1", 0))
        return connection.getsockname()[1]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("ddp")
    mp.spawn(worker, (2, free_port(), str(folder)), nprocs=2)
    return torch.load(folder / "results.pt", weights_only=True)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_two_processes_equal_one(name: str, two_processes: dict) -> None:
    model = Whole(CONFIGS[name]).eval()
    loss = model(example_views(model.encoder, 8, statements=2))
    loss.backward()
    result = two_processes[name]
    torch.testing.assert_close(result["loss"], loss.detach(), atol=1e-5, rtol=1e-5)
    wanted = gradients(model)
    assert result["gradients"].keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(
            result["gradients"][key], value, atol=1e-5, rtol=1e-4, msg=lambda m, key=key: f"{key}: {m}"
        )
