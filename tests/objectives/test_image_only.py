"""Image-only objectives: values against slow references, the queue, and the same under two processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import tiny_encoder, tiny_predictor
from test_distributed import free_port, gradients
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from dmlm.errors import ConfigError
from dmlm.masking import MAEMask, MaskContext
from dmlm.objectives.image_only import ImageObjective, ImageObjectiveConfig, info_nce, nt_xent
from dmlm.objectives.image_views import random_view
from dmlm.objectives.reconstruction import ReconstructionAnchor

KINDS = ("mae", "moco", "simclr")


def images(count: int = 8) -> torch.Tensor:
    return torch.randint(0, 256, (count, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def test_nt_xent_equals_the_sum_over_pairs() -> None:
    first, second = torch.randn(5, 7), torch.randn(5, 7)
    views = F.normalize(torch.cat([first, second]), dim=1)
    total = 0.0
    for i in range(10):
        similar = [float(views[i] @ views[j]) / 0.3 for j in range(10)]
        others = torch.tensor([value for j, value in enumerate(similar) if j != i])
        total += float(torch.logsumexp(others, 0)) - similar[(i + 5) % 10]
    assert float(nt_xent(first, second, 0.3)) == pytest.approx(total / 10, abs=1e-5)


def test_info_nce_equals_the_sum_over_the_queue() -> None:
    asked, keys, queue = torch.randn(4, 6), F.normalize(torch.randn(4, 6), dim=1), F.normalize(torch.randn(9, 6), dim=1)
    total = 0.0
    for i in range(4):
        own = F.normalize(asked[i], dim=0)
        logits = torch.stack([own @ keys[i], *(own @ other for other in queue)]) / 0.2
        total += float(torch.logsumexp(logits, 0) - logits[0])
    assert float(info_nce(asked, keys, queue, 0.2)) == pytest.approx(total / 4, abs=1e-5)


def test_the_queue_goes_round_and_the_slow_encoder_follows() -> None:
    encoder = tiny_encoder()
    objective = ImageObjective(ImageObjectiveConfig("moco", queue=8, momentum=(0.5, 0.5)), encoder).train()
    before = objective.queue.clone()
    for _ in range(3):
        objective(encoder, None, images(3), images(3))
    assert int(objective.place) == 1
    assert (objective.queue != before).any(1).all(), "nine keys fill a queue of eight"
    objective.eval()
    kept = objective.queue.clone()
    objective(encoder, None, images(3), images(3))
    assert torch.equal(objective.queue, kept), "an evaluation leaves the queue alone"
    own, slow = next(encoder.image.parameters()), next(objective.slow.parameters())
    wanted = 0.5 * slow.clone() + 0.5 * (own + 1)
    with torch.no_grad():
        own += 1
    objective.update(encoder, 0.3)
    torch.testing.assert_close(slow, wanted)
    assert not slow.requires_grad


@pytest.mark.parametrize("head", ["attn", "mlp"])
def test_keys_are_made_as_queries_are(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow encoder starts as the copy of the one that trains: equal images give equal vectors."""
    encoder = tiny_encoder(head=head).eval()
    objective = ImageObjective(ImageObjectiveConfig("moco", queue=16), encoder).eval()
    seen = []
    monkeypatch.setattr(
        "dmlm.objectives.image_only.info_nce",
        lambda asked, keys, *rest: (seen.append((F.normalize(asked, dim=1), keys)), info_nce(asked, keys, *rest))[1],
    )
    objective(encoder, None, images(5), images(5))
    torch.testing.assert_close(*seen[0], atol=1e-5, rtol=1e-5)


def test_a_batch_longer_than_the_queue_leaves_its_last_keys() -> None:
    encoder = tiny_encoder()
    objective = ImageObjective(ImageObjectiveConfig("moco", queue=4), encoder).train()
    assert torch.isfinite(objective(encoder, None, images(7), images(7)).loss)
    keys = F.normalize(torch.randn(13, 128), dim=1)
    objective._enqueue(keys[:3])
    objective._enqueue(keys[3:9])
    place = int(objective.place)
    assert torch.equal(objective.queue.roll(-place, 0), keys[5:9]), "the oldest key is the next that goes"
    objective._enqueue(keys[9:10])
    objective._enqueue(keys[10:13])
    assert torch.equal(objective.queue.roll(-int(objective.place), 0), keys[9:13])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_no_digit(dtype: torch.dtype) -> None:
    common = torch.randn(1, 64)
    first, second, queue = (common + 0.3 * torch.randn(count, 64) for count in (8, 8, 20))
    losses = {
        "nt_xent": lambda: nt_xent(first, second, 0.05),
        "info_nce": lambda: info_nce(first, F.normalize(second, dim=1), F.normalize(queue, dim=1), 0.05),
    }
    for name, loss in losses.items():
        with torch.autocast("cpu", dtype=dtype):
            cast = loss()
        assert torch.equal(cast, loss()), name


