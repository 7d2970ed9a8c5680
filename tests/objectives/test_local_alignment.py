"""Cosine and local alignment against references that form every barycentre."""

from __future__ import annotations

import pytest
import torch
from conftest import example_views, gaussian, tiny_encoder, tiny_predictor
from torch.nn import functional as F

from dmlm.distributions import Gaussian, barycenter, wasserstein2
from dmlm.errors import ConfigError
from dmlm.objectives import AlignmentLoss, ObjectiveConfig, PretrainingObjective
from dmlm.objectives.local_alignment import SHARPNESS, local_distances


def one(element: Gaussian, *index: int) -> Gaussian:
    return Gaussian(element.mean[index], element.logvar[index])


@pytest.mark.parametrize("cosine", [False, True])
def test_local_distances_equal_the_slow_reference(cosine: bool) -> None:
    patches, tokens = gaussian(3, 5, 8, seed=1), gaussian(4, 6, 8, seed=2)
    words = torch.tensor([[0, 1, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]]).bool()
    found = local_distances(patches, tokens, words, cosine)
    for image in range(3):
        for text in range(4):
            each = []
            for place in words[text].nonzero().flatten().tolist():
                word = one(tokens, text, place)
                similar = F.cosine_similarity(word.mean[None], patches.mean[image], dim=-1)
                middle = barycenter(one(patches, image), (SHARPNESS * similar).softmax(0))
                if cosine:
                    each.append(2 - 2 * F.cosine_similarity(word.mean, middle.mean, dim=0))
                else:
                    each.append(wasserstein2(word, middle))
            wanted = torch.stack(each).mean() if each else torch.zeros(())
            torch.testing.assert_close(found[image, text], wanted, atol=1e-5, rtol=1e-4)


def test_cosine_alignment_is_clip_on_the_means() -> None:
    loss = AlignmentLoss("cosine", "identity")
    image, text = gaussian(6, 8, seed=1), gaussian(6, 8, seed=2)
    cosines = torch.stack([F.cosine_similarity(image.mean[i][None], text.mean, dim=-1) for i in range(6)])
    own, nothing = torch.arange(6), torch.zeros(6, 2, 4, dtype=torch.long)
    wanted = 0.5 * (F.cross_entropy(2 * 7.14 * cosines, own) + F.cross_entropy(2 * 7.14 * cosines.t(), own))
    value = loss(image, text, nothing, nothing, own)
    torch.testing.assert_close(value, wanted, atol=1e-4, rtol=1e-4)
    narrow = Gaussian(image.mean, image.logvar - 1)
    assert loss(narrow, text, nothing, nothing, own) == value, "variances take no part"
    assert loss.distance == "cosine"


def test_local_contrast_is_the_contrast_of_local_distances() -> None:
    patches, tokens = gaussian(4, 5, 8, seed=1), gaussian(4, 6, 8, seed=2)
    words = torch.ones(4, 6, dtype=torch.bool)
    own, nothing = torch.arange(4), torch.zeros(4, 2, 4, dtype=torch.long)
    logits = -7.14 * local_distances(patches, tokens, words)
    wanted = 0.5 * (F.cross_entropy(logits, own) + F.cross_entropy(logits.t(), own))
    loss = AlignmentLoss("contrastive", "identity")
    torch.testing.assert_close(loss.local(patches, tokens, words, nothing, nothing, own), wanted)


def test_local_weight_adds_to_alignment() -> None:
    encoder, predictor = tiny_encoder().eval(), tiny_predictor().eval()
    views = example_views(encoder, 6)
    steps = [
        PretrainingObjective(ObjectiveConfig(local_weight=weight), encoder).eval()(encoder, predictor, views)
        for weight in (0.0, 0.5)
    ]
    assert "align_local" not in steps[0].parts
    difference = steps[1].loss - steps[0].loss
    torch.testing.assert_close(difference, 0.8 * 0.5 * steps[1].parts["align_local"], atol=1e-5, rtol=1e-4)


def test_local_alignment_alone() -> None:
    """Without masked prediction the heads compute global elements only, unless words and patches are compared."""
    encoder, predictor = tiny_encoder().eval(), tiny_predictor().eval()
    views = example_views(encoder, 6)
    values = [
        PretrainingObjective(ObjectiveConfig(masked_weight=weight, local_weight=1.0), encoder)
        .eval()(encoder, predictor, views)
        .parts["align_local"]
        for weight in (0.0, 0.2)
    ]
    torch.testing.assert_close(*values, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [{"local_weight": -1}, {"local_weight": 1, "masked_weight": 1}])
def test_local_weight_out_of_range(options: dict) -> None:
    with pytest.raises(ConfigError, match="local_weight"):
        ObjectiveConfig(**options)


def test_predicted_patches_are_those_of_the_loss() -> None:
    encoder, predictor = tiny_encoder().eval(), tiny_predictor().eval()
    views = example_views(encoder, 4)
    for conditioning in ("cross_full", "joint"):
        objective = PretrainingObjective(ObjectiveConfig(conditioning=conditioning), encoder).eval()
        predicted, true = objective.predict_patches(encoder, predictor, views)
        every = torch.ones(true.mean.shape[:2], dtype=torch.bool)
        wanted = objective(encoder, predictor, views).parts["kl_image"]
        torch.testing.assert_close(objective.masked(predicted, true, every), wanted, atol=1e-5, rtol=1e-4)
