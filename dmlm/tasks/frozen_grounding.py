"""Where a frozen encoder sees a finding: the map of zero-shot scores of its patches, and a linear probe of patches."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from dmlm.distributions import Gaussian
from dmlm.evaluation import linear_probe
from dmlm.evaluation.grounding import MEASURES, cell_pixels, cell_points, mask_auroc, mask_dice, pointing
from dmlm.io.atomic import atomic_path
from dmlm.models.zero_shot import Prompts, zero_shot_scores
from dmlm.tasks.zero_shot import ZeroShotTask

_STRENGTH = 0.01
_POINTS = tuple(product((0.25, 0.75), (0.25, 0.75)))
_MOST_POINTS = 20_000

Array = np.ndarray[Any, Any]


class Places(NamedTuple):
    """Images with masks, encoded: ``n`` images, ``N`` patches, ``M`` findings.

    Args:
        mean: Means of the patches, float32 ``(n, N, D)``.
        scores: Zero-shot scores of the patches, float32 ``(n, N, M)``.
        inside: Pixels of each mask in each patch, float64 ``(n, M, N)``.
        centre: Whether the middle of each patch lies in the mask, bool ``(n, M, N)``.
        points: The same for four points of each patch, bool ``(4, n, M, N)``.
        total: Pixels of each patch, float64 ``(N,)``.
        studies: Study and patient of each image.
    """

    mean: Array
    scores: Array
    inside: Array
    centre: Array
    points: Array
    total: Array
    studies: list[tuple[str, str]]


@torch.no_grad()
def encode_places(
    task: ZeroShotTask,
    prompts: Prompts,
    batches: Iterable[dict[str, Any]],
    to_device: Callable[[torch.Tensor], torch.Tensor],
    most: int,
) -> Places | None:
    """Encode the first images on which any finding has a mask.

    Args:
        task: Whose encoder, and whose distance of zero-shot.
        prompts: Encoded prompts of the ``M`` findings, one per mask.
        batches: Batches with ``masks``.
        to_device: Moves images to the encoder.
        most: Images to take.

    Returns:
        What was encoded; None if no image has a mask.
    """
    grid = task.encoder.image.patch_grid
    means, scores, masks = [], [], []
    studies: list[tuple[str, str]] = []
    for batch in batches:
        keep = batch["masks"].flatten(1).any(1).nonzero()[: most - len(studies), 0]
        if not len(keep):
            continue
        found = task.encoder.encode_image(to_device(batch["image"][keep]))
        for mean, logvar in zip(found.mean[:, 1:].float(), found.logvar[:, 1:].float(), strict=True):
            means.append(mean.cpu().numpy())
            scores.append(zero_shot_scores(Gaussian(mean, logvar), prompts, task.zero_shot_distance).cpu().numpy())
        masks.append(batch["masks"][keep].numpy())
        studies += [(batch["study_id"][row], batch["patient_id"][row]) for row in keep.tolist()]
        if len(studies) == most:
            break
    if not studies:
        return None
    pixels = np.concatenate(masks)
    inside, total = cell_pixels(pixels, grid)
    points = np.stack([cell_points(pixels, grid, at) for at in _POINTS])
    return Places(np.stack(means), np.stack(scores), inside, cell_points(pixels, grid), points, total, studies)


def measure_places(train: Places | None, test: Places) -> Array:
    """Measure each test image on each finding that has a mask there.

    The probe of a finding is a logistic regression on the means of single patches, fitted to four points of each
    patch of the training images that show the finding; its strength is fixed. What it says of a patch holds for all
    pixels of the patch, as do the zero-shot scores.

    Args:
        train: Training images; None, or one without a finding, leaves the probe's measures of that finding NaN.
        test: Test images.

    Returns:
        float64 ``(n, M, 4)``, :data:`MEASURES`; NaN where the finding has no mask on the image.
    """
    there = test.inside.sum(-1) > 0
    found = np.full((*there.shape, len(MEASURES)), np.nan)
    for finding in range(there.shape[1]):
        rows = np.flatnonzero(there[:, finding])
        logits = None if train is None or not len(rows) else _probe(train, test.mean[rows], finding)
        for place, row in enumerate(rows):
            inside, scores = test.inside[row, finding], test.scores[row, :, finding]
            found[row, finding, 0] = pointing(scores, test.centre[row, finding])
            found[row, finding, 1] = mask_auroc(scores, inside, test.total)
            if logits is not None:
                found[row, finding, 2] = mask_auroc(logits[place], inside, test.total)
                found[row, finding, 3] = mask_dice(logits[place] >= 0, inside, test.total)
    return found


def references(train: Places | None, test: Places) -> dict[str, float]:
    """What no encoder is needed for: ``grounding/chance`` and ``grounding/prior_auc``.

    The first is the pointing game of a map that says nothing; the second the AUC of a map that is the mean mask of the
    training images that show the finding, whatever the image.
    """
    there = test.inside.sum(-1) > 0
    chance = np.where(there, test.centre.mean(-1), np.nan)
    prior = np.full(there.shape, np.nan)
    for row, finding in zip(*np.nonzero(there), strict=True):
        if train is not None:
            prior[row, finding] = mask_auroc(train.inside[:, finding].mean(0), test.inside[row, finding], test.total)
    return {"grounding/chance": macro(chance), "grounding/prior_auc": macro(prior)}


def macro(values: Array) -> float:
    """Mean over the findings of the mean over the images that have a value, ``(n, M)``; NaN where there is none."""
    known = [column[np.isfinite(column)].mean() for column in values.T if np.isfinite(column).any()]
    return float(np.mean(known)) if known else float("nan")


def write_places(path: Path, findings: Sequence[str], studies: Sequence[tuple[str, str]], measures: Array) -> None:
    """Write one line per image and finding: identifiers and :data:`MEASURES`, empty where there is no mask."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("study_id", "patient_id", "finding", *MEASURES))
        for study, of_study in zip(studies, measures, strict=True):
            for finding, values in zip(findings, of_study, strict=True):
                shown = ["" if np.isnan(value) else f"{value:.6g}" for value in values]
                writer.writerow((*study, finding, *shown))


def _probe(train: Places, test: Array, finding: int) -> Array | None:
    """Log-odds of the patches of test images ``(n, N)``; None where training has no such mask."""
    rows = np.flatnonzero(train.inside[:, finding].sum(-1) > 0)
    if not len(rows):
        return None
    width = test.shape[-1]
    patches = train.mean[rows].reshape(-1, width)
    labels = train.points[:, rows, finding].reshape(len(_POINTS), -1)
    count = labels.size
    if count > _MOST_POINTS:  # at random but always the same ones: what is left out does not depend on the encoder
        chosen = np.sort(np.random.default_rng(0).choice(count, _MOST_POINTS, replace=False))
    else:
        chosen = np.arange(count)
    x, y = patches[chosen % len(patches)], labels.reshape(-1)[chosen, None]
    none = (np.zeros((0, width)), np.zeros((0, 1)))
    scores = linear_probe(x, y, *none, test.reshape(-1, width), (_STRENGTH,)).test_scores
    logits: Array = scores.reshape(test.shape[:2])
    return logits
