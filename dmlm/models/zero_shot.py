"""Zero-shot classification as pure functions: distances from image distributions to prompt distributions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dmlm.distributions import Gaussian, csd, kl_divergence, pairwise_cosine, wasserstein2
from dmlm.models.encoder import ProbabilisticEncoder
from dmlm.models.predictor import CrossModalPredictor
from dmlm.reports.knowledge import FindingKnowledge
from dmlm.reports.prompts import askable, cloze_prompt, zero_shot_prompts
from dmlm.reports.schema import ReportText

logger = logging.getLogger(__name__)

Distance = Literal["w2", "csd", "cosine"]
Scorer = Literal["pair", "positive_only"]


class Prompts(NamedTuple):
    """Encoded prompts of ``C`` findings in ``T`` templates.

    Args:
        positive: Global elements of the texts that say "present", ``(T, C, D)``.
        negative: Global elements of the texts that say "absent", ``(T, C, D)``.
    """

    positive: Gaussian
    negative: Gaussian


@torch.no_grad()
def encode_prompts(
    encoder: ProbabilisticEncoder,
    findings: Sequence[str],
    templates: Sequence[str],
    knowledge: Mapping[str, FindingKnowledge] | None = None,
) -> Prompts:
    """Render and encode the prompts of each finding, by the function that renders training texts.

    A finding whose definition and appearance nobody wrote is asked with the templates that need neither, in the place
    of the others; a warning names it.

    Args:
        encoder: The encoder.
        findings: Any names.
        templates: See :func:`dmlm.reports.zero_shot_prompts`.
        knowledge: Where definitions come from; the library's by default.

    Raises:
        ReportFormatError: If a template is unknown, or none is left for a finding.
    """
    texts = []
    for finding in findings:
        left = askable(finding, templates, knowledge) or tuple(templates)  # none: the prompts say what is missing
        if len(left) < len(templates):
            logger.warning(
                "'%s' has no definition and appearance: asked with %s alone; write them into zero_shot.knowledge",
                finding,
                ", ".join(left),
            )
        pairs = zero_shot_prompts(finding, left, knowledge)
        texts.append([pairs[place % len(pairs)] for place in range(len(templates))])
    shape = (len(templates), len(findings), -1)
    sides = []
    for side in (1, 2):
        elements = encoder.text_global([texts[c][t][side] for t in range(len(templates)) for c in range(len(findings))])
        sides.append(Gaussian(elements.mean.float().reshape(shape), elements.logvar.float().reshape(shape)))
    return Prompts(*sides)


def distances(image: Gaussian, text: Gaussian, kind: Distance) -> Tensor:
    """Distance of each image to each text, mean over dimensions: ``(B, D)`` x ``(C, D)`` -> ``(B, C)``.

    ``cosine`` is ``2 - 2 cos`` of the means, on the scale of the others for layer-normalised means.

    There are few texts, so differences are taken element by element: the error of a matrix product
    would decide close pairs differently with another batch size.
    """
    if kind == "cosine":
        return pairwise_cosine(image, text)
    rows = Gaussian(image.mean.float().unsqueeze(1), image.logvar.float().unsqueeze(1))
    columns = Gaussian(text.mean.float().unsqueeze(0), text.logvar.float().unsqueeze(0))
    return wasserstein2(rows, columns) if kind == "w2" else csd(rows, columns)


def zero_shot_scores(
    image: Gaussian, prompts: Prompts, kind: Distance = "w2", scorer: Scorer = "pair", scale: float = 1.0
) -> Tensor:
    """Score findings: ``scale * (distance to negative - distance to positive)``, averaged over templates.

    Args:
        image: Global elements of the images, ``(B, D)``.
        prompts: Encoded prompts of ``C`` findings.
        kind: Distance.
        scorer: ``"pair"``, or ``"positive_only"`` (minus the distance to the positive prompt).
        scale: Positive factor; does not change the order.

    Returns:
        Log-odds, float32 ``(B, C)``; a sigmoid gives probabilities for ``"pair"``.
    """
    total = image.mean.new_zeros(len(image.mean), prompts.positive.mean.shape[1], dtype=torch.float32)
    for template in range(len(prompts.positive.mean)):
        positive, negative = (Gaussian(g.mean[template], g.logvar[template]) for g in prompts)
        score = -distances(image, positive, kind)
        if scorer == "pair":
            score = score + distances(image, negative, kind)
        total = total + scale * score
    return total / len(prompts.positive.mean)


def sampled_probability_std(
    image: Gaussian, prompts: Prompts, samples: int, scale: float, seeds: Sequence[int], kind: Distance = "w2"
) -> Tensor:
    """Standard deviation of the probability over samples of the image's distribution, ``(B, C)``.

    The probability is that of pairs of prompts. Each sample is a point; its distance to a prompt is that of the means,
    for which ``w2`` and ``csd`` are the same.

    Args:
        image: ``(B, D)``.
        prompts: Prompts of ``C`` findings.
        samples: Number of samples.
        scale: Scale of log-odds.
        seeds: One per image, such as its index: the result of an image must not depend on its batch.
        kind: Distance.
    """
    own = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    draws = []
    for _ in range(samples):
        noise = torch.stack([torch.randn(image.mean.shape[-1], generator=generator) for generator in own])
        point = Gaussian(
            image.mean.float() + image.std * noise.to(image.mean.device),
            torch.full_like(image.logvar.float(), -torch.inf),
        )
        flat = Prompts(*(Gaussian(side.mean, torch.full_like(side.logvar, -torch.inf)) for side in prompts))
        draws.append(torch.sigmoid(zero_shot_scores(point, flat, kind, "pair", scale)))
    return torch.stack(draws).std(0, unbiased=False)


@torch.no_grad()
def cloze_scores(
    encoder: ProbabilisticEncoder, predictor: CrossModalPredictor, images: Tensor, findings: Sequence[str]
) -> Tensor:
    """Score findings by filling in the verdict's masked word from the full image (method, section 5.2).

    ``KL(predicted || "absent") - KL(predicted || "present")`` at the masked word. Needs no alignment; means nothing for
    a predictor that was not trained.

    Args:
        encoder: The encoder.
        predictor: The trained predictor.
        images: uint8 ``(B, 1, H, W)``.
        findings: ``C`` names.

    Returns:
        float32 ``(B, C)``.
    """
    image = encoder.encode_image(images)
    columns = []
    for finding in findings:
        prompt = cloze_prompt(finding)
        present = _cloze_distance(encoder, predictor, image, *prompt.present)
        absent = _cloze_distance(encoder, predictor, image, *prompt.absent)
        columns.append(absent - present)
    return torch.stack(columns, dim=1)


def _cloze_distance(
    encoder: ProbabilisticEncoder,
    predictor: CrossModalPredictor,
    image: Gaussian,
    text: ReportText,
    word: tuple[int, int],
) -> Tensor:
    """KL from what the predictor fills in at ``word`` to what stands there, ``(B,)``."""
    tokens = encoder.tokenize([text]).to(image.mean.device)
    first, after = (encoder.tokenize([text.text[:end].rstrip()]).lengths[0] - 1 for end in word)
    mask = torch.zeros_like(tokens.valid)
    mask[:, first:after] = True
    batch = len(image.mean)
    query = torch.arange(first, after, device=mask.device)[None].expand(batch, -1)
    target = encoder.encode_text(tokens).gather(query[:1])
    masked = encoder.encode_text(tokens, mask)
    predicted = predictor.predict_text(
        query,
        torch.ones_like(query, dtype=torch.bool),
        Gaussian(*(part.expand(batch, -1, -1) for part in masked)),
        (tokens.valid & ~mask).expand(batch, -1),
        image,
        encoder.image.patch_grid,
    )
    return kl_divergence(predicted, target).mean(1)
