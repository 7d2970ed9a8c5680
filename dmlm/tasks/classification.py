"""`ClassificationModule`: fine-tune or probe the image side for findings or classes (paper, Table 1)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from dmlm.errors import ConfigError
from dmlm.evaluation import (
    ThresholdRule,
    best_f1_threshold,
    best_mcc_threshold,
    classification_report,
    multiclass_report,
)
from dmlm.evaluation.classification import macro_mean
from dmlm.evaluation.ranking import auroc
from dmlm.models.classifier import (
    ClassifierHead,
    FeatureKind,
    HeadTask,
    LabelTask,
    feature_width,
    freeze_unused,
    gaussian_features,
    sampled_probabilities,
)
from dmlm.models.encoder import ProbabilisticEncoder
from dmlm.tasks.classification_loss import (
    UncertainPolicy,
    UnknownPolicy,
    balanced_weights,
    check_labels,
    check_loss_options,
    classes_of,
    label_loss,
    resolve_uncertain,
    resolve_unknown,
)
from dmlm.tasks.classification_results import binary_results, multiclass_results, write_label_predictions
from dmlm.tasks.finetune import FineTuneModule
from dmlm.tasks.gathering import Columns
from dmlm.tasks.optim import OptimConfig
from dmlm.tasks.training_metrics import auroc_target, taken, training_auroc


class ExclusiveAnswers(NamedTuple):
    """What the reports of exclusive classes and of grades take, in their order.

    Args:
        probs: ``(N, K)``.
        labels: Classes, int ``(N,)``.
        names: The ``K`` classes.
        val_probs: ``(M, K)``; None without a validation split.
        val_labels: ``(M,)``; None without one.
        default_rule: Rule of the one-vs-rest keys without a suffix.
    """

    probs: NDArray[Any]
    labels: NDArray[Any]
    names: tuple[str, ...]
    val_probs: NDArray[Any] | None
    val_labels: NDArray[Any] | None
    default_rule: ThresholdRule


class ClassificationModule(FineTuneModule):
    """Classify images: independent findings, one finding, or one of several classes.

    Args:
        encoder: The encoder: ``class_path: dmlm.models.from_pretrained`` (a pre-training checkpoint or a folder), or a
            :class:`dmlm.models.ProbabilisticEncoder` whose image tower has ImageNet weights (``pretrained: true``) or
            none.
        num_classes: Number of labels of the data; 1 for ``binary``.
        task: ``multilabel``, ``binary`` or ``multiclass``.
        features: What the head sees: the ``mean`` of the image's distribution, ``mean_std``, or ``pooled``, the image
            tower's own feature before the distribution head.
        freeze_encoder: Train the head only (linear probe).
        dropout: Share of features that are dropped while training, at least 0 and below 1.
        class_weights: ``balanced``, or one positive number per class, or null.
        label_smoothing: Share of each target that is spread evenly, at least 0 and below 1.
        uncertain: What the training label -1 counts as: ``ignore``, ``zeros``, ``ones`` or ``chexpert_mixed``
            (:func:`dmlm.tasks.classification_loss.resolve_uncertain`). Metrics leave uncertain labels out.
        unknown: What a label that is not known (nan, such as a blank of CheXpert) counts as, in training and
            evaluation: ``ignore`` or ``zeros``.
        mc_samples: Samples of the image's distribution over which probabilities are averaged in evaluation; 0 takes the
            mean of the distribution.
        threshold: Rule of the decisions of a test and of a prediction; a prediction has no labels to choose by, so it
            takes ``best_f1_val`` in place of ``best_f1_test``. Exclusive classes are answered by the largest
            probability; there it is the rule of the one-vs-rest keys without a suffix. Every rule is in
            ``metrics.json``.
        bootstrap: Resamples of patients for the 95 % intervals; 0 gives none.
        optim: Rates and schedule; ``layer_decay`` lowers the rates of early layers.

    Raises:
        ConfigError: If options are out of range or do not fit each other.
    """

    monitor: ClassVar[str] = "val_auroc"
    mode: ClassVar[Literal["min", "max"]] = "max"
    prefix: ClassVar[str] = "classify"

    def __init__(
        self,
        encoder: ProbabilisticEncoder,
        num_classes: int,
        task: LabelTask = "multilabel",
        features: FeatureKind = "mean",
        freeze_encoder: bool = False,
        dropout: float = 0.0,
        class_weights: Literal["balanced"] | list[float] | None = None,
        label_smoothing: float = 0.0,
        uncertain: UncertainPolicy = "ignore",
        unknown: UnknownPolicy = "ignore",
        mc_samples: int = 0,
        threshold: ThresholdRule = "best_f1_val",
        bootstrap: int = 1000,
        optim: OptimConfig = OptimConfig(warmup_fraction=0.1),
    ) -> None:
        super().__init__(encoder, optim, freeze_encoder)
        if task == "binary" and num_classes != 1:
            msg = f"task binary has one label, got num_classes {num_classes}: set --model.num_classes 1"
            raise ConfigError(msg)
        if mc_samples < 0 or bootstrap < 0 or (mc_samples and features == "pooled"):
            got = f"{mc_samples}, {bootstrap} with features {features}"
            msg = f"mc_samples (with features mean or mean_std) and bootstrap must be 0 or more, got {got}"
            raise ConfigError(msg)
        if threshold not in get_args(ThresholdRule):
            msg = f"threshold must be one of {', '.join(get_args(ThresholdRule))}, got '{threshold}'"
            raise ConfigError(msg)
        check_loss_options(uncertain, unknown, label_smoothing, class_weights, num_classes)
        self.task, self.num_classes, self.features = task, num_classes, features
        freeze_unused(encoder, features, freeze_encoder)
        head_task: HeadTask = "multiclass" if task == "multiclass" else "multilabel"
        self.head = ClassifierHead(feature_width(encoder, features), num_classes, head_task, dropout)
        self.label_smoothing, self.uncertain, self.class_weights = label_smoothing, uncertain, class_weights
        self.unknown = unknown
        self.mc_samples, self.threshold_rule, self.bootstrap = mc_samples, threshold, bootstrap
        given = class_weights if isinstance(class_weights, (list, tuple)) else [1.0] * num_classes
        self.register_buffer("class_weight", torch.tensor(given, dtype=torch.float32))
        self.register_buffer("threshold", torch.zeros(num_classes, dtype=torch.float64))
        self.train_auroc = training_auroc(num_classes, exclusive=task == "multiclass")

    class_weight: torch.Tensor
    threshold: torch.Tensor

    def setup(self, stage: str) -> None:
        """Check the labels of every open split; balance the classes on the training labels."""
        super().setup(stage)
        datamodule = getattr(self.trainer, "datamodule", None)
        for split in ("train", "val", "test"):
            dataset = getattr(datamodule, f"{split}_dataset", None)
            if dataset is not None and stage in ("fit", "test"):
                check_labels(dataset.labels, self.class_names, self.task, f"{split} split")
        if stage == "fit" and self.class_weights == "balanced" and datamodule is not None:
            labels = torch.from_numpy(np.array(datamodule.train_dataset.labels))
            known = resolve_uncertain(resolve_unknown(labels, self.unknown), self.class_names, self.uncertain).numpy()
            self.class_weight.copy_(balanced_weights(known, self.class_names, self.head.task))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        """Compute the loss of one batch."""
        logits = self.head(self._encode(batch["image"])["features"])
        loss: torch.Tensor = self._loss(logits, batch["labels"]).mean()
        self.log("train_loss", loss.detach(), batch_size=len(batch["image"]))
        target = auroc_target(batch["labels"], exclusive=self.task == "multiclass")
        self.train_auroc.update(self.head.probabilities(logits.detach().float()), target)
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the macro AUC of the training batches."""
        self.log("train_auroc", taken(self.train_auroc))

    @torch.no_grad()
    def predict_images(self, images: torch.Tensor, seeds: list[int] | None = None) -> Columns:
        """Predict images outside a trainer.

        Args:
            images: uint8 ``(B, 1, H, W)`` of the encoder's size, on its device.
            seeds: One per image for Monte-Carlo samples; their positions by default.

        Returns:
            ``score`` (log-odds) and ``prob`` ``[B, C]``, ``mc_std`` and ``mutual_information`` ``[B, C]`` (nan without
            ``mc_samples``), ``variance`` ``[B]`` (mean variance of the image's distribution; nan for ``pooled``).
        """
        image = self._encode(images)
        gaussian = image["gaussian"]
        # in half precision the scores of many images would be equal
        with torch.autocast(images.device.type, enabled=False):
            logits = self.head(image["features"].float())
        score, prob = self.head.log_odds(logits), self.head.probabilities(logits.double())
        unknown = torch.full_like(prob, torch.nan)
        spread, information = unknown, unknown
        if self.mc_samples:
            places = seeds or list(range(len(images)))
            drawn = sampled_probabilities(gaussian, self.head, self.features, self.mc_samples, places)
            prob, spread, information = (part.double() for part in drawn)
            score = torch.logit(prob, eps=1e-9)
        variance = unknown[:, 0] if gaussian is None else gaussian.variance.mean(-1)
        columns = {"score": score, "prob": prob, "mc_std": spread, "mutual_information": information}
        return {
            name: value.cpu().numpy() for name, value in {**columns, "variance": variance, "logits": logits}.items()
        }

    def evaluate_batch(self, batch: dict[str, Any]) -> Columns:
        """Return the rows of a batch."""
        rows = self.predict_images(batch["image"], batch["index"].tolist())
        loss = self._loss(torch.from_numpy(rows.pop("logits")).to(self.device), batch["labels"])
        return {
            "index": batch["index"].cpu().numpy(),
            **rows,
            "labels": resolve_unknown(batch["labels"], self.unknown).cpu().numpy(),
            "loss_sum": loss.total.double().cpu().numpy(),
            "loss_weight": loss.weight.double().cpu().numpy(),
            "study_id": list(batch["study_id"]),
            "patient_id": list(batch["patient_id"]),
        }

    def validation_metrics(self, rows: Columns) -> dict[str, float]:
        """Macro AUC (nan-safe); choose the thresholds that a checkpoint brings along for prediction."""
        areas = [auroc(rows["score"][:, c], rows["labels"][:, c]) for c in range(self.num_classes)]
        choose = best_mcc_threshold if self.predicting_rule == "best_mcc_val" else best_f1_threshold
        chosen = [choose(rows["score"][:, c], rows["labels"][:, c])[0] for c in range(self.num_classes)]
        fixed = self.predicting_rule == "fixed_0.5"
        self.threshold.copy_(torch.zeros(self.num_classes) if fixed else torch.tensor(np.nan_to_num(chosen)))
        return {"val_auroc": macro_mean(areas).value}

    def write_results(self, rows: Columns) -> dict[str, float]:
        """Evaluate and, on the first process, write predictions and figures."""
        validation = self.validation_rows()
        if self.task == "multiclass":
            answers = self.exclusive_answers(rows, validation)
            report = multiclass_report(*answers)
            return multiclass_results(self, rows, answers.labels, report, report.flat(self.prefix))
        result = classification_report(
            rows["score"],
            rows["prob"],
            rows["labels"],
            self.class_names,
            val_scores=None if validation is None else validation["score"],
            val_labels=None if validation is None else validation["labels"],
        )
        return binary_results(self, rows, result, self.testing_rule(validation))

    @property
    def predicting_rule(self) -> ThresholdRule:
        """Rule of the thresholds that a checkpoint brings along."""
        return "best_f1_val" if self.threshold_rule == "best_f1_test" else self.threshold_rule

    def exclusive_answers(self, rows: Columns, validation: Columns | None) -> ExclusiveAnswers:
        """Gather what the reports of exclusive classes and of grades take."""
        known = None if validation is None else classes_of(torch.from_numpy(validation["labels"])).numpy()
        return ExclusiveAnswers(
            rows["prob"],
            classes_of(torch.from_numpy(rows["labels"])).numpy(),
            self.class_names,
            None if validation is None else validation["prob"],
            known,
            self.testing_rule(validation),
        )

    def testing_rule(self, validation: Columns | None) -> ThresholdRule:
        """Rule of a test's decisions; without a validation split nothing can be chosen on it."""
        return "fixed_0.5" if validation is None and self.threshold_rule.endswith("_val") else self.threshold_rule

    def write_predictions(self, rows: Columns) -> None:
        """Write ``predictions.csv`` with the thresholds that validation chose."""
        exclusive = self.task == "multiclass"
        thresholds = None if exclusive else self.threshold.cpu().numpy()
        rule = "argmax" if exclusive else self.predicting_rule
        write_label_predictions(self.run_dir / "predictions.csv", rows, self.class_names, thresholds, rule)

    def _encode(self, images: torch.Tensor) -> dict[str, Any]:
        """Features of images, and their distributions where the features come from them."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            if self.features == "pooled":
                return {"features": self.encoder.image(images).pooled, "gaussian": None}
            gaussian = self.encoder.image_global(images)
        return {"features": gaussian_features(gaussian, self.features), "gaussian": gaussian}

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> Any:  # noqa: ANN401
        known = resolve_uncertain(resolve_unknown(labels, self.unknown), self.class_names, self.uncertain)
        return label_loss(logits, known, self.head.task, self.class_weight, self.label_smoothing)
