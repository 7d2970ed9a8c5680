"""`--ckpt`: precedence, other tasks, resuming, and files that must be refused."""

import json
import os
import pickle
import sys
from pathlib import Path

import doubles
import pytest
import torch
import yaml

from dmlm.__main__ import main
from dmlm.io.checkpoints import CHECKPOINT_FORMAT
from dmlm.tasks.base import TaskModule

QUIET = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.logger=false",
]


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dmlm"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Checkpoints of a pre-training and of a fine-tuning, made through the CLI."""
    folder = tmp_path_factory.mktemp("runs")
    for name, model in (("pre", "TinyPretrain"), ("clf", "TinyClassifier")):
        arguments = [
            "fit", "--model", model, "--model.encoder", "TinyEncoder", "--model.encoder.image", "TinyImage",
            "--model.encoder.image.width=6", "--model.scale=0.5", "--data", "TinyData", "--data.root=train_root",
            "--trainer.max_epochs=1", f"--trainer.default_root_dir={folder / name}", *QUIET,
        ]  # fmt: skip
        if model == "TinyPretrain":
            arguments += ["--model.predictor", "TinyPredictor"]
        assert main(arguments) is None
        found = list((folder / name).rglob("*.ckpt"))
        assert len(found) == 1
        found[0].rename(folder / f"{name}.ckpt")
    return folder


def write(name, **content):
    Path(name).write_text(yaml.safe_dump(content))
    return name


def resolved(verb="test"):
    """The configuration that the last run saved."""
    names = [name for name in (f"config_{verb}.yaml", "config.yaml") if Path(name).exists()]
    return yaml.safe_load(Path(names[0]).read_text())


def encoder(name, **arguments):
    image = {"class_path": "TinyImage", "init_args": arguments}
    return {"class_path": name, "init_args": {"image": image}}


# ---- precedence: defaults < data of the checkpoint < files < model of the checkpoint < flags


def test_checkpoint_alone_supplies_model_and_data(runs):
    assert main(["test", "--ckpt", str(runs / "clf.ckpt"), *QUIET]) is None
    config = resolved()
    assert config["model"]["class_path"] == "doubles.TinyClassifier"
    assert config["model"]["init_args"]["scale"] == 0.5
    assert config["model"]["init_args"]["encoder"]["init_args"]["image"]["init_args"]["width"] == 6
    assert config["data"]["init_args"]["root"] == "train_root"
    assert Path("tested.txt").read_text() == "TinyClassifier"


def test_the_old_spelling_and_the_equals_sign(runs):
    assert main(["test", f"--ckpt_path={runs / 'clf.ckpt'}", *QUIET]) is None
    assert resolved()["model"]["init_args"]["scale"] == 0.5


def test_stale_model_values_in_a_file_lose(runs):
    stale = {"class_path": "TinyClassifier", "init_args": {"encoder": encoder("TinyEncoder", width=3), "scale": 9.0}}
    config = write("stale.yaml", model=stale)
    assert main(["test", "--config", config, "--ckpt", str(runs / "clf.ckpt"), *QUIET]) is None
    assert resolved()["model"]["init_args"]["scale"] == 0.5
    assert resolved()["model"]["init_args"]["encoder"]["init_args"]["image"]["init_args"]["width"] == 6


def test_data_in_a_file_win(runs):
    config = write("data.yaml", data={"class_path": "TinyData", "init_args": {"root": "from_file"}})
    assert main(["test", "--config", config, "--ckpt", str(runs / "clf.ckpt"), *QUIET]) is None
    assert resolved()["data"]["init_args"]["root"] == "from_file"


def test_another_data_class_takes_nothing_from_the_checkpoint(runs):
    assert main(["test", "--ckpt", str(runs / "clf.ckpt"), "--data", "OtherData", *QUIET]) is None
    assert resolved()["data"] == {"class_path": "doubles.OtherData", "init_args": {"root": "other", "image_size": 8}}


@pytest.mark.parametrize("flags_first", [True, False])
def test_flags_beat_everything(runs, flags_first):
    config = write("all.yaml", model={"class_path": "TinyClassifier", "init_args": {"scale": 9.0}}, data="TinyData")
    flags = ["--model.scale=4.0", "--data.root=from_flag"]
    files = ["--config", config, "--ckpt", str(runs / "clf.ckpt")]
    order = [*flags, *files] if flags_first else [*files, *flags]
    assert main(["test", *order, *QUIET]) is None
    assert resolved()["model"]["init_args"]["scale"] == 4.0
    assert resolved()["data"]["init_args"]["root"] == "from_flag"


