"""Rows of a zero-shot evaluation: scored per batch, gathered over processes, one row per study."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from torch import Tensor

from dmlm.distributions import Gaussian
from dmlm.errors import ConfigError, MismatchError
from dmlm.evaluation import auroc
from dmlm.io.atomic import atomic_path
from dmlm.models.encoder import ProbabilisticEncoder
from dmlm.models.predictor import CrossModalPredictor
from dmlm.models.zero_shot import (
    Distance,
    Prompts,
    cloze_scores,
    sampled_probability_std,
    zero_shot_scores,
)
from dmlm.reports.prompts import PromptTemplate

ScorerName = Literal["pair", "positive_only", "cloze"]
_DISTANCES: tuple[Distance, ...] = get_args(Distance)


@dataclass(frozen=True)
class ZeroShotConfig:
    """How zero-shot classification is done and reported (method, section 5).

    Args:
        templates: Prompt templates; scores are averaged over them.
        distance: ``train`` takes the one that alignment trained with, else ``w2``, ``csd`` or ``cosine``. The macro AUC
            of all of them is reported beside it.
        scorers: ``pair`` (negative against positive prompt), ``positive_only``, ``cloze`` (the predictor fills in the
            verdict). The first one is the result; the macro AUC of the others is reported beside it.
        findings: Findings to evaluate; None takes all labels of the data module.
        mc_samples: Samples of the image's distribution for ``mc_std`` in the predictions; only where the first scorer
            is ``pair``, the others have none.
        bootstrap: Resamples of patients for the 95 % intervals; 0 gives none.
        knowledge: YAML file with definitions and appearances of your own for the prompts; the library's by default. A
            finding that has neither is asked with the other templates alone.

    Raises:
        ConfigError: If an option is unknown or out of range.
    """

    templates: tuple[PromptTemplate, ...] = ("obs_verdict", "full")
    distance: Literal["train", "w2", "csd", "cosine"] = "train"
    scorers: tuple[ScorerName, ...] = ("pair",)
    findings: tuple[str, ...] | None = None
    mc_samples: int = 16
    bootstrap: int = 1000
    knowledge: str | None = None

    def __post_init__(self) -> None:
        for name in ("templates", "scorers", "findings"):  # YAML brings lists
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))
        for name, allowed in (("templates", get_args(PromptTemplate)), ("scorers", get_args(ScorerName))):
            wrong = [item for item in getattr(self, name) if item not in allowed]
            if wrong or not getattr(self, name):
                msg = f"zero_shot.{name} must name at least one of {', '.join(allowed)}; got {wrong or 'none'}"
                raise ConfigError(msg)
        if self.mc_samples < 1 or self.bootstrap < 0:
            got = f"{self.mc_samples}, {self.bootstrap}"
            msg = f"zero_shot.mc_samples must be at least 1 and bootstrap at least 0, got {got}"
            raise ConfigError(msg)


@dataclass
class Rows:
    """One row per study; ``C`` findings.

    Args:
        index: Position of the study in its split, int64 ``[n]``.
        scores: Scores ``[n, C]`` per way of scoring, log-odds by pairs of prompts; ``"result"`` is the configured one.
        labels: float32 ``[n, C]``: 1, 0, -1 uncertain, nan unknown.
        variance: Mean variance of the image's global element, ``[n]``.
        mc_std: Standard deviation of the probability over samples of the image's distribution, ``[n, C]``; NaN where
            the first scorer is not ``pair``.
        study_id: ``n`` identifiers.
        patient_id: ``n`` identifiers.
    """

    index: np.ndarray[Any, np.dtype[np.int64]]
    scores: dict[str, np.ndarray[Any, Any]]
    labels: np.ndarray[Any, Any]
    variance: np.ndarray[Any, Any]
    mc_std: np.ndarray[Any, Any]
    study_id: list[str]
    patient_id: list[str]

    @property
    def probabilities(self) -> np.ndarray[Any, Any]:
        """Sigmoid of the result's scores, ``[n, C]``; not calibrated."""
        return 1.0 / (1.0 + np.exp(-self.scores["result"]))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Scoring:
    """All that a score of an image depends on beside the image.

    Args:
        encoder: The encoder, in evaluation mode.
        predictor: The predictor; needed for ``cloze`` only.
        prompts: Encoded prompts of the findings.
        findings: Their names.
        config: How to score.
        distance: Distance of the result.
        scale: Scale of log-odds.
    """

    encoder: ProbabilisticEncoder
    predictor: CrossModalPredictor | None
    prompts: Prompts
    findings: Sequence[str]
    config: ZeroShotConfig
    distance: Distance
    scale: float

    def result(self, images: Tensor, image: Gaussian) -> Tensor:
        """Score by the configured scorer: the one answer of the task, wherever it is asked.

        Args:
            images: uint8 ``(B, 1, H, W)``.
            image: Their global elements, ``(B, D)``.

        Returns:
            Scores, float32 ``(B, C)``; log-odds by pairs of prompts.

        Raises:
            ConfigError: If ``cloze`` is asked of a task without a predictor.
        """
        return self.score(self.config.scorers[0], images, image)

    def score(self, scorer: ScorerName, images: Tensor, image: Gaussian) -> Tensor:
        """Score by ``scorer``; see :meth:`result`."""
        if scorer != "cloze":
            return zero_shot_scores(image, self.prompts, self.distance, scorer, self.scale)
        if self.predictor is None:
            msg = "zero_shot.scorers: cloze needs a trained predictor: use the checkpoint of a pre-training run"
            raise ConfigError(msg)
        return cloze_scores(self.encoder, self.predictor, images, self.findings)

    @property
    def samples(self) -> bool:
        """Whether the result can be given for samples of an image: they are points, which only pairs can score."""
        return self.config.scorers[0] == "pair"

    def spread(self, image: Gaussian, samples: int, seeds: Sequence[int]) -> Tensor:
        """Standard deviation of the result's probability over samples of the images, ``(B, C)``; NaN without samples.

        Args:
            image: Global elements of the images, ``(B, D)``.
            samples: Number of samples.
            seeds: One per image: its samples do not depend on its batch.
        """
        if not self.samples:  # that of pairs would belong to another probability than the one beside it
            return torch.full((len(image.mean), len(self.findings)), torch.nan)
        return sampled_probability_std(image, self.prompts, samples, self.scale, seeds, self.distance)


