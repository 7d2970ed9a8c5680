"""Checkpoints that are whole or not there, wherever the process is killed and whatever the disk refuses."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Trainer

from dmlm.io.atomic import atomic_path, naming


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its target and rename it.

    Lightning's own way goes through the system's folder of temporary files and moves the file from there: on another
    disk that is a copy, and a process that is killed during it leaves half a ``last.ckpt`` in the place of a whole one.
    It also holds the whole file in memory once more.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:  # noqa: ANN401
        """Write a checkpoint.

        Args:
            checkpoint: What Lightning saves.
            path: Where to; an address of object storage goes Lightning's way.
            storage_options: Not used.

        Raises:
            OSError: If the disk is full or forbids it; the old file, if there was one, stays.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        try:
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except RuntimeError as error:  # what torch's zip writer raises after the system's error
            with naming(path):
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
            raise


def save_atomically(trainer: Trainer) -> None:
    """Let a trainer write its checkpoints atomically, unless it was given a way of its own."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
