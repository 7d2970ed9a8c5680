"""Image-text alignment by distances between distributions (paper, Eq. 4), in a form that does not collapse."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dmlm.distributions import Gaussian, pairwise_cosine, pairwise_csd, pairwise_wasserstein2, wasserstein2
from dmlm.errors import ConfigError
from dmlm.objectives.distributed import gather, whole, world_size
from dmlm.objectives.local_alignment import local_distances
from dmlm.objectives.positives import PairRelations, identity_relations, pair_relations, same_text_relations

AlignmentKind = Literal["contrastive", "cosine", "csd_bce", "attract"]
Positives = Literal["findings", "same_text", "identity"]
Distance = Literal["w2", "csd", "cosine"]


class AlignmentLoss(nn.Module):
    """Bring each image's distribution near the texts that are true of it.

    ``contrastive``: symmetric InfoNCE over ``-scale * W2^2 / D``; positives share the target mass evenly, ignored pairs
    leave the softmax. ``cosine``: the same over ``-scale * (2 - 2 cos)`` of the means, which is on the same scale;
    variances take no part (ConVIRT, CLIP). ``csd_bce``: a sigmoid per pair over ``-scale * CSD / D + shift`` (PCME++,
    ProLIP); the sum over pairs is divided by the number of texts, so that further texts of an image do not enlarge it.
    ``attract`` is the letter of Eq. 4, the mean distance of matching pairs: it has no force against collapse
    and does collapse; it is there to be studied.

    Args:
        kind: See above.
        positives: What counts as a positive: ``"findings"`` (what the report states), ``"same_text"``, ``"identity"``.
        scale_init: Scale at the start, above 0 up to ``scale_max``, learned on a log scale. 7.14 on the mean over
            dimensions is CLIP's 1/0.07.
        scale_max: Largest scale.
        shift_init: Shift of ``csd_bce`` at the start, learned.

    Raises:
        ConfigError: If an option is unknown or out of range.
    """

    def __init__(
        self,
        kind: AlignmentKind = "contrastive",
        positives: Positives = "findings",
        scale_init: float = 7.14,
        scale_max: float = 50.0,
        shift_init: float = 7.14,
    ) -> None:
        super().__init__()
        if kind not in get_args(AlignmentKind):
            msg = f"kind of alignment must be {', '.join(get_args(AlignmentKind))}, got '{kind}'"
            raise ConfigError(msg)
        if positives not in ("findings", "same_text", "identity"):
            msg = f"positives must be findings, same_text or identity, got '{positives}'"
            raise ConfigError(msg)
        check_scale(scale_init, scale_max)
        self.kind, self.positives, self.scale_max = kind, positives, scale_max
        learned = kind != "attract"
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale_init)), requires_grad=learned)
        self.shift = nn.Parameter(torch.tensor(float(shift_init)), requires_grad=kind == "csd_bce")

    @property
    def distance(self) -> Distance:
        """Distance that training uses, and that zero-shot scores should use."""
        if self.kind == "cosine":
            return "cosine"
        return "csd" if self.kind == "csd_bce" else "w2"

    @property
    def scale(self) -> Tensor:
        """Current scale, at most ``scale_max``."""
        return self._scale(None)

    def bounded_log_scale(self) -> Tensor:
        """Logarithm of the scale for one step: what goes beyond ``scale_max`` has no gradient that leads further up.

        Whether it leads up is that of the sum of all losses that were computed with this tensor.

        Returns:
            Scalar; it may lie above the bound, by the optimiser's last steps.
        """
        return _OnlyBack.apply(whole(self.log_scale), self.scale_max)  # type: ignore[no-untyped-call,no-any-return]

    def _scale(self, log_scale: Tensor | None) -> Tensor:
        free = (self.bounded_log_scale() if log_scale is None else log_scale).exp()
        # the clamp itself has no gradient above the bound: the scale could never come back
        return free + (free.clamp_max(self.scale_max) - free).detach()

    def forward(
        self,
        image: Gaussian,
        text: Gaussian,
        report_facts: Tensor,
        text_facts: Tensor,
        text_keys: Tensor,
        log_scale: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss over the global batch (gathered over processes, with gradient).

        Args:
            image: Global elements of the images, ``(B, D)``.
            text: Global elements of the texts, ``(T, D)``. ``T`` is a multiple of ``B``; text ``j`` belongs to image
                ``j mod B``.
            report_facts: int64 ``(B, K, 4)``, what each image's whole report states.
            text_facts: int64 ``(T, K, 4)``, what each text states.
            text_keys: int64 ``(T,)``, hash of each text.
            log_scale: Of :meth:`bounded_log_scale`, where the loss of a step has several parts; None takes one of its
                own.

        Returns:
            Scalar float32, the same on every process.
        """
        owners = _owners(len(image.mean), len(text.mean), image.mean.device)
        image, text = (Gaussian(gather(side.mean.float()), gather(side.logvar.float())) for side in (image, text))
        if self.kind == "attract":
            return wasserstein2(Gaussian(image.mean[owners], image.logvar[owners]), text).mean()
        relations = self.relations(gather(report_facts), gather(text_facts), gather(text_keys), owners)
        scale = self._scale(log_scale)
        if self.kind == "cosine":
            return _contrast(-scale * pairwise_cosine(image, text), relations)
        if self.kind == "contrastive":
            return _contrast(-scale * pairwise_wasserstein2(image, text, owners=owners), relations)
        logits = -scale * pairwise_csd(image, text, owners=owners) + whole(self.shift)
        wanted = relations.positive.to(logits.dtype)
        known = (relations.positive | relations.negative).to(logits.dtype)
        each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        return (each * known).sum() / logits.shape[1]

    def local(
        self,
        patches: Gaussian,
        tokens: Gaussian,
        words: Tensor,
        report_facts: Tensor,
        text_facts: Tensor,
        text_keys: Tensor,
        log_scale: Tensor | None = None,
    ) -> Tensor:
        """Contrast images and texts by their patches and words (see :mod:`dmlm.objectives.local_alignment`).

        The scale is that of the global elements, and so are positives and, of distances, W2 or the cosine.

        Args:
            patches: All patches of the images, ``(B, N, D)``.
            tokens: Tokens of one text per image, ``(B, L, D)``.
            words: bool ``(B, L)``, tokens that count.
            report_facts: int64 ``(B, K, 4)``.
            text_facts: int64 ``(B, K, 4)``.
            text_keys: int64 ``(B,)``.
            log_scale: See :meth:`forward`.

        Returns:
            Scalar float32, the same on every process.
        """
        owners = _owners(len(patches.mean), len(tokens.mean), patches.mean.device)
        # every process compares its own texts with all images, and the columns of all make the matrix
        everyone = Gaussian(gather(patches.mean.float()), gather(patches.logvar.float()))
        apart = gather(local_distances(everyone, tokens, words, self.kind == "cosine").t().contiguous()).t()
        relations = self.relations(gather(report_facts), gather(text_facts), gather(text_keys), owners)
        return _contrast(-self._scale(log_scale) * apart, relations)

    def relations(self, report_facts: Tensor, text_facts: Tensor, text_keys: Tensor, owners: Tensor) -> PairRelations:
        """Positives and negatives of a global batch under the chosen rule; ``owners`` int64 ``(T,)``."""
        if self.positives == "findings":
            return pair_relations(report_facts, text_facts, owners)
        if self.positives == "same_text":
            return same_text_relations(len(report_facts), text_keys, owners)
        return identity_relations(len(report_facts), owners)


