"""The default run resumes from its own checkpoint: statements are centred once, before the first step of a new run."""

from __future__ import annotations

from pathlib import Path

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
