"""Texts as token ids, with the place of every word and section that masking needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dmlm.reports.schema import SECTIONS, ReportText, Span

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SECTION_ID = {name: number for number, name in enumerate(SECTIONS)}


@dataclass(frozen=True)
class TokenBatch:
    """A batch of tokenised texts, padded to its longest.

    Args:
        input_ids: int64 ``(B, L)``.
        valid: bool ``(B, L)``, False at padding.
        words: int64 ``(B, L)``, number of the word that a token belongs to, counted per text; -1 where nothing may be
            masked: special tokens, section headers, punctuation.
        sections: int64 ``(B, L)``, position in :data:`dmlm.reports.schema.SECTIONS`; -1 outside section bodies.
        lengths: Number of tokens of each text, on the host (so that no device has to be asked).
    """

    input_ids: Tensor
    valid: Tensor
    words: Tensor
    sections: Tensor
    lengths: tuple[int, ...]

    def to(self, device: torch.device | str) -> TokenBatch:
        """Move the tensors to ``device``."""
        moved = {name: getattr(self, name).to(device) for name in ("input_ids", "valid", "words", "sections")}
        return replace(self, **moved)

    def rows(self, part: slice) -> TokenBatch:
        """Texts of a part of the batch, padded as the whole."""
        taken = {name: getattr(self, name)[part] for name in ("input_ids", "valid", "words", "sections")}
        return replace(self, lengths=self.lengths[part], **taken)

    def __len__(self) -> int:
        return len(self.lengths)


def tokenize(tokenizer: Tokenizer, texts: Sequence[ReportText | str], max_length: int, pad_id: int) -> TokenBatch:
    """Tokenise texts and mark words and sections.

    A text that is too long loses words from the end of its Appearance, then of its Definition (constants of the
    finding), and only then from its own end, so that Observations and Verdict survive (ruling 3 of the method).

    Args:
        tokenizer: A fast tokenizer that adds its special tokens.
        texts: Texts with section spans; a plain string counts as one section body.
        max_length: Most tokens of a text, special ones included.
        pad_id: Id of the padding token.

    Returns:
        Tensors on the CPU.
    """
    rows = [
        _row(encoding, text, max_length)
        for encoding, text in zip(tokenizer.encode_batch([_text(text) for text in texts]), texts, strict=True)
    ]
    lengths = tuple(len(row[0]) for row in rows)
    shape = (len(rows), max(lengths))
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    words, sections = np.full(shape, -1, dtype=np.int64), np.full(shape, -1, dtype=np.int64)
    for number, (ids, word, section) in enumerate(rows):
        input_ids[number, : len(ids)], words[number, : len(ids)], sections[number, : len(ids)] = ids, word, section
    valid = np.arange(shape[1])[None, :] < np.asarray(lengths)[:, None]
    arrays = (input_ids, valid, words, sections)
    tensors = [torch.from_numpy(array) for array in arrays]
    return TokenBatch(tensors[0], tensors[1], tensors[2], tensors[3], lengths)


def _text(text: ReportText | str) -> str:
    return text if isinstance(text, str) else text.text


def _row(encoding, text: ReportText | str, max_length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def,type-arg] # noqa: ANN001
    ids = np.asarray(encoding.ids, dtype=np.int64)
    special = np.asarray(encoding.special_tokens_mask, dtype=bool)
    offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    spans: Sequence[Span] = (Span("text", 0, len(text)),) if isinstance(text, str) else text.spans
    sections = np.full(len(ids), -1, dtype=np.int64)
    for span in spans:
        inside = (offsets[:, 0] >= span.start) & (offsets[:, 1] <= span.end) & ~special
        sections[inside] = _SECTION_ID[span.section]
    words = np.asarray([-1 if word is None else word for word in encoding.word_ids], dtype=np.int64)
    plain = _text(text)
    spoken = np.asarray([any(letter.isalnum() for letter in plain[start:end]) for start, end in offsets], dtype=bool)
    words = np.where((sections >= 0) & spoken, words, -1)
    keep = _within(sections, special, max_length)
    return ids[keep], _renumber(words[keep]), sections[keep]


def _within(sections: np.ndarray, special: np.ndarray, max_length: int) -> np.ndarray:  # type: ignore[type-arg]
    """Which tokens stay: drop from the end of appearance, then definition, then of the whole text."""
    keep = np.ones(len(sections), dtype=bool)
    for droppable in (sections == _SECTION_ID["appearance"], sections == _SECTION_ID["definition"], ~special):
        excess = int(keep.sum()) - max_length
        if excess <= 0:
            break
        keep[np.flatnonzero(droppable & keep)[::-1][:excess]] = False
    return keep


def _renumber(words: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """Count words from 0 without gaps, -1 kept."""
    inside = words >= 0
    if inside.any():
        _, words[inside] = np.unique(words[inside], return_inverse=True)
    return words
