"""What a training logs is what happened in the step that it is logged under."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_encoder, tiny_predictor
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

from dmlm.datamodules import PhantomDataModule
from dmlm.errors import CollapseError
from dmlm.objectives import ImageObjectiveConfig
from dmlm.tasks import ClassificationModule, DMLMPretrainModule, ImagePretrainModule, TaskModule, ZeroShotConfig
from dmlm.tasks.log_steps import LogSteps

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


class Losses(Callback):
    """Keep the losses of the batches of every step."""

    def __init__(self) -> None:
        self.of_step: dict[int, list[float]] = {}

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self.step = trainer.global_step

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        accumulated = float(outputs["loss"]) * trainer.accumulate_grad_batches
        self.of_step.setdefault(self.step, []).append(accumulated)


def pretraining(**options) -> DMLMPretrainModule:
    zero_shot = ZeroShotConfig(bootstrap=0, mc_samples=1)
    return DMLMPretrainModule(
        tiny_encoder(), tiny_predictor(), **{"zero_shot": zero_shot, "collapse": "off", **options}
    )


def trained(root: Path, task: TaskModule, epochs: int, every: int, accumulated: int = 1) -> tuple[Losses, Path]:
    """Train on six batches an epoch; return the losses and the file of what was logged."""
    losses, logs = Losses(), CSVLogger(root)
    trainer = Trainer(
        default_root_dir=root,
        max_epochs=epochs,
        accelerator="cpu",
        logger=logs,
        callbacks=[losses],
        log_every_n_steps=every,
        accumulate_grad_batches=accumulated,
        limit_train_batches=6,
        limit_val_batches=0,
        **QUIET,
    )
    data = PhantomDataModule(num_train=18, num_val=2, num_test=2, image_size=32, batch_size=4, num_workers=0)
    trainer.fit(task, datamodule=data)
    return losses, Path(logs.log_dir) / "metrics.csv"


def logged(path: Path) -> dict[int, float]:
    with path.open() as file:
        return {int(row["step"]): float(row["train_loss"]) for row in csv.DictReader(file) if row.get("train_loss")}


@pytest.mark.parametrize(
    ("kind", "every", "epochs", "accumulated", "steps"),
    [
        ("pairs", 5, 3, 1, [4, 9, 14]),
        ("pairs", 10, 2, 1, [9]),  # in the middle of an epoch, and not in every one
        ("pairs", 2, 2, 3, [1, 3]),
        ("images", 5, 2, 1, [4, 9]),
        ("classes", 5, 2, 1, [4, 9]),
    ],
)
def test_a_logged_loss_is_that_of_its_step(kind, every, epochs, accumulated, steps, tmp_path) -> None:
    if kind == "pairs":
        task = pretraining()
    elif kind == "images":
        task = ImagePretrainModule(tiny_encoder(), zero_shot=ZeroShotConfig(bootstrap=0))
    else:
        task = ClassificationModule(tiny_encoder(), 9, bootstrap=0)
    losses, path = trained(tmp_path, task, epochs, every, accumulated)
    found = logged(path)
    assert list(found) == steps
    for step, value in found.items():
        assert any(value == pytest.approx(loss, rel=1e-5) for loss in losses.of_step[step]), step


def test_nothing_is_logged_every_zero_steps(tmp_path) -> None:
    losses, path = trained(tmp_path, pretraining(), 1, 0)
    assert len(losses.of_step) == 6
    assert not path.exists()


def test_collapse_is_checked_once_a_step_however_many_batches_it_has(tmp_path) -> None:
    """Five checks below the floor make a collapse; here are four steps of three batches, then five."""
    options = {"collapse": "stop", "min_spread": 2.0}
    trained(tmp_path / "four", pretraining(**options), 2, 1, accumulated=3)
    with pytest.raises(CollapseError, match="at step 4"):
        trained(tmp_path / "six", pretraining(**options), 3, 1, accumulated=3)


def test_another_training_starts_to_count_anew() -> None:
    """Without logging, too, collapse is looked for now and then."""
    steps = LogSteps()
    due = [steps.is_due(SimpleNamespace(global_step=step, log_every_n_steps=3)) for step in (0, 1, 2, 2, 3)]
    assert due == [False, False, True, False, False]
    steps.start()
    assert steps.is_due(SimpleNamespace(global_step=2, log_every_n_steps=3))
    assert [step for step in range(120) if steps.is_due(SimpleNamespace(global_step=step, log_every_n_steps=0))] == [
        49,
        99,
    ]


@pytest.mark.parametrize(("kind", "warned"), [("simclr", True), ("moco", False), ("mae", False)])
def test_accumulated_images_are_not_compared_with_each_other(kind, warned, tmp_path, caplog) -> None:
    torch.manual_seed(0)
    objective = ImageObjectiveConfig(kind=kind, queue=64)
    task = ImagePretrainModule(tiny_encoder(), image_objective=objective, zero_shot=ZeroShotConfig(bootstrap=0))
    with caplog.at_level(logging.WARNING, logger="dmlm"):
        trained(tmp_path, task, 1, 1, accumulated=3)
    said = [record.getMessage() for record in caplog.records if "accumulate_grad_batches=3" in record.getMessage()]
    assert len(said) == warned
    assert all("views of its own small batch" in line for line in said)
