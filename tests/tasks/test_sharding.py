"""Sharded pre-training is that of one process: losses, clipped norms, weights and teacher after fused AdamW steps."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import example_views, skip_without_shards, tiny_encoder, tiny_predictor
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn

from dmlm.errors import CheckpointError, ConfigError
from dmlm.objectives import ObjectiveConfig, PretrainingObjective
from dmlm.objectives.distributed import whole
from dmlm.tasks import DMLMPretrainModule, ZeroShotModule
from dmlm.tasks.sharding import fill_gradients, make_sharded, make_whole, match_layout, shard

BATCH, WORLD = 8, 2
ROWS = ("images", "image_mask", "text_mask", "report_facts", "text_facts", "text_keys")
CONFIGS = {
    "default": ObjectiveConfig(),
    "csd_bce": ObjectiveConfig(alignment="csd_bce", positives="same_text", target="online", masked_start=0.5),
    "anchor": ObjectiveConfig(token_anchor=0.1, conditioning="joint", align_view="masked"),
}


def train(config: ObjectiveConfig, mesh=None, scaled: bool = False) -> dict[str, Tensor]:
    parts = nn.ModuleDict({"encoder": tiny_encoder(), "predictor": tiny_predictor()})
    if config.token_anchor:
        parts["encoder"].image.gradient_checkpointing = "selective"
        parts["encoder"].image_head.gradient_checkpointing = "selective"
    parts["objective"] = PretrainingObjective(config, parts["encoder"])
    parts.eval()
    rows = slice(0, BATCH)
    if mesh is not None:
        shard(parts["encoder"], parts["predictor"], parts["objective"], mesh)
        rows = slice(mesh.get_rank() * BATCH // WORLD, (mesh.get_rank() + 1) * BATCH // WORLD)
    trained = [parameter for parameter in parts.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)
    scaler = torch.amp.GradScaler("cpu", enabled=scaled, init_scale=16.0)
    results = {}
    for step, progress in enumerate((0.0, 0.3, 0.9)):
        optimizer.zero_grad()
        views = example_views(parts["encoder"], BATCH, seed=step)
        views = views._replace(tokens=views.tokens.rows(rows), **{name: getattr(views, name)[rows] for name in ROWS})
        loss = parts["objective"](parts["encoder"], parts["predictor"], views, progress).loss
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        results[f"norm {step}"] = whole(torch.nn.utils.clip_grad_norm_(trained, 0.5)).detach().clone()
        fill_gradients(parts)
        scaler.step(optimizer)
        scaler.update()
        parts["objective"].teacher.update(parts["encoder"], progress)
        results[f"loss {step}"] = loss.detach().clone()
        if mesh is not None:
            dist.all_reduce(results[f"loss {step}"], dist.ReduceOp.SUM)
            results[f"loss {step}"] /= WORLD
            results["share"] = torch.tensor(
                sum(p.to_local().numel() for p in trained) / sum(p.numel() for p in trained)
            )
    if mesh is not None:  # processes compute unequally many batches in evaluation, without waiting for each other
        make_whole(parts)
        with torch.no_grad():
            for _ in range(1 + mesh.get_rank()):
                parts["encoder"].image_global(views.images)
        make_sharded(parts)
    return results | {name: whole(parameter).detach().clone() for name, parameter in parts.named_parameters()}


def worker(rank: int, port: int, folder: str) -> None:
    from torch.distributed.device_mesh import init_device_mesh

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    mesh = init_device_mesh("cpu", (WORLD,))
    results = {name: train(config, mesh, scaled=name == "default") for name, config in CONFIGS.items()}
    if rank == 0:
        torch.save(results, Path(folder) / "results.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    skip_without_shards()
    folder = tmp_path_factory.mktemp("shards")
    with socket.socket() as connection:
        connection.bind(("127.0.0.1", 0))
        port = connection.getsockname()[1]
    mp.spawn(worker, (port, str(folder)), nprocs=WORLD)
    return torch.load(folder / "results.pt", weights_only=True)


@pytest.mark.parametrize("name", CONFIGS)
def test_shards_train_as_one_process(name: str, shards: dict[str, dict[str, Tensor]]) -> None:
    given, wanted = shards[name], train(CONFIGS[name])
    assert float(given.pop("share")) < 0.52, "each process keeps half"
    assert given.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(given[key], value, atol=5e-5, rtol=1e-4, msg=lambda m, key=key: f"{key}: {m}")


def test_only_pre_training_is_sharded() -> None:
    from dmlm.cli.shards import check_shards

    check_shards(ModelParallelStrategy(), DMLMPretrainModule(tiny_encoder(), tiny_predictor()), None)
    with pytest.raises(ConfigError, match="ZeroShotModule cannot be sharded"):
        check_shards(ModelParallelStrategy(), ZeroShotModule(tiny_encoder()), None)


@pytest.mark.parametrize(
    ("stamp", "verb", "refused"), [({}, "fit", True), ({"sharded": True}, "fit", False), ({}, "test", False)]
)
def test_shards_go_on_with_shards_only(stamp: dict, verb: str, refused: bool) -> None:
    module = DMLMPretrainModule(tiny_encoder(), tiny_predictor())
    checkpoint: dict = {}
    module.on_save_checkpoint(checkpoint)
    assert checkpoint["dmlm"].pop("sharded") is False
    checkpoint["dmlm"] |= stamp
    module.is_sharded = True
    module._trainer = SimpleNamespace(state=SimpleNamespace(fn=verb))
    if refused:
        with pytest.raises(CheckpointError, match="not written by sharded training"):
            module.on_load_checkpoint(checkpoint)
    else:
        module.on_load_checkpoint(checkpoint)
        assert module._resumed


def test_moments_take_the_layout_of_their_weights() -> None:
    weight = nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))
    optimizer = torch.optim.AdamW([weight])
    weight.grad = torch.randn_like(weight)
    optimizer.step()
    moment = optimizer.state[weight]["exp_avg"].clone()
    optimizer.state[weight]["exp_avg"] = moment.contiguous()
    match_layout(optimizer)
    after = optimizer.state[weight]["exp_avg"]
    assert after.stride() == weight.stride() != moment.contiguous().stride()
    assert torch.equal(after, moment)


@pytest.mark.parametrize("option", [{"chunk_size": 2}, {"compile": "losses"}])
def test_what_does_not_go_with_shards_is_refused(option: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    module = DMLMPretrainModule(tiny_encoder(), tiny_predictor(), **option)
    monkeypatch.setattr(module, "_device_mesh", {"data_parallel": SimpleNamespace()})
    with pytest.raises(ConfigError, match=f"model.{next(iter(option))} does not go with sharded training"):
        module.configure_model()
