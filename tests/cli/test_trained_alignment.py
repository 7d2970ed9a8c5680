"""Zero-shot scores an encoder by the distance and the scale that its pre-training used: command line and Python."""

from __future__ import annotations

import json
from pathlib import Path

import lightning
import pytest
import torch
import yaml
from conftest import tiny_encoder, tiny_predictor

from dmlm.__main__ import main
from dmlm.models import from_pretrained
from dmlm.objectives import ObjectiveConfig
from dmlm.tasks import ClassificationModule, DMLMPretrainModule, ImagePretrainModule, TaskModule, ZeroShotModule
from dmlm.tasks.trained_alignment import read_alignment

KINDS = {"contrastive": "w2", "cosine": "cosine", "csd_bce": "csd", "attract": "w2"}
UNTOLD = ("w2", 7.14)
FEW = {"bootstrap": 0, "mc_samples": 1, "findings": ["Edema", "Cardiomegaly"]}


def saved(task: TaskModule, path: Path) -> Path:
    """A checkpoint as a run writes it."""
    content = {
        "state_dict": task.state_dict(),
        "hyper_parameters": dict(task.hparams),
        "dmlm": {"format": 1},
        "pytorch-lightning_version": lightning.__version__,
    }
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Checkpoints of pre-trainings by alignment, and of tasks that align nothing."""
    folder = tmp_path_factory.mktemp("aligned")
    tasks: dict[str, TaskModule] = {
        kind: DMLMPretrainModule(
            tiny_encoder(), tiny_predictor(), objective=ObjectiveConfig(alignment=kind, scale_init=20.0)
        )
        for kind in KINDS
    }
    with torch.no_grad():
        for task in tasks.values():
            task.objective.alignment.log_scale += 0.1
    tasks["images"] = ImagePretrainModule(tiny_encoder())
    tasks["classes"] = ClassificationModule(tiny_encoder(), 9)
    return {name: saved(task, folder / f"{name}.ckpt") for name, task in tasks.items()}


def told(task: ZeroShotModule) -> tuple[str, float]:
    return task.zero_shot_distance, task.zero_shot_scale


@pytest.mark.parametrize("kind", KINDS)
def test_python_takes_what_training_used(kind: str, files: dict[str, Path]) -> None:
    trained = TaskModule.load_from_checkpoint(files[kind])
    task = ZeroShotModule.from_pretrained(str(files[kind]))
    assert told(task) == (KINDS[kind], pytest.approx(20 * 1.10517, rel=1e-4))
    assert told(task) == (trained.zero_shot_distance, pytest.approx(trained.zero_shot_scale))
    torch.testing.assert_close(dict(task.predictor.state_dict()), dict(trained.predictor.state_dict()))
    torch.testing.assert_close(dict(task.encoder.state_dict()), dict(trained.encoder.state_dict()))
    assert told(ZeroShotModule(task.encoder, **read_alignment(files[kind])._asdict())) == told(task)
    explicit = ZeroShotModule.from_pretrained(str(files[kind]), scale=2.0, trained_distance="csd")
    assert told(explicit) == ("csd", 2.0)


@pytest.mark.parametrize("name", ["images", "classes"])
def test_what_is_not_recorded_is_w2(name: str, files: dict[str, Path], tmp_path: Path) -> None:
    assert read_alignment(files[name]) is None
    assert told(ZeroShotModule.from_pretrained(str(files[name]))) == UNTOLD
    older = torch.load(files["cosine"], weights_only=True)
    del older["hyper_parameters"]["objective"]
    torch.save(older, tmp_path / "older.ckpt")
    assert read_alignment(tmp_path / "older.ckpt") is None
    older["hyper_parameters"]["objective"] = {"alignment": "of someone else"}
    torch.save(older, tmp_path / "older.ckpt")
    assert read_alignment(tmp_path / "older.ckpt") is None


def test_a_zero_shot_checkpoint_keeps_what_it_was_told(files: dict[str, Path], tmp_path: Path) -> None:
    task = ZeroShotModule.from_pretrained(str(files["cosine"]))
    assert told(TaskModule.load_from_checkpoint(saved(task, tmp_path / "zs.ckpt"))) == told(task)


def test_an_exported_folder_says_it_too(files: dict[str, Path], tmp_path: Path) -> None:
    for name in ("cosine", "classes"):
        assert main(["export", "--ckpt", str(files[name]), "--out", str(tmp_path / name)]) == 0
    assert read_alignment(tmp_path / "cosine") == read_alignment(files["cosine"])
    assert told(ZeroShotModule.from_pretrained(str(tmp_path / "cosine")))[0] == "cosine"
    from_pretrained(str(tmp_path / "cosine"))
    assert read_alignment(tmp_path / "classes") is None


# ---- the command line


def used_by(folder: Path, *flags: str, **model) -> dict:
    """What `dmlm test` used, as its configuration records it; and that it was used."""
    config = {
        "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "default_root_dir": str(folder)},
        "model": {
            "class_path": "ZeroShotModule",
            "init_args": {"zero_shot": {"bootstrap": 0, "mc_samples": 1}, **model},
        },
        "data": {
            "class_path": "PhantomDataModule",
            "init_args": {"num_train": 4, "num_val": 4, "num_test": 8, "image_size": 32, "num_workers": 0},
        },
    }
    folder.mkdir()
    (folder / "zs.yaml").write_text(yaml.safe_dump(config))
    assert main(["test", "--config", str(folder / "zs.yaml"), "--trainer.logger=false", *flags]) in (0, None)
    used = yaml.safe_load((folder / "config.yaml").read_text())["model"]["init_args"]
    metrics = json.loads((folder / "metrics.json").read_text())
    distance = used["trained_distance"] or "w2"
    assert metrics["zero_shot/auc_macro"] == metrics[f"zero_shot/auc_macro@{distance}"]
    return used


def test_the_command_line_takes_what_training_used(files: dict[str, Path], tmp_path: Path, capsys) -> None:
    wanted = read_alignment(files["cosine"])
    lent = used_by(tmp_path / "ckpt", "--ckpt", str(files["cosine"]))
    assert (lent["trained_distance"], lent["scale"]) == wanted
    assert "(cosine, pair)" in capsys.readouterr().out
    named = {"class_path": "dmlm.models.from_pretrained", "init_args": {"path": str(files["cosine"])}}
    started = used_by(tmp_path / "encoder", encoder=named)
    assert (started["trained_distance"], started["scale"]) == wanted
    assert "(cosine, pair)" in capsys.readouterr().out
    flags = ("--model.encoder", "dmlm.models.from_pretrained", "--model.encoder.path", str(files["csd_bce"]))
    assert used_by(tmp_path / "flags", *flags)["trained_distance"] == "csd"


def test_options_win_and_what_is_not_recorded_is_w2(files: dict[str, Path], tmp_path: Path) -> None:
    ckpt = ("--ckpt", str(files["cosine"]))
    in_file = used_by(tmp_path / "file", *ckpt, scale=3.0)
    assert (in_file["trained_distance"], in_file["scale"]) == ("cosine", 3.0)
    by_flag = used_by(tmp_path / "flag", *ckpt, "--model.trained_distance=w2")
    assert by_flag["trained_distance"] == "w2"
    assert by_flag["scale"] == pytest.approx(22.1, abs=0.1)
    untold = used_by(tmp_path / "images", "--ckpt", str(files["images"]))
    assert (untold["trained_distance"], untold["scale"]) == (None, None)


def test_an_encoder_that_is_not_there_is_one_line(tmp_path: Path, capsys) -> None:
    flags = ["--model.encoder", "dmlm.models.from_pretrained", "--model.encoder.path", "no.ckpt"]
    assert main(["test", "--model", "ZeroShotModule", *flags, "--data", "PhantomDataModule"]) == 2
    assert "no encoder at 'no.ckpt'" in capsys.readouterr().err.splitlines()[-1]
