"""A folder as the documentation supposes it: the repository's files, finished runs, and stand-ins for what is yours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dmlm.__main__ import main
from docs.blocks import ROOT

CHECKPOINTS = ("pretrain.ckpt", "PRETRAINED.ckpt", "FILE.ckpt")
FINE_TUNED = ("FINE_TUNED.ckpt",)
SMALL = {"num_train": 6, "num_val": 4, "num_test": 4, "batch_size": 4, "num_workers": 0}
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
TINY = [*QUIET, "--trainer.max_epochs=1", "--test_after_fit=false", *(f"--data.{k}={v}" for k, v in SMALL.items())]


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of the default configuration and of a fine-tuning, each of one step on a few phantoms."""
    folder = tmp_path_factory.mktemp("finished")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for config, name in (("cli.yaml", "phantom"), ("examples/classify_phantom.yaml", "classify_phantom")):
            extra = ["--data.min_epoch_steps=1"] if name != "phantom" else []
            assert main(["fit", "--config", str(ROOT / config), *TINY, *extra]) is None
            assert (folder / "runs" / name / "version_0" / "checkpoints" / "best.ckpt").is_file()
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def workspace(finished_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working directory of a reader who has followed the page so far."""
    for name in ("cli.yaml", "examples", "docs", "benchmarks", ".ci"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "runs").symlink_to(finished_runs / "runs")
    pretrained, tuned = (finished_runs / "runs" / name / "version_0" for name in ("phantom", "classify_phantom"))
    (tmp_path / "RUN").symlink_to(pretrained)
    for name in CHECKPOINTS:
        (tmp_path / name).symlink_to(pretrained / "checkpoints" / "best.ckpt")
    for name in FINE_TUNED:
        (tmp_path / name).symlink_to(tuned / "checkpoints" / "best.ckpt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path
