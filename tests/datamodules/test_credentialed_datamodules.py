"""Data modules of MIMIC-CXR, CheXpert, Open-i and edema severity, and their examples through the command line."""

from __future__ import annotations

import shutil
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
from dmlm.datasets.mimic_cxr_reports import ARCHIVE
from dmlm.datasets.synthesize.mimic import DICOM
from dmlm.errors import ConfigError, DatasetFormatError

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


@pytest.mark.parametrize(("name", "source"), [("mimic", f"mimic/{DICOM}/{ARCHIVE}"), ("openi", "openi")])
def test_reports_built_from_the_same_download_reach_the_samples(roots, name, source, tmp_path):
    built = tmp_path / "reports.jsonl"
    assert main(["reports", "build", str(roots / source), "--out", str(built), "--workers", "1", "--quiet"]) == 0
    data = MODULES[name][0](str(roots / name), image_size=32, batch_size=2, num_workers=0, reports=str(built))
    data.setup("fit")
    samples = [data.train_dataset[row] for row in range(len(data.train_dataset))]
    # a study with a text has the report that was built from it; one without falls back on its labels
    assert {sample["report"].source for sample in samples if sample["text"]} == {"rules"}
    assert all(sample["report"].source in ("labels", "text") for sample in samples if not sample["text"])
    assert all(sample["report"].study_id == sample["study_id"] for sample in samples)


def test_reports_of_other_studies_are_refused_and_missing_ones_counted(roots, tmp_path, caplog):
    built = tmp_path / "reports.jsonl"
    assert main(["reports", "build", str(roots / "openi"), "--out", str(built), "--workers", "1", "--quiet"]) == 0
    options = {"image_size": 32, "batch_size": 2, "num_workers": 0}
    lines = built.read_text().splitlines()
    (tmp_path / "some.jsonl").write_text("\n".join(lines[1:]) + "\n")
    MODULES["openi"][0](str(roots / "openi"), reports=str(tmp_path / "some.jsonl"), **options).setup("fit")
    assert "has no report of 1 of" in caplog.text
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(line.replace('"CXR', '"') for line in lines) + "\n")
    with pytest.raises(DatasetFormatError, match=r"other.jsonl: has no report of any study of .*'CXR1'"):
        MODULES["openi"][0](str(roots / "openi"), reports=str(other), **options).setup("fit")


@pytest.mark.parametrize("name", MODULES)
def test_images_from_a_store_are_those_of_the_files_which_may_then_go(roots, name, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(roots / name, root)
    command = [
        "data",
        "prepare",
        str(root),
        "--out",
        str(tmp_path / "store"),
        "--size",
        "48",
        "--workers",
        "1",
        "--quiet",
    ]
    assert main(command) == 0
    module = MODULES[name][0]
    options = {"image_size": 32, "batch_size": 2, "num_workers": 0}
    direct = module(str(root), **options)
    direct.setup("validate")
    expected = [direct.val_dataset[row] for row in range(len(direct.val_dataset))]
    for path in [*root.rglob("*.jpg"), *root.rglob("*.png")]:
        path.unlink()
    stored = module(str(root), store=str(tmp_path / "store"), **options)
    stored.setup("validate")
    found = [stored.val_dataset[row] for row in range(len(stored.val_dataset))]
    with pytest.raises(ConfigError, match=r"images of 48 pixels, data.image_size is 64; prepare .* --size 64"):
        module(str(root), store=str(tmp_path / "store"), **{**options, "image_size": 64}).setup("validate")
    assert [item["study_id"] for item in found] == [item["study_id"] for item in expected]
    # the store keeps 48 pixels of films that are 48 pixels wide, or a few less high
    for one, other in zip(found, expected, strict=True):
        assert (one["image"].float() - other["image"].float()).abs().mean() < 6