@torch.no_grad()
def score_batch(scoring: Scoring, batch: dict[str, Any], columns: Sequence[int]) -> Rows:
    """Score the images of a batch in every way that is reported.

    Args:
        scoring: How.
        batch: A batch of a data module.
        columns: Columns of the batch's labels that belong to the findings.
    """
    config, prompts, scale = scoring.config, scoring.prompts, scoring.scale
    image = scoring.encoder.image_global(batch["image"])
    scores: dict[str, Tensor] = {kind: zero_shot_scores(image, prompts, kind, "pair", scale) for kind in _DISTANCES}
    further = [name for name in dict.fromkeys(config.scorers) if name != "pair"]  # pair is there, by every distance
    scores |= {name: scoring.score(name, batch["image"], image) for name in further}
    first = config.scorers[0]
    scores["result"] = scores[scoring.distance if first == "pair" else first]
    return Rows(
        index=batch["index"].cpu().numpy(),
        scores={name: value.double().cpu().numpy() for name, value in scores.items()},
        labels=batch["labels"][:, list(columns)].cpu().numpy(),
        variance=image.variance.mean(-1).cpu().numpy(),
        mc_std=scoring.spread(image, config.mc_samples, batch["index"].tolist()).cpu().numpy(),
        study_id=list(batch["study_id"]),
        patient_id=list(batch["patient_id"]),
    )


