"""Masking by the teacher's view of image and text: where the words of the text find themselves in the image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dmlm.distributions import Gaussian
from dmlm.errors import ConfigError
from dmlm.masking.guided import GuidedMask, stretch
from dmlm.masking.image import MaskContext
from dmlm.models.tokens import TokenBatch
from dmlm.reports.schema import SECTIONS

_SHARPNESS = 0.1


class AttentionMask(GuidedMask):
    """Prefer patches that the teacher finds similar to the text; not in the paper, there to be compared.

    Until ``warmup`` of the training is done the masks are random: similarity means nothing before alignment works. With
    ``target=online`` there is no teacher, and the similarity costs a pass of the encoder of its own.

    Args:
        warmup: Share of the training after which similarity is used, 0 to 1.
        ratio: See :class:`GuidedMask`.
        ratio_range: See :class:`GuidedMask`.
        temperature: See :class:`GuidedMask`.
        uniform: See :class:`GuidedMask`.

    Raises:
        ConfigError: If a value is out of range.
    """

    def __init__(
        self,
        warmup: float = 0.1,
        ratio: float = 0.3,
        ratio_range: tuple[float, float] | None = None,
        temperature: float = 0.15,
        uniform: float = 0.1,
    ) -> None:
        if not 0 <= warmup <= 1:
            msg = f"warmup of the attention mask is a share of the training in 0..1, got {warmup}"
            raise ConfigError(msg)
        super().__init__(ratio, ratio_range, temperature, uniform)
        self.warmup = warmup

    def wants_similarity(self, progress: float) -> bool:
        """Whether the warm-up is over."""
        return progress >= self.warmup

    def relevance(self, context: MaskContext) -> Tensor:
        """The teacher's similarity, uniform without it; see :meth:`GuidedMask.relevance`."""
        if context.similarity is None:
            self.counts["no_similarity"] += len(context.images)
            return torch.zeros(len(context.images), context.num_patches, device=context.images.device)
        return context.similarity


@torch.no_grad()
def text_patch_similarity(text: Gaussian, image: Gaussian, tokens: TokenBatch) -> Tensor:
    """How near each patch is to its text: ``softmax over patches of <mean_t, mean_p> / (0.1 sqrt(D))``, mean over t.

    ``t`` runs over the words of the Appearance section, or over all words where a text has none.

    Args:
        text: Tokens of the texts, ``(B, L, D)``.
        image: Images and their patches, ``(B, 1 + N, D)``; all patches, none hidden.
        tokens: Where words and sections are.

    Returns:
        float32 ``(B, N)``, stretched to 0..1 per image; 0 for a text without words.
    """
    patches = image.at(slice(1, None)).mean.float()
    words = tokens.words >= 0
    described = words & (tokens.sections == SECTIONS.index("appearance"))
    chosen = torch.where(described.any(1, keepdim=True), described, words).float()
    with torch.autocast(patches.device.type, enabled=False):
        scores = text.mean.float() @ patches.transpose(1, 2) / (_SHARPNESS * math.sqrt(patches.shape[-1]))
        mean = (torch.softmax(scores, dim=2) * chosen[..., None]).sum(1) / chosen.sum(1, keepdim=True).clamp_min(1.0)
    return stretch(mean)
