"""Large batches in little memory: encoders and predictor compute chunk by chunk and keep no activations.

The alignment compares every image with every text of the batch, so the gradients of small batches cannot just be added
up. Here a batch is encoded in chunks without keeping their activations, the loss is computed on the distributions of
the whole batch, and each chunk is encoded again when its gradient is due: the gradient of the large batch exactly, at
the memory of one chunk and one more forward pass (the cached gradients of Gao et al., RepL4NLP 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dmlm.distributions import Gaussian
from dmlm.models.checkpointing import computed_again
from dmlm.models.tokens import TokenBatch

_ROW_BY_ROW = ("encode_image", "encode_text", "image_global", "text_global", "predict_image", "predict_text")


class InChunks:
    """Stand-in of an encoder or predictor that computes its batches in chunks; everything else is the module's own.

    Args:
        module: A :class:`dmlm.models.ProbabilisticEncoder` or :class:`dmlm.models.CrossModalPredictor`. What it does
            with one row must not depend on the others: no batch normalisation in training mode.
        size: Rows of a chunk.
    """

    def __init__(self, module: nn.Module, size: int) -> None:
        self._module, self._size = module, size

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the module has
        value = getattr(self._module, name)
        return partial(in_chunks, value, self._size) if name in _ROW_BY_ROW else value


def chunked_like(reader: Any, module: nn.Module) -> Any:  # noqa: ANN401 - a module, or the stand-in of one
    """Let ``module`` compute in the chunks that ``reader`` computes in; as it is where ``reader`` is no stand-in."""
    return InChunks(module, reader._size) if isinstance(reader, InChunks) else module


def in_chunks(function: Callable[..., Gaussian], size: int, *arguments: Any, **named: Any) -> Gaussian:  # noqa: ANN401
    """Call ``function`` on chunks of its batch and put the results together; activations are computed again if needed.

    Args:
        function: Takes tensors, Gaussians and token batches of ``B`` rows, and anything else, which is passed as it is.
        size: Rows of a chunk.
        arguments: Positional arguments; the first one has ``B`` rows.
        named: Arguments by name.

    Returns:
        Gaussian of ``B`` rows, equal to that of one call.
    """
    count = len(arguments[0])
    if count <= size:
        return function(*arguments, **named)
    parts = []
    for start in range(0, count, size):
        rows = slice(start, start + size)
        taken = [_cut(argument, rows) for argument in arguments]
        chosen = {name: _cut(argument, rows) for name, argument in named.items()}
        if torch.is_grad_enabled():
            parts.append(checkpoint(_computed_again, function, *taken, use_reentrant=False, **chosen))
        else:
            parts.append(function(*taken, **chosen))
    return Gaussian(torch.cat([part.mean for part in parts]), torch.cat([part.logvar for part in parts]))


def _computed_again(function: Callable[..., Gaussian], *arguments: Any, **named: Any) -> Gaussian:  # noqa: ANN401
    with computed_again():
        return function(*arguments, **named)


def _cut(argument: Any, rows: slice) -> Any:  # noqa: ANN401
    if isinstance(argument, TokenBatch):
        return argument.rows(rows)
    if isinstance(argument, Gaussian):
        return Gaussian(argument.mean[rows], argument.logvar[rows])
    return argument[rows] if isinstance(argument, Tensor) else argument