def test_resuming_continues_the_epochs_and_the_optimiser(runs, capsys):
    ckpt = str(runs / "clf.ckpt")
    config = write("trainer.yaml", trainer={"max_epochs": 3})
    assert main(["fit", "--config", config, "--ckpt", ckpt, "--trainer.default_root_dir=resumed", *QUIET]) is None
    [found] = Path("resumed").rglob("*.ckpt")
    saved = torch.load(found, weights_only=True)
    assert (saved["epoch"], saved["global_step"]) == (2, 6)
    assert saved["lr_schedulers"][0]["last_epoch"] == 6
    assert {int(state["step"]) for state in saved["optimizer_states"][0]["state"].values()} == {6}
    assert saved["hyper_parameters"]["scale"] == 0.5


def test_a_resumed_run_keeps_its_optimiser(runs, capsys):
    command = ["fit", "--ckpt", str(runs / "clf.ckpt"), *QUIET]
    assert main([*command, "--model.optim.lr=0.02"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "optim.lr is 0.01 there, not 0.02: a resumed run keeps its optimiser; leave --model.optim... out" in error
    # a longer training, and options that mean the same
    same = ["--model.optim.lr=1e-2", "--model.optim.betas=[0.9,0.98]", "--trainer.max_epochs=2"]
    assert main([*command, *same]) is None
    assert main(["test", "--ckpt", str(runs / "clf.ckpt"), "--model.optim.lr=0.02", *QUIET]) is None


def test_an_older_checkpoint_without_a_newer_rate_resumes(runs):
    saved = torch.load(runs / "clf.ckpt", weights_only=True)
    saved["hyper_parameters"]["optim"] = {"lr": 0.01}
    torch.save(saved, "older.ckpt")
    assert main(["fit", "--ckpt", "older.ckpt", "--trainer.max_epochs=2", *QUIET]) is None


def test_a_run_from_pretrained_reloads_after_the_pretrained_file_is_gone(runs):
    factory = {"class_path": "doubles.pretrained", "init_args": {"path": "width6.txt"}}
    model = {"class_path": "TinyClassifier", "init_args": {"encoder": factory}}
    config = write("tune.yaml", model=model, data="TinyData", trainer={"max_epochs": 1})
    Path("width6.txt").write_text("6")
    assert main(["fit", "--config", config, *QUIET]) is None
    Path("width6.txt").unlink()
    [ckpt] = Path("checkpoints").glob("*.ckpt")
    # although the configuration file still names the factory
    assert main(["test", "--config", config, "--ckpt", str(ckpt), *QUIET]) is None
    assert resolved()["model"]["init_args"]["encoder"]["class_path"] == "doubles.TinyEncoder"
    assert TaskModule.load_from_checkpoint(ckpt).encoder.image.width == 6


# ---- another task


def test_zero_shot_takes_class_from_the_file_and_encoder_from_the_checkpoint(runs, capsys):
    config = write("zs.yaml", model={"class_path": "TinyZeroShot", "init_args": {"scale": 3.0}}, data="TinyData")
    assert main(["test", "--config", config, "--ckpt", str(runs / "pre.ckpt"), *QUIET]) is None
    saved = resolved()["model"]
    assert saved["class_path"] == "doubles.TinyZeroShot"
    assert saved["init_args"]["scale"] == 3.0  # `scale` of the pre-training is not taken over
    assert saved["init_args"]["encoder"]["init_args"]["image"]["init_args"]["width"] == 6
    assert saved["init_args"]["predictor"]["class_path"] == "doubles.TinyPredictor"
    weights = torch.load(runs / "pre.ckpt", weights_only=True)["state_dict"]
    printed = capsys.readouterr().out
    assert f"{weights['encoder.image.layer.weight'].double().sum().item():.4f}"[:6] in printed
    assert f"{weights['predictor.layer.weight'].sum().item():.4f}"[:6] in printed


def test_zero_shot_from_a_checkpoint_without_predictor(runs):
    config = write("zs.yaml", model={"class_path": "TinyZeroShot"})
    assert main(["test", "--config", config, "--ckpt", str(runs / "clf.ckpt"), *QUIET]) is None
    assert resolved()["model"]["init_args"]["predictor"] is None


def test_another_encoder_by_flag_does_not_fit(runs, capsys):
    command = ["test", "--model", "TinyZeroShot", "--ckpt", str(runs / "pre.ckpt"), "--model.encoder.image.width=5"]
    assert main([*command, *QUIET]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "pre.ckpt: encoder does not fit this configuration: size mismatch for" in error
    assert main(["test", "--ckpt", str(runs / "clf.ckpt"), "--model.encoder.image.width=5", *QUIET]) == 2
    assert "weights do not fit this TinyClassifier: size mismatch" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_checkpoint_of_another_task_says_what_to_do(runs, capsys, verb):
    path = runs / "pre.ckpt"
    assert main([verb, "--model", "TinyClassifier", "--ckpt", str(path), *QUIET]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"dmlm: error: {path} holds a TinyPretrain; TinyClassifier has a head to train first: use "
        f"`dmlm fit --model.encoder dmlm.models.from_pretrained --model.encoder.path {path}`"
    )


def test_zero_shot_cannot_resume_from_another_task(runs, capsys):
    assert main(["fit", "--model", "TinyZeroShot", "--ckpt", str(runs / "pre.ckpt"), *QUIET]) == 2
    assert "from which a TinyZeroShot cannot resume" in capsys.readouterr().err


# ---- files that must be refused


def error_of(capsys, path):
    assert main(["test", "--ckpt", str(path), *QUIET]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_missing_checkpoint(runs, capsys):
    assert error_of(capsys, runs / "nope.ckpt").endswith(f"nope.ckpt; {runs} has clf.ckpt, pre.ckpt")
    assert "the folder nowhere does not exist" in error_of(capsys, "nowhere/x.ckpt")


@pytest.mark.parametrize("size", [0, 3, 1000, -200])
def test_truncated_checkpoint(runs, capsys, size):
    Path("cut.ckpt").write_bytes((runs / "clf.ckpt").read_bytes()[:size])
    assert "cut.ckpt is damaged or not a checkpoint" in error_of(capsys, "cut.ckpt")


class Malicious:
    def __reduce__(self):
        return os.system, ("touch hacked",)


def test_malicious_pickles_are_refused_and_not_run(capsys):
    torch.save({"state_dict": {}, "hyper_parameters": Malicious()}, "bad.ckpt")
    assert "was refused: besides tensors and plain data it holds a Python object (posix.system)" in error_of(
        capsys, "bad.ckpt"
    )
    Path("old.ckpt").write_bytes(pickle.dumps(Malicious()))
    assert "old.ckpt" in error_of(capsys, "old.ckpt")
    assert not Path("hacked").exists()


def test_other_files_are_refused(runs, capsys):
    torch.save({"weights": torch.zeros(1)}, "other.ckpt")
    assert "not a Lightning checkpoint" in error_of(capsys, "other.ckpt")
    torch.save({"state_dict": {}}, "foreign.ckpt")
    assert "was not written by a dmlm task" in error_of(capsys, "foreign.ckpt")
    torch.save({"state_dict": {}, "hyper_parameters": {"_class_path": "gone.Model"}}, "gone.ckpt")
    assert "holds a gone.Model, which cannot be imported" in error_of(capsys, "gone.ckpt")
    torch.save({"state_dict": {}, "hyper_parameters": {"_class_path": "os.system"}}, "func.ckpt")
    assert "not a dmlm task" in error_of(capsys, "func.ckpt")
    newer = {**torch.load(runs / "clf.ckpt", weights_only=True), "dmlm": {"format": 2, "version": "9.0"}}
    torch.save(newer, "newer.ckpt")
    assert "has checkpoint format 2, written by dmlm 9.0" in error_of(capsys, "newer.ckpt")


def test_ckpt_in_a_file_is_refused(runs, capsys):
    config = write("c.yaml", ckpt=str(runs / "clf.ckpt"), model=doubles_model(), data="TinyData")
    assert main(["test", "--config", config, *QUIET]) == 2
    assert "named on the command line only" in capsys.readouterr().err


def doubles_model():
    return {"class_path": "TinyClassifier", "init_args": {"encoder": encoder("TinyEncoder")}}


# ---- what a checkpoint holds


def test_hyper_parameters_are_the_same_from_cli_and_python(runs):
    checkpoint = torch.load(runs / "clf.ckpt", weights_only=True)
    python = doubles.TinyClassifier(doubles.TinyEncoder(doubles.TinyImage(width=6)), scale=0.5)
    assert checkpoint["hyper_parameters"] == dict(python.hparams)
    assert checkpoint["datamodule_hyper_parameters"] == dict(doubles.TinyData(root="train_root").hparams)
    assert checkpoint["dmlm"]["format"] == CHECKPOINT_FORMAT
    json.dumps(checkpoint["hyper_parameters"])  # plain data


@pytest.mark.parametrize("cls", [doubles.TinyClassifier, doubles.TinyBase, TaskModule])
def test_load_from_checkpoint_on_concrete_and_base_class(runs, cls):
    loaded = cls.load_from_checkpoint(runs / "clf.ckpt")
    assert type(loaded) is doubles.TinyClassifier
    assert type(loaded.encoder) is doubles.TinyEncoder
    assert loaded.encoder.image.width == 6
    assert loaded.encoder.span == (-1.0, 1.0)
    assert loaded.optim.lr == 1e-2
    weights = torch.load(runs / "clf.ckpt", weights_only=True)["state_dict"]
    torch.testing.assert_close(dict(loaded.state_dict()), dict(weights))
