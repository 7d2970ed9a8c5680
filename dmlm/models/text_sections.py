"""The ``sections`` layout: every section of a text is a sequence of its own, and equal ones are encoded once a batch.

Definition and appearance are constants of a finding. In one long sequence they are encoded anew for every study and
attend to the statements of each; apart, a batch encodes each of them once, and attention, which grows with the square
of the length, sees short sequences. The price: words of different sections meet only in the predictor.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Encode = Callable[[Tensor, Tensor, Sequence[int]], Tensor]
"""ids ``(S, L)``, valid ``(S, L)`` and lengths to features ``(S, L, F)``."""

Split = Callable[[Sequence[int]], Sequence[NDArray[np.int64]]]
"""Lengths to groups of rows of similar length."""


class Run(NamedTuple):
    """Tokens ``first`` to ``last`` (exclusive) of a row: a section with its header, without the row's special ends."""

    row: int
    first: int
    last: int


def section_runs(sections: NDArray[np.int64], lengths: Sequence[int]) -> list[Run]:
    """Cut rows of tokens into their sections; a header belongs to the section that it heads.

    Args:
        sections: ``(B, L)``, section of each token, -1 at headers and special tokens.
        lengths: Tokens of each row, its two special ends included.

    Returns:
        Runs in order; a row has at least one, which may be empty.
    """
    runs: list[Run] = []
    for row, length in enumerate(lengths):
        owner = sections[row, 1 : length - 1].copy()
        for place in range(len(owner) - 2, -1, -1):
            if owner[place] < 0:
                owner[place] = owner[place + 1]
        for place in range(1, len(owner)):  # what no section follows belongs to the one before
            if owner[place] < 0:
                owner[place] = owner[place - 1]
        cuts = [0, *(np.flatnonzero(np.diff(owner)) + 1).tolist(), len(owner)]
        bounds = [(first, last) for first, last in itertools.pairwise(cuts) if last > first] or [(0, 0)]
        runs += [Run(row, first + 1, last + 1) for first, last in bounds]
    return runs


def encode_sections(encode: Encode, split: Split, ids: Tensor, sections: Tensor, lengths: Sequence[int]) -> Tensor:
    """Encode each section apart and put the features back where the tokens stand.

    Ids are looked at on the host to find equal sections, so a batch on a GPU waits once for its copy.

    Args:
        encode: Encodes sequences; see :data:`Encode`. Position 0 of a sequence stands for all of it.
        split: Groups sequences by length; see :data:`Split`.
        ids: int64 ``(B, L)``, masked tokens replaced.
        sections: int64 ``(B, L)``, as in :class:`dmlm.models.tokens.TokenBatch`.
        lengths: Tokens of each row.

    Returns:
        ``(B, L, F)``, zeros at padding. The first and the last position of a row hold the mean over its sections of
        what these positions hold in each of them: the mean of an equal mixture of the sections.
    """
    host = ids.cpu().numpy()
    runs = section_runs(sections.cpu().numpy(), lengths)
    number: dict[bytes, int] = {}
    which = [number.setdefault(host[run.row, run.first : run.last].tobytes(), len(number)) for run in runs]
    first_of = dict(zip(reversed(which), reversed(runs), strict=True))
    sizes = [first_of[unique].last - first_of[unique].first + 2 for unique in range(len(number))]
    width = ids.shape[1]
    parts: list[Tensor] = []
    start = np.zeros(len(sizes), dtype=np.int64)  # row of each sequence's position 0 among the features of all
    total = 0
    for group in split(sizes):
        longest = max(sizes[unique] for unique in group)
        places = np.zeros((len(group), longest), dtype=np.int64)
        for at, unique in enumerate(group):
            run, size = first_of[int(unique)], sizes[unique]
            inside = np.arange(run.first, run.last)
            places[at, :size] = run.row * width + np.concatenate([[0], inside, [lengths[run.row] - 1]])
            start[unique] = total + at * longest
        counts = [sizes[unique] for unique in group]
        valid = torch.from_numpy(np.arange(longest)[None, :] < np.asarray(counts)[:, None]).to(ids.device)
        index = torch.from_numpy(places).to(ids.device)
        features = encode(ids.reshape(-1)[index], valid, counts)
        parts.append(features.reshape(-1, features.shape[-1]))
        total += len(group) * longest
    flat = torch.cat([*parts, parts[0].new_zeros(1, parts[0].shape[-1])])
    source = np.full(ids.shape, total, dtype=np.int64)  # the row of zeros
    for run, unique in zip(runs, which, strict=True):
        source[run.row, run.first : run.last] = start[unique] + 1 + np.arange(run.last - run.first)
    out = flat[torch.from_numpy(source).to(ids.device)]
    rows = torch.tensor([run.row for run in runs], device=ids.device)
    share = 1.0 / torch.bincount(rows, minlength=len(lengths)).clamp(min=1).to(flat.dtype)
    heads = torch.from_numpy(start[which]).to(ids.device)
    tails = heads + torch.tensor([sizes[unique] - 1 for unique in which], device=ids.device)
    ends = torch.tensor([length - 1 for length in lengths], device=ids.device)
    every = torch.arange(len(lengths), device=ids.device)
    for positions, wanted in ((tails, ends), (heads, torch.zeros_like(ends))):
        mean = flat.new_zeros(len(lengths), flat.shape[1]).index_add(0, rows, flat[positions] * share[rows, None])
        out = out.index_put((every, wanted), mean)
    return out
