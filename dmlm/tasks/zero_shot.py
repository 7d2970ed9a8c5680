"""Zero-shot classification as a task, and the base that pre-training shares with it."""

from __future__ import annotations

from abc import ABC
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_only

from dmlm.distributions import Gaussian
from dmlm.errors import MismatchError
from dmlm.evaluation import (
    ClassificationReport,
    Intervals,
    auroc,
    bootstrap_auc,
    calibration_metrics,
    classification_report,
    decision_aurc,
    format_table,
)
from dmlm.io.atomic import write_json
from dmlm.models.encoder import ProbabilisticEncoder
from dmlm.models.predictor import CrossModalPredictor
from dmlm.models.zero_shot import Distance, Prompts, encode_prompts
from dmlm.plots.figures import reliability_figure, roc_figure, save_figure
from dmlm.reports import canonical_name
from dmlm.tasks.base import TaskModule
from dmlm.tasks.zero_shot_evaluation import Rows, ZeroShotConfig, gather_rows, score_batch, write_predictions


class ZeroShotTask(TaskModule, ABC):
    """What pre-training and zero-shot evaluation share: validation, test and prediction by prompts.

    A test writes ``metrics.json``, ``predictions.csv``, ``roc.png`` and ``reliability.png`` into the run folder and
    prints a table. Thresholds that are "chosen on validation" come from the data module's validation split, scored by
    the same weights. Every study counts once, whatever the batch size or the number of processes.

    Args:
        encoder: The encoder.
        predictor: The cross-modal predictor; None where only distances are used.
        zero_shot: How scores are made and reported.
    """

    def __init__(
        self, encoder: ProbabilisticEncoder, predictor: CrossModalPredictor | None, zero_shot: ZeroShotConfig
    ) -> None:
        super().__init__()
        self.encoder, self.predictor, self.zero_shot = encoder, predictor, zero_shot
        self._rows: list[Rows] = []
        self._prompts: Prompts | None = None
        self._findings: tuple[str, ...] = ()
        self._columns: tuple[int, ...] = ()

    @property
    def zero_shot_scale(self) -> float:
        """Scale of log-odds; changes probabilities, not the order."""
        return 7.14

    @property
    def training_distance(self) -> Distance:
        """What ``zero_shot.distance: train`` means."""
        return "w2"

    @property
    def zero_shot_distance(self) -> Distance:
        """Distance of the result."""
        return self.training_distance if self.zero_shot.distance == "train" else self.zero_shot.distance

    @property
    def columns(self) -> tuple[int, ...]:
        """Columns of the data's labels that are evaluated; known once a validation or a test has begun."""
        return self._columns

    def check_datamodule(self, datamodule: LightningDataModule) -> None:
        """Check that the findings to evaluate are labels of the data."""
        super().check_datamodule(datamodule)
        names = [canonical_name(name) for name in getattr(datamodule, "label_names", ())]
        for finding in self.zero_shot.findings or ():
            if canonical_name(finding) not in names:
                msg = f"zero_shot.findings names '{finding}', which is no label of the data; it has {', '.join(names)}"
                raise MismatchError(msg)

    def on_validation_epoch_start(self) -> None:
        """Encode the prompts with the current weights."""
        self._begin()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Score a batch."""
        self._rows.append(self._score(batch))

    def on_validation_epoch_end(self) -> None:
        """Log the macro AUC as ``val_auroc``."""
        rows = gather_rows(self._rows)
        self.log("val_auroc", macro_auc(rows.scores["result"], rows.labels), prog_bar=True, sync_dist=True)
        self._rows = []

    def on_test_epoch_start(self) -> None:
        """Encode the prompts with the current weights."""
        self._begin()

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:  # noqa: ARG002
        """Score a batch."""
        self._rows.append(self._score(batch))

    def on_test_epoch_end(self) -> None:
        """Report: table, ``metrics.json``, ``predictions.csv``, figures."""
        rows, self._rows = gather_rows(self._rows), []
        validation = self._score_validation_split()
        report = classification_report(
            rows.scores["result"],
            rows.probabilities,
            rows.labels,
            list(self._findings),
            val_scores=None if validation is None else validation.scores["result"],
            val_labels=None if validation is None else validation.labels,
        )
        intervals = None
        if self.zero_shot.bootstrap:
            intervals = bootstrap_auc(rows.scores["result"], rows.labels, rows.patient_id, n=self.zero_shot.bootstrap)
        metrics = {**report.flat("zero_shot"), **calibration_metrics(rows.probabilities, rows.labels, "zero_shot")}
        metrics["zero_shot/aurc_macro"] = decision_aurc(rows.probabilities, rows.labels)
        for name, scores in rows.scores.items():
            if name != "result":
                metrics[f"zero_shot/auc_macro@{name}"] = macro_auc(scores, rows.labels)
        if intervals is not None:
            metrics |= intervals.flat("zero_shot", list(self._findings))
        self.log("test_auroc", metrics["zero_shot/auc_macro"], sync_dist=True)
        self._write(rows, report, intervals, metrics)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Rows:  # noqa: ARG002
        """Score a batch; labels are not needed."""
        if self._prompts is None:
            self._begin()
        rows = self._score(batch)
        self._rows.append(rows)
        return rows

    def on_predict_epoch_end(self) -> None:
        """Write ``predictions.csv``."""
        rows, self._rows = gather_rows(self._rows), []
        self._write_rows(rows, np.zeros(len(self._findings)))
        self._prompts = None

    def _begin(self) -> None:
        names = tuple(getattr(self.trainer, "datamodule").label_names)  # type: ignore[attr-defined] # noqa: B009
        wanted = [canonical_name(name) for name in self.zero_shot.findings or names]
        known = [canonical_name(name) for name in names]
        self._columns = tuple(known.index(name) for name in wanted)
        self._findings = tuple(names[column] for column in self._columns)
        self._rows = []
        self._prompts = encode_prompts(self.encoder, self._findings, self.zero_shot.templates)

    def _score(self, batch: dict[str, Any]) -> Rows:
        if self._prompts is None:
            self._begin()
        return score_batch(
            self.encoder,
            self.predictor,
            self._prompts,  # type: ignore[arg-type]
            batch,
            self._columns,
            self._findings,
            self.zero_shot,
            self.zero_shot_distance,
            self.zero_shot_scale,
        )

    def _score_validation_split(self) -> Rows | None:
        """Score the validation split outside Lightning's loops, for thresholds that were not chosen on the test set."""
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        if getattr(datamodule, "val_dataset", None) is None:
            return None
        batches = datamodule.val_dataloader()
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            parts = [self._score(self.trainer.strategy.batch_to_device(batch, self.device)) for batch in batches]
        return gather_rows(parts) if parts else None

    @rank_zero_only
    def _write(
        self, rows: Rows, report: ClassificationReport, intervals: Intervals | None, metrics: dict[str, float]
    ) -> None:
        write_json(self.run_dir / "metrics.json", metrics)
        chosen = report.rules.get("best_f1_val")
        self._write_rows(rows, np.zeros(len(self._findings)) if chosen is None else np.nan_to_num(chosen.threshold))
        save_figure(roc_figure(rows.scores["result"], rows.labels, list(self._findings)), self.run_dir / "roc.png")
        save_figure(
            reliability_figure(rows.probabilities, rows.labels, list(self._findings)), self.run_dir / "reliability.png"
        )
        how = f"{self.zero_shot_distance}, {self.zero_shot.scorers[0]}"
        title = f"Zero-shot classification, {len(rows.index)} studies ({how})"
        print(format_table(report, intervals, title))
        print(f"written to {self.run_dir}: metrics.json, predictions.csv, roc.png, reliability.png")

    @rank_zero_only
    def _write_rows(self, rows: Rows, thresholds: np.ndarray[Any, Any]) -> None:
        variance = Gaussian(*self._prompts.positive).variance.mean((0, 2)).cpu().numpy()  # type: ignore[union-attr]
        write_predictions(self.run_dir / "predictions.csv", rows, self._findings, variance, thresholds)


