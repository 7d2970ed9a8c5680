"""What the layers of a tower keep for the backward pass: everything, only matrix products, or only their inputs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.checkpoint import checkpoint

from dmlm.errors import ConfigError

_Named = Literal["auto", "selective"]
Checkpointing = bool | _Named
"""False: a layer keeps everything. True: its input only; the rest is computed again, a forward pass more.
``"selective"``: the results of its matrix products and attention; norms, activations, dropout and attention with
dropout are computed again, which costs little. ``"auto"``: selective where layers are at least 384 wide and torch
compiles nothing, else everything. Gradients are the same."""

_WIDE = 384
"""From here on the memory is worth it: what selective checkpointing does in Python per operation stays the same, while
the operations of narrower layers are themselves that quick."""

_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")
_ATTENTION = (
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)


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


def resolve(kind: Checkpointing, width: int) -> bool | Literal["selective"]:
    """Return what ``"auto"`` means for layers of this width; everything else is returned as it is."""
    if kind != "auto":
        return kind
    return "selective" if width >= _WIDE and not torch.compiler.is_compiling() else False


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


def run(function: Callable[..., Any], kind: Checkpointing, width: int, *arguments: Any) -> Any:  # noqa: ANN401
    """Call ``function(*arguments)``, and keep for its backward pass what ``kind`` says.

    Args:
        function: A layer, or what computes as one does.
        kind: What it keeps where gradients are taken.
        width: Its width.
        arguments: Its inputs.
    """
    kind = resolve(kind, width)
    if not (kind and torch.is_grad_enabled()) or (kind == "selective" and _surroundings.computed_again):
        return function(*arguments)
    options: dict[str, Any] = {"context_fn": _keep_products} if kind == "selective" else {}
    return checkpoint(function, *arguments, use_reentrant=False, **options)


def run_blocks(blocks: Iterable[nn.Module], tokens: Tensor, checkpointing: Checkpointing, *others: Tensor) -> Tensor:
    """Apply blocks one after the other, each as ``block(tokens, *others)``; see :func:`run`.

    Args:
        blocks: The blocks.
        tokens: ``(B, L, F)``.
        checkpointing: What a block keeps where gradients are taken.
        others: Further inputs, the same for every block.
    """
    for block in blocks:
        tokens = run(block, checkpointing, tokens.shape[-1], tokens, *others)
    return tokens


class _Surroundings(threading.local):
    computed_again = False


_surroundings = _Surroundings()


# torch's own selective checkpointing counts every operation and gives up where the second use of a layer under autocast
# finds weights in half precision that the first one left, but its recomputation does not. This one looks at products.


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Put the results of products aside, or give them in the same order instead of computing them again."""

    def __init__(self, kept: list[Any], *, again: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept = kept
        self.again = again
        self.place = 0

    def __enter__(self) -> _Products:
        self.place = 0  # a graph that is retained may be run backwards again
        return super().__enter__()  # type: ignore[no-untyped-call,no-any-return]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        product = _is_kept(func, args, kwargs or {})
        if product and self.again:
            self.place += 1
            return _detached(self.kept[self.place - 1])  # as it is, it would hold on to this graph
        result = func(*args, **(kwargs or {}))
        if product:
            self.kept.append(_detached(result))
        return result


def _detached(result: Any) -> Any:  # noqa: ANN401 - a tensor, or what attention returns
    return tree_map_only(Tensor, Tensor.detach, result)


def _keep_products() -> tuple[TorchDispatchMode, TorchDispatchMode]:
    kept: list[Any] = []
    return _Products(kept, again=False), _Products(kept, again=True)


def _is_kept(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:  # noqa: ANN401 - an operation of torch
    """Whether the result of an operation is put aside.

    Attention that drops weights is computed again: left out, it would draw no random numbers, and the dropout after it
    would then hide other elements than in the forward pass.
    """
    if func not in _operations():
        return False
    place = _operations()[func]
    return place is None or not kwargs.get("dropout_p", args[place] if len(args) > place else 0.0)


@lru_cache(maxsize=1)
def _operations() -> dict[Any, int | None]:
    """Operations whose results may be put aside, and which of their arguments is a rate of dropout."""
    found: dict[Any, int | None] = {}
    for name in (*_PRODUCTS, *_ATTENTION):
        if hasattr(torch.ops.aten, name):
            func = getattr(torch.ops.aten, name).default
            names = [argument.name for argument in func._schema.arguments]
            found[func] = names.index("dropout_p") if "dropout_p" in names else None
    return found
