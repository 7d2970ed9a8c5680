"""Options of tasks that cannot work are refused in one line, before anything runs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from conftest import tiny_encoder, tiny_predictor

from dmlm.errors import ConfigError
from dmlm.models import CrossModalPredictor
from dmlm.tasks import (
    ClassificationModule,
    DMLMPretrainModule,
    EdemaGradingModule,
    ImagePretrainModule,
    OptimConfig,
    UncertaintyModule,
)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DMLMPretrainModule(tiny_encoder(), tiny_predictor(), seed=-1),
        lambda: ImagePretrainModule(tiny_encoder(), seed=-1),
        lambda: UncertaintyModule("run.ckpt", seed=-1),
    ],
)
def test_a_negative_seed_is_refused(make) -> None:
    with pytest.raises(ConfigError, match=r"^model\.seed must be 0 or more, got -1$"):
        make()


@pytest.mark.parametrize("task", [ClassificationModule, EdemaGradingModule])
@pytest.mark.parametrize("dropout", [2.0, 1.0, -0.1, float("nan")])
def test_dropout_out_of_range_is_refused(task, dropout) -> None:
    with pytest.raises(ConfigError, match=f"^dropout must be at least 0 and below 1, got {dropout}$"):
        task(tiny_encoder(), 4, dropout=dropout)


@pytest.mark.parametrize("options", [{"levels": []}, {"corruptions": []}, {"levels": [6]}, {"samples": 1}])
def test_an_uncertainty_study_of_nothing_is_refused(options) -> None:
    with pytest.raises(ConfigError, match="levels some of 1 to 5, got "):
        UncertaintyModule("run.ckpt", **options)


def test_a_rate_of_the_frozen_text_side_is_refused_where_it_would_train() -> None:
    task = ClassificationModule(tiny_encoder(), 4, optim=OptimConfig(text_lr=1e-4))
    task._trainer = SimpleNamespace(estimated_stepping_batches=10)
    with pytest.raises(ConfigError, match=r"^optim\.text_lr must be null where the text side is not"):
        task.configure_optimizers()


@pytest.mark.parametrize("depth", [0, -2])
def test_a_predictor_without_blocks_is_refused(depth) -> None:
    with pytest.raises(ConfigError, match=f"^predictor.depth must be at least 1, got {depth}$"):
        CrossModalPredictor(24, width=24, depth=depth)


def test_a_negative_floor_of_the_spread_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^min_spread of image_spread must be 0 or more, got -1$"):
        DMLMPretrainModule(tiny_encoder(), tiny_predictor(), min_spread=-1)
