"""Selective checkpointing: results of matrix products and attention are put aside, everything else is computed again.

torch's own counts every operation and gives up where the second use of a layer under autocast finds weights in half
precision that the first one left, but its recomputation does not. This one looks at products.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")
_ATTENTION = (
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Put the results of products aside, or give them in the same order instead of computing them again.

    A result that the layer writes into is computed again: what was put aside is then no longer the product.
    """

    def __init__(self, kept: list[tuple[Any, int] | None], *, again: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept, self.again, self.place = kept, again, 0

    def __enter__(self) -> _Products:
        self.place = 0  # a graph that is retained may be run backwards again
        return super().__enter__()  # type: ignore[no-untyped-call,no-any-return]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        # every operation of a layer comes through here, so that what is no product must not cost much
        kwargs = kwargs or {}
        if not _is_kept(func, args, kwargs):
            if not self.again:
                for written in _written(func, args, kwargs):
                    self._forget(written)
            return func(*args, **kwargs)
        if not self.again:
            result = func(*args, **kwargs)
            self.kept.append((_detached(result), _version(result)))
            return result
        kept = self.kept[self.place] if self.place < len(self.kept) else None  # torch reports a layer that differs
        self.place += 1
        if kept is None or _version(kept[0]) != kept[1]:  # written into in the layer, or after it
            return func(*args, **kwargs)
        return _detached(kept[0])

    def _forget(self, written: Tensor) -> None:
        """Let go of results that share memory with what is written into; not all of them share its version."""
        memory = written.untyped_storage()._cdata
        for place, kept in enumerate(self.kept):
            if kept is not None and any(part.untyped_storage()._cdata == memory for part in _parts(kept[0])):
                self.kept[place] = None


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:  # noqa: ANN401
    """Tensors that an operation writes into."""
    found = (args[place] if place < len(args) else kwargs.get(name) for place, name in _writes(func))
    return [one for each in found for one in (each if isinstance(each, (list, tuple)) else (each,)) if one is not None]


@cache
def _writes(func: Any) -> tuple[tuple[int, str], ...]:  # noqa: ANN401
    arguments = enumerate(func._schema.arguments)
    return tuple((i, each.name) for i, each in arguments if each.alias_info is not None and each.alias_info.is_write)


def _parts(result: Any) -> list[Tensor]:  # noqa: ANN401 - a tensor, or what attention returns
    return [part for part in (result if isinstance(result, tuple) else (result,)) if isinstance(part, Tensor)]


def _version(result: Any) -> int:  # noqa: ANN401
    """How often a result was written into."""
    return sum(part._version for part in _parts(result))


def _detached(result: Any) -> Any:  # noqa: ANN401
    # as it is, a result would hold on to its graph; below autograd, a detached one would count writes on its own
    with torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.ADInplaceOrView, False):
        if isinstance(result, Tensor):
            return result.detach()
        return tuple(part.detach() if isinstance(part, Tensor) else part for part in result)


def keep_products() -> tuple[TorchDispatchMode, TorchDispatchMode]:
    """Return what a layer runs under when it is first computed, and when it is computed again."""
    kept: list[tuple[Any, int] | None] = []
    return _Products(kept, again=False), _Products(kept, again=True)


def _is_kept(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:  # noqa: ANN401 - an operation of torch
    """Whether the result of an operation is put aside.

    Attention that drops weights is computed again: left out, it would draw no random numbers, and the dropout after it
    would then hide other elements than in the forward pass.
    """
    operations = _operations()
    if func not in operations:
        return False
    place = operations[func]
    return place is None or not kwargs.get("dropout_p", args[place] if len(args) > place else 0.0)


@cache
def _operations() -> dict[Any, int | None]:
    """Operations whose results may be put aside, and which of their arguments is a rate of dropout."""
    found: dict[Any, int | None] = {}
    for name in (*_PRODUCTS, *_ATTENTION):
        if hasattr(torch.ops.aten, name):
            func = getattr(torch.ops.aten, name).default
            names = [argument.name for argument in func._schema.arguments]
            found[func] = names.index("dropout_p") if "dropout_p" in names else None
    return found
