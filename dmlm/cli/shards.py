"""Refuse, before a run starts, what sharded training (Lightning's ``ModelParallelStrategy``) cannot do."""

from __future__ import annotations

from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy

from dmlm.cli.checkpoint import CheckpointSource
from dmlm.errors import ConfigError
from dmlm.tasks.sharding import Shardable


def check_shards(strategy: Strategy, model: LightningModule, resumed: CheckpointSource | None) -> None:
    """Check a run before it starts.

    Args:
        strategy: The trainer's.
        model: The task.
        resumed: What a ``fit`` resumes, if it does.

    Raises:
        ConfigError: If the task cannot be sharded, or the checkpoint was not written by shards.
    """
    if not isinstance(strategy, ModelParallelStrategy):
        return
    if not isinstance(model, Shardable):
        msg = f"{type(model).__name__} cannot be sharded, only DMLMPretrainModule can: use --trainer.strategy ddp"
        raise ConfigError(msg)
    if resumed is not None and not resumed.sharded:  # Lightning numbers moments otherwise, and would mix them up
        msg = (
            f"{resumed.path} was not written by sharded training, which cannot go on with its optimiser: resume "
            "it with --trainer.strategy ddp, or start a new run with "
            f"--model.encoder dmlm.models.from_pretrained --model.encoder.path {resumed.path}"
        )
        raise ConfigError(msg)
