"""What tests of fine-tuning share: small data, small trainers, results read back."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from dmlm.datamodules import PhantomDataModule
from dmlm.tasks import OptimConfig

OPTIM = OptimConfig(lr=3e-3, encoder_lr=3e-3, min_lr=1e-4)


def phantoms(cache: Path, batch_size: int = 8, **arguments) -> PhantomDataModule:
    return PhantomDataModule(24, 8, 12, 32, batch_size, cache=str(cache), num_workers=0, augment=False, **arguments)


def trainer(root: Path, monitor: str, epochs: int = 2, **arguments) -> Trainer:
    keep = ModelCheckpoint(root / "kept", monitor=monitor, mode="max", filename="best", save_last=True)
    options = {"logger": False, "callbacks": [keep], **arguments}
    return Trainer(
        default_root_dir=root,
        max_epochs=epochs,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **options,
    )


def evaluator(root: Path, **arguments) -> Trainer:
    options = {"logger": False, **arguments}
    return Trainer(
        default_root_dir=root,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_checkpointing=False,
        **options,
    )


def metrics(root: Path) -> dict[str, float]:
    found = json.loads((root / "metrics.json").read_text())
    return {key: float("nan") if value is None else value for key, value in found.items()}


def predictions(root: Path) -> list[dict[str, str]]:
    with (root / "predictions.csv").open() as file:
        return list(csv.DictReader(file))
