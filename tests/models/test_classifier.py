"""Features, heads and Monte-Carlo prediction of classifiers, without Lightning."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_encoder
from torch.nn import functional as F

from dmlm.distributions import Gaussian
from dmlm.errors import ConfigError
from dmlm.models.classifier import (
    ClassifierHead,
    feature_width,
    freeze_unused,
    image_features,
    sampled_probabilities,
)


def images(count: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["mean", "mean_std", "pooled"])
@pytest.mark.parametrize("head", ["mlp", "attn"])
def test_features_have_their_width_and_unused_parts_need_no_gradient(kind, head) -> None:
    encoder = tiny_encoder(head=head)
    freeze_unused(encoder, kind)
    features = image_features(encoder, images(), kind)
    assert features.shape == (3, feature_width(encoder, kind))
    features.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_mean_std_are_the_moments_of_the_global_element() -> None:
    encoder = tiny_encoder().eval()
    gaussian = encoder.encode_image(images()).at(0)
    features = image_features(encoder, images(), "mean_std")
    torch.testing.assert_close(features, torch.cat([gaussian.mean, torch.exp(gaussian.logvar / 2)], -1))
    with pytest.raises(ConfigError, match="mean, mean_std, pooled"):
        feature_width(encoder, "median")


def test_ordinal_head_is_a_monotone_scale_of_equal_grades_at_the_start() -> None:
    torch.manual_seed(0)
    head = ClassifierHead(8, 4, "ordinal")
    with torch.no_grad():
        head.linear.weight.zero_()
    probability = head.probabilities(head(torch.randn(2, 8)))
    torch.testing.assert_close(probability, torch.full((2, 4), 0.25))
    with torch.no_grad():
        head.linear.weight.normal_()
        head.cut_steps.normal_(std=5)
        head.first_cut.normal_(std=5)
    logits = head(torch.randn(50, 8) * 3)
    assert logits.shape == (50, 3)
    assert (logits[:, 1:] <= logits[:, :-1]).all()
    probability = head.probabilities(logits)
    torch.testing.assert_close(probability.sum(1), torch.ones(50))
    assert (probability >= 0).all()


@pytest.mark.parametrize("task", ["multilabel", "multiclass", "ordinal"])
def test_log_odds_are_those_of_the_probabilities(task) -> None:
    torch.manual_seed(0)
    head = ClassifierHead(8, 4, task)
    logits = head(torch.randn(20, 8) * 2).double()
    torch.testing.assert_close(torch.sigmoid(head.log_odds(logits)), head.probabilities(logits))
    if task == "multiclass":  # far from 0 a probability of 1 would lose the order
        far = torch.tensor([[100.0, 0, 0, 0], [120.0, 0, 0, 0]], dtype=torch.float64)
        assert head.log_odds(far)[1, 0] > head.log_odds(far)[0, 0]
        torch.testing.assert_close(F.softmax(logits, -1), head.probabilities(logits))


def test_samples_do_not_depend_on_the_batch_and_vanish_with_the_variance() -> None:
    torch.manual_seed(0)
    head = ClassifierHead(6, 3, "multilabel").eval()
    mean = torch.randn(4, 6)
    wide = Gaussian(mean, torch.full_like(mean, 1.0))
    together = sampled_probabilities(wide, head, "mean", 32, [7, 8, 9, 10])
    alone = sampled_probabilities(Gaussian(mean[2:3], wide.logvar[2:3]), head, "mean", 32, [9])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[2:3], b)
    assert (together.std > 0).all()
    assert (together.mutual_information >= 0).all()
    narrow = sampled_probabilities(Gaussian(mean, torch.full_like(mean, -40.0)), head, "mean", 8, range(4))
    torch.testing.assert_close(narrow.probability, torch.sigmoid(head(mean)), atol=1e-4, rtol=1e-4)
    assert narrow.std.max() < 1e-4
    assert narrow.mutual_information.max() < 1e-6
    with pytest.raises(ConfigError, match="Monte-Carlo"):
        sampled_probabilities(wide, head, "pooled", 4, range(4))


def test_mutual_information_of_exclusive_classes_is_one_number_per_image() -> None:
    torch.manual_seed(0)
    head = ClassifierHead(12, 3, "multiclass").eval()
    gaussian = Gaussian(torch.randn(4, 6), torch.zeros(4, 6))
    drawn = sampled_probabilities(gaussian, head, "mean_std", 16, range(4))
    torch.testing.assert_close(drawn.probability.sum(1), torch.ones(4))
    assert (drawn.mutual_information == drawn.mutual_information[:, :1]).all()


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2 for task ordinal"):
        ClassifierHead(4, 1, "ordinal")
