"""One of several classes: confusion matrix, accuracies, F1, Matthews correlation, and one-vs-rest ranking measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dmlm.errors import DatasetFormatError, DMLMError, MismatchError
from dmlm.evaluation.classification import ClassificationReport, ThresholdRule, classification_report, macro_mean
from dmlm.evaluation.ranking import FloatArray

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MulticlassReport:
    """Result of :func:`multiclass_report`.

    Args:
        names: The ``K`` classes.
        confusion: Rows of class i answered as class j at ``[i, j]``, int64 ``(K, K)``.
        one_vs_rest: Each class against all others: AUC, AUPRC, and F1, accuracy and correlation by threshold rule.
    """

    names: tuple[str, ...]
    confusion: IntArray
    one_vs_rest: ClassificationReport

    @property
    def accuracy(self) -> float:
        """Share of rows whose largest probability is at the right class, 0..1; it is the micro F1 as well."""
        total = int(self.confusion.sum())
        return float(np.trace(self.confusion) / total) if total else float("nan")

    @property
    def recall(self) -> FloatArray:
        """Share of each class's rows that are answered right, float64 ``(K,)``; NaN for a class without rows."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=1), np.nan)

    @property
    def precision(self) -> FloatArray:
        """Share of each class's answers that are right, float64 ``(K,)``; 0 for a class that is never answered."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=0), 0.0)

    @property
    def f1(self) -> FloatArray:
        """F1 of the answers per class, float64 ``(K,)``; NaN for a class without rows."""
        truth, answers = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        value = _ratio(2 * np.diag(self.confusion), truth + answers, 0.0)
        return np.where(truth > 0, value, np.nan)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of :attr:`recall` over the classes that have rows."""
        return macro_mean(self.recall).value

    @property
    def mcc(self) -> float:
        """Matthews correlation of all classes at once (Gorodkin 2004), -1..1; 0 where one side is constant."""
        table = self.confusion.astype(np.float64)
        truth, answers, total = table.sum(axis=1), table.sum(axis=0), table.sum()
        covariance = np.trace(table) * total - truth @ answers
        spread = np.sqrt(total**2 - answers @ answers) * np.sqrt(total**2 - truth @ truth)
        return float(covariance / spread) if spread > 0 else 0.0

    def flat(self, prefix: str) -> dict[str, float]:
        """All numbers under flat keys.

        Keys: ``{prefix}/accuracy``, ``balanced_accuracy``, ``f1_argmax_macro``,
        ``mcc_argmax``, per class ``recall/NAME``, ``precision/NAME``, ``f1_argmax/NAME``, ``confusion/TRUE/ANSWER``,
        and those of :meth:`ClassificationReport.flat` for one class against all others (``auc_macro``, ...).
        """
        flat = self.one_vs_rest.flat(prefix)
        flat[f"{prefix}/accuracy"] = self.accuracy
        flat[f"{prefix}/balanced_accuracy"] = self.balanced_accuracy
        flat[f"{prefix}/f1_argmax_macro"] = macro_mean(self.f1).value
        flat[f"{prefix}/mcc_argmax"] = self.mcc
        for key, values in (("recall", self.recall), ("precision", self.precision), ("f1_argmax", self.f1)):
            flat.update({f"{prefix}/{key}/{name}": float(v) for name, v in zip(self.names, values, strict=True)})
        for i, truth in enumerate(self.names):
            for j, answer in enumerate(self.names):
                flat[f"{prefix}/confusion/{truth}/{answer}"] = float(self.confusion[i, j])
        return flat


