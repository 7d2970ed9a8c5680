"""Any trained task as a function from images to rows: what ``dmlm predict --images`` and servers call."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dmlm.errors import CheckpointError, ConfigError
from dmlm.models.zero_shot import Prompts
from dmlm.reports import canonical_name
from dmlm.reports.knowledge import load_knowledge
from dmlm.tasks.base import TaskModule
from dmlm.tasks.classification import ClassificationModule
from dmlm.tasks.segmentation import SegmentationModule
from dmlm.tasks.zero_shot import ZeroShotTask

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LabelAnswers:
    """What a model says of a batch, float64.

    Args:
        probability: ``(B, C)``, 0..1.
        entropy: Entropy of the answers in nats: of each yes or no ``(B, C)``, or of the classes, equal in all columns.
        mc_std: Standard deviation of the probability over samples of the image's distribution, ``(B, C)``; NaN where
            the model draws none, or scores findings by other means than pairs of prompts.
        variance: Mean variance of the image's distribution, ``(B,)``; NaN where the model has none.
    """

    probability: FloatArray
    entropy: FloatArray
    mc_std: FloatArray
    variance: FloatArray


class LabelPredictor:
    """Findings or classes of images.

    Args:
        task: A classification, grading or zero-shot task in evaluation mode.
        names: Names of the findings, for zero-shot; None takes those of the task.
        thresholds: Thresholds on the probability by name, for zero-shot; any name of a finding finds its threshold.
    """

    def __init__(
        self,
        task: ClassificationModule | ZeroShotTask,
        names: Sequence[str] | None = None,
        thresholds: dict[str, float] | None = None,
    ) -> None:
        self.task = task
        self.exclusive = isinstance(task, ClassificationModule) and task.head.task != "multilabel"
        self._prompts: Prompts | None = None
        if isinstance(task, ClassificationModule):
            self.names = task.class_names
            chosen = 1 / (1 + np.exp(-task.threshold.cpu().numpy()))
            self.threshold = np.full(len(self.names), np.nan) if self.exclusive else chosen
            self.rules = ["argmax" if self.exclusive else task.predicting_rule] * len(self.names)
        else:
            self.names = tuple(names or ())
            knowledge = load_knowledge(task.zero_shot.knowledge)  # prompts resolve names by it, too
            known = {canonical_name(name, knowledge): value for name, value in (thresholds or {}).items()}
            asked = [canonical_name(name, knowledge) for name in self.names]
            self.threshold = np.array([known.get(name, 0.5) for name in asked])
            self.rules = ["best_f1_val" if name in known else "fixed_0.5" for name in asked]

    @property
    def image_size(self) -> int:
        """Height and width of the images that it takes."""
        return int(self.task.encoder.image.image_size)

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> LabelAnswers:
        """Answer images uint8 ``(B, 1, S, S)`` on any device."""
        images = images.to(self.task.device)
        if isinstance(self.task, ClassificationModule):
            # every image has the same seed, so that its answer does not depend on its place in the folder
            rows = self.task.predict_images(images, [0] * len(images))
            return _answers(rows["prob"], rows["mc_std"], rows["variance"], self.exclusive)
        if self._prompts is None:
            self._prompts = self.task.prompts(self.names)
        image = self.task.encoder.image_global(images)
        scoring = self.task.scoring(self._prompts, self.names)
        score = scoring.result(images, image).double().cpu().numpy()
        # every image has the same seed, as above
        spread = scoring.spread(image, self.task.zero_shot.mc_samples, [0] * len(images))
        return _answers(
            1 / (1 + np.exp(-score)),
            spread.double().cpu().numpy(),
            image.variance.mean(-1).double().cpu().numpy(),
            False,
        )


class MaskPredictor:
    """Masks of images.

    Args:
        task: A segmentation task in evaluation mode.
    """

    def __init__(self, task: SegmentationModule) -> None:
        self.task, self.names, self.threshold = task, task.class_names, task.threshold

    @property
    def image_size(self) -> int:
        """Height and width of the images that it takes."""
        return int(self.task.encoder.image.image_size)

    def __call__(self, images: torch.Tensor) -> dict[str, NDArray[np.float32]]:
        """Answer images uint8 ``(B, 1, S, S)``: ``prob`` and ``entropy``, float32 ``(B, M, S, S)``."""
        found = self.task.predict_images(images.to(self.task.device), [0] * len(images))
        return {name: value.cpu().numpy() for name, value in found.items()}


def load_predictor(
    path: str, findings: Sequence[str] | None = None, device: str = "cpu"
) -> LabelPredictor | MaskPredictor:
    """Load any dmlm task for prediction.

    Args:
        path: The ``.ckpt`` of a run. For zero-shot tasks the thresholds that validation chose are taken from the
            ``metrics.json`` of the run folder around it, if it is there and the run tested this checkpoint
            (``best.ckpt`` after ``dmlm fit``).
        findings: What to ask a zero-shot task for; None takes what its run was evaluated on.
        device: Where to compute.

    Raises:
        CheckpointError: If the file is damaged, or holds a task that predicts nothing.
        ConfigError: If findings are needed and unknown, or given to a task that has its own.
    """
    task = TaskModule.load_from_checkpoint(path, map_location="cpu").eval().to(device)
    if isinstance(task, (ClassificationModule, SegmentationModule)):
        if findings is not None:
            msg = f"--findings is for zero-shot tasks; {path} holds a {type(task).__name__} with classes of its own"
            raise ConfigError(msg)
        if not task.class_names:
            msg = f"{path} does not say what its classes are called: it was never trained or tested on data"
            raise CheckpointError(msg)
        return MaskPredictor(task) if isinstance(task, SegmentationModule) else LabelPredictor(task)
    if isinstance(task, ZeroShotTask):
        names = tuple(findings or task.zero_shot.findings or findings_of_run(Path(path)))
        if not names:
            msg = f"{path}: which findings? name them, e.g. --findings Edema 'Pleural Effusion'"
            raise ConfigError(msg)
        return LabelPredictor(task, names, thresholds_of_run(Path(path)))
    msg = f"{path} holds a {type(task).__name__}, which has nothing to say about single images"
    raise CheckpointError(msg)


def thresholds_of_run(path: Path) -> dict[str, float]:
    """Thresholds on the probability that a run's validation chose, by finding; {} without its ``metrics.json``.

    They belong to the checkpoint that was tested last in this folder; of another one there are none, and a warning.
    """
    end = "@best_f1_val"
    tested = _beside(path, "tested.json").get("checkpoint")
    if tested not in (None, path.name):
        logger.warning(
            "%s: thresholds of its folder are those of %s, so findings are present from a probability of 0.5; for "
            "thresholds run dmlm test --ckpt %s",
            path,
            tested,
            path,
        )
        return {}
    return {
        key.removesuffix(end): float(1 / (1 + np.exp(-value)))
        for key, value in _thresholds(path).items()
        if key.endswith(end) and value is not None
    }


def findings_of_run(path: Path) -> tuple[str, ...]:
    """Every finding that a run was evaluated on, also those without a threshold; () without its ``metrics.json``."""
    return tuple(dict.fromkeys(key.rpartition("@")[0] for key in _thresholds(path)))


def _thresholds(path: Path) -> dict[str, float | None]:
    """Thresholds on the score in the run folder of a checkpoint, by ``FINDING@RULE``."""
    start = "zero_shot/threshold/"
    metrics = _beside(path, "metrics.json")
    return {key.removeprefix(start): value for key, value in metrics.items() if key.startswith(start)}


def _beside(path: Path, name: str) -> dict[str, Any]:
    """Read a JSON file of the run folder of a checkpoint; {} where there is none."""
    for folder in (path.parent, path.parent.parent):
        try:
            found = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return found if isinstance(found, dict) else {}
    return {}


def _answers(prob: FloatArray, spread: FloatArray, variance: FloatArray, exclusive: bool) -> LabelAnswers:
    safe = np.clip(prob.astype(np.float64), 1e-300, 1)
    rest = np.clip(1 - prob.astype(np.float64), 1e-300, 1)
    if exclusive:
        entropy = np.repeat(-(safe * np.log(safe)).sum(axis=1, keepdims=True), prob.shape[1], axis=1)
    else:
        entropy = -safe * np.log(safe) - rest * np.log(rest)
    return LabelAnswers(prob.astype(np.float64), entropy + 0.0, spread, variance)
