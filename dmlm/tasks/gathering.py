"""Rows of an evaluation: collected per batch, gathered over processes, every study once and in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch.distributed as dist

Columns = dict[str, Any]
"""Arrays ``[n, ...]`` or lists of ``n``, by name; ``index`` int64 ``[n]`` is the position of a study in its split."""


def gather_columns(parts: Sequence[Mapping[str, Any]]) -> Columns:
    """Put the batches of all processes together; a study that came twice (padding of the last batch) counts once.

    Every process must call this, and every one gets all rows.

    Args:
        parts: Columns of each batch of this process.

    Returns:
        Columns of the whole split, ordered by ``index``; {} where no process has a batch.
    """
    pieces: list[Mapping[str, Any]] = list(parts)
    if dist.is_available() and dist.is_initialized():
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, pieces)
        pieces = [piece for other in everyone for piece in other]
    if not pieces:
        return {}
    _, order = np.unique(np.concatenate([piece["index"] for piece in pieces]), return_index=True)
    joined: Columns = {}
    for name, example in pieces[0].items():
        if isinstance(example, np.ndarray):
            joined[name] = np.concatenate([piece[name] for piece in pieces])[order]
        else:
            flat = [item for piece in pieces for item in piece[name]]
            joined[name] = [flat[place] for place in order]
    return joined