class _OnlyBack(torch.autograd.Function):
    """The same number, without the gradients that would raise it where its exponential is above a bound.

    Part of the graph, so that it acts on what each process gets before DDP averages, and needs nothing of the
    optimiser. A loss scaler's factor is positive and does not change the sign.
    """

    @staticmethod
    def forward(ctx: Any, log_scale: Tensor, bound: float) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(log_scale.exp() > bound)
        return log_scale.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (above,) = ctx.saved_tensors
        # descent on a negative gradient is a step up
        return torch.where(above & (gradient < 0), torch.zeros_like(gradient), gradient), None


def check_scale(scale_init: float, scale_max: float) -> None:
    """Refuse a scale that has no logarithm or starts beyond its bound.

    Raises:
        ConfigError: Unless ``0 < scale_init <= scale_max`` and ``scale_init`` is finite.
    """
    if not 0 < scale_init <= scale_max or math.isinf(scale_init):
        msg = f"scale_init must be finite, above 0 and at most scale_max ({scale_max}), got {scale_init}"
        raise ConfigError(msg)


def _owners(images: int, texts: int, device: torch.device) -> Tensor:
    """Image of each text in the gathered batch: every process brings its images and, image by image, their texts."""
    own = torch.arange(texts, device=device) % images
    return (torch.arange(world_size(), device=device)[:, None] * images + own).flatten()


def _contrast(logits: Tensor, relations: PairRelations) -> Tensor:
    """Symmetric cross-entropy of images over texts and of texts over images, ``(B, T)`` -> scalar."""
    return 0.5 * (_multi_positive(logits, relations) + _multi_positive(logits.t(), _transpose(relations)))


def _multi_positive(logits: Tensor, relations: PairRelations) -> Tensor:
    """Cross-entropy of each row with the target mass shared evenly by its positives; ignored pairs are left out."""
    ignored = ~(relations.positive | relations.negative)
    log_probability = F.log_softmax(logits.masked_fill(ignored, -torch.inf), dim=1)
    positive = torch.where(relations.positive, log_probability, torch.zeros_like(logits))
    return -(positive.sum(1) / relations.positive.sum(1)).mean()


def _transpose(relations: PairRelations) -> PairRelations:
    return PairRelations(relations.positive.t(), relations.negative.t())
