"""The optimiser: who is in which group, the schedule's values, and what is refused."""

import math

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from dmlm.errors import ConfigError
from dmlm.tasks.optim import OptimConfig, configure, parameter_groups, schedule


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
        self.position_embeddings = nn.Embedding(5, 4)
        self.token_type_embeddings = nn.Embedding(2, 4)
        self.word_embeddings = nn.Embedding(9, 4)
        self.proj = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)


class Model(LightningModule):
    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleDict({"image": Tower(), "head": nn.Linear(4, 2)})
        self.logit_scale = nn.Parameter(torch.ones(()))
        self.mask_token = nn.Parameter(torch.zeros(1, 4))
        self.image_query = nn.Parameter(torch.zeros(2, 4))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.conv = nn.Conv2d(1, 2, 3)


def named_groups(model, prefixes=("encoder.image.",), config=None):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, prefixes, config or OptimConfig())
    return {group["name"]: {names[id(item)] for item in group["params"]} for group in groups}, groups


def test_groups():
    members, groups = named_groups(Model())
    tower = "encoder.image."
    assert members == {
        "encoder": {tower + "proj.weight", tower + "word_embeddings.weight"},
        "encoder_no_decay": {
            tower + name
            for name in (
                "cls_token", "pos_embed", "position_embeddings.weight", "token_type_embeddings.weight", "proj.bias",
                "norm.weight", "norm.bias",
            )
        },
        "new": {"encoder.head.weight", "conv.weight"},
        "new_no_decay": {"encoder.head.bias", "conv.bias", "logit_scale", "mask_token", "image_query"},
    }  # fmt: skip
    assert {group["name"]: (group["lr"], group["weight_decay"]) for group in groups} == {
        "encoder": (1e-5, 0.05),
        "encoder_no_decay": (1e-5, 0.0),
        "new": (3e-4, 0.05),
        "new_no_decay": (3e-4, 0.0),
    }


def test_every_trainable_parameter_is_in_one_group():
    model = Model()
    for prefixes in ((), ("encoder.image.", "encoder.head."), ("",)):
        _, groups = named_groups(model, prefixes)
        found = [id(item) for group in groups for item in group["params"]]
        assert sorted(found) == sorted(id(item) for item in model.parameters() if item.requires_grad)


def test_schedule():
    factor = schedule(OptimConfig(lr=1e-3, min_lr=1e-5, warmup_fraction=0.1), 101)
    values = [factor(step) for step in range(101)]
    assert values[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])  # 10 steps of warm-up, then the peak
    assert values[55] == pytest.approx(0.01 + 0.99 / 2)  # half way down the cosine
    expected = [0.01 + 0.99 * (1 + math.cos(math.pi * (step - 10) / 90)) / 2 for step in range(10, 101)]
    assert values[10:] == pytest.approx(expected)
    assert values[100] == pytest.approx(0.01)
    assert factor(1000) == pytest.approx(0.01)
    assert schedule(OptimConfig(warmup_fraction=0.0), 1)(0) == 1.0


def test_rates_of_all_groups_follow_the_schedule_and_reach_their_end():
    model = Model()
    made = configure(model, ("encoder.image.",), OptimConfig(), 40)
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "step"
    for _ in range(39):
        rates = [group["lr"] for group in optimizer.param_groups]
        assert max(rates) / min(rates) == pytest.approx(30.0)
        optimizer.step()
        scheduler.step()
    assert max(group["lr"] for group in optimizer.param_groups) == pytest.approx(1e-6)
    assert optimizer.defaults["betas"] == (0.9, 0.98)


@pytest.mark.parametrize(("clip", "scaler", "fused"), [(1.0, True, False), (None, True, True), (1.0, False, True)])
def test_fused_unless_gradients_are_clipped_under_a_scaler(clip, scaler, fused):
    # Lightning refuses to clip what a fused optimiser unscales itself
    model = Model()
    trainer = Trainer(accelerator="cpu", gradient_clip_val=clip, logger=False, enable_checkpointing=False)
    if scaler:
        trainer.strategy.precision_plugin.scaler = torch.amp.GradScaler("cpu")
    model.trainer = trainer
    assert configure(model, (), OptimConfig(), 10)["optimizer"].defaults["fused"] is (True if fused else None)


@pytest.mark.parametrize("steps", [float("inf"), 0])
def test_a_run_without_length_is_refused(steps):
    with pytest.raises(ConfigError, match=r"set trainer\.max_epochs or max_steps"):
        configure(Model(), (), OptimConfig(), steps)


def test_nothing_to_train_is_refused():
    with pytest.raises(ConfigError, match="Linear has no trainable parameter"):
        configure(nn.Linear(2, 2).requires_grad_(False), (), OptimConfig(), 10)


@pytest.mark.parametrize(
    "wrong", [{"lr": -1.0}, {"lr": 0.0, "min_lr": 0.0}, {"lr": 1e-7}, {"warmup_fraction": 1.0}, {"weight_decay": -0.1}]
)
def test_impossible_rates_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"optim\.(lr|warmup_fraction|weight_decay) must"):
        OptimConfig(**wrong)


def test_text_side_has_its_own_rate():
    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.ModuleDict({name: nn.Linear(2, 2) for name in ("image", "text", "text_head")})

    prefixes = ("encoder.image.", "encoder.text.")
    groups = parameter_groups(Towers(), prefixes, OptimConfig(lr=0.1, encoder_lr=0.01, text_lr=0.001))
    assert {group["name"]: (group["lr"], len(group["params"])) for group in groups} == {
        "encoder": (0.01, 1),
        "encoder_no_decay": (0.01, 1),
        "text": (0.001, 2),
        "text_no_decay": (0.001, 2),
    }
