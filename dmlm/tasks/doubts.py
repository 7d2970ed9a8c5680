"""Everything a trained classifier or zero-shot task can say about its own doubt, for one batch of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dmlm.evaluation.uncertainty_study import Doubt
from dmlm.models.classifier import gaussian_features, image_features, sampled_probabilities
from dmlm.models.zero_shot import Prompts
from dmlm.tasks.classification import ClassificationModule
from dmlm.tasks.zero_shot import ZeroShotTask

MAX_PROBABILITY = "max_probability"
EMBEDDING_VARIANCE = "embedding_variance"
GAUSSIAN_SAMPLES = "gaussian_samples"
DROPOUT = "mc_dropout"


@torch.no_grad()
def classifier_doubts(
    task: ClassificationModule, images: Tensor, seeds: Sequence[int], samples: int
) -> tuple[NDArray[np.float64], dict[str, Doubt]]:
    """Ask a classifier.

    - ``max_probability``: one minus the probability of the answer, for each finding or over the classes; the baseline
      that needs nothing but the classifier (Hendrycks and Gimpel 2017).
    - ``embedding_variance``: mean variance of the image's distribution.
    - ``gaussian_samples``: standard deviation of the probability over samples of the image's distribution.
    - ``mc_dropout``: the same over passes with dropout (Gal and Ghahramani 2016), where the model has any.

    Args:
        task: The classifier, in evaluation mode.
        images: uint8 ``(B, 1, S, S)``, on its device.
        seeds: One per image: its samples do not depend on its batch.
        samples: Samples and passes.

    Returns:
        Probabilities float64 ``(B, C)`` as the task's own test gives them (means over its ``mc_samples`` if any)
        and the doubts, ``(B, C)`` each; what the model does not have is left out.
    """
    gaussian = None if task.features == "pooled" else task.encoder.encode_image(images).at(0)
    if gaussian is None:
        features = image_features(task.encoder, images, task.features)
    else:
        features = gaussian_features(gaussian, task.features)
    if gaussian is not None and task.mc_samples:  # what is judged are the answers that the task gives
        prob = _array(sampled_probabilities(gaussian, task.head, task.features, task.mc_samples, seeds).probability)
    else:
        prob = _probabilities(task, features)
    doubts = {MAX_PROBABILITY: Doubt(_doubt_of(prob, exclusive=task.head.task != "multilabel"))}
    if gaussian is not None:
        doubts[EMBEDDING_VARIANCE] = Doubt(_array(gaussian.variance.mean(-1, keepdim=True)).repeat(prob.shape[1], 1))
        drawn = sampled_probabilities(gaussian, task.head, task.features, samples, seeds)
        doubts[GAUSSIAN_SAMPLES] = Doubt(_array(drawn.std), _array(drawn.probability))
    passes = _dropout_passes(task, images, features, seeds, samples)
    if passes is not None:
        doubts[DROPOUT] = Doubt(passes.std(1), passes.mean(1))
    return prob, doubts


@torch.no_grad()
def zero_shot_doubts(
    task: ZeroShotTask, prompts: Prompts, findings: Sequence[str], images: Tensor, seeds: Sequence[int], samples: int
) -> tuple[NDArray[np.float64], dict[str, Doubt]]:
    """Ask a zero-shot task; as :func:`classifier_doubts`, without dropout, which its towers do not use in evaluation.

    The probability is that of the task's first scorer. Samples are points, which only pairs of prompts can score: there
    is no ``gaussian_samples`` for another scorer.

    Args:
        task: The task, in evaluation mode.
        prompts: Encoded prompts of the findings.
        findings: Their names.
        images: uint8 ``(B, 1, S, S)``, on its device.
        seeds: One per image.
        samples: Samples.
    """
    gaussian, scoring = task.encoder.encode_image(images).at(0), task.scoring(prompts, findings)
    prob = _array(torch.sigmoid(scoring.result(images, gaussian).double()))
    doubts = {
        MAX_PROBABILITY: Doubt(_doubt_of(prob, exclusive=False)),
        EMBEDDING_VARIANCE: Doubt(_array(gaussian.variance.mean(-1, keepdim=True)).repeat(prob.shape[1], 1)),
    }
    if scoring.samples:
        doubts[GAUSSIAN_SAMPLES] = Doubt(_array(scoring.spread(gaussian, samples, seeds)))
    return prob, doubts


def _dropout_passes(
    task: ClassificationModule, images: Tensor, features: Tensor, seeds: Sequence[int], passes: int
) -> NDArray[np.float64] | None:
    """Probabilities ``(B, passes, C)`` with dropout; None without any. A tower without dropout is not run again."""
    head = _dropouts(task.head)
    tower = _dropouts(task.encoder.image) + _dropouts(task.encoder.image_head)
    if not head + tower:
        return None
    found = []
    with _switched_on(head + tower), torch.random.fork_rng(devices=[]):
        for image, feature, seed in zip(images, features, seeds, strict=True):
            torch.manual_seed(int(seed))
            if tower:
                seen = image_features(task.encoder, image.expand(passes, *image.shape), task.features)
            else:
                seen = feature.expand(passes, *feature.shape)
            found.append(_probabilities(task, seen))
    return np.stack(found)


def _probabilities(task: ClassificationModule, features: Tensor) -> NDArray[np.float64]:
    with torch.autocast(features.device.type, enabled=False):  # in float32, as the task answers
        return _array(task.head.probabilities(task.head(features.float()).double()))


def _dropouts(module: nn.Module) -> list[nn.Dropout]:
    return [part for part in module.modules() if isinstance(part, nn.Dropout) and part.p > 0]


@contextmanager
def _switched_on(parts: Sequence[nn.Dropout]) -> Iterator[None]:
    for part in parts:
        part.train()
    try:
        yield
    finally:
        for part in parts:
            part.eval()


def _doubt_of(prob: NDArray[np.float64], exclusive: bool) -> NDArray[np.float64]:
    """One minus the probability of the answer: per finding, or of the most probable class in all columns."""
    if exclusive:
        answered: NDArray[np.float64] = prob.max(1, keepdims=True).repeat(prob.shape[1], 1)
    else:
        answered = np.maximum(prob, 1 - prob)
    return 1 - answered


def _array(values: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values.double().cpu().numpy()
    return found
