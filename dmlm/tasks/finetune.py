"""`FineTuneModule`: what tasks on images share: a frozen or tuned encoder, rates, exact evaluation, results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from typing_extensions import Self

from dmlm.errors import CheckpointError, ConfigError, MismatchError
from dmlm.io.atomic import write_json
from dmlm.models.encoder import ProbabilisticEncoder
from dmlm.tasks.base import TaskModule
from dmlm.tasks.gathering import Columns, gather_columns
from dmlm.tasks.optim import OptimConfig, configure
from dmlm.tasks.validation_split import over_validation

ENCODER_PREFIX = "encoder.image."
"""What gets ``optim.encoder_lr``; the distribution head and what is new get ``optim.lr`` (paper, section 4.1)."""


class FineTuneModule(TaskModule, ABC):
    """Base of classification, grading and segmentation.

    Validation and test collect one row per study on every process and gather them, so that a metric is that of the
    whole split under any batch size and number of processes. A test writes ``metrics.json``, ``predictions.csv`` and
    figures into the run folder, and the figures to TensorBoard where the run has it.

    Args:
        encoder: The encoder; its text side is kept but not trained.
        optim: Rates and schedule.
        freeze_encoder: Train the head only (linear probe).
    """

    def __init__(
        self,
        encoder: ProbabilisticEncoder,
        optim: OptimConfig,
        freeze_encoder: bool,
    ) -> None:
        super().__init__()
        self.encoder, self.optim_config, self.freeze_encoder = encoder, optim, freeze_encoder
        self.class_names: tuple[str, ...] = ()
        self._parts: list[Columns] = []

    @abstractmethod
    def evaluate_batch(self, batch: dict[str, Any]) -> Columns:
        """Return the rows of a batch, with ``index``, ``study_id``, ``patient_id``, ``loss_sum``, ``loss_weight``."""

    @abstractmethod
    def validation_metrics(self, rows: Columns) -> dict[str, float]:
        """Return what validation logs (besides ``val_loss``) from all its rows, and note chosen thresholds."""

    @abstractmethod
    def write_results(self, rows: Columns) -> dict[str, float]:
        """Write the results of a test on the first process; return all metrics. Called on every process."""

    @abstractmethod
    def write_predictions(self, rows: Columns) -> None:
        """Write ``predictions.csv`` of rows that may have no labels."""

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; a frozen encoder stays in evaluation."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def check_datamodule(self, datamodule: LightningDataModule) -> None:
        """Compare the facts and take over the names of the classes."""
        super().check_datamodule(datamodule)
        names = self.names_of(datamodule)
        if self.class_names and names != self.class_names:
            msg = (
                f"{type(datamodule).__name__} has the classes {', '.join(names)}, but the checkpoint was trained for "
                f"{', '.join(self.class_names)}: use the data it was trained with, or start a new run from its encoder"
            )
            raise MismatchError(msg)
        self.class_names = names

    def names_of(self, datamodule: LightningDataModule) -> tuple[str, ...]:
        """Names of what is predicted."""
        return tuple(getattr(datamodule, "label_names", ()))

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Collect the rows of a batch."""
        self._parts.append(self.evaluate_batch(batch))

    def on_validation_epoch_end(self) -> None:
        """Log ``val_loss`` and the task's metrics over the whole split."""
        rows = self._take()
        self.log("val_loss", mean_loss(rows), prog_bar=True)
        self.log_dict(self.validation_metrics(rows), prog_bar=True)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:  # noqa: ARG002
        """Collect the rows of a batch."""
        self._parts.append(self.evaluate_batch(batch))

    def on_test_epoch_end(self) -> None:
        """Evaluate: ``metrics.json``, ``predictions.csv``, figures, a table on the terminal."""
        rows = self._take()
        metrics = self.write_results(rows)
        if self.trainer.is_global_zero:
            write_json(self.run_dir / "metrics.json", metrics)
            print(f"written to {self.run_dir}: metrics.json, predictions.csv and figures")
        self.log("test_loss", mean_loss(rows))

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Columns:  # noqa: ARG002
        """Collect the rows of a batch, and return them."""
        self._parts.append(self.evaluate_batch(batch))
        return self._parts[-1]

    def on_predict_epoch_end(self) -> None:
        """Write ``predictions.csv``."""
        rows = self._take()
        if self.trainer.is_global_zero:
            self.write_predictions(rows)

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - what Lightning takes
        """AdamW with the encoder's own rate (by layer, with ``optim.layer_decay``), warm-up and cosine.

        Raises:
            ConfigError: If there is a rate for the text side, which is not trained.
        """
        if self.optim_config.text_lr is not None:
            msg = f"optim.text_lr must be null where the text side is not trained, got {self.optim_config.text_lr}"
            raise ConfigError(msg)
        steps = float(self.trainer.estimated_stepping_batches)
        return configure(self, (ENCODER_PREFIX,), self.optim_config, steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the names of the classes, so that predictions need no data set."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["dmlm"]["class_names"] = list(self.class_names)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the names of the classes from the checkpoint."""
        super().on_load_checkpoint(checkpoint)
        self.class_names = tuple(checkpoint.get("dmlm", {}).get("class_names", ()))

    def show_picture(self, path: Path) -> None:
        """Send a PNG of the run folder to TensorBoard where the run has it."""
        from PIL import Image

        for logger in self.trainer.loggers:
            add = getattr(getattr(logger, "experiment", None), "add_image", None)
            if add is not None:
                with Image.open(path) as picture:
                    add(path.stem, np.asarray(picture.convert("RGB")), global_step=self.global_step, dataformats="HWC")

    def _take(self) -> Columns:
        rows, self._parts = gather_columns(self._parts), []
        if not rows:
            msg = f"{type(self).__name__}: the data loader gave no batch to evaluate"
            raise ConfigError(msg)
        return rows

    def validation_rows(self) -> Columns | None:
        """Rows of the validation split, for thresholds that the test set did not choose."""
        parts = over_validation(self, self.evaluate_batch)
        return gather_columns(parts) if parts else None


def mean_loss(rows: Columns) -> float:
    """Loss of a split: weighted mean over everything that has a label; NaN where nothing has."""
    weight = float(np.sum(rows["loss_weight"]))
    return float(np.sum(rows["loss_sum"]) / weight) if weight else float("nan")


def load_finetuned(path: str, kind: type[FineTuneModule] = FineTuneModule) -> FineTuneModule:
    """Load a fine-tuned model for use without a trainer, in evaluation mode, with its class names and thresholds.

    Args:
        path: The ``.ckpt`` of a run.
        kind: What the run must have trained; any fine-tuning task by default.

    Raises:
        CheckpointError: If the file is damaged, or holds another task.
    """
    module = TaskModule.load_from_checkpoint(path, map_location="cpu")
    if not isinstance(module, kind):
        msg = (
            f"{path} holds a {type(module).__name__}, which is no {kind.__name__}; pass the checkpoint of a "
            "fine-tuning run (dmlm fit --config examples/classify_phantom.yaml)"
        )
        raise CheckpointError(msg)
    return module.eval()
