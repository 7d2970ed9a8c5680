"""What FrozenEvaluation leaves in a run folder, and which images it counts."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import tiny_encoder
from lightning.pytorch import Trainer
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, Subset

from dmlm.datamodules import PhantomDataModule
from dmlm.errors import ConfigError
from dmlm.models import CrossModalPredictor
from dmlm.tasks import DMLMPretrainModule, FrozenEvaluation, ZeroShotConfig, ZeroShotModule


def phantoms(**options) -> PhantomDataModule:
    return PhantomDataModule(num_train=16, num_val=4, num_test=8, image_size=32, num_workers=0, batch_size=8, **options)


def evaluated(root: Path, data: PhantomDataModule, callback: FrozenEvaluation) -> dict[str, float]:
    torch.manual_seed(0)
    task = ZeroShotModule(tiny_encoder(), zero_shot=ZeroShotConfig(bootstrap=10, mc_samples=1))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    Trainer(default_root_dir=root, accelerator="cpu", callbacks=[callback], **quiet).test(task, data, verbose=False)
    return json.loads((task.run_dir / "metrics.json").read_text())


def test_masks_of_the_run_or_of_other_data_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"few": 0.5, "draws": 1, "bootstrap": 10}
    own = evaluated(tmp_path / "own", phantoms(with_masks=True), FrozenEvaluation(**options))
    apart = FrozenEvaluation(**options, masks=phantoms(with_masks=True))
    other = evaluated(tmp_path / "other", phantoms(), apart)
    without = evaluated(tmp_path / "without", phantoms(), FrozenEvaluation(**options))
    grounding = {key for key in own if key.startswith("grounding/")}
    names = ("pointing", "mask_auc", "probe_auc", "probe_dice", "chance", "prior_auc")
    assert grounding == {f"grounding/{name}" for name in names}
    assert {key: own[key] for key in grounding} == {key: other[key] for key in grounding}
    assert set(without) == set(own) - grounding
    assert "zero_shot/aurc_macro" in own
    (scores,) = (tmp_path / "own").rglob("probe.csv")
    with scores.open() as file:
        rows = [row for row in csv.DictReader(file) if row["finding"] == "Cardiomegaly"]
    labels, values = ([float(row[name]) for row in rows] for name in ("label", "score"))
    assert own["probe/auc/Cardiomegaly"] == pytest.approx(roc_auc_score(labels, values))


def test_an_untrained_model_is_measured_without_predicted_variances(tmp_path: Path) -> None:
    encoder = tiny_encoder()
    predictor = CrossModalPredictor(encoder.embed_dim, encoder.embed_dim, 1, 2)
    task = DMLMPretrainModule(encoder, predictor, zero_shot=ZeroShotConfig(bootstrap=10, mc_samples=1))
    assert task.predicts_variances
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    callback = FrozenEvaluation(few=0.5, draws=1, bootstrap=10)
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", callbacks=[callback], **quiet)
    trainer.test(task, phantoms(with_masks=True), verbose=False)
    found = json.loads((task.run_dir / "metrics.json").read_text())
    assert found["probe/auc_macro"] > 0
    assert "masked/variance_rho" not in found


def test_copies_of_an_image_count_once_and_unlabelled_ones_train_nothing() -> None:
    data = phantoms()
    data.prepare_data()
    split = data.make_dataset("train", None)
    rows = [0, 3, 3, 1, 0, 2, 3]

    def collate(samples):
        batch = data.collate(samples)
        batch["labels"][[study == split[1]["study_id"] for study in batch["study_id"]]] = float("nan")
        return batch

    loader = DataLoader(Subset(split, rows), 2, collate_fn=collate)
    task = ZeroShotModule(tiny_encoder()).eval()
    task._columns = (0, 2)
    trainer = SimpleNamespace(strategy=SimpleNamespace(batch_to_device=lambda batch, device: batch))
    all_of_them = FrozenEvaluation()._encode(trainer, task, loader, labelled=False)
    labelled = FrozenEvaluation()._encode(trainer, task, loader, labelled=True)
    assert all_of_them.studies == [split[row]["study_id"] for row in (0, 3, 1, 2)]
    assert labelled.studies == [split[row]["study_id"] for row in (0, 3, 2)]
    with torch.no_grad():
        expected = task.encoder.image_global(torch.stack([split[row]["image"] for row in (0, 3, 2)])).mean
    np.testing.assert_allclose(labelled.mean, expected, atol=1e-5)
    np.testing.assert_array_equal(labelled.labels, split.labels[[0, 3, 2]][:, [0, 2]])


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="most_masked"):
        FrozenEvaluation(most_masked=0)
