"""Text masking: whole words inside section bodies, an exact share of each text (paper, section 3.5: 30 %)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dmlm._config import Configurable
from dmlm.errors import ConfigError
from dmlm.masking.draws import Source, random_rows
from dmlm.models.tokens import TokenBatch
from dmlm.reports.schema import SECTIONS


class TextMasker(Configurable):
    """Draw which tokens are replaced by the mask token.

    Only words inside section bodies can be drawn: never special tokens, section headers, punctuation or padding; all
    pieces of a word go together. Each text hides ``max(1, round(ratio * words))`` words.

    Args:
        ratio: Share of the words; 0 hides nothing.
        section_weight: Relative probability of a section's words, e.g. ``{"definition": 0.5}``; 1 where not named,
            0 protects a section (unless nothing else is left to hide).

    Raises:
        ConfigError: If the ratio or a weight is out of range, or a section is unknown.
    """

    def __init__(self, ratio: float = 0.3, section_weight: Mapping[str, float] | None = None) -> None:
        if not 0 <= ratio < 1:
            msg = f"ratio of the text mask must be at least 0 and below 1, got {ratio}"
            raise ConfigError(msg)
        unknown = set(section_weight or {}) - set(SECTIONS)
        if unknown:
            msg = f"section_weight names unknown section '{min(unknown)}'; sections are {', '.join(SECTIONS)}"
            raise ConfigError(msg)
        for name, weight in (section_weight or {}).items():
            if not 0 <= weight < math.inf:
                msg = f"section_weight of '{name}' must be finite and 0 or more, got {weight}"
                raise ConfigError(msg)
        self.ratio = ratio
        self.weights = torch.tensor([float((section_weight or {}).get(name, 1.0)) for name in SECTIONS])

    def __call__(self, tokens: TokenBatch, generator: Source) -> Tensor:
        """Draw masks.

        Args:
            tokens: Tokens on any device.
            generator: CPU generator, or one per text.

        Returns:
            bool ``(B, L)`` on the tokens' device.
        """
        device = tokens.words.device
        words, sections = tokens.words.cpu(), tokens.sections.cpu()
        if self.ratio == 0 or not (words >= 0).any():
            return torch.zeros_like(tokens.valid)
        width = int(words.max()) + 1
        inside = words >= 0
        place = words.clamp_min(0)
        exists = torch.zeros(len(tokens), width).scatter_reduce(1, place, inside.float(), "amax")
        weight = self.weights[sections.clamp_min(0)] * inside
        weight = torch.zeros(len(tokens), width).scatter_reduce(1, place, weight, "amax")
        # Gumbel top-k: exact weighted sampling without replacement
        noise = random_rows(len(tokens), width, generator).clamp(1e-9, 1 - 1e-7)
        score = torch.log(weight.clamp_min(1e-30)) - torch.log(-torch.log(noise))
        score = score.masked_fill(exists == 0, -torch.inf)
        count = exists.sum(1)
        hidden = torch.where(count > 0, (self.ratio * count).round().clamp_min(1), torch.zeros_like(count))
        rank = score.argsort(dim=1, descending=True).argsort(dim=1)
        chosen = rank < hidden[:, None]
        return (chosen.gather(1, place) & inside).to(device)
