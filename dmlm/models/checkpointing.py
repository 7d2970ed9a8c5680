"""What the layers of a tower keep for the backward pass: everything, only matrix products, or only their inputs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.checkpoint import checkpoint

from dmlm.errors import ConfigError

_Selective = Literal["selective"]
Checkpointing = bool | _Selective
"""False: a layer keeps everything. True: its input only; the rest is computed again, a forward pass more.
``"selective"``: the results of its matrix products and attention; norms, activations, dropout and attention with
dropout are computed again, which costs little. Gradients are the same."""

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
        ConfigError: If ``value`` is not one of the three.
    """
    if not isinstance(value, bool) and value not in get_args(_Selective):
        msg = f"gradient_checkpointing must be true, false or selective, got '{value}'"
        raise ConfigError(msg)


def check_compiled(kind: Checkpointing) -> None:
    """Refuse to compile what keeps matrix products only: the compiler decides that by itself.

    Raises:
        ConfigError: If ``kind`` is ``"selective"``.
    """
    if kind == "selective":
        msg = "gradient_checkpointing selective does not go with model.compile all; use true, or compile losses"
        raise ConfigError(msg)


def checkpoint_options(kind: Checkpointing) -> dict[str, Any]:
    """Return the arguments with which ``torch.utils.checkpoint.checkpoint`` does it; ``kind`` is not False."""
    return {"use_reentrant": False, **({"context_fn": _keep_products} if kind == "selective" else {})}


def run_blocks(blocks: Iterable[nn.Module], tokens: Tensor, checkpointing: Checkpointing, *others: Tensor) -> Tensor:
    """Apply blocks one after the other, each as ``block(tokens, *others)``.

    Args:
        blocks: The blocks.
        tokens: ``(B, L, F)``.
        checkpointing: What a block keeps where gradients are taken.
        others: Further inputs, the same for every block.
    """
    again = checkpoint_options(checkpointing) if checkpointing and torch.is_grad_enabled() else None
    for block in blocks:
        tokens = block(tokens, *others) if again is None else checkpoint(block, tokens, *others, **again)
    return tokens


# torch's own selective checkpointing counts every operation and gives up where the second use of a layer under autocast
# finds weights in half precision that the first one left, but its recomputation does not. This one looks at products.


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Put the results of products aside, or give them in the same order instead of computing them again."""

    def __init__(self, kept: deque[Any], *, again: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept = kept
        self.again = again

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        product = _is_kept(func, args, kwargs or {})
        if product and self.again:
            if not self.kept:
                msg = "a layer with selective checkpointing can be run backwards once only"
                raise RuntimeError(msg)
            return self.kept.popleft()
        result = func(*args, **(kwargs or {}))
        if product:
            self.kept.append(tree_map_only(Tensor, Tensor.detach, result))
        return result


def _keep_products() -> tuple[TorchDispatchMode, TorchDispatchMode]:
    kept: deque[Any] = deque()
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
