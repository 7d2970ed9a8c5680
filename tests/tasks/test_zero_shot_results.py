"""What a zero-shot test says beside its scores: the spread of its probability, findings without a number, figures."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import tiny_encoder, tiny_predictor
from lightning.pytorch.loggers import TensorBoardLogger
from test_zero_shot_task import NAMES, phantoms, trainer

from dmlm.datasets import RawSample
from dmlm.distributions import Gaussian
from dmlm.models.zero_shot import Prompts, sampled_probability_std, zero_shot_scores
from dmlm.tasks import ZeroShotConfig, ZeroShotModule
from dmlm.tasks.doubts import GAUSSIAN_SAMPLES, zero_shot_doubts
from dmlm.tasks.inference import LabelPredictor

IMAGES = torch.randint(0, 256, (3, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def asked(scorer: str, **options) -> tuple[ZeroShotModule, np.ndarray, dict]:
    """A task, the spread that its predictor gives, and the doubts of an uncertainty study."""
    config = ZeroShotConfig(scorers=(scorer,), bootstrap=0, **options)
    task = ZeroShotModule(tiny_encoder(), tiny_predictor(), config, scale=0.5).eval()
    generator = torch.Generator().manual_seed(3)
    for weight in task.encoder.text.parameters():  # from scratch all prompts are nearly one
        weight.data += 0.5 * torch.randn(weight.shape, generator=generator)
    _, doubts = zero_shot_doubts(task, task.prompts(NAMES), NAMES, IMAGES, [0] * len(IMAGES), task.zero_shot.mc_samples)
    return task, LabelPredictor(task, NAMES)(IMAGES).mc_std, doubts


@pytest.mark.parametrize("distance", ["w2", "csd", "cosine"])
def test_the_spread_is_that_of_the_distance_that_scores(distance) -> None:
    task, spread, doubts = asked("pair", distance=distance, mc_samples=5)
    prompts = task.prompts(NAMES)
    with torch.no_grad():
        image = task.encoder.image_global(IMAGES)
        generator = torch.Generator().manual_seed(0)
        noise = [torch.randn(image.mean.shape[-1], generator=generator) for _ in range(5)]
        flat = Prompts(*(Gaussian(side.mean, torch.full_like(side.logvar, -torch.inf)) for side in prompts))
        chances = []
        for row in noise:
            point = Gaussian(image.mean + image.std * row, torch.full_like(image.logvar, -torch.inf))
            chances.append(torch.sigmoid(zero_shot_scores(point, flat, distance, "pair", 0.5)))
        wanted = torch.stack(chances).std(0, unbiased=False).numpy()
    assert (wanted > 0).all()
    np.testing.assert_allclose(spread, wanted, rtol=1e-3)
    np.testing.assert_allclose(doubts[GAUSSIAN_SAMPLES].value, wanted, rtol=1e-3)
    np.testing.assert_allclose(
        sampled_probability_std(image, prompts, 5, 0.5, [0] * 3, distance).numpy(), wanted, rtol=1e-3
    )


@pytest.mark.parametrize("scorer", ["positive_only", "cloze"])
def test_another_scorer_than_pairs_has_no_spread(scorer, tmp_path) -> None:
    task, spread, doubts = asked(scorer, findings=NAMES)
    assert np.isnan(spread).all()
    assert GAUSSIAN_SAMPLES not in doubts
    trainer(tmp_path).test(task, datamodule=phantoms(), verbose=False)
    with (tmp_path / "predictions.csv").open() as file:
        assert {row["mc_std"] for row in csv.DictReader(file)} == {""}


def test_a_prediction_takes_the_samples_of_the_task() -> None:
    few, many = (asked("pair", mc_samples=samples)[1] for samples in (1, 5))
    assert not few.any()  # one sample has no deviation
    assert many.all()


def test_a_finding_without_a_number_is_named_and_figures_go_to_tensorboard(tmp_path, monkeypatch) -> None:
    data, shown = phantoms(), []
    data.setup("test")
    column, read = data.label_names.index(NAMES[0]), data.test_dataset.read

    def without(index: int) -> RawSample:
        raw = read(index)
        return replace(raw, labels=np.where(np.arange(len(raw.labels)) == column, 0.0, raw.labels))

    monkeypatch.setattr(data.test_dataset, "read", without)
    running, logger = trainer(tmp_path), TensorBoardLogger(tmp_path, "run")
    running.loggers = [logger]
    monkeypatch.setattr(logger.experiment, "add_figure", lambda name, *_, **__: shown.append(name))
    task = ZeroShotModule(tiny_encoder(), zero_shot=ZeroShotConfig(bootstrap=0, mc_samples=1, findings=NAMES))
    with pytest.warns(UserWarning, match=rf"test split: no AUC, F1 or ACC for .*{NAMES[0]} \(no present row\)"):
        running.test(task, datamodule=data, verbose=False)
    assert shown == ["roc", "reliability"]
    found = json.loads((tmp_path / "run" / "version_0" / "metrics.json").read_text())
    assert found[f"zero_shot/auc/{NAMES[0]}"] is None
