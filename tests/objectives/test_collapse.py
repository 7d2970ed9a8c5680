"""The letter of Eq. 3 and Eq. 4 collapses and is caught; the default does not."""

from __future__ import annotations

import logging

import pytest
import torch
from conftest import example_views, tiny_bert, tiny_predictor, tiny_vit

from dmlm.errors import CollapseError, ConfigError
from dmlm.models import ProbabilisticEncoder
from dmlm.objectives import (
    CollapseMonitor,
    ObjectiveConfig,
    PretrainingObjective,
)
from dmlm.objectives.monitors import spread


def train(config: ObjectiveConfig, steps: int, lr: float = 3e-3) -> list[dict[str, float]]:
    torch.set_flush_denormal(True)  # collapsed gradients are denormal numbers, which a CPU computes very slowly
    torch.manual_seed(0)
    # averages learn at once; a class token from scratch takes some hundred steps to attend to anything
    image = tiny_vit(class_token=False, global_pool="avg", fc_norm=False)
    encoder, predictor = ProbabilisticEncoder(image, tiny_bert(pooling="mean"), 24, "mlp"), tiny_predictor()
    objective = PretrainingObjective(config, encoder)
    parameters = [p for m in (encoder, predictor, objective) for p in m.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr)
    history = []
    for number in range(steps):
        step = objective(encoder, predictor, example_views(encoder, 16, seed=number % 8))
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
        objective.teacher.update(encoder, number / steps)
        history.append({name: float(value) for name, value in step.parts.items()})
    return history


def collapsed(history: list[dict[str, float]]) -> list[str]:
    monitor = CollapseMonitor(dict.fromkeys(("image_spread", "text_spread", "target_spread"), 0.05), patience=5)
    for number, values in enumerate(history):
        monitor.update(values, number)
    return monitor.collapsed


def test_the_letter_of_equation_3_collapses() -> None:
    """Shared targets and no other force: the loss goes to 0 because everything becomes equal."""
    history = train(ObjectiveConfig(masked_weight=1.0, kl_direction="pred_target", target="shared", vib_weight=0.0), 70)
    assert collapsed(history)
    assert history[-1]["kl_text"] < 0.05 * history[0]["kl_text"]


def test_the_letter_of_equation_4_collapses() -> None:
    history = train(ObjectiveConfig(alignment="attract", vib_weight=0.0), 70)
    assert {"image_spread", "text_spread"} & set(collapsed(history))


def test_the_default_does_not_collapse() -> None:
    history = train(ObjectiveConfig(), 70)
    assert min(history[-1][name] for name in ("image_spread", "text_spread", "target_spread")) > 0.15
    assert not collapsed(history[20:])


def test_monitor_warns_once_or_stops(caplog: pytest.LogCaptureFixture) -> None:
    monitor = CollapseMonitor({"image_spread": 0.05}, patience=2)
    with caplog.at_level(logging.WARNING):
        for step, value in enumerate((0.01, 0.2, 0.01, 0.01, 0.01)):
            monitor.update({"image_spread": value}, step)
    assert [record.getMessage()[:35] for record in caplog.records] == ["collapse of image_spread at step 3:"]
    stopper = CollapseMonitor({"image_spread": 0.05}, patience=1, action="stop")
    with pytest.raises(CollapseError, match="image_spread"):
        stopper.update({"image_spread": 0.0}, 0)
    with pytest.raises(ConfigError, match="warn, stop or off"):
        CollapseMonitor({}, action="shout")


def test_spread() -> None:
    assert float(spread(torch.ones(8, 4))) == 0
    assert float(spread(torch.randn(4000, 4))) == pytest.approx(1.0, abs=0.05)


def test_one_row_is_no_collapse() -> None:
    """Nothing to compare: no number, which nothing counts as below a floor."""
    assert spread(torch.randn(1, 8)).isnan()
    assert spread(torch.randn(0, 8)).isnan()
    assert spread(torch.ones(2, 8)) == 0
    monitor = CollapseMonitor({"image_spread": 0.05}, patience=1, action="stop")
    monitor.update({"image_spread": float(spread(torch.randn(1, 8)))}, 0)
    assert not monitor.collapsed
