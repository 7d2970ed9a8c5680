"""Texts as token ids, with the place of every word and section that masking needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dmlm.reports.schema import SECTIONS, ReportText, Span

if TYPE_CHECKING:
    from tokenizers import Tokenizer

IntArray = npt.NDArray[np.int64]
_MOST_KNOWN = 16_384
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


class Row(NamedTuple):
    """One text, tokenised: int64 arrays of one length, as the rows of :class:`TokenBatch`."""

    ids: IntArray
    words: IntArray
    sections: IntArray


def tokenize(
    tokenizer: Tokenizer,
    texts: Sequence[ReportText | str],
    max_length: int,
    pad_id: int,
    known: dict[tuple[str, tuple[Span, ...]], Row] | None = None,
) -> TokenBatch:
    """Tokenise texts and mark words and sections.

    A text that is too long loses words from the end of its Appearance, then of its Definition (constants of the
    finding), and only then from its own end, so that Observations and Verdict survive (ruling 3 of the method).

    Args:
        tokenizer: A fast tokenizer that adds its special tokens.
        texts: Texts with section spans; a plain string counts as one section body.
        max_length: Most tokens of a text, special ones included.
        pad_id: Id of the padding token.
        known: Rows of earlier texts, with the same tokenizer and length; new ones are added. Statements come again and
            again, and writing their rows takes longer than anything else that is done with a text on the host.

    Returns:
        Tensors on the CPU.
    """
    known = {} if known is None else known
    keys = [_key(text) for text in texts]
    new = list(dict.fromkeys(key for key in keys if key not in known))
    if len(known) + len(new) > _MOST_KNOWN:
        known.clear()
        new = list(dict.fromkeys(keys))
    encodings = tokenizer.encode_batch([text for text, _ in new]) if new else []
    known.update({key: _row(encoding, *key, max_length) for key, encoding in zip(new, encodings, strict=True)})
    rows = [known[key] for key in keys]
    lengths = tuple(len(row.ids) for row in rows)
    shape = (len(rows), max(lengths))
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    words, sections = np.full(shape, -1, dtype=np.int64), np.full(shape, -1, dtype=np.int64)
    for number, (ids, word, section) in enumerate(rows):
        input_ids[number, : len(ids)], words[number, : len(ids)], sections[number, : len(ids)] = ids, word, section
    valid = np.arange(shape[1])[None, :] < np.asarray(lengths)[:, None]
    arrays = (input_ids, valid, words, sections)
    tensors = [torch.from_numpy(array) for array in arrays]
    return TokenBatch(tensors[0], tensors[1], tensors[2], tensors[3], lengths)


def _key(text: ReportText | str) -> tuple[str, tuple[Span, ...]]:
    return (text, (Span("text", 0, len(text)),)) if isinstance(text, str) else (text.text, text.spans)


def _row(encoding, text: str, spans: Sequence[Span], max_length: int) -> Row:  # type: ignore[no-untyped-def] # noqa: ANN001
    ids = np.asarray(encoding.ids, dtype=np.int64)
    special = np.asarray(encoding.special_tokens_mask, dtype=bool)
    offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    sections = np.full(len(ids), -1, dtype=np.int64)
    for span in spans:
        inside = (offsets[:, 0] >= span.start) & (offsets[:, 1] <= span.end) & ~special
        sections[inside] = _SECTION_ID[span.section]
    words = np.asarray([-1 if word is None else word for word in encoding.word_ids], dtype=np.int64)
    spoken = np.cumsum([False, *map(str.isalnum, text)])  # letters and digits before each place
    words = np.where((sections >= 0) & (spoken[offsets[:, 1]] > spoken[offsets[:, 0]]), words, -1)
    keep = _within(sections, special, max_length)
    return Row(ids[keep], _renumber(words[keep]), sections[keep])


def _within(sections: IntArray, special: npt.NDArray[np.bool_], max_length: int) -> npt.NDArray[np.bool_]:
    """Which tokens stay: drop from the end of appearance, then definition, then of the whole text."""
    keep = np.ones(len(sections), dtype=bool)
    for droppable in (sections == _SECTION_ID["appearance"], sections == _SECTION_ID["definition"], ~special):
        excess = int(keep.sum()) - max_length
        if excess <= 0:
            break
        keep[np.flatnonzero(droppable & keep)[::-1][:excess]] = False
    return keep


def _renumber(words: IntArray) -> IntArray:
    """Count words from 0 without gaps, -1 kept."""
    inside = words >= 0
    if inside.any():  # tokens stand in the order of their words
        words[inside] = np.cumsum(np.diff(words[inside], prepend=words[inside][0]) != 0)
    return words
