"""What the layers of a tower keep for the backward pass: everything, only matrix products, or only their inputs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dmlm.errors import ConfigError
from dmlm.models.products import keep_products

_Named = Literal["auto", "selective"]
Checkpointing = bool | _Named
"""False: a layer keeps everything. True: its input only; the rest is computed again, a forward pass more.
``"selective"``: the results of its matrix products and attention; norms, activations, dropout and attention with
dropout are computed again, which costs little. ``"auto"``: selective where it is worth it, else everything: in training
for layers at least 384 wide, all of whose weights train, that get many elements and are not compiled. Gradients
are the same, and what hooks on the parts of a layer see is computed twice."""

_WIDE, _MANY = 384, 2**18
"""What selective checkpointing does in Python costs the same for every operation, so that operations must take their
time: layers of this width, whose inputs have this many values (683 tokens of 384)."""


def check_checkpointing(value: object) -> None:
    """Refuse what is no way of checkpointing.

    Raises:
        ConfigError: If ``value`` is not one of the four.
    """
    if not isinstance(value, bool) and value not in get_args(_Named):
        msg = f"gradient_checkpointing must be auto, true, false or selective, got '{value}'"
        raise ConfigError(msg)


def check_compiled(kind: Checkpointing) -> None:
    """Refuse to compile what keeps matrix products only: the compiler decides that by itself.

    Raises:
        ConfigError: If ``kind`` is ``"selective"``.
    """
    if kind == "selective":
        msg = "gradient_checkpointing selective does not go with model.compile all; use true, or compile losses"
        raise ConfigError(msg)


@contextmanager
def computed_again() -> Iterator[None]:
    """Let layers keep everything instead of their products, inside of what is itself computed again.

    What surrounds them lets go of everything that autograd would keep, but not of products that were put aside.
    """
    before = _surroundings.computed_again
    _surroundings.computed_again = True
    try:
        yield
    finally:
        _surroundings.computed_again = before


def run(function: Callable[..., Any], kind: Checkpointing, layer: nn.Module, features: Tensor, *others: Any) -> Any:  # noqa: ANN401
    """Call ``function(features, *others)``, and keep for its backward pass what ``kind`` says.

    Args:
        function: A layer, or what computes as one does.
        kind: What it keeps where gradients are taken.
        layer: The module whose weights it uses.
        features: ``(..., F)``.
        others: Further inputs.
    """
    if kind == "auto":
        kind = "selective" if _is_worth_it(layer, features) else False
    if not (kind and torch.is_grad_enabled()) or (kind == "selective" and _surroundings.computed_again):
        return function(features, *others)
    options: dict[str, Any] = {"context_fn": keep_products} if kind == "selective" else {}
    return checkpoint(function, features, *others, use_reentrant=False, **options)


def run_blocks(blocks: Iterable[nn.Module], tokens: Tensor, checkpointing: Checkpointing, *others: Tensor) -> Tensor:
    """Apply blocks one after the other, each as ``block(tokens, *others)``; see :func:`run`.

    Args:
        blocks: The blocks.
        tokens: ``(B, L, F)``.
        checkpointing: What a block keeps where gradients are taken.
        others: Further inputs, the same for every block.
    """
    for block in blocks:
        tokens = run(block, checkpointing, block, tokens, *others)
    return tokens


def _is_worth_it(layer: nn.Module, features: Tensor) -> bool:
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False  # compilers decide by themselves, and torch.func refuses saved-tensor hooks
    if not layer.training or features.shape[-1] < _WIDE or features.numel() < _MANY:
        return False
    if getattr(layer, "_compiled_call_impl", None) is not None:
        return False
    # autograd keeps less of frozen weights than their products take
    return all(parameter.requires_grad for parameter in layer.parameters())


class _Surroundings(threading.local):
    computed_again = False


_surroundings = _Surroundings()