class ZeroShotModule(ZeroShotTask):
    """Zero-shot classification with an encoder that was trained elsewhere (paper, Tables 2 and 3).

    ``dmlm test --config zero_shot.yaml --ckpt pretrain.ckpt`` takes the encoder (and the predictor) of the checkpoint.

    Args:
        encoder: The encoder, e.g. ``class_path: dmlm.models.from_pretrained``.
        predictor: The predictor, for the ``cloze`` scorer.
        zero_shot: How scores are made and reported.
        scale: Scale of log-odds (a pre-training run uses the one it learned).
    """

    accepts_encoder_checkpoint: ClassVar[bool] = True

    def __init__(
        self,
        encoder: ProbabilisticEncoder,
        predictor: CrossModalPredictor | None = None,
        zero_shot: ZeroShotConfig = ZeroShotConfig(),
        scale: float = 7.14,
    ) -> None:
        super().__init__(encoder, predictor, zero_shot)
        self.scale = scale

    @property
    def zero_shot_scale(self) -> float:
        """Scale of log-odds."""
        return self.scale


def macro_auc(scores: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
    """Mean area under the ROC curve over the findings that have both labels; NaN where none has.

    Args:
        scores: ``[n, C]``.
        labels: ``[n, C]``: 1, 0; -1 and nan are left out.
    """
    areas = [auroc(scores[:, column], labels[:, column]) for column in range(scores.shape[1])]
    known = [area for area in areas if not np.isnan(area)]
    return float(np.mean(known)) if known else float("nan")