def gather_rows(parts: Sequence[Rows]) -> Rows:
    """Put the batches of all processes together: every study once, ordered by its index."""
    pieces = list(parts)
    if dist.is_available() and dist.is_initialized():
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, pieces)
        pieces = [piece for other in everyone for piece in other]
    index = np.concatenate([piece.index for piece in pieces])
    _, order = np.unique(index, return_index=True)
    joined: dict[str, Any] = {}
    for field in fields(Rows):
        values = [getattr(piece, field.name) for piece in pieces]
        if field.name == "scores":
            joined["scores"] = {name: np.concatenate([value[name] for value in values])[order] for name in values[0]}
        elif isinstance(values[0], list):
            flat = [item for value in values for item in value]
            joined[field.name] = [flat[place] for place in order]
        else:
            joined[field.name] = np.concatenate(values)[order]
    return Rows(**joined)


def write_predictions(
    path: Path,
    rows: Rows,
    findings: Sequence[str],
    prompt_variance: np.ndarray[Any, Any],
    thresholds: np.ndarray[Any, Any],
) -> None:
    """Write one line per study and finding, atomically.

    Columns: identifiers, ``label`` (empty where unknown), ``score`` (log-odds where the first scorer is ``pair``),
    ``prob``, ``pred`` (1 where ``score`` is at least ``threshold``), and what is known of the uncertainty: ``entropy``
    of ``prob`` in nats, ``mc_std`` (empty for other scorers), ``image_variance`` and ``prompt_variance``. The variances
    are of the embeddings; they are no calibrated uncertainty.

    Args:
        path: CSV file.
        rows: What was scored.
        findings: ``C`` names.
        prompt_variance: Mean variance of each finding's positive prompt, ``[C]``.
        thresholds: Threshold on ``score`` per finding, ``[C]``.
    """
    probability = rows.probabilities
    safe = np.clip(probability, 1e-12, 1 - 1e-12)
    entropy = -(safe * np.log(safe) + (1 - safe) * np.log(1 - safe))
    names = "index study_id patient_id finding label score prob pred threshold entropy mc_std image_variance"
    header = (*names.split(), "prompt_variance")
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row in range(len(rows.index)):
            for column, finding in enumerate(findings):
                label = rows.labels[row, column]
                score, threshold = rows.scores["result"][row, column], thresholds[column]
                who = (int(rows.index[row]), rows.study_id[row], rows.patient_id[row], finding)
                known = "" if np.isnan(label) else f"{label:g}"
                chance, limit = f"{probability[row, column]:.6g}", f"{threshold:.6g}"
                decision = (f"{score:.6g}", chance, int(score >= threshold), limit)
                doubt = (entropy[row, column], rows.mc_std[row, column], rows.variance[row], prompt_variance[column])
                shown = ("" if np.isnan(value) else f"{value:.6g}" for value in doubt)
                writer.writerow((*who, known, *decision, *shown))


def macro_auc(scores: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
    """Mean area under the ROC curve over the findings that have both labels; NaN where none has.

    Args:
        scores: ``[n, C]``.
        labels: ``[n, C]``: 1, 0; -1 and nan are left out.
    """
    areas = [auroc(scores[:, column], labels[:, column]) for column in range(scores.shape[1])]
    known = [area for area in areas if not np.isnan(area)]
    return float(np.mean(known)) if known else float("nan")


def refuse_without_labels(trainer: Trainer) -> None:
    """Refuse data without labels before an epoch is lost to it, unless nothing is to be scored.

    Raises:
        MismatchError: Saying how to train without labels.
    """
    stage = trainer.state.fn
    if stage == "predict" or (stage == "fit" and trainer.limit_val_batches == 0):
        return
    msg = "the data has no labels, which zero-shot validation and test compare with"
    if stage == "fit":
        msg += "; to train without: --trainer.limit_val_batches 0 --test_after_fit false (keeps last.ckpt)"
    raise MismatchError(msg)
