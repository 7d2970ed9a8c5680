"""Ordered grades (edema 0..3): quadratic weighted kappa, mean absolute error, and the AUC of every cut of the scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dmlm.evaluation.classification import ThresholdRule, macro_mean
from dmlm.evaluation.intervals import Interval, bootstrap_means, percentiles, weight_chunks
from dmlm.evaluation.multiclass import MulticlassReport, known_classes, multiclass_report
from dmlm.evaluation.ranking import FloatArray, auroc


@dataclass(frozen=True)
class GradingReport:
    """Result of :func:`grading_report`.

    Args:
        classes: The grades as unordered classes (the paper's Table 4 averages their one-vs-rest measures).
        kappa: Quadratic weighted kappa of the most probable grades, -1..1.
        mae: Mean absolute error of the most probable grades, in grades.
        mae_expected: Mean absolute error of the expected grade (the probabilities' mean), in grades.
        cuts: AUC of "grade above k" for k = 0..K-2 by the probability above the cut, float64 ``(K - 1,)``.
    """

    classes: MulticlassReport
    kappa: float
    mae: float
    mae_expected: float
    cuts: FloatArray

    def flat(self, prefix: str) -> dict[str, float]:
        """All numbers under flat keys.

        Those of :meth:`MulticlassReport.flat`, and ``{prefix}/kappa``, ``mae``, ``mae_expected``,
        ``auc_cut/above_NAME`` and ``auc_cut_macro``.
        """
        flat = self.classes.flat(prefix)
        flat |= {f"{prefix}/kappa": self.kappa, f"{prefix}/mae": self.mae, f"{prefix}/mae_expected": self.mae_expected}
        flat[f"{prefix}/auc_cut_macro"] = macro_mean(self.cuts).value
        names = self.classes.names[:-1]
        flat.update({f"{prefix}/auc_cut/above_{name}": float(v) for name, v in zip(names, self.cuts, strict=True)})
        return flat


def quadratic_kappa(confusion: npt.ArrayLike) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968): 1 - observed over expected squared distance of the grades.

    Args:
        confusion: Counts of true grade by answered grade, ``(K, K)``.

    Returns:
        Value in -1..1; NaN without rows, or where truth and answers are one and the same grade throughout.
    """
    table = np.asarray(confusion, dtype=np.float64)
    total = table.sum()
    grade = np.arange(len(table))
    weight = np.square(grade[:, None] - grade[None, :])
    expected = (weight * np.outer(table.sum(axis=1), table.sum(axis=0))).sum()
    return float(1 - (weight * table).sum() * total / expected) if expected > 0 else float("nan")


def weighted_kappas(
    answers: npt.ArrayLike, labels: npt.ArrayLike, classes: int, weight: npt.NDArray[np.int32]
) -> FloatArray:
    """Quadratic kappa in each resample, float64 ``(n,)``.

    Args:
        answers: Grade 0..K-1 that was answered, ``(N,)``.
        labels: True grade, ``(N,)``; -1 is left out.
        classes: Number of grades ``K``.
        weight: How often each row counts, ``(N, n)`` (:func:`dmlm.evaluation.intervals.weight_chunks`).
    """
    truth = np.asarray(labels, dtype=np.int64)
    known = truth >= 0
    cell = (truth * classes + np.asarray(answers))[known, None] == np.arange(classes**2)
    counts = (cell.T.astype(np.float64) @ weight[known]).T.reshape(-1, classes, classes)
    return np.array([quadratic_kappa(confusion) for confusion in counts])


def bootstrap_grades(
    answers: npt.ArrayLike, labels: npt.ArrayLike, classes: int, groups: Sequence[Any], n: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """95 % intervals of ``kappa``, ``mae`` and ``accuracy`` of the answered grades, resampling patients.

    Args:
        answers: Grade 0..K-1 that was answered, ``(N,)``.
        labels: True grade, ``(N,)``; -1 is left out.
        classes: Number of grades ``K``.
        groups: Patient of each row.
        n: Number of resamples.
        seed: As in :func:`~dmlm.evaluation.intervals.bootstrap_auc`.
    """
    truth, said = np.asarray(labels, dtype=np.int64), np.asarray(answers, dtype=np.int64)
    distance = np.where(truth >= 0, np.abs(said - truth), np.nan)
    right = np.where(truth >= 0, said == truth, np.nan)
    mae, accuracy, _ = bootstrap_means(np.stack([distance, right], axis=1), groups, n, seed)
    whole = weighted_kappas(said, truth, classes, np.ones((len(truth), 1), np.int32))[0]
    drawn = np.concatenate([weighted_kappas(said, truth, classes, w) for _, w in weight_chunks(groups, n, seed)])
    return {"kappa": percentiles(whole, drawn), "mae": mae, "accuracy": accuracy}


def grading_report(
    probs: npt.ArrayLike,
    labels: npt.ArrayLike,
    names: Sequence[str],
    val_probs: npt.ArrayLike | None = None,
    val_labels: npt.ArrayLike | None = None,
    default_rule: ThresholdRule = "best_f1_test",
) -> GradingReport:
    """Evaluate a grader.

    Args:
        probs: Probability of each grade, rows summing to 1, ``(N, K)``.
        labels: Grade 0..K-1 per row, ``(N,)``; -1 and NaN are left out.
        names: The ``K`` grades, ascending.
        val_probs: Probabilities of the validation set, ``(M, K)``, for validation threshold rules.
        val_labels: Grades of the validation set, ``(M,)``.
        default_rule: The threshold rule of one-vs-rest keys without a suffix.

    Returns:
        The report.

    Raises:
        DMLMError: As :func:`~dmlm.evaluation.multiclass.multiclass_report`.
    """
    classes = multiclass_report(probs, labels, names, val_probs, val_labels, default_rule)
    known = known_classes(labels, len(names))
    table, truth = np.asarray(probs, dtype=np.float64)[known], np.asarray(labels, dtype=np.float64)[known]
    grade = np.arange(len(names))
    distance = np.abs(grade[:, None] - grade[None, :])
    total = int(classes.confusion.sum())
    above = table[:, ::-1].cumsum(axis=1)[:, ::-1]  # above[:, k] = P(grade >= k)
    return GradingReport(
        classes=classes,
        kappa=quadratic_kappa(classes.confusion),
        mae=float((distance * classes.confusion).sum() / total) if total else float("nan"),
        mae_expected=float(np.abs(table @ grade - truth).mean()) if total else float("nan"),
        cuts=np.array([auroc(above[:, k], (truth >= k).astype(np.float64)) for k in range(1, len(names))]),
    )
