"""Appearance-guided masking, the paper's own strategy (section 3.4): hide where the text says that the finding is."""

from __future__ import annotations

import torch
from torch import Tensor

from dmlm.errors import ConfigError
from dmlm.masking.atlas import FRAME, load_atlas
from dmlm.masking.guidance import TextGuide
from dmlm.masking.guided import GuidedMask
from dmlm.masking.image import MaskContext
from dmlm.masking.placement import place
from dmlm.reports.knowledge import load_knowledge

_FRONTAL = ("PA", "AP", "FRONTAL", "SUPINE", "PORTABLE", "ANTEROPOSTERIOR", "POSTEROANTERIOR", "?", "UNKNOWN", "NAN")


class AppearanceMask(GuidedMask):
    """Prefer the places that the text of the pair speaks of.

    The findings that the text states as present or possible are looked up in an atlas (zones of the chest by finding),
    restricted to the side and position that it names; findings that the atlas lacks are read from their appearance
    text. The zones are laid onto the lungs of each image, follow its crop and rotation, and become a relevance per
    patch. After a warm-up the teacher's similarity of patches and words is mixed in:
    ``(1 - a) * atlas + a * similarity``, where ``a`` rises from 0 to ``attention`` between the points of ``warmup``.

    Where a text names no place the image is masked at random, and so are lateral views. Each such case is counted:
    ``nothing_present``, ``no_anatomy``, ``lateral``; ``no_lungs`` counts images whose lungs were not found (zones of an
    average film are used), ``unknown_finding`` findings without any known place.

    Args:
        ratio: Share of the patches that is hidden; see :class:`GuidedMask`.
        ratio_range: Smallest and largest share of an adaptive ratio, such as ``(0.1, 0.5)``; None fixes it.
        temperature: See :class:`GuidedMask`.
        uniform: See :class:`GuidedMask`.
        attention: Largest weight of the teacher's similarity; 0 never looks at it.
        warmup: Shares of the training between which that weight rises.
        atlas: YAML file with zones and findings of your own; see :func:`dmlm.masking.load_atlas`.
        knowledge: YAML file with appearance texts of your own; see :func:`dmlm.reports.load_knowledge`.

    Raises:
        ConfigError: If a value is out of range, or the atlas has faults.
    """

    def __init__(
        self,
        ratio: float = 0.3,
        ratio_range: tuple[float, float] | None = None,
        temperature: float = 0.15,
        uniform: float = 0.1,
        attention: float = 0.5,
        warmup: tuple[float, float] = (0.1, 0.3),
        atlas: str | None = None,
        knowledge: str | None = None,
    ) -> None:
        super().__init__(ratio, ratio_range, temperature, uniform)
        if not 0 <= attention <= 1:
            msg = f"attention of the appearance mask is a weight in 0..1, got {attention}"
            raise ConfigError(msg)
        if not 0 <= warmup[0] <= warmup[1] <= 1:
            msg = f"warmup of the appearance mask is two shares of the training, first <= last; got {list(warmup)}"
            raise ConfigError(msg)
        self.attention, self.warmup = attention, tuple(warmup)
        self.guide = TextGuide(load_atlas(atlas), load_knowledge(knowledge))

    def attention_weight(self, progress: float) -> float:
        """Weight of the teacher's similarity at ``progress`` (0..1) of the training."""
        start, end = self.warmup
        done = float(progress >= end) if end == start else min(max((progress - start) / (end - start), 0.0), 1.0)
        return self.attention * done

    def wants_similarity(self, progress: float) -> bool:
        """Whether the similarity has a weight above 0."""
        return self.attention_weight(progress) > 0

    def relevance(self, context: MaskContext) -> Tensor:
        """Relevance of the zones that the texts name; see :meth:`GuidedMask.relevance`."""
        device = context.images.device
        maps, guided = self._maps(context)
        if not guided.any():
            return torch.zeros(len(context.images), context.num_patches, device=device)
        values, lungs = place(maps.to(device), context)
        keep = guided.to(device)
        self.counts["no_lungs"] += int((~lungs.found & keep).sum())
        values = values / values.amax(1, keepdim=True).clamp_min(1e-6)
        weight = self.attention_weight(context.progress)
        if weight > 0 and context.similarity is not None:
            values = (1.0 - weight) * values + weight * context.similarity.to(device)
        return torch.where(keep[:, None], values, torch.zeros_like(values))

    def _maps(self, context: MaskContext) -> tuple[Tensor, Tensor]:
        """Maps on the average film ``(B, 64, 64)`` and which of the images have one, bool ``(B,)``; both on the CPU."""
        count = len(context.images)
        projections = list(context.projections) or [""] * count
        maps, guided = torch.zeros(count, FRAME, FRAME), torch.zeros(count, dtype=torch.bool)
        for index, (text, projection) in enumerate(zip(context.texts, projections, strict=True)):
            if not is_frontal(projection):
                self.counts["lateral"] += 1
                continue
            found = self.guide(text)
            self.counts["unknown_finding"] += len(found.unknown)
            if found.fallback is not None:
                self.counts[found.fallback] += 1
                continue
            maps[index] = self.guide.atlas.relevance(found.places)
            guided[index] = True
        return maps, guided


def is_frontal(projection: str) -> bool:
    """Whether a projection is frontal, as sources name it; an unnamed one counts as frontal."""
    first = projection.replace("_", " ").upper().split()[:1]
    return not first or first[0] in _FRONTAL
