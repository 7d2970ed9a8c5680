"""Zero-shot for what the library has never heard of, and training on reports without any label."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_encoder, tiny_predictor
from lightning.pytorch import Trainer
from PIL import Image

from dmlm.datamodules import ManifestDataModule
from dmlm.distributions import Gaussian
from dmlm.errors import MismatchError, ReportFormatError
from dmlm.models.zero_shot import encode_prompts
from dmlm.reports.knowledge import load_knowledge
from dmlm.tasks import DMLMPretrainModule, ZeroShotConfig, ZeroShotModule

OWN = "Azygos Lobe"
KNOWLEDGE = f"""
findings:
  {OWN}:
    definition: An accessory lobe of the right upper lobe.
    appearance: A fine curved line above the right hilum.
"""


def table(folder: Path, labels: bool) -> str:
    rows = [["path", "text", "split", "patient_id", "labels"]]
    for number in range(16):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (32, 32), dtype=np.uint8)).save(
            folder / f"{number}.png"
        )
        split = ("train", "val", "test")[0 if number < 8 else 1 + number % 2]
        rows.append([f"{number}.png", "Azygos lobe. No edema.", split, str(number), (OWN, "Edema")[number // 2 % 2]])
    with (folder / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows if labels else [row[:4] for row in rows])
    return str(folder / "data.csv")


def data(folder: Path, labels: bool = True) -> ManifestDataModule:
    column = {"label_column": "labels"} if labels else {}
    return ManifestDataModule(table(folder, labels), image_size=32, batch_size=4, num_workers=0, **column)


def trainer(folder: Path, **options) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(
        default_root_dir=folder,
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        num_sanity_val_steps=0,
        **quiet,
        **options,
    )


def test_a_finding_of_ones_own_is_scored_like_the_others(tmp_path, caplog) -> None:
    task = DMLMPretrainModule(tiny_encoder(), tiny_predictor(), zero_shot=ZeroShotConfig(bootstrap=0, mc_samples=1))
    running = trainer(tmp_path)
    with caplog.at_level(logging.WARNING, logger="dmlm"):
        running.fit(task, datamodule=data(tmp_path))
    assert f"'{OWN}' has no definition and appearance: asked with obs_verdict alone" in caplog.text
    running.test(task, datamodule=running.datamodule, verbose=False)
    assert f"zero_shot/auc/{OWN}" in json.loads((tmp_path / "metrics.json").read_text())


def test_what_is_not_known_is_asked_without_and_with_a_file_in_full(tmp_path) -> None:
    encoder = tiny_encoder().eval()
    short = encode_prompts(encoder, [OWN], ["obs_verdict"])
    both = encode_prompts(encoder, [OWN, "Edema"], ["obs_verdict", "full"])
    for template in range(2):  # the average over templates is then the one that can be asked
        torch.testing.assert_close(both.positive.mean[template, 0], short.positive.mean[0, 0])
    assert not torch.allclose(both.positive.mean[0, 1], both.positive.mean[1, 1])
    with pytest.raises(ReportFormatError, match="needs definition and appearance of 'Azygos Lobe'"):
        encode_prompts(encoder, [OWN], ["full"])
    (tmp_path / "own.yaml").write_text(KNOWLEDGE)
    known = encode_prompts(encoder, [OWN], ["obs_verdict", "full"], load_knowledge(str(tmp_path / "own.yaml")))
    assert not torch.allclose(known.positive.mean[1], known.positive.mean[0])
    config = ZeroShotConfig(knowledge=str(tmp_path / "own.yaml"))
    asked = ZeroShotModule(encoder, zero_shot=config).prompts([OWN])
    for ours, expected in zip(asked, known, strict=True):
        assert isinstance(ours, Gaussian)
        torch.testing.assert_close(ours.mean, expected.mean)


def test_without_labels_training_is_refused_at_once_and_says_how(tmp_path) -> None:
    task = DMLMPretrainModule(tiny_encoder(), tiny_predictor())
    with pytest.raises(MismatchError, match=r"no labels.*--trainer.limit_val_batches 0 --test_after_fit false"):
        trainer(tmp_path).fit(task, datamodule=data(tmp_path, labels=False))
    running = trainer(tmp_path, limit_val_batches=0)
    running.fit(task, datamodule=data(tmp_path, labels=False))
    assert running.global_step == 2
    with pytest.raises(MismatchError, match="no labels, which zero-shot validation and test compare with"):
        running.test(task, datamodule=running.datamodule, verbose=False)
