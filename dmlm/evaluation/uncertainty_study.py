"""What an uncertainty is worth: does it rise on wrong answers, on spoilt images, on what training never showed?

``N`` images, ``V`` versions of each (the first one is as it was taken), ``C`` findings or classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dmlm.errors import MismatchError
from dmlm.evaluation.calibration import calibration_metrics
from dmlm.evaluation.classification import macro_mean
from dmlm.evaluation.ranking import FloatArray, auroc
from dmlm.evaluation.uncertainty import aurc, error_auroc

Version = tuple[str, int]
"""Kind of corruption and its level; level 0 is the image as it was taken."""


class Doubt(NamedTuple):
    """One kind of uncertainty.

    Args:
        value: Larger is less certain, ``(N, V, C)``.
        prob: Probabilities that belong to it, such as the mean over samples, ``(N, V, C)``; None where it has none of
            its own.
    """

    value: npt.NDArray[np.float64]
    prob: npt.NDArray[np.float64] | None = None


def wrong_answers(
    prob: npt.ArrayLike, labels: npt.ArrayLike, thresholds: npt.ArrayLike | None
) -> npt.NDArray[np.float64]:
    """Which answers are wrong: 1, 0, or NaN where the label is not known.

    Args:
        prob: ``(N, C)``.
        labels: 1 present, 0 absent; anything else is not known, ``(N, C)``.
        thresholds: Least probability of a positive answer, ``(C,)``; None takes the class of largest probability, and
            the answer of all its columns is wrong together.
    """
    chance, truth = np.asarray(prob, np.float64), np.asarray(labels, np.float64)
    known = np.isin(truth, (0.0, 1.0))
    if thresholds is not None:
        wrong = np.not_equal(chance >= np.asarray(thresholds), truth == 1)
        return np.where(known, wrong, np.nan)
    missed = (chance.argmax(1) != truth.argmax(1)).astype(np.float64)
    return np.where(known.all(axis=1, keepdims=True), missed[:, None], np.nan).repeat(truth.shape[1], axis=1)


def uncertainty_study(
    prob: npt.ArrayLike,
    doubts: Mapping[str, Doubt],
    labels: npt.ArrayLike,
    versions: Sequence[Version],
    thresholds: npt.ArrayLike | None,
    unseen: npt.ArrayLike | None = None,
    prefix: str = "uncertainty",
) -> dict[str, float]:
    """Measure every kind of uncertainty on clean, spoilt and unfamiliar images.

    Keys, with ``L`` for a level of corruption and ``D`` for a doubt:

    - ``{prefix}/auc_macro@L``, ``error_rate@L``, ``ece_macro@L``: what corruption does to the answers.
    - ``{prefix}/D/aurc``, ``error_auroc``: risk against coverage, and is a wrong answer more doubtful than a right one?
      Over all labelled cells of clean images; ``aurc@L`` of spoilt ones.
    - ``{prefix}/D/corruption_auroc@L``: is a spoilt image more doubtful than a clean one? Mean over the kinds;
      ``corruption_auroc/KIND@L`` has each.
    - ``{prefix}/D/unseen_auroc``: is an image with an unseen finding more doubtful than one without?
    - ``{prefix}/D/ece_macro``, ``ece_adaptive_macro``, ``brier_macro``, where ``D`` has probabilities of its own.

    An image's doubt is the mean over its findings. Levels other than 0 are means over the kinds of corruption. Studies
    with an unseen finding count for ``unseen_auroc`` only: no answer is right for what there was no name for.

    Args:
        prob: The model's probabilities, ``(N, V, C)``.
        doubts: Kinds of uncertainty by name.
        labels: 1 present, 0 absent, anything else unknown, ``(N, C)``.
        versions: What the ``V`` versions are; the first one must be clean (level 0).
        thresholds: As of :func:`wrong_answers`.
        unseen: Whether an image shows what training never did, ``(N,)``.
        prefix: First part of the keys.

    Raises:
        MismatchError: If the shapes do not fit.
    """
    chance, truth = np.asarray(prob, np.float64), np.asarray(labels, np.float64)
    strange = np.zeros(len(truth), bool) if unseen is None else np.asarray(unseen, bool)
    shape = (len(truth), len(versions), truth.shape[1])
    shapes = {"prob": chance.shape, **{name: doubt.value.shape for name, doubt in doubts.items()}}
    for name, found in shapes.items():
        if found != shape or versions[0][1] != 0 or strange.shape != shape[:1]:
            msg = f"{name}: expected (images, versions, findings) = {shape} with a clean first version, got {found}"
            raise MismatchError(msg)
    own = ~strange
    levels = sorted({level for _, level in versions})
    metrics: dict[str, float] = {}
    wrong = np.stack([wrong_answers(chance[own, v], truth[own], thresholds) for v in range(len(versions))], axis=1)
    for level in levels:
        at = [v for v, (_, found) in enumerate(versions) if found == level]
        metrics[f"{prefix}/auc_macro@{level}"] = _mean(_auc(chance[own, v], truth[own]) for v in at)
        metrics[f"{prefix}/error_rate@{level}"] = _mean(float(np.nanmean(wrong[:, v])) for v in at)
        metrics[f"{prefix}/ece_macro@{level}"] = _mean(_ece(chance[own, v], truth[own]) for v in at)
    known = ~np.isnan(wrong[:, 0])
    for name, doubt in doubts.items():
        key, cells = f"{prefix}/{name}", doubt.value[own]
        metrics[f"{key}/aurc"] = aurc(cells[:, 0][known], wrong[:, 0][known])
        metrics[f"{key}/error_auroc"] = error_auroc(cells[:, 0][known], wrong[:, 0][known])
        image = cells.mean(2)
        for level in levels[1:]:
            at = [v for v, (_, found) in enumerate(versions) if found == level]
            metrics[f"{key}/aurc@{level}"] = _mean(aurc(cells[:, v][known], wrong[:, v][known]) for v in at)
            areas = {versions[v][0]: _apart(image[:, v], image[:, 0]) for v in at}
            metrics |= {f"{key}/corruption_auroc/{kind}@{level}": area for kind, area in areas.items()}
            metrics[f"{key}/corruption_auroc@{level}"] = _mean(areas.values())
        if unseen is not None:
            everyone = doubt.value[:, 0].mean(1)
            metrics[f"{key}/unseen_auroc"] = _apart(everyone[strange], everyone[own])
        if doubt.prob is not None:
            metrics |= calibration_metrics(doubt.prob[own, 0], truth[own], key)
    return metrics


def _auc(prob: FloatArray, labels: FloatArray) -> float:
    return macro_mean([auroc(prob[:, c], labels[:, c]) for c in range(labels.shape[1])]).value


def _ece(prob: FloatArray, labels: FloatArray) -> float:
    return calibration_metrics(prob, labels, "at")["at/ece_macro"]


def _apart(odd: FloatArray, usual: FloatArray) -> float:
    """Probability that an odd image is more doubtful than a usual one, ties one half; NaN without either."""
    return auroc(np.concatenate([odd, usual]), np.concatenate([np.ones(len(odd)), np.zeros(len(usual))]))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
