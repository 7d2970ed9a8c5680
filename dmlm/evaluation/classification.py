"""The report of a multi-label classifier: ranking measures, and decisions under named threshold rules.

Threshold rules
    ``best_f1_test``  MedKLIP's recipe, which the D-MLM paper follows: the threshold with the largest F1 *on the test
                      set*. F1 is that largest value (decision ``score >= threshold``), accuracy is of ``score >
                      threshold``: the strict sign is MedKLIP's and flips the rows exactly at the threshold. The
                      correlation has the decision of the F1. The numbers are optimistic, because the test labels chose
                      the threshold.
    ``best_f1_val``   The threshold with the largest F1 on the validation set, applied to the test set with ``>=``.
    ``best_mcc_val``  The same with the largest Matthews correlation (CheXzero).
    ``fixed_0.5``     Probability at least 0.5; nothing is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from dmlm.errors import ConfigError, DMLMError, MismatchError
from dmlm.evaluation.ranking import (
    BoolArray,
    FloatArray,
    auroc,
    average_precision,
    best_f1_threshold,
    best_mcc_threshold,
    known_rows,
    matthews,
)

ThresholdRule = Literal["best_f1_test", "best_f1_val", "best_mcc_val", "fixed_0.5"]
Metric = Literal["auc", "auprc", "f1", "acc", "mcc"]

RULE_NOTES: dict[str, str] = {
    "best_f1_test": "best F1 on the test set itself, as MedKLIP: optimistic",
    "best_f1_val": "best F1 on the validation set",
    "best_mcc_val": "best Matthews correlation on the validation set",
    "fixed_0.5": "probability 0.5",
}


class Decision(NamedTuple):
    """Measures of yes-or-no answers: F1 (0..1, 0 where undefined), accuracy (0..1), Matthews correlation (-1..1)."""

    f1: float
    acc: float
    mcc: float


class Macro(NamedTuple):
    """Mean over the classes where a measure exists, and how many those are; the value is NaN where there are none."""

    value: float
    classes: int


@dataclass(frozen=True)
class RuleMetrics:
    """Decisions under one threshold rule, float64 ``(C,)`` each; NaN where the rule has no threshold for a class.

    Args:
        threshold: On the scale of the scores; of the probabilities for ``fixed_0.5``.
        f1: 0..1.
        acc: Accuracy, 0..1.
        mcc: Matthews correlation, -1..1.
    """

    threshold: FloatArray
    f1: FloatArray
    acc: FloatArray
    mcc: FloatArray


@dataclass(frozen=True)
class ClassificationReport:
    """Result of :func:`classification_report`.

    A class without both a present and an absent row has NaN everywhere but in its counts, and enters no macro mean.

    Args:
        names: The ``C`` classes.
        n_positive: Rows labelled present, int64 ``(C,)``.
        n_negative: Rows labelled absent, int64 ``(C,)``.
        auc: Area under the ROC curve, float64 ``(C,)``.
        auprc: Average precision, float64 ``(C,)``.
        rules: Decisions by threshold rule; validation rules are there only if validation scores were given.
        default_rule: The rule whose numbers stand in tables and under keys without a suffix.
    """

    names: tuple[str, ...]
    n_positive: npt.NDArray[np.int64]
    n_negative: npt.NDArray[np.int64]
    auc: FloatArray
    auprc: FloatArray
    rules: dict[ThresholdRule, RuleMetrics]
    default_rule: ThresholdRule

    @property
    def prevalence(self) -> FloatArray:
        """Share of present rows among the labelled ones, float64 ``(C,)``; NaN where a class has no label."""
        total = (self.n_positive + self.n_negative).astype(np.float64)
        return np.divide(self.n_positive, total, out=np.full_like(total, np.nan), where=total > 0)

    def values(self, metric: Metric, rule: ThresholdRule | None = None) -> FloatArray:
        """Values of a metric per class, float64 ``(C,)``; f1, acc and mcc under ``rule`` (or the default rule)."""
        if metric in ("auc", "auprc"):
            ranked: FloatArray = getattr(self, metric)
            return ranked
        decided: FloatArray = getattr(self.rules[rule or self.default_rule], metric)
        return decided

    def macro(self, metric: Metric, rule: ThresholdRule | None = None) -> Macro:
        """Unweighted mean of a metric over the classes where it exists."""
        return macro_mean(self.values(metric, rule))

    def flat(self, prefix: str) -> dict[str, float]:
        """All numbers under flat keys, ready for loggers and ``metrics.json``.

        Keys, for the prefix ``zero_shot``: ``zero_shot/auc_macro``, ``zero_shot/auc/Edema`` (also ``auprc``);
        ``zero_shot/f1_macro@best_f1_val``, ``zero_shot/f1/Edema@best_f1_val`` (also ``acc``, ``mcc``) for every rule,
        and without the suffix for the default rule; ``zero_shot/threshold/Edema@best_f1_val``;
        ``zero_shot/n_positive/Edema``, ``n_negative``, ``prevalence``; ``zero_shot/classes_in_macro`` (of AUC and
        AUPRC) and ``zero_shot/classes_in_macro@best_f1_val``.
        """
        flat: dict[str, float] = {}

        def put(key: str, values: npt.NDArray[np.float64] | npt.NDArray[np.int64], suffix: str = "") -> None:
            flat.update(
                {f"{prefix}/{key}/{name}{suffix}": float(value) for name, value in zip(self.names, values, strict=True)}
            )

        flat[f"{prefix}/classes_in_macro"] = float(self.macro("auc").classes)
        ranked: tuple[Metric, ...] = ("auc", "auprc")
        decided: tuple[Metric, ...] = ("f1", "acc", "mcc")
        for metric in ranked:
            flat[f"{prefix}/{metric}_macro"] = self.macro(metric).value
        for metric in decided:
            flat[f"{prefix}/{metric}_macro"] = self.macro(metric).value
        for rule in self.rules:
            flat[f"{prefix}/classes_in_macro@{rule}"] = float(self.macro("f1", rule).classes)
            for metric in decided:
                flat[f"{prefix}/{metric}_macro@{rule}"] = self.macro(metric, rule).value
        for metric in (*ranked, *decided):
            put(metric, self.values(metric))
        for rule, metrics in self.rules.items():
            for metric in decided:
                put(metric, self.values(metric, rule), f"@{rule}")
            put("threshold", metrics.threshold, f"@{rule}")
        put("n_positive", self.n_positive)
        put("n_negative", self.n_negative)
        put("prevalence", self.prevalence)
        return flat


def macro_mean(values: npt.ArrayLike) -> Macro:
    """Mean of the finite values, ``(C,)``, and their count."""
    array = np.asarray(values, dtype=np.float64)
    finite = array[np.isfinite(array)]
    return Macro(float(finite.mean()) if len(finite) else float("nan"), len(finite))


def decide(answered: BoolArray, present: BoolArray) -> Decision:
    """Measure answers against labels.

    Args:
        answered: Whether the classifier says "present", bool ``(N,)``.
        present: Whether the finding is present, bool ``(N,)``.
    """
    tp, fp = float((answered & present).sum()), float((answered & ~present).sum())
    fn, tn = float((~answered & present).sum()), float((~answered & ~present).sum())
    f1 = 2 * tp / (2 * tp + fp + fn) if tp else 0.0
    return Decision(f1, (tp + tn) / max(len(present), 1), float(matthews(tp, fp, fn, tn)))


def classification_report(
    scores: npt.ArrayLike,
    probs: npt.ArrayLike | None,
    labels: npt.ArrayLike,
    names: Sequence[str],
    val_scores: npt.ArrayLike | None = None,
    val_labels: npt.ArrayLike | None = None,
    default_rule: ThresholdRule = "best_f1_test",
) -> ClassificationReport:
    """Evaluate a multi-label (or, with one class, binary) classifier.

    Args:
        scores: Real scores, larger means more likely present, ``(N, C)``; every threshold but 0.5 is on their scale.
        probs: Probabilities 0..1, ``(N, C)``, for ``fixed_0.5``; ``None`` leaves that rule out.
        labels: 1 present, 0 absent; -1 uncertain and NaN unknown are left out per class, ``(N, C)``.
        names: The ``C`` classes.
        val_scores: Scores of the validation set, ``(M, C)``; with ``val_labels`` they add the validation rules.
        val_labels: Labels of the validation set, ``(M, C)``.
        default_rule: The rule of keys without a suffix. ``best_f1_test`` is comparable with the paper's tables, and
            optimistic.

    Returns:
        The report.

    Raises:
        MismatchError: If shapes and names do not belong together.
        ConfigError: If the default rule is unknown, or needs scores that were not given.
        DatasetFormatError: If a label is not one of 1, 0, -1, NaN.
        DMLMError: If a score is NaN.
    """
    table, marks = _pair(scores, labels, names, "test")
    chances = None if probs is None else _pair(probs, labels, names, "test")[0]
    if (val_scores is None) != (val_labels is None):
        msg = "validation rules need both val_scores and val_labels, got one of them"
        raise MismatchError(msg)
    validation = (
        None if val_scores is None or val_labels is None else _pair(val_scores, val_labels, names, "validation")
    )
    rules: list[ThresholdRule] = ["best_f1_test"]
    rules += [] if validation is None else ["best_f1_val", "best_mcc_val"]
    rules += [] if chances is None else ["fixed_0.5"]
    if default_rule not in rules:
        why = "validation scores" if default_rule.endswith("_val") else "probabilities"
        unknown = f"unknown threshold rule '{default_rule}': use one of {', '.join(get_args(ThresholdRule))}"
        msg = f"threshold rule '{default_rule}' needs {why}" if default_rule in get_args(ThresholdRule) else unknown
        raise ConfigError(msg)

    count = len(names)
    n_positive, n_negative = np.zeros(count, np.int64), np.zeros(count, np.int64)
    auc, auprc = np.full(count, np.nan), np.full(count, np.nan)
    decided = {rule: np.full((4, count), np.nan) for rule in rules}
    for c, name in enumerate(names):
        try:
            values, present = known_rows(table[:, c], marks[:, c])
            n_positive[c], n_negative[c] = present.sum(), (~present).sum()
            if not (n_positive[c] and n_negative[c]):
                continue
            auc[c], auprc[c] = auroc(values, present), average_precision(values, present)
            for rule in rules:
                chance = None if chances is None else known_rows(chances[:, c], marks[:, c])[0]
                val = None if validation is None else (validation[0][:, c], validation[1][:, c])
                decided[rule][:, c] = _under_rule(rule, values, chance, present, val)
        except DMLMError as error:
            msg = f"class '{name}': {error}"
            raise type(error)(msg) from error
    metrics = {rule: RuleMetrics(*rows) for rule, rows in decided.items()}
    return ClassificationReport(tuple(names), n_positive, n_negative, auc, auprc, metrics, default_rule)


def _under_rule(
    rule: ThresholdRule,
    scores: FloatArray,
    probs: FloatArray | None,
    present: BoolArray,
    validation: tuple[FloatArray, FloatArray] | None,
) -> tuple[float, float, float, float]:
    """Threshold, F1, accuracy and correlation of one class; NaN where validation has one kind of label only."""
    if rule == "fixed_0.5" and probs is not None:
        return 0.5, *decide(probs >= 0.5, present)
    if validation is None or rule == "best_f1_test":
        threshold, f1 = best_f1_threshold(scores, present)
        return threshold, f1, decide(scores > threshold, present).acc, decide(scores >= threshold, present).mcc
    threshold = (best_f1_threshold if rule == "best_f1_val" else best_mcc_threshold)(*validation).threshold
    if np.isnan(threshold):
        return (threshold,) * 4
    return threshold, *decide(scores >= threshold, present)


def _pair(
    values: npt.ArrayLike, labels: npt.ArrayLike, names: Sequence[str], split: str
) -> tuple[FloatArray, FloatArray]:
    """Both as float64 ``(N, C)``, after checking that they belong together."""
    table, marks = np.asarray(values, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if table.ndim != 2 or table.shape != marks.shape or table.shape[1] != len(names):
        msg = (
            f"{split} scores {table.shape} and labels {marks.shape} must both be (N, {len(names)}), a column per class"
        )
        raise MismatchError(msg)
    if len(set(names)) != len(names):
        msg = f"class names must differ, got {', '.join(names)}"
        raise MismatchError(msg)
    return table, marks
