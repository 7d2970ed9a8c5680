"""Random numbers of a batch, from one source for the whole of it or from one for each of its pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Source: TypeAlias = torch.Generator | Sequence[torch.Generator]
"""One CPU generator for a batch, or one per row: then what is drawn for a pair does not depend on its batch."""


def random_rows(rows: int, width: int, source: Source) -> Tensor:
    """Draw numbers in 0..1 for each row, float32 ``(rows, width)`` on the CPU.

    With a generator per row the first numbers of a row are the same for every ``width``, so that a longer text in the
    batch changes nothing for the others.
    """
    if isinstance(source, torch.Generator):
        return torch.rand(rows, width, generator=source)
    return torch.stack([torch.rand(width, generator=generator) for generator in source])
