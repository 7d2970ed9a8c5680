"""Collectives of the losses: gather with gradient, and means over what all processes hold."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def world_size() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process; 0 without a process group."""
    return dist.get_rank() if world_size() > 1 else 0


def gather(tensor: Tensor) -> Tensor:
    """Concatenate a tensor of all processes along its first axis, in rank order, with gradient.

    Every process then computes the same global loss; the gradient of an element is the sum over processes, so that
    the average that DDP takes equals the gradient of one process with the concatenated batch.

    Args:
        tensor: Equal shape on every process.
    """
    return tensor if world_size() == 1 else _Gather.apply(tensor)  # type: ignore[no-any-return]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # noqa: ANN401
        ctx.rows = len(tensor)
        parts = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        return gradient[rank() * ctx.rows : (rank() + 1) * ctx.rows]


def whole(parameter: Tensor) -> Tensor:
    """Return a parameter as a plain tensor, with gradient; sharded training keeps it as one of DTensor's."""
    return parameter.full_tensor() if is_sharded(parameter) else parameter  # type: ignore[attr-defined,no-any-return]


def is_sharded(parameter: Tensor) -> bool:
    """Whether a parameter belongs to sharded training."""
    return hasattr(parameter, "full_tensor")  # isinstance would import torch.distributed.tensor in every process


def idle(*modules: nn.Module) -> Tensor | float:
    """Return 0 with a gradient of 0 for every parameter of modules that take no part in a step.

    DDP waits for every parameter at every step. Sharded parameters need no such thing and cannot be summed here.
    """
    waiting = [parameter for module in modules for parameter in module.parameters() if not is_sharded(parameter)]
    return torch.stack([0.0 * parameter.sum() for parameter in waiting]).sum() if waiting else 0.0


def masked_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of ``values`` where ``weight`` is set, over the elements of all processes.

    Each process returns its own sum over the global mean count, so that the average over processes (which DDP takes
    of the gradients) is the global mean. Nothing set anywhere gives 0 with a gradient of 0, never NaN.

    Args:
        values: ``(...)`` float.
        weight: Same shape, bool.
    """
    weight = weight.to(values.dtype)
    count = weight.sum()
    if world_size() > 1:
        dist.all_reduce(count)
        count = count / world_size()
    return torch.where(weight > 0, values, torch.zeros_like(values)).sum() / count.clamp_min(1e-6)


def mean_over_processes(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean of each scalar over all processes, by one collective; every process must call it with the same names."""
    if world_size() == 1 or not values:
        return values
    stacked = torch.stack([value.detach().float().reshape(()) for value in values.values()])
    dist.all_reduce(stacked)
    return dict(zip(values, (stacked / world_size()).unbind(), strict=True))
