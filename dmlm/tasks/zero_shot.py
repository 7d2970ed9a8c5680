"""Zero-shot classification as a task, and the base that pre-training shares with it."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_only

from dmlm.distributions import Gaussian
from dmlm.errors import ConfigError, MismatchError
from dmlm.evaluation import (
    ClassificationReport,
    Intervals,
    bootstrap_auc,
    calibration_metrics,
    classification_report,
    decision_aurc,
    format_table,
    warn_unmeasured,
)
from dmlm.io.atomic import write_json
from dmlm.models.encoder import ProbabilisticEncoder
from dmlm.models.predictor import CrossModalPredictor
from dmlm.models.pretrained import from_pretrained as load_encoder
from dmlm.models.zero_shot import Distance, Prompts, encode_prompts
from dmlm.plots.figures import reliability_figure, roc_figure
from dmlm.reports import canonical_name
from dmlm.reports.knowledge import load_knowledge
from dmlm.tasks.base import TaskModule
from dmlm.tasks.trained_alignment import UNKNOWN, read_alignment
from dmlm.tasks.validation_split import over_validation
from dmlm.tasks.zero_shot_evaluation import (
    Rows,
    Scoring,
    ZeroShotConfig,
    gather_rows,
    macro_auc,
    refuse_without_labels,
    score_batch,
    write_predictions,
)


class ZeroShotTask(TaskModule, ABC):
    """What pre-training and zero-shot evaluation share: validation, test and prediction by prompts.

    A test writes ``metrics.json``, ``tested.json`` (of which checkpoint), ``predictions.csv``, ``roc.png`` and
    ``reliability.png`` into the run folder (the figures to TensorBoard, too, where the run has it) and prints a table.
    Thresholds that are "chosen on validation" come from the data module's validation split, scored by the same weights.
    Every study counts once, whatever the batch size or the number of processes.

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
        return UNKNOWN.scale

    @property
    def training_distance(self) -> Distance:
        """What ``zero_shot.distance: train`` means."""
        return UNKNOWN.trained_distance

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
        if not names:
            refuse_without_labels(self.trainer)
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
        warn_unmeasured(report, "test split")
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

    def on_predict_epoch_start(self) -> None:
        """Encode the prompts with the current weights."""
        self._begin()

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Rows:  # noqa: ARG002
        """Score a batch; labels are not needed."""
        rows = self._score(batch)
        self._rows.append(rows)
        return rows

    def on_predict_epoch_end(self) -> None:
        """Write ``predictions.csv``."""
        rows, self._rows = gather_rows(self._rows), []
        self._write_rows(rows, np.zeros(len(self._findings)))

    def prompts(self, findings: Sequence[str]) -> Prompts:
        """Encode the prompts of findings, which need not be labels of any data, with the current weights."""
        config = self.zero_shot
        return encode_prompts(self.encoder, findings, config.templates, load_knowledge(config.knowledge))

    def scoring(self, prompts: Prompts, findings: Sequence[str]) -> Scoring:
        """Return how this task scores findings.

        Args:
            prompts: Their prompts, encoded with the current weights.
            findings: Their names.
        """
        distance, scale = self.zero_shot_distance, self.zero_shot_scale
        return Scoring(self.encoder, self.predictor, prompts, findings, self.zero_shot, distance, scale)

    def _begin(self) -> None:
        """Start a loop: prompts of the last one may be those of other weights."""
        names = tuple(getattr(self.trainer, "datamodule").label_names)  # type: ignore[attr-defined] # noqa: B009
        wanted = [canonical_name(name) for name in self.zero_shot.findings or names]
        known = [canonical_name(name) for name in names]
        self._columns = tuple(known.index(name) for name in wanted)
        self._findings = tuple(names[column] for column in self._columns)
        self._rows = []
        self._prompts = self.prompts(self._findings)

    def _score(self, batch: dict[str, Any]) -> Rows:
        # every loop begins with the prompts
        return score_batch(self.scoring(self._prompts, self._findings), batch, self._columns)  # type: ignore[arg-type]

    def _score_validation_split(self) -> Rows | None:
        """Score the validation split, for thresholds that were not chosen on the test set."""
        parts = over_validation(self, self._score)
        return gather_rows(parts) if parts else None

    @rank_zero_only
    def _write(
        self, rows: Rows, report: ClassificationReport, intervals: Intervals | None, metrics: dict[str, float]
    ) -> None:
        write_json(self.run_dir / "metrics.json", metrics)
        tested = self.trainer.ckpt_path
        write_json(self.run_dir / "tested.json", {"checkpoint": Path(tested).name if tested else None})
        chosen = report.rules.get("best_f1_val")
        self._write_rows(rows, np.zeros(len(self._findings)) if chosen is None else np.nan_to_num(chosen.threshold))
        self.show_figure(roc_figure(rows.scores["result"], rows.labels, list(self._findings)), "roc")
        self.show_figure(reliability_figure(rows.probabilities, rows.labels, list(self._findings)), "reliability")
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
        scale: Scale of log-odds. None: what the encoder's pre-training learned, where the encoder comes from its
            checkpoint (``--ckpt``, ``dmlm.models.from_pretrained`` in a configuration, :meth:`from_pretrained`); else
            7.14.
        trained_distance: What ``zero_shot.distance: train`` means. None: that of the pre-training, as above; else
            ``w2``.

    Raises:
        ConfigError: If the distance is unknown.
    """

    accepts_encoder_checkpoint: ClassVar[bool] = True

    def __init__(
        self,
        encoder: ProbabilisticEncoder,
        predictor: CrossModalPredictor | None = None,
        zero_shot: ZeroShotConfig = ZeroShotConfig(),
        scale: float | None = None,
        trained_distance: Distance | None = None,
    ) -> None:
        super().__init__(encoder, predictor, zero_shot)
        if trained_distance is not None and trained_distance not in get_args(Distance):
            msg = f"trained_distance must be {', '.join(get_args(Distance))}, or null; got '{trained_distance}'"
            raise ConfigError(msg)
        self.scale = UNKNOWN.scale if scale is None else scale
        self.trained_distance: Distance = trained_distance or UNKNOWN.trained_distance

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        zero_shot: ZeroShotConfig = ZeroShotConfig(),
        scale: float | None = None,
        trained_distance: Distance | None = None,
    ) -> ZeroShotModule:
        """Take encoder, predictor, distance and scale from where they were trained.

        Args:
            path: The ``.ckpt`` of any run with an encoder, or a folder of ``dmlm export``, which has no predictor.
            zero_shot: How scores are made and reported.
            scale: As for the constructor; wins over what was learned.
            trained_distance: As for the constructor; wins over what is recorded.

        Raises:
            CheckpointError: If there is no encoder.
        """
        encoder, predictor = load_encoder(path), None
        if Path(path).is_file():
            predictor = getattr(TaskModule.load_from_checkpoint(path, map_location="cpu"), "predictor", None)
        found = read_alignment(path) or UNKNOWN
        scale = found.scale if scale is None else scale
        return cls(encoder, predictor, zero_shot, scale, trained_distance or found.trained_distance).eval()

    @property
    def zero_shot_scale(self) -> float:
        """Scale of log-odds."""
        return self.scale

    @property
    def training_distance(self) -> Distance:
        """What ``zero_shot.distance: train`` means."""
        return self.trained_distance
