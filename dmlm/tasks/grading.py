"""`EdemaGradingModule`: how severe is it? Ordered grades as classes, or as steps of a scale (paper, Table 4)."""

from __future__ import annotations

import logging
from typing import ClassVar, Literal

import torch
from lightning.pytorch import LightningDataModule

from dmlm.errors import ConfigError, MismatchError
from dmlm.evaluation import ThresholdRule, confusion_matrix, grading_report, quadratic_kappa
from dmlm.models.classifier import ClassifierHead, FeatureKind, feature_width
from dmlm.models.encoder import ProbabilisticEncoder
from dmlm.tasks.classification import ClassificationModule
from dmlm.tasks.classification_loss import classes_of
from dmlm.tasks.classification_results import multiclass_results
from dmlm.tasks.gathering import Columns
from dmlm.tasks.optim import OptimConfig

_LOG = logging.getLogger(__name__)


class EdemaGradingModule(ClassificationModule):
    """Grade images on an ordered scale, such as edema from 0 (none) to 3 (alveolar).

    The data's labels are the grades in ascending order, exactly one of them present per image. A CSV whose grades are
    neither numbers nor usual words (none, mild, moderate, severe) has to name them in ``data.label_names``. Reported
    are the one-vs-rest measures of the paper's table (macro AUC, F1, ACC), arg-max accuracy, quadratic weighted kappa,
    mean absolute error, and the AUC of each cut of the scale.

    Args:
        encoder: The encoder; see :class:`dmlm.tasks.ClassificationModule`.
        num_classes: Number of grades.
        loss: ``cross_entropy`` over the grades, or ``ordinal``: cumulative logits with ordered cut points, so that a
            near miss costs less than a far one.
        features: What the head sees: ``mean``, ``mean_std`` or ``pooled``.
        freeze_encoder: Train the head only (linear probe).
        dropout: Share of features that are dropped while training.
        class_weights: ``balanced``, or one positive number per grade, or null.
        label_smoothing: Share of each target that is spread evenly, at least 0 and below 1.
        mc_samples: Samples of the image's distribution over which probabilities are averaged in evaluation.
        threshold: Rule of ``metrics.json``'s one-vs-rest keys without a suffix, such as ``grade/f1_macro``; the answer
            itself is the most probable grade.
        bootstrap: Resamples of patients for the 95 % intervals; 0 gives none.
        optim: Rates and schedule.

    Raises:
        ConfigError: If options are out of range or do not fit each other.
    """

    prefix: ClassVar[str] = "grade"

    def __init__(
        self,
        encoder: ProbabilisticEncoder,
        num_classes: int = 4,
        loss: Literal["cross_entropy", "ordinal"] = "cross_entropy",
        features: FeatureKind = "mean",
        freeze_encoder: bool = False,
        dropout: float = 0.0,
        class_weights: Literal["balanced"] | list[float] | None = None,
        label_smoothing: float = 0.0,
        mc_samples: int = 0,
        threshold: ThresholdRule = "best_f1_val",
        bootstrap: int = 1000,
        optim: OptimConfig = OptimConfig(warmup_fraction=0.1),
    ) -> None:
        super().__init__(
            encoder,
            num_classes,
            "multiclass",
            features,
            freeze_encoder,
            dropout,
            class_weights,
            label_smoothing,
            "ignore",
            "ignore",
            mc_samples,
            threshold,
            bootstrap,
            optim,
        )
        if loss not in ("cross_entropy", "ordinal"):
            msg = f"loss must be cross_entropy or ordinal, got '{loss}'"
            raise ConfigError(msg)
        if loss == "ordinal":
            self.head = ClassifierHead(feature_width(encoder, features), num_classes, "ordinal", dropout)

    def check_datamodule(self, datamodule: LightningDataModule) -> None:
        """Compare the facts, and refuse grades whose order nobody knows."""
        super().check_datamodule(datamodule)
        order, names = getattr(datamodule, "label_order", "given"), ", ".join(self.class_names)
        if order == "alphabet":
            msg = (
                f"{type(datamodule).__name__}: which grade is lower cannot be told from their names ({names}): "
                f'set --data.label_names "[{names}]", reordered from the lowest to the highest'
            )
            raise MismatchError(msg)
        if order == "read":
            _LOG.warning("grades from the lowest to the highest: %s; data.label_names sets another order", names)

    def validation_metrics(self, rows: Columns) -> dict[str, float]:
        """Macro one-vs-rest AUC and quadratic weighted kappa."""
        truth = classes_of(torch.from_numpy(rows["labels"])).numpy()
        kappa = quadratic_kappa(confusion_matrix(rows["prob"].argmax(1), truth, self.num_classes))
        return {**super().validation_metrics(rows), "val_kappa": kappa}

    def write_results(self, rows: Columns) -> dict[str, float]:
        """Evaluate and, on the first process, write predictions and figures."""
        answers = self.exclusive_answers(rows, self.validation_rows())
        report = grading_report(*answers)
        metrics = multiclass_results(self, rows, answers.labels, report.classes, report.flat(self.prefix))
        if self.trainer.is_global_zero:
            print(f"quadratic kappa {report.kappa:.3f}, mean absolute error {report.mae:.3f} grades")
        return metrics
