"""Masks that prefer relevant patches: the part that all guided strategies share, and the base of your own."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter

import torch
from torch import Tensor

from dmlm.errors import ConfigError
from dmlm.masking.draws import Source, random_rows
from dmlm.masking.image import ImageMasker, MaskContext, hidden_count, hide_highest


class GuidedMask(ImageMasker):
    """Hide patches at random, relevant ones more often, equally many in every image of a batch.

    Patches are drawn without replacement with weights ``(1 - uniform) * softmax(relevance / temperature) +
    uniform / N``. An image whose relevance is the same everywhere is masked as by :class:`RandomMask`. A subclass says
    what is relevant (:meth:`relevance`), and counts in ``self.counts`` where it could not say.

    With ``ratio_range`` the ratio adapts: ``ratio * area / typical_area``, kept within the range, where ``area`` is the
    mean relevance over the patches and the guided images of the batch. It is one number per batch, because all images
    must hide equally many patches.

    Args:
        ratio: Share of the patches that is hidden, at least 0 and below 1 (one patch at least stays visible); with
            ``ratio_range`` the typical share.
        ratio_range: Smallest and largest share of an adaptive ratio; None fixes it.
        temperature: How strictly relevance is followed: near 0 the most relevant patches are always taken.
        uniform: Share of the weight that every patch gets alike, 0 to 1; 1 is random masking.
        typical_area: Mean relevance at which an adaptive ratio is ``ratio``.

    Raises:
        ConfigError: If a value is out of range.
    """

    def __init__(
        self,
        ratio: float = 0.3,
        ratio_range: tuple[float, float] | None = None,
        temperature: float = 0.15,
        uniform: float = 0.1,
        typical_area: float = 0.3,
    ) -> None:
        for name, value in (("ratio", ratio), *(("ratio_range", value) for value in ratio_range or ())):
            if not 0 <= value < 1:
                msg = f"{name} of an image mask must be at least 0 and below 1, got {value}"
                raise ConfigError(msg)
        if ratio_range is not None and not ratio_range[0] <= ratio <= ratio_range[1]:
            msg = f"ratio_range of an image mask must hold its ratio {ratio}, got {list(ratio_range)}"
            raise ConfigError(msg)
        if not 0 <= uniform <= 1:
            msg = f"uniform of an image mask must lie in 0..1, got {uniform}"
            raise ConfigError(msg)
        for name, value in (("temperature", temperature), ("typical_area", typical_area)):
            if not value > 0:
                msg = f"{name} of an image mask must be above 0, got {value}"
                raise ConfigError(msg)
        self.ratio, self.temperature, self.uniform, self.typical_area = ratio, temperature, uniform, typical_area
        self.ratio_range = None if ratio_range is None else tuple(ratio_range)
        self.counts: Counter[str] = Counter()

    @abstractmethod
    def relevance(self, context: MaskContext) -> Tensor:
        """Say how relevant each patch is.

        Args:
            context: The batch.

        Returns:
            float ``(B, N)`` in 0..1 on the images' device; a row of one value means "nothing known".
        """

    def __call__(self, context: MaskContext, generator: Source) -> Tensor:
        """Draw masks; see :meth:`ImageMasker.__call__`."""
        batch, patches = len(context.images), context.num_patches
        # drawn even where nothing is hidden, so that what follows in a run does not depend on the ratio
        noise = random_rows(batch, patches, generator).clamp(1e-9, 1 - 1e-7)
        if self.ratio == 0 and self.ratio_range is None:
            return torch.zeros(batch, patches, dtype=torch.bool, device=context.images.device)
        self.counts["images"] += batch
        with torch.autocast(context.images.device.type, enabled=False):  # places in pixels need all of their digits
            relevance = self.relevance(context).float()
        # in logarithms, because a small temperature makes weights that float32 cannot tell from 0
        guided = torch.log_softmax(relevance / self.temperature, dim=1) + _log(1.0 - self.uniform)
        weight = torch.logaddexp(guided, torch.full_like(guided, _log(self.uniform / patches)))
        # Gumbel top-k: exact weighted sampling without replacement
        gumbel = -torch.log(-torch.log(noise)).to(relevance.device)
        count = hidden_count(self._ratio(relevance), patches)
        return hide_highest(weight + gumbel, count).to(context.images.device)

    def take_counts(self) -> dict[str, int]:
        """Return the counts since the last call, 0 for what was met before; see :meth:`ImageMasker.take_counts`."""
        taken = dict(self.counts)
        self.counts = Counter(dict.fromkeys(taken, 0))
        return taken

    def _ratio(self, relevance: Tensor) -> float:
        if self.ratio_range is None:
            return self.ratio
        guided = relevance.amax(1) > relevance.amin(1)
        areas = torch.where(guided, relevance.mean(1), torch.full_like(relevance[:, 0], self.typical_area))
        low, high = self.ratio_range
        return min(max(self.ratio * float(areas.mean()) / self.typical_area, low), high)


def _log(share: float) -> float:
    return math.log(share) if share > 0 else -math.inf


def stretch(values: Tensor) -> Tensor:
    """Stretch each row of ``(B, N)`` to 0..1; a row of one value becomes 0, and so does one that is not finite."""
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    scaled = (values - low) / (high - low).clamp_min(1e-12)
    known = ((high - low) > 1e-12) & torch.isfinite(values).all(1, keepdim=True)
    return torch.where(known, scaled, torch.zeros_like(scaled))
