"""The default run resumes from its own checkpoint: statements are centred once, and the best weights stay the best."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dmlm.__main__ import main

CONFIG = str(Path(__file__).parents[2] / "cli.yaml")
SMALL = {"num_train": 12, "num_val": 4, "num_test": 4, "image_size": 48, "batch_size": 4, "num_workers": 0}


def fit(epochs: int, *more: str) -> None:
    flags = [word for name, value in SMALL.items() for word in (f"--data.{name}", str(value))]
    flags += ["--model.encoder.image.image_size", "48", "--trainer.accelerator", "cpu"]
    flags += ["--trainer.enable_progress_bar", "false", "--trainer.max_epochs", str(epochs)]
    assert main(["fit", "--config", CONFIG, *flags, *more]) in (0, None)


def test_the_default_run_goes_on_from_its_last_checkpoint() -> None:
    fit(1)
    last = Path("runs/phantom/version_0/checkpoints/last.ckpt")
    fit(2, "--ckpt", str(last))
    first = torch.load(last, weights_only=True)
    second = torch.load(Path("runs/phantom/version_1/checkpoints/last.ckpt"), weights_only=True)
    assert second["global_step"] == 2 * first["global_step"] > 0


def test_the_best_weights_of_a_killed_run_stay_the_best() -> None:
    fit(1)
    kept = Path("runs/phantom/version_0/checkpoints")
    before = torch.load(kept / "last.ckpt", weights_only=True)
    state = next(state for key, state in before["callbacks"].items() if "val_auroc" in key)
    (path,) = state["best_k_models"]
    beyond = torch.tensor(2.0)  # no epoch to come reaches it
    state.update(best_model_score=beyond, kth_value=beyond, best_k_models={path: beyond})
    torch.save(before, kept / "last.ckpt")
    best = (kept / "best.ckpt").read_bytes()
    moved = Path("moved")
    Path("runs").rename(moved)  # a folder that was moved still gives its best weights

    fit(2, "--ckpt", str(moved / "phantom/version_0/checkpoints/last.ckpt"))

    after = Path("runs/phantom/version_0")
    assert (after / "checkpoints/best.ckpt").read_bytes() == best
    assert torch.load(after / "checkpoints/last.ckpt", weights_only=True)["global_step"] > before["global_step"]
    tested = json.loads((after / "metrics.json").read_text())
    assert tested == json.loads((moved / "phantom/version_0/metrics.json").read_text())
    assert json.loads((after / "tested.json").read_text()) == {"checkpoint": "best.ckpt"}


def test_best_weights_that_are_gone_are_said_to_be_gone() -> None:
    fit(1)
    kept = Path("runs/phantom/version_0/checkpoints")
    (kept / "best.ckpt").unlink()
    with pytest.warns(UserWarning, match="best.ckpt is gone; the best weights are those of the epochs from here on"):
        fit(2, "--ckpt", str(kept / "last.ckpt"))
    assert Path("runs/phantom/version_1/checkpoints/best.ckpt").is_file()
