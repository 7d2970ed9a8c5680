"""Run folders: one `fit` at a time writes into one; named in the place of a checkpoint; read from another folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import doubles
import pytest
from lightning.pytorch.callbacks import Callback

from dmlm.__main__ import main
from dmlm.errors import CheckpointError
from dmlm.io.checkpoints import read_checkpoint
from dmlm.io.lock import lock

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
MODEL = ["--model", "TinyClassifier", "--model.encoder", "TinyEncoder", "--model.encoder.image", "TinyImage"]
LOGGER = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=.", "--trainer.logger.name=runs"]
FIT = [
    "fit",
    *MODEL,
    "--data",
    doubles.TinyData.__name__,
    "--trainer.max_epochs=1",
    *QUIET,
    *LOGGER,
    "--trainer.logger.version=same",
]
RUN = Path("runs/same")


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dmlm"])


def error_of(capsys, *arguments):
    capsys.readouterr()
    assert main(list(arguments)) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_a_second_fit_in_a_run_folder_is_refused(capsys):
    RUN.mkdir(parents=True)
    held = lock(RUN, "")
    error = error_of(capsys, *FIT)
    assert f"{RUN}: another dmlm fit is writing into this folder; wait for it, or choose another one" in error
    assert "--trainer.logger.version NAME" in error
    assert not list(RUN.iterdir())
    os.close(held)
    assert main(FIT) is None
    names = {path.name for path in RUN.iterdir()}
    assert {"config.yaml", "tested.txt"} <= names
    assert not [name for name in names if "lock" in name]
    # the lock ended with the command: the folder is written to and resumed in again
    assert main(FIT) is None
    [last, *_] = (RUN / "checkpoints").iterdir()
    assert main([*FIT, "--ckpt", str(last), "--trainer.max_epochs=2"]) is None


class LockedNow(Callback):
    """Say whether a run has its folder to itself, and in the test after it, too."""

    def _check(self, trainer):
        other = subprocess.run(
            [sys.executable, "-c", f"from dmlm.io.lock import lock; lock({trainer.log_dir!r}, 'busy')"],
            capture_output=True,
            text=True,
            check=False,
        )
        with Path("said.txt").open("a") as file:
            file.write(f"{trainer.state.fn} {'busy' in other.stderr}\n")

    def on_train_start(self, trainer, pl_module):
        self._check(trainer)

    def on_test_start(self, trainer, pl_module):
        self._check(trainer)


def test_the_lock_is_held_until_the_test_after_fit_has_ended():
    assert main([*FIT, "--trainer.callbacks+=LockedNow"]) is None
    assert Path("said.txt").read_text().splitlines() == ["TrainerFn.FITTING True", "TrainerFn.TESTING True"]
    os.close(lock(RUN, "still busy"))
    Path("said.txt").unlink()
    assert main(["test", *FIT[1:], "--trainer.callbacks+=LockedNow"]) is None
    assert Path("said.txt").read_text() == "TrainerFn.TESTING False\n"


class Fork(Callback):
    """Leave a process behind, as a killed run leaves its data workers for a moment."""

    def on_train_start(self, trainer, pl_module):
        child = os.fork()
        if not child:
            os.closerange(0, 3)
            signal.pause()
        Path("child.txt").write_text(str(child))
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_run_keeps_no_lock():
    code = "import sys; import doubles, test_run_folders; from dmlm.__main__ import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, *FIT, "--trainer.callbacks+=test_run_folders.Fork"]
    places = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    try:
        os.close(lock(RUN, "the child has it"))
    finally:
        os.kill(int(Path("child.txt").read_text()), signal.SIGKILL)


def test_a_folder_in_the_place_of_a_checkpoint(capsys):
    assert main(FIT) is None
    [file, *_] = (RUN / "checkpoints").iterdir()
    for folder in (RUN, RUN / "checkpoints"):
        for verb in ("test", "fit"):
            error = error_of(capsys, verb, "--ckpt", str(folder))
            assert error == f"dmlm: error: {folder} is a folder, not a checkpoint; name the file: {file}"
    file.with_name("best.ckpt").touch()
    assert error_of(capsys, "test", "--ckpt", str(RUN)).endswith(f"the file: {RUN / 'checkpoints' / 'best.ckpt'}")
    assert "and holds none; name the .ckpt file of a run" in error_of(capsys, "test", "--ckpt", "runs")
    Path("encoder").mkdir()
    for name in ("config.json", "model.safetensors"):
        Path("encoder", name).touch()
    error = error_of(capsys, "predict", "--ckpt", "encoder")
    assert "encoder is an exported encoder, not a checkpoint: name the .ckpt of a run" in error
    assert error.endswith("--model.encoder dmlm.models.from_pretrained --model.encoder.path encoder")


@pytest.mark.parametrize("mark", ["meta.pt", ".metadata", "latest", "checkpoint/x"])
def test_sharded_checkpoints_are_folders_and_stay_lightnings_affair(tmp_path, mark):
    from dmlm.cli.checkpoint import CheckpointSource

    file = tmp_path / "last.ckpt" / mark
    file.parent.mkdir(parents=True)
    file.touch()
    assert not CheckpointSource.is_file(str(tmp_path / "last.ckpt"))
    with pytest.raises(CheckpointError, match="checkpoint of sharded training in many files"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_a_recorded_path_that_is_relative_to_another_folder(capsys, monkeypatch):
    Path("kept").mkdir()
    assert main([*FIT, "--data.root=kept"]) is None
    [file, *_] = (RUN / "checkpoints").iterdir()
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    error = error_of(capsys, "test", "--ckpt", f"../{file}", *QUIET, "--trainer.logger=false")
    assert error.startswith("dmlm: error: kept/m.csv: no such file; the path is recorded in --ckpt, and relative paths")
    assert f"there is no {Path('kept').absolute()}; change folders" in error
    # not where the path is not the checkpoint's
    error = error_of(capsys, "test", *MODEL, "--data=TinyData", "--data.root=kept", *QUIET, "--trainer.logger=false")
    assert error == "dmlm: error: kept/m.csv: no such file"
