"""Two processes train without idle parameters, and evaluate every study exactly once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import tiny_encoder
from finetuning import OPTIM, evaluator, metrics, phantoms, predictions, trainer

from dmlm.tasks import ClassificationModule, SegmentationModule, TaskModule

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
TWO = {"devices": 2, "strategy": "ddp_spawn"}


def build(kind: str) -> tuple[TaskModule, dict]:
    torch.manual_seed(0)
    if kind == "classify":
        return ClassificationModule(tiny_encoder(), 9, mc_samples=2, bootstrap=10, optim=OPTIM), {}
    made = SegmentationModule(tiny_encoder(), 2, "dpt", width=16, optim=OPTIM)
    return made, {"with_masks": True, "mask_of": ["Cardiomegaly", "Edema"]}


@pytest.mark.parametrize("kind", ["classify", "segment"])
def test_two_processes_give_the_results_of_one(kind: str, tmp_path: Path, tmp_path_factory) -> None:
    cache = tmp_path_factory.getbasetemp() / "finetune-phantoms"
    made, data = build(kind)
    phantoms(cache, **data).prepare_data()
    monitor = "val_auroc" if kind == "classify" else "val_dice"
    trainer(tmp_path, monitor, 1, **TWO).fit(made, phantoms(cache, batch_size=4, **data))
    ckpt = str(tmp_path / "kept" / "best.ckpt")
    results = []
    for name, options in (("one", {"devices": 1}), ("two", TWO)):
        loaded = TaskModule.load_from_checkpoint(ckpt)
        evaluator(tmp_path / name, **options).test(loaded, phantoms(cache, batch_size=3, **data), verbose=False)
        results.append((metrics(tmp_path / name), predictions(tmp_path / name)))
    (first, rows), (second, again) = results
    assert [row["study_id"] for row in rows] == [row["study_id"] for row in again]
    assert first.keys() == second.keys()
    for key, value in first.items():
        # mutual information is a small difference of entropies: its last bits move, and ranks of equal ones with them
        assert second[key] == pytest.approx(value, abs=1e-3 if "mutual_information" in key else 1e-4, nan_ok=True), key
