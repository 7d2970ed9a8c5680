"""Zero-shot tasks: thresholds of validation, prompts of the current weights, one score wherever it is asked."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import tiny_encoder, tiny_predictor
from lightning.pytorch import Trainer

from dmlm.datamodules import PhantomDataModule
from dmlm.errors import CheckpointError, ConfigError, DatasetNotFoundError
from dmlm.models.zero_shot import cloze_scores, encode_prompts, zero_shot_scores
from dmlm.tasks import DMLMPretrainModule, TaskModule, ZeroShotConfig, ZeroShotModule
from dmlm.tasks.doubts import MAX_PROBABILITY, zero_shot_doubts
from dmlm.tasks.inference import LabelPredictor
from dmlm.tasks.validation_split import over_validation

CONFIG = ZeroShotConfig(bootstrap=0, mc_samples=1)
NAMES = ("Edema", "Pneumothorax")


def phantoms() -> PhantomDataModule:
    return PhantomDataModule(num_train=8, num_val=6, num_test=8, image_size=32, batch_size=4, num_workers=0)


def trainer(root: Path, **options) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(
        default_root_dir=root, max_epochs=1, accelerator="cpu", logger=False, num_sanity_val_steps=0, **quiet, **options
    )


def results(root: Path) -> tuple[dict[str, float], list[tuple[str, str]]]:
    with (root / "predictions.csv").open() as file:
        rows = [(row["pred"], row["threshold"]) for row in csv.DictReader(file)]
    return json.loads((root / "metrics.json").read_text()), rows


def test_thresholds_are_those_of_validation_after_fit_and_alone(tmp_path) -> None:
    task = DMLMPretrainModule(tiny_encoder(), tiny_predictor(), zero_shot=CONFIG)
    running = trainer(tmp_path / "fit")
    running.fit(task, datamodule=phantoms())
    running.save_checkpoint(tmp_path / "run.ckpt")
    running.test(task, datamodule=running.datamodule, verbose=False)
    assert json.loads((tmp_path / "fit" / "tested.json").read_text()) == {"checkpoint": None}
    loaded = TaskModule.load_from_checkpoint(tmp_path / "run.ckpt")
    trainer(tmp_path / "test").test(loaded, datamodule=phantoms(), verbose=False)
    (first, rows), (second, again) = results(tmp_path / "fit"), results(tmp_path / "test")
    assert any("best_f1_val" in key for key in first)
    assert first.keys() == second.keys()
    assert rows == again
    assert any(float(threshold) for _, threshold in again)


def test_data_without_a_validation_split_have_no_thresholds_of_it() -> None:
    def run(**data) -> list | None:
        datamodule = SimpleNamespace(setup=lambda stage: None, **data)
        return over_validation(SimpleNamespace(trainer=SimpleNamespace(datamodule=datamodule)), lambda batch: batch)

    def absent(stage: str) -> None:
        raise DatasetNotFoundError(stage)

    assert run() is None
    assert run(val_dataset=None) is None
    assert run(val_dataset=[]) is None
    assert over_validation(SimpleNamespace(trainer=SimpleNamespace(datamodule=None)), len) is None
    missing = SimpleNamespace(setup=absent, val_dataset=[1])
    assert over_validation(SimpleNamespace(trainer=SimpleNamespace(datamodule=missing)), len) is None


def test_a_prediction_asks_by_the_weights_that_it_scores_with(tmp_path) -> None:
    task = ZeroShotModule(tiny_encoder(), zero_shot=CONFIG)
    running = trainer(tmp_path)
    running.test(task, datamodule=phantoms(), verbose=False)
    generator = torch.Generator().manual_seed(3)
    for weight in task.encoder.text.parameters():
        weight.data += 0.5 * torch.randn(weight.shape, generator=generator)
    first, second = (running.predict(task, datamodule=phantoms()) for _ in range(2))
    fresh = ZeroShotModule(tiny_encoder(), zero_shot=CONFIG)
    fresh.load_state_dict(task.state_dict())
    wanted = trainer(tmp_path).predict(fresh, datamodule=phantoms())
    for given in (first, second):
        for rows, other in zip(given, wanted, strict=True):
            np.testing.assert_allclose(rows.scores["result"], other.scores["result"], rtol=1e-6)


@pytest.mark.parametrize("scorer", ["pair", "positive_only", "cloze"])
def test_every_way_to_ask_gives_the_score_of_the_test(scorer, tmp_path) -> None:
    torch.manual_seed(0)
    encoder, predictor = tiny_encoder().eval(), tiny_predictor().eval()
    for weight in predictor.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    config = ZeroShotConfig(bootstrap=0, mc_samples=1, scorers=(scorer,), findings=NAMES, distance="csd")
    # a small scale, so that probabilities are not all 0
    task = ZeroShotModule(encoder, predictor, config, scale=0.5).eval()
    [rows, *_] = trainer(tmp_path).predict(task, datamodule=phantoms())
    data = phantoms()
    data.setup("test")
    images = next(iter(data.test_dataloader()))["image"]
    prompts = encode_prompts(encoder, NAMES, config.templates)
    with torch.no_grad():
        image = encoder.image_global(images)
        if scorer == "cloze":
            wanted = cloze_scores(encoder, predictor, images, NAMES)
        else:
            wanted = zero_shot_scores(image, prompts, "csd", scorer, 0.5)
    np.testing.assert_allclose(rows.scores["result"], wanted.numpy(), rtol=1e-4, atol=1e-5)
    chances = torch.sigmoid(wanted.double()).numpy()
    np.testing.assert_allclose(LabelPredictor(task, NAMES)(images).probability, chances, rtol=1e-4, atol=1e-6)
    found, doubts = zero_shot_doubts(task, prompts, NAMES, images, [0] * len(images), 2)
    np.testing.assert_allclose(found, chances, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(doubts[MAX_PROBABILITY].value, np.minimum(chances, 1 - chances), rtol=1e-3, atol=1e-6)


def test_cloze_without_a_predictor_is_refused() -> None:
    task = ZeroShotModule(tiny_encoder(), zero_shot=ZeroShotConfig(scorers=("cloze",))).eval()
    with pytest.raises(ConfigError, match="cloze needs a trained predictor"):
        LabelPredictor(task, NAMES)(torch.zeros(1, 1, 32, 32, dtype=torch.uint8))


def test_an_unknown_distance_and_a_file_that_is_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match="trained_distance must be w2, csd, cosine"):
        ZeroShotModule(tiny_encoder(), trained_distance="l1")
    with pytest.raises(CheckpointError, match=r"no\.ckpt"):
        ZeroShotModule.from_pretrained("no.ckpt")
