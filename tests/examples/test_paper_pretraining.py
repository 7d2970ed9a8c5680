"""The paper's pre-training and zero-shot configurations through the real command line, with small encoders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from dmlm.__main__ import main

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "examples" / "paper"
ZERO_SHOT = {"rsna": "rsna", "siim": "siim", "nih": "nih", "covidx": "covidx"}  # file: name for synthesize
QUIET = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


def small_encoders(folder: Path) -> Path:
    """An overlay with the encoders of `cli.yaml`, in place of those that need downloads."""
    encoder = yaml.safe_load((ROOT / "cli.yaml").read_text())["model"]["init_args"]["encoder"]
    encoder["init_args"]["image"]["init_args"]["image_size"] = 64
    predictor = {
        "class_path": "CrossModalPredictor",
        "init_args": {"embed_dim": 64, "width": 32, "depth": 1, "num_heads": 4},
    }
    model = {"class_path": "DMLMPretrainModule", "init_args": {"encoder": encoder, "predictor": predictor}}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({"model": model}))
    return path


def synthesized(name: str, folder: Path) -> Path:
    out = folder / name
    assert main(["data", "synthesize", name, str(out), "--patients", "12", "--image-size", "64"]) == 0
    return out


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    """A checkpoint of the paper's configuration on a synthetic MIMIC-CXR, one epoch with small encoders."""
    folder = tmp_path_factory.mktemp("pretrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        files = [str(PAPER / "pretrain_mimic_cxr.yaml"), str(small_encoders(folder))]
        arguments = ["fit", *(word for file in files for word in ("--config", file)), *QUIET]
        arguments += ["--data.root", str(synthesized("mimic", folder)), "--data.image_size", "64"]
        arguments += ["--data.batch_size", "8", "--data.num_workers", "0", "--trainer.max_epochs", "1"]
        assert main([*arguments, "--trainer.log_every_n_steps", "1"]) in (0, None)
    return next(folder.rglob("best.ckpt"))


def test_pretraining_keeps_the_papers_numbers() -> None:
    config = yaml.safe_load((PAPER / "pretrain_mimic_cxr.yaml").read_text())
    model, optim = config["model"]["init_args"], config["model"]["init_args"]["optim"]
    assert (model["objective"]["masked_weight"], model["text_masker"]["init_args"]["ratio"]) == (0.2, 0.3)
    assert (optim["lr"], optim["encoder_lr"], optim["weight_decay"]) == (3e-4, 1e-5, 0.05)
    assert (config["trainer"]["max_epochs"], config["data"]["init_args"]["batch_size"]) == (100, 32)
    assert config["data"]["class_path"] == "MIMICCXRDataModule"


def test_pretraining_writes_its_numbers(pretrained) -> None:
    metrics = json.loads(next(pretrained.parents[1].rglob("metrics.json")).read_text())
    assert "zero_shot/auc_macro" in metrics


def test_the_manifest_lies_over_it(capsys) -> None:
    files = [str(PAPER / f"pretrain_{name}.yaml") for name in ("mimic_cxr", "manifest")]
    with pytest.raises(SystemExit) as end:
        main(["fit", *(word for file in files for word in ("--config", file)), "--print_config"])
    assert end.value.code in (0, None)
    found = yaml.safe_load(capsys.readouterr().out)
    assert found["data"]["class_path"] == "dmlm.datamodules.ManifestDataModule"
    assert found["model"]["init_args"]["image_masker"]["class_path"] == "dmlm.masking.AppearanceMask"


@pytest.mark.parametrize("name", ZERO_SHOT)
def test_zero_shot_takes_the_encoder_of_the_checkpoint(name, pretrained, tmp_path) -> None:
    arguments = ["test", "--config", str(PAPER / f"zero_shot_{name}.yaml"), "--ckpt", str(pretrained), *QUIET]
    arguments += ["--data.root", str(synthesized(ZERO_SHOT[name], tmp_path)), "--data.image_size", "64"]
    assert main([*arguments, "--data.num_workers", "0"]) in (0, None)
    run = next(Path("runs").glob(f"zero_shot_{name}/*/metrics.json"))
    metrics = json.loads(run.read_text())
    assert any(key.startswith("zero_shot/f1_macro@best_f1_test") for key in metrics)
    assert (run.parent / "predictions.csv").is_file()
