"""Data modules of MIMIC-CXR, CheXpert, Open-i and edema severity, and their examples through the command line."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch

from dmlm.__main__ import main
from dmlm._config import build
from dmlm.datamodules import (
    CheXpertDataModule,
    EdemaSeverityDataModule,
    MIMICCXRDataModule,
    OpenIDataModule,
)

EXAMPLES = Path(__file__).parents[2] / "examples" / "datasets"
MODULES = {
    "mimic": (MIMICCXRDataModule, 14, True),
    "chexpert": (CheXpertDataModule, 14, False),
    "openi": (OpenIDataModule, 19, True),
    "edema": (EdemaSeverityDataModule, 4, True),
}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    base = tmp_path_factory.mktemp("layouts")
    for name in MODULES:
        import_module(f"dmlm.datasets.synthesize.{name}").write(base / name, 40, 0, 48)
    return base


@pytest.mark.parametrize("name", MODULES)
def test_batches_have_the_common_keys(roots, name):
    module, classes, with_text = MODULES[name]
    data = module(str(roots / name), image_size=32, batch_size=4, num_workers=0)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (4, 1, 32, 32)
    assert batch["image"].dtype == torch.uint8
    assert batch["labels"].shape == (4, classes)
    assert len(data.label_names) == classes
    assert data.task == ("multiclass" if name == "edema" else "multilabel")
    text = [sample["text"] for sample in map(data.train_dataset.__getitem__, range(len(data.train_dataset)))]
    assert any(text) == with_text
    patients = [set(getattr(data, f"{split}_dataset").patient_ids) for split in ("train", "val", "test")]
    assert sum(map(len, patients)) == len(set().union(*patients))


@pytest.mark.parametrize("name", MODULES)
def test_recorded_configuration_builds_an_equal_module(roots, name):
    module = MODULES[name][0]
    data = module(str(roots / name), image_size=32, batch_size=2, num_workers=0, split_seed=3)
    again = build(data.config, module, "test")
    assert type(again) is module
    assert again.options == data.options
    assert again.plan == data.plan


@pytest.mark.parametrize("name", MODULES)
def test_example_fits_on_phantoms_in_the_true_layout(roots, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DMLM_CACHE", str(tmp_path / "cache"))
    arguments = ["--data.root", str(roots / name), "--trainer.fast_dev_run", "1", "--data.num_workers", "0"]
    assert not main(["fit", "--config", str(EXAMPLES / f"{name}.yaml"), "--trainer.accelerator", "cpu", *arguments])


def test_wrong_root_ends_with_status_two_and_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as caught:
        raise SystemExit(main(["fit", "--config", str(EXAMPLES / "chexpert.yaml"), "--data.root", "empty"]))
    assert caught.value.code == 2
    assert "holds no train.csv" in capsys.readouterr().err
