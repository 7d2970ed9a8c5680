"""Measures at a chosen operating point, and micro averages that pool all findings of all rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dmlm.errors import ConfigError
from dmlm.evaluation.classification import ClassificationReport, decide, macro_mean
from dmlm.evaluation.ranking import auroc, average_precision, known_rows


class OperatingPoint(NamedTuple):
    """Where a classifier is used; all NaN where a kind of label is missing.

    Args:
        sensitivity: Share of present rows at or above the threshold, 0..1.
        specificity: Share of absent rows below it, 0..1; at least what was asked for.
        threshold: On the scale of the scores; infinity where no score reaches the specificity, so nothing is answered.
    """

    sensitivity: float
    specificity: float
    threshold: float


def sensitivity_at_specificity(scores: npt.ArrayLike, labels: npt.ArrayLike, specificity: float) -> OperatingPoint:
    """The highest sensitivity of ``score >= threshold`` at a specificity that is at least the given one.

    Args:
        scores: ``(N,)``.
        labels: ``(N,)``; -1 and NaN are left out.
        specificity: Wanted specificity, 0..1.

    Returns:
        The operating point: no interpolation, it can be had with this threshold on these rows.

    Raises:
        ConfigError: If ``specificity`` is outside 0..1.
    """
    if not 0 <= specificity <= 1:
        msg = f"specificity must lie in 0..1, got {specificity}"
        raise ConfigError(msg)
    values, present = known_rows(scores, labels)
    absent = np.sort(values[~present])
    if not present.any() or not len(absent):
        return OperatingPoint(float("nan"), float("nan"), float("nan"))
    # at least ceil(specificity * n) absent rows must stay below; a tolerance keeps 0.9 * 10 from becoming 10
    needed = int(np.ceil(specificity * len(absent) - 1e-9))
    floor = absent[needed - 1] if needed else -np.inf
    answered = np.unique(values[values > floor])
    if not len(answered):
        return OperatingPoint(0.0, 1.0, float("inf"))
    threshold = float(answered[0])
    below = float((absent < threshold).mean())
    return OperatingPoint(float((values[present] >= threshold).mean()), below, threshold)


def operating_metrics(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    names: Sequence[str],
    prefix: str,
    specificities: Sequence[float] = (0.90, 0.95),
) -> dict[str, float]:
    """Sensitivities under flat keys: ``{prefix}/sens_at_spec90_macro``, ``{prefix}/sens_at_spec90/Edema``, ...

    Args:
        scores: ``(N, C)``.
        labels: ``(N, C)``; -1 and NaN are left out per class.
        names: The ``C`` findings.
        prefix: First part of the keys.
        specificities: Wanted specificities, 0..1.
    """
    columns = list(zip(np.asarray(scores).T, np.asarray(labels).T, strict=True))
    flat: dict[str, float] = {}
    for wanted in specificities:
        key = f"{prefix}/sens_at_spec{100 * wanted:g}"
        found = [sensitivity_at_specificity(s, y, wanted).sensitivity for s, y in columns]
        flat[f"{key}_macro"] = macro_mean(found).value
        flat.update({f"{key}/{name}": value for name, value in zip(names, found, strict=True)})
    return flat


def micro_metrics(probs: npt.ArrayLike, labels: npt.ArrayLike, prefix: str) -> dict[str, float]:
    """Micro averages: every labelled cell of the table is one case.

    They compare probabilities *across* findings, and frequent findings weigh most.

    Args:
        probs: Probabilities 0..1, ``(N, C)``.
        labels: ``(N, C)``; -1 and NaN are left out.
        prefix: First part of the keys.

    Returns:
        ``{prefix}/auc_micro``, ``auprc_micro``, and at probability 0.5 ``f1_micro@fixed_0.5``, ``acc_micro@fixed_0.5``
        and ``mcc_micro@fixed_0.5``.
    """
    chance, present = known_rows(np.asarray(probs).reshape(-1), np.asarray(labels).reshape(-1))
    decision = decide(chance >= 0.5, present)
    return {
        f"{prefix}/auc_micro": auroc(chance, present),
        f"{prefix}/auprc_micro": average_precision(chance, present),
        f"{prefix}/f1_micro@fixed_0.5": decision.f1,
        f"{prefix}/acc_micro@fixed_0.5": decision.acc if len(present) else float("nan"),
        f"{prefix}/mcc_micro@fixed_0.5": decision.mcc,
    }


def warn_unmeasured(report: ClassificationReport, split: str) -> tuple[str, ...]:
    """Warn of classes that cannot be measured because present or absent rows are missing.

    Args:
        report: What was measured.
        split: Name of the split, for the warning.

    Returns:
        Their names.
    """
    without = [
        (name, "present" if not positive else "absent")
        for name, positive, negative in zip(report.names, report.n_positive, report.n_negative, strict=True)
        if not (positive and negative)
    ]
    if without:
        listed = ", ".join(f"{name} (no {kind} row)" for name, kind in without)
        warnings.warn(f"{split}: no AUC, F1 or ACC for {listed}; the macro means leave them out", stacklevel=2)
    return tuple(name for name, _ in without)
