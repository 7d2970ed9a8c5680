"""Which texts are positives, negatives or neither for which images (ruling 4 of the method).

A text that is one statement is true of many images. Facts (:func:`dmlm.reports.encode_facts`) say what each report and
each text state; comparing them tells, for every image ``i`` and text ``j`` of the global batch, whether report ``i``
states all that text ``j`` states (positive), states the opposite of any of it (negative), or does not say (ignored).
An image may own several texts; ``owners`` says whose each one is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ABSENT, PRESENT = 1, 2


class PairRelations(NamedTuple):
    """Relations of images (rows) to texts (columns); what is neither is ignored.

    Args:
        positive: bool ``(B, T)``; always set for an image's own texts.
        negative: bool ``(B, T)``, disjoint from ``positive``.
    """

    positive: Tensor
    negative: Tensor


def own_texts(count: int, owners: Tensor) -> Tensor:
    """Which texts belong to which of ``count`` images: bool ``(B, T)`` from the owners, int64 ``(T,)``."""
    return owners[None, :] == torch.arange(count, device=owners.device)[:, None]


def identity_relations(count: int, owners: Tensor) -> PairRelations:
    """Each image's own texts are its positives, every other text a negative."""
    own = own_texts(count, owners)
    return PairRelations(own, ~own)


def same_text_relations(count: int, keys: Tensor, owners: Tensor) -> PairRelations:
    """Texts that equal one of an image's own are its positives, all others negatives.

    Args:
        count: Number of images ``B``.
        keys: int64 ``(T,)`` hashes of the texts.
        owners: int64 ``(T,)``, image of each text.
    """
    same = (keys[:, None] == keys[None, :]).float()
    positive = own_texts(count, owners).float() @ same > 0
    return PairRelations(positive, ~positive)


def pair_relations(report_facts: Tensor, text_facts: Tensor, owners: Tensor | None = None) -> PairRelations:
    """Compare what reports and texts state.

    Args:
        report_facts: int64 ``(B, K, 4)`` of all that each report states: finding key (0 is padding), state (1 absent,
            2 present, 3 uncertain), sides (bits 1 left, 2 right; 0 not named), severity (1..3; 0 not named).
        text_facts: int64 ``(T, K, 4)`` of what each text states.
        owners: int64 ``(T,)``, image of each text; None means one text per image, in order.

    Returns:
        Relations of report ``i`` to text ``j``. A text that states nothing is a positive of its own image only and
        ignored elsewhere.
    """
    keys = torch.unique(torch.cat([report_facts[..., 0].reshape(-1), text_facts[..., 0].reshape(-1)]))
    report, text = _dense(report_facts, keys), _dense(text_facts, keys)
    r, t = report[:, None], text[None, :]  # (B, 1, C, 3) and (1, T, C, 3)
    asked = t[..., 0] > 0
    same_state = r[..., 0] == t[..., 0]
    both_present = same_state & (t[..., 0] == PRESENT)
    side_open, side_held = t[..., 1] == 0, (t[..., 1] & ~r[..., 1]) == 0
    grade_open, grade_held = t[..., 2] == 0, r[..., 2] == t[..., 2]
    stated = ~asked | (same_state & (side_open | side_held) & (grade_open | grade_held))
    opposite = (r[..., 0] == ABSENT) & (t[..., 0] == PRESENT) | (r[..., 0] == PRESENT) & (t[..., 0] == ABSENT)
    other_side = both_present & ~side_open & (r[..., 1] > 0) & ~side_held
    other_grade = both_present & ~grade_open & (r[..., 2] > 0) & ~grade_held
    negative = (asked & (opposite | other_side | other_grade)).any(-1)
    positive = stated.all(-1) & asked.any(-1) & ~negative
    own = own_texts(len(positive), torch.arange(len(positive), device=positive.device) if owners is None else owners)
    return PairRelations(positive | own, negative & ~own)


def _dense(facts: Tensor, keys: Tensor) -> Tensor:
    """Spread facts over one column per finding: ``(B, K, 4)`` -> ``(B, C, 3)``; key 0 (padding) gets no facts."""
    column = torch.searchsorted(keys, facts[..., 0].contiguous())
    values = facts[..., 1:] * (facts[..., :1] != 0)
    dense = facts.new_zeros(len(facts), len(keys), 3)
    return dense.scatter_reduce(1, column.unsqueeze(-1).expand_as(values), values, "amax")
