"""Further statements of the reports of a batch, which alignment compares with its images."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch

from dmlm.models.encoder import ProbabilisticEncoder
from dmlm.objectives import Statements
from dmlm.reports import ReportText, TextViews, encode_facts


def draw_statements(
    encoder: ProbabilisticEncoder,
    views: TextViews,
    batch: dict[str, Any],
    rngs: Sequence[np.random.Generator],
    rounds: int,
) -> Statements | None:
    """Draw further statements of every report; equal ones are tokenised once, to be encoded once.

    Args:
        encoder: Tokenises.
        views: How statements are drawn.
        batch: A batch of a data module, with ``report`` and ``text`` of each pair.
        rngs: Source of all randomness of each pair.
        rounds: Statements per report.

    Returns:
        None if nothing is to be drawn.
    """
    studies = list(zip(batch["report"], batch["text"], rngs, strict=True))
    texts = [views.statement(report, text, rng) for _ in range(rounds) for report, text, rng in studies]
    if not texts:
        return None
    device = batch["image"].device
    different = {text.text: text for text in texts}
    row_of = {text: row for row, text in enumerate(different)}
    facts = np.stack([encode_facts(text.statements) for text in texts])
    return Statements(
        tokens=encoder.tokenize(list(different.values())).to(device),
        rows=torch.tensor([row_of[text.text] for text in texts], device=device),
        facts=torch.from_numpy(facts).to(device),
        keys=torch.tensor([text_key(text) for text in texts], device=device),
    )


def text_key(text: ReportText) -> int:
    """Hash of a text in 63 bits, the same in every process."""
    return int.from_bytes(blake2b(text.text.encode(), digest_size=8).digest(), "big") >> 1
