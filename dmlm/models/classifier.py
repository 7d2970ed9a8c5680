"""Classifying an image by its distribution: which numbers go into a head, the heads, and Monte-Carlo prediction.

Plain torch: ``head(image_features(encoder, images, "mean"))`` gives logits in any training loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dmlm.distributions import Gaussian
from dmlm.errors import ConfigError
from dmlm.models.encoder import ProbabilisticEncoder

FeatureKind = Literal["mean", "mean_std", "pooled"]
LabelTask = Literal["multilabel", "binary", "multiclass"]
HeadTask = Literal["multilabel", "multiclass", "ordinal"]


class Sampled(NamedTuple):
    """What many samples of an image's distribution say.

    Args:
        probability: Mean over the samples, float32 ``(B, C)``.
        std: Standard deviation over the samples, ``(B, C)``.
        mutual_information: How much the samples disagree, in nats (entropy of the mean minus mean entropy): per class
            ``(B, C)`` for independent labels, equal in all columns for exclusive classes.
    """

    probability: Tensor
    std: Tensor
    mutual_information: Tensor


def feature_width(encoder: ProbabilisticEncoder, kind: FeatureKind) -> int:
    """Width of the features of a kind.

    Raises:
        ConfigError: If there is no such kind.
    """
    if kind not in get_args(FeatureKind):
        msg = f"features must be one of {', '.join(get_args(FeatureKind))}, got '{kind}'"
        raise ConfigError(msg)
    if kind == "pooled":
        return encoder.image.feature_dim
    return encoder.embed_dim * (2 if kind == "mean_std" else 1)


def image_features(encoder: ProbabilisticEncoder, images: Tensor, kind: FeatureKind = "mean") -> Tensor:
    """Features of whole images.

    Args:
        encoder: The encoder.
        images: uint8 ``(B, 1, H, W)``.
        kind: ``mean`` of the global distribution ``(B, D)``, ``mean_std`` (mean and standard deviation, ``(B, 2 D)``),
            or ``pooled``: what the image tower gives before the distribution head, ``(B, F)``.
    """
    if kind == "pooled":
        return encoder.image(images).pooled  # type: ignore[no-any-return]
    return gaussian_features(encoder.image_global(images), kind)


def gaussian_features(image: Gaussian, kind: FeatureKind, point: Tensor | None = None) -> Tensor:
    """Features of global distributions ``(..., D)``; ``point`` stands in for the mean, e.g. a sample."""
    mean = image.mean if point is None else point
    return torch.cat([mean, image.std.expand_as(mean)], dim=-1) if kind == "mean_std" else mean


def freeze_unused(encoder: ProbabilisticEncoder, kind: FeatureKind | None = None, frozen: bool = False) -> None:
    """Stop the gradient of what a task on images does not train, so that no process waits for it.

    Args:
        encoder: Changed in place. The text side is always stopped.
        kind: Features of a classifier; None where the distribution head is not used.
        frozen: Whether the image side is stopped, too (linear probe).
    """
    for part in (encoder.text, encoder.text_head):
        part.requires_grad_(False)
    if frozen:
        encoder.requires_grad_(False)
    elif kind in (None, "pooled"):
        encoder.image_head.requires_grad_(False)
    elif kind == "mean":  # the variance has no say
        for name, parameter in encoder.image_head.named_parameters():
            if name.startswith("logvar"):
                parameter.requires_grad_(False)


class ClassifierHead(nn.Module):
    """Layer norm, dropout and a linear layer; for ``ordinal`` one direction and ordered cut points.

    Outputs by ``task``: ``multilabel`` one logit per label, ``multiclass`` one per class, ``ordinal`` one per step
    between ``C`` grades: the log-odds that the grade is above it (cumulative logits, McCullagh 1980; trained as in
    CORAL, Cao et al. 2020). The cut points increase by construction, so that the probabilities of grades are never
    negative.

    Args:
        in_dim: Width of the features.
        num_classes: Labels, classes or grades ``C``.
        task: ``multilabel`` (also for one binary label), ``multiclass`` or ``ordinal``.
        dropout: Share of features that are dropped while training, at least 0 and below 1.

    Raises:
        ConfigError: If ``num_classes`` does not fit the task, or ``dropout`` is out of range.
    """

    def __init__(self, in_dim: int, num_classes: int, task: HeadTask = "multilabel", dropout: float = 0.0) -> None:
        super().__init__()
        least = 1 if task == "multilabel" else 2
        if num_classes < least:
            msg = f"num_classes must be at least {least} for task {task}, got {num_classes}"
            raise ConfigError(msg)
        if not 0 <= dropout < 1:
            msg = f"dropout must be at least 0 and below 1, got {dropout}"
            raise ConfigError(msg)
        self.num_classes, self.task = num_classes, task
        self.norm, self.dropout = nn.LayerNorm(in_dim), nn.Dropout(dropout)
        self.linear = nn.Linear(in_dim, 1 if task == "ordinal" else num_classes, bias=task != "ordinal")
        nn.init.trunc_normal_(self.linear.weight, std=0.02)
        if self.linear.bias is not None:
            nn.init.zeros_(self.linear.bias)
        if task == "ordinal":
            # at the start the grades are about equally likely: cut points at the quantiles of a logistic distribution
            cuts = torch.logit(torch.arange(1, num_classes) / num_classes)
            self.first_cut = nn.Parameter(cuts[:1].clone())
            self.cut_steps = nn.Parameter(torch.log(torch.expm1(cuts.diff())))

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``(..., C)`` (``(..., C - 1)`` for ordinal) of features ``(..., in_dim)``."""
        values: Tensor = self.linear(self.dropout(self.norm(features)))
        if self.task != "ordinal":
            return values
        steps = torch.cat([self.first_cut, F.softplus(self.cut_steps)])
        return values - steps.cumsum(0)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities ``(..., C)`` of logits, at least float32: independent ones, or a distribution over classes."""
        logits = logits.double() if logits.dtype == torch.float64 else logits.float()
        if self.task == "multilabel":
            return torch.sigmoid(logits)
        if self.task == "multiclass":
            return torch.softmax(logits, dim=-1)
        above = torch.sigmoid(logits)
        ones, zeros = torch.ones_like(above[..., :1]), torch.zeros_like(above[..., :1])
        return (torch.cat([ones, above], -1) - torch.cat([above, zeros], -1)).clamp_min(0)

    def log_odds(self, logits: Tensor) -> Tensor:
        """Log-odds of each class against all others, float64 ``(..., C)``: what ranking and thresholds work on."""
        logits = logits.double()
        if self.task == "multilabel":
            return logits
        if self.task == "ordinal":
            return torch.logit(self.probabilities(logits), eps=1e-12)
        count = logits.shape[-1]
        others = logits.unsqueeze(-2).expand(*logits.shape[:-1], count, count)
        own = torch.eye(count, dtype=torch.bool, device=logits.device)
        return logits - others.masked_fill(own, -torch.inf).logsumexp(-1)


def sampled_probabilities(
    image: Gaussian, head: ClassifierHead, kind: FeatureKind, samples: int, seeds: Sequence[int]
) -> Sampled:
    """Monte-Carlo prediction: the head's probabilities over samples of each image's distribution.

    Args:
        image: Global elements of the images, ``(B, D)``.
        head: The head.
        kind: ``mean`` or ``mean_std``.
        samples: Number of samples ``S``.
        seeds: One per image, such as its index: the result of an image must not depend on its batch.

    Raises:
        ConfigError: If the features have no distribution, or ``samples`` is not positive.
    """
    if kind == "pooled" or samples < 1:
        msg = "Monte-Carlo samples (mc_samples) need features mean or mean_std, and at least one sample"
        raise ConfigError(msg)
    width = image.mean.shape[-1]
    noise = torch.stack(
        [torch.randn(samples, width, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds], dim=1
    ).to(image.mean.device)
    points = image.mean.float() + image.std.float() * noise
    with torch.autocast(points.device.type, enabled=False):  # samples differ by less than half precision can tell
        each = head.probabilities(head(gaussian_features(image, kind, points).float()))
    mean = each.mean(0)
    if head.task == "multilabel":
        information = _entropy(torch.stack([mean, 1 - mean], -1)) - _entropy(torch.stack([each, 1 - each], -1)).mean(0)
    else:
        information = (_entropy(mean) - _entropy(each).mean(0)).unsqueeze(-1).expand_as(mean)
    return Sampled(mean, each.std(0, unbiased=False), information.clamp_min(0))


def _entropy(probability: Tensor) -> Tensor:
    """Entropy over the last axis, in nats."""
    entropy: Tensor = torch.special.entr(probability).sum(-1)
    return entropy