def test_moco_trains_under_autocast() -> None:
    """Keys of the towers are in half precision there, and the queue is not."""
    encoder = tiny_encoder()
    objective = ImageObjective(ImageObjectiveConfig("moco", queue=16), encoder).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective(encoder, None, images(4), images(4)).loss
    loss.backward()
    assert loss.dtype == objective.queue.dtype == torch.float32
    torch.testing.assert_close(objective.queue.norm(dim=1), torch.ones(16))


def test_mae_is_the_pixel_error_of_masked_patches() -> None:
    encoder, predictor = tiny_encoder().eval(), tiny_predictor().eval()
    objective = ImageObjective(ImageObjectiveConfig("mae"), encoder).eval()
    x = images(4)
    mask = MAEMask()(MaskContext(x, encoder.image.patch_grid), torch.Generator().manual_seed(0))
    value = objective(encoder, predictor, x, mask=mask).loss
    changed = x.clone()
    hidden = mask.reshape(4, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    changed[hidden] = 255 - changed[hidden]
    # what is hidden is not seen: predictions stay, and the mirrored target is the negative of the normalised one
    seen = []
    original = ReconstructionAnchor.pixel_loss
    objective.anchor.pixel_loss = lambda predicted, *rest: (
        seen.append(predicted),
        original(objective.anchor, predicted, *rest),
    )[1]
    objective(encoder, predictor, x, mask=mask)
    other = objective(encoder, predictor, changed, mask=mask).loss
    torch.testing.assert_close(seen[0], seen[1])
    assert abs(float(other.detach() - value.detach())) > 1e-4


def test_views_differ_and_repeat() -> None:
    x = images(4)
    views = [random_view(x, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert views[0].shape == x.shape
    assert views[0].dtype == torch.uint8
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
    flat = torch.full((2, 1, 16, 16), 100, dtype=torch.uint8)
    assert all(len(view.unique()) == 1 for view in random_view(flat, torch.Generator().manual_seed(0)))


def test_contrast_learns_to_tell_images_apart() -> None:
    torch.manual_seed(0)
    encoder = tiny_encoder().train()
    objective = ImageObjective(ImageObjectiveConfig("simclr"), encoder).train()
    trained = [*encoder.image.parameters(), *encoder.image_head.parameters(), *objective.projection.parameters()]
    optimizer = torch.optim.AdamW(trained, 1e-3)
    generator, losses = torch.Generator().manual_seed(0), []
    for _ in range(40):
        x = torch.randint(40, 200, (8, 1, 32, 32), generator=generator)
        noisy = [(x + torch.randint(-20, 20, x.shape, generator=generator)).to(torch.uint8) for _ in range(2)]
        optimizer.zero_grad()
        loss = objective(encoder, None, *noisy).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize(
    ("options", "word"),
    [({"kind": "byol"}, "kind"), ({"temperature": 0.0}, "temperature"), ({"queue": 0}, "queue")],
)
def test_wrong_options(options: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        ImageObjectiveConfig(**options)


def test_what_an_objective_needs() -> None:
    encoder = tiny_encoder()
    for kind, word in (("mae", "mask"), ("simclr", "two views")):
        with pytest.raises(ConfigError, match=word):
            ImageObjective(ImageObjectiveConfig(kind), encoder)(encoder, None, images(2))


class Whole(nn.Module):
    """Everything that trains, as one module for DDP."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.encoder = tiny_encoder()
        self.predictor = tiny_predictor() if kind == "mae" else None
        torch.manual_seed(4)
        self.objective = ImageObjective(ImageObjectiveConfig(kind, queue=16), self.encoder)
        for part in (self.encoder.text, self.encoder.text_head):
            part.requires_grad_(requires_grad=False)
        if self.predictor is not None:
            for part in (self.predictor.text, self.predictor.text_in):
                part.requires_grad_(requires_grad=False)

    def forward(self, first: torch.Tensor, second: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.objective(self.encoder, self.predictor, first, second, mask).loss


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = images(8)
    second = random_view(x, torch.Generator().manual_seed(1))
    return x, second, MAEMask()(MaskContext(x, (4, 4)), torch.Generator().manual_seed(0))


def worker(rank: int, world: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    results = {}
    for kind in KINDS:
        model = DistributedDataParallel(Whole(kind))
        part = slice(rank * 8 // world, (rank + 1) * 8 // world)
        loss = model(*(value[part] for value in inputs()))
        loss.backward()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        queue = model.module.objective.queue if kind == "moco" else torch.zeros(0)
        results[kind] = {"loss": mean / world, "gradients": gradients(model.module), "queue": queue}
    if rank == 0:
        torch.save(results, Path(folder) / "results.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("ddp_images")
    mp.spawn(worker, (2, free_port(), str(folder)), nprocs=2)
    return torch.load(folder / "results.pt", weights_only=True)


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_equal_one(kind: str, two_processes: dict) -> None:
    model = Whole(kind)
    loss = model(*inputs())
    loss.backward()
    result = two_processes[kind]
    torch.testing.assert_close(result["loss"], loss.detach(), atol=1e-5, rtol=1e-5)
    wanted = gradients(model)
    assert result["gradients"].keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(result["gradients"][key], value, atol=1e-5, rtol=1e-4)
    if kind == "moco":
        torch.testing.assert_close(result["queue"], model.objective.queue)