def confusion_matrix(answers: npt.ArrayLike, labels: npt.ArrayLike, classes: int) -> IntArray:
    """Count answers by true class.

    Args:
        answers: Class of each row, 0..``classes - 1``, ``(N,)``.
        labels: True class of each row, ``(N,)``; -1 and NaN are left out.
        classes: Number of classes.

    Returns:
        Rows of class i answered as class j at ``[i, j]``, int64 ``(classes, classes)``.

    Raises:
        MismatchError: If the lengths differ.
        DatasetFormatError: If a label or an answer is out of range.
    """
    said, truth = np.asarray(answers, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if said.ndim != 1 or said.shape != truth.shape:
        msg = f"expected answers and labels of one length (N,), got {said.shape} and {truth.shape}"
        raise MismatchError(msg)
    known = known_classes(truth, classes)
    _check_range(said[known], classes, "answer")
    cells = truth[known].astype(np.int64) * classes + said[known].astype(np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def multiclass_report(
    probs: npt.ArrayLike,
    labels: npt.ArrayLike,
    names: Sequence[str],
    val_probs: npt.ArrayLike | None = None,
    val_labels: npt.ArrayLike | None = None,
    default_rule: ThresholdRule = "best_f1_test",
) -> MulticlassReport:
    """Evaluate a classifier that answers one of several classes.

    The answer is the class of largest probability, the first among equals. One-vs-rest measures rank the rows by the
    class's own probability; averaging them over classes is the convention of MedKLIP and of the D-MLM paper's grading
    table.

    Args:
        probs: Probabilities (or any scores that grow with them), ``(N, K)``.
        labels: Class 0..K-1 per row, ``(N,)``; -1 and NaN are left out.
        names: The ``K`` classes.
        val_probs: Probabilities of the validation set, ``(M, K)``; with ``val_labels`` they add validation rules.
        val_labels: Classes of the validation set, ``(M,)``.
        default_rule: The threshold rule of one-vs-rest keys without a suffix.

    Returns:
        The report.

    Raises:
        MismatchError: If shapes and names do not belong together.
        DatasetFormatError: If a label is out of range.
        ConfigError: If the default rule is unknown, or needs validation probabilities that were not given.
        DMLMError: If a probability of a labelled row is NaN.
    """
    table, truth = _rows(probs, labels, len(names))
    validation = None if val_probs is None or val_labels is None else _rows(val_probs, val_labels, len(names))
    report = classification_report(
        table,
        table if not len(table) or (table.min() >= 0 and table.max() <= 1) else None,
        one_hot(truth, len(names)),
        names,
        val_scores=None if validation is None else validation[0],
        val_labels=None if validation is None else one_hot(validation[1], len(names)),
        default_rule=default_rule,
    )
    return MulticlassReport(tuple(names), confusion_matrix(_argmax(table), truth, len(names)), report)


def known_classes(labels: npt.ArrayLike, classes: int) -> npt.NDArray[np.bool_]:
    """Which rows have a class, bool ``(N,)``: -1 and NaN have none.

    Raises:
        DatasetFormatError: If a label is neither -1, NaN nor a whole number in 0..``classes - 1``.
    """
    marks = np.asarray(labels, dtype=np.float64)
    known: npt.NDArray[np.bool_] = ~(np.isnan(marks) | (marks == -1))
    _check_range(marks[known], classes, "label")
    return known


def one_hot(labels: npt.ArrayLike, classes: int) -> FloatArray:
    """Columns "is this class" of classes ``(N,)``, float64 ``(N, classes)``; rows without a class are NaN."""
    marks = np.asarray(labels, dtype=np.float64)
    table: FloatArray = (marks[:, None] == np.arange(classes)).astype(np.float64)
    table[~known_classes(marks, classes)] = np.nan
    return table


def _argmax(table: FloatArray) -> IntArray:
    return table.argmax(axis=1) if table.size else np.zeros(len(table), np.int64)


def _rows(probs: npt.ArrayLike, labels: npt.ArrayLike, classes: int) -> tuple[FloatArray, FloatArray]:
    """The labelled rows."""
    table, marks = np.asarray(probs, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if table.ndim != 2 or marks.shape != table.shape[:1] or table.shape[1] != classes:
        msg = f"probabilities {table.shape} must be (N, {classes}), a column per class, and labels {marks.shape} (N,)"
        raise MismatchError(msg)
    known = known_classes(marks, classes)
    table = table[known]
    if np.isnan(table).any():
        row = int(np.flatnonzero(known)[np.isnan(table).any(axis=1).argmax()])
        msg = f"a probability in row {row} is NaN: the model's outputs are not numbers"
        raise DMLMError(msg)
    return table, marks[known]


def _check_range(values: FloatArray, classes: int, what: str) -> None:
    wrong = (values < 0) | (values >= classes) | (values != np.floor(values))
    if wrong.any():
        msg = f"{what} {values[wrong.argmax()]:g} is out of range: expected a class 0..{classes - 1}"
        raise DatasetFormatError(msg)


def _ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike, empty: float) -> FloatArray:
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    ratio: FloatArray = np.divide(top, bottom, out=np.full_like(top, empty), where=bottom > 0)
    return ratio
