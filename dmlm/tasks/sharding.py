"""Sharded pre-training: every process keeps a part of the weights, gradients, moments and teacher (torch's FSDP2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from dmlm.errors import CheckpointError
from dmlm.models.encoder import ProbabilisticEncoder
from dmlm.models.predictor import CrossModalPredictor
from dmlm.objectives import PretrainingObjective
from dmlm.objectives.distributed import is_sharded

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class Shardable(LightningModule, ABC):
    """A task that shards itself where the strategy brings a mesh (Lightning's ``ModelParallelStrategy``).

    While it evaluates, every process holds the whole weights: processes then compute unequally many batches without
    waiting for each other.
    """

    is_sharded = False

    @abstractmethod
    def shard_parts(self, mesh: DeviceMesh) -> None:
        """Shard the parts of the model over a one-dimensional mesh, in place."""

    def configure_model(self) -> None:
        """Shard the parts, once."""
        super().configure_model()
        if self.device_mesh is not None and not self.is_sharded:
            self.shard_parts(self.device_mesh["data_parallel"])
            self.is_sharded = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note whether shards wrote it (they cannot go on with an optimiser of others), and keep what is no weight."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["dmlm"]["sharded"] = self.is_sharded
        if self.is_sharded:  # the tokenizer: torch hands shards nothing but weights and buffers
            checkpoint["dmlm"]["extra_state"] = {name: part.get_extra_state() for name, part in _with_extra(self)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over what is no weight.

        Raises:
            CheckpointError: If shards would go on with the optimiser of a run that was not sharded: Lightning numbers
                its moments otherwise, and would give them to the wrong weights.
        """
        super().on_load_checkpoint(checkpoint)
        stamp = checkpoint.get("dmlm", {})
        if self.is_sharded and self.trainer.state.fn == "fit" and not stamp.get("sharded"):
            msg = "the checkpoint was not written by sharded training, which cannot go on with its optimiser: use DDP"
            raise CheckpointError(msg)
        kept = stamp.get("extra_state", {})
        for name, part in _with_extra(self) if self.is_sharded else ():
            if name in kept:
                part.set_extra_state(kept[name])

    def on_train_start(self) -> None:
        """Put what a resumed optimiser remembers into the order in memory of the weights."""
        super().on_train_start()
        optimizers = self.optimizers(use_pl_optimizer=False)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            match_layout(optimizer)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Give a gradient of 0 to what took no part in the step, as DDP has it (see ``distributed.idle``)."""
        super().on_before_optimizer_step(optimizer)
        if self.is_sharded:
            fill_gradients(self)

    def on_validation_start(self) -> None:
        """Make the weights whole, if they are sharded."""
        super().on_validation_start()
        if self.is_sharded:
            make_whole(self)

    def on_validation_end(self) -> None:
        """Shard them again."""
        super().on_validation_end()
        if self.is_sharded:
            make_sharded(self)

    def on_test_start(self) -> None:
        """Make the weights whole, if they are sharded."""
        super().on_test_start()
        if self.is_sharded:
            make_whole(self)

    def on_predict_start(self) -> None:
        """Make the weights whole, if they are sharded."""
        super().on_predict_start()
        if self.is_sharded:
            make_whole(self)


def shard(
    encoder: ProbabilisticEncoder, predictor: CrossModalPredictor, objective: PretrainingObjective, mesh: DeviceMesh
) -> None:
    """Shard what trains, and the teacher, over the processes of a mesh, in place.

    Units are the blocks of a ViT, the rest of the image tower, the text tower, the heads, the predictor and the
    anchors: each is whole on a process only while it computes. The text tower is one unit, because processes encode
    their texts in different numbers of groups (``length_groups``), and all must gather the same units in the same
    order. Numbers that are no vectors (scale and shift of alignment) are kept whole by all.

    Args:
        encoder: The encoder that trains.
        predictor: The predictor that trains.
        objective: Owner of the teacher, the anchors and the learned scale.
        mesh: One-dimensional mesh over all processes.
    """
    for tensor in _tensors(encoder, predictor, objective):
        tensor.data = tensor.data.contiguous()  # FSDP2 takes no other layout, and convolutions may have one
        dist.broadcast(tensor.data, 0)  # as DDP does: all start with the first process's
    for towers in (encoder, objective.teacher.encoder):
        if towers is not None:
            _shard_encoder(towers, mesh)
    _unit(predictor, mesh, "predict_text", "predict_image")
    if objective.anchor is not None:
        _unit(objective.anchor.token, mesh)
        _unit(objective.anchor.pixel, mesh)
    for name, parameter in list(objective.alignment.named_parameters()):
        setattr(objective.alignment, name, _replicated(parameter, mesh))


def fill_gradients(module: nn.Module) -> None:
    """Give every trainable parameter that has no gradient one of 0, so that optimisers treat it as under DDP."""
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def match_layout(optimizer: Optimizer) -> None:
    """Lay the moments of an optimiser out in memory as their parameters are.

    Shards are saved with rows innermost; convolutions have channels there. torch loads moments as they were saved, and
    its fused AdamW on the CPU goes through weights and moments side by side as they lie, without a look at the order.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            fits = isinstance(value, Tensor) and value.shape == parameter.shape
            if fits and _local(value).stride() != _local(parameter).stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _with_extra(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Parts with a state beside weights and buffers."""
    known = nn.Module.get_extra_state
    return ((name, part) for name, part in module.named_modules() if type(part).get_extra_state is not known)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined,no-any-return]


def make_whole(module: nn.Module) -> None:
    """Gather all units and keep them whole, until :func:`make_sharded`."""
    for unit in _units(module):
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()


def make_sharded(module: nn.Module) -> None:
    """Undo :func:`make_whole`."""
    for unit in _units(module):
        unit.set_reshard_after_forward(True, recurse=False)
        unit.reshard()


def _shard_encoder(encoder: ProbabilisticEncoder, mesh: DeviceMesh) -> None:
    for block in getattr(getattr(encoder.image, "model", None), "blocks", ()):
        _unit(block, mesh)
    for part in (encoder.image, encoder.text, encoder.image_head, encoder.text_head):
        _unit(part, mesh)


def _unit(module: nn.Module, mesh: DeviceMesh, *methods: str) -> None:
    """Make a module a unit of its own; ``methods`` are called beside ``forward``."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    fully_shard(module, mesh=mesh, reshard_after_forward=True)
    for method in methods:
        register_fsdp_forward_method(module, method)


def _units(module: nn.Module) -> Iterator[Any]:
    from torch.distributed.fsdp import FSDPModule

    return (part for part in module.modules() if isinstance(part, FSDPModule))


def _replicated(parameter: nn.Parameter, mesh: DeviceMesh) -> nn.Parameter:
    """Make a parameter one of DTensor's that every process has all of: optimisers refuse a mixture of kinds."""
    from torch.distributed.tensor import Replicate, distribute_tensor

    return nn.Parameter(distribute_tensor(parameter.detach(), mesh, [Replicate()]), parameter.requires_grad)


def _tensors(*modules: nn.Module) -> Iterator[Tensor]:
    for module in modules:
        yield from module.parameters()
        yield from module.buffers()
