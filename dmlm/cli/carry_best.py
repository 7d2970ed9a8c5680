"""A resumed run remembers the best weights of the run that it goes on with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn

from dmlm.io.atomic import atomic_path


class CarryBest(Callback):
    """Copy the best checkpoints of a resumed run into its new folder, with their scores.

    A resumed run has a new folder, and Lightning's ``ModelCheckpoint`` forgets its best score where the folder is
    another one: the best of the *remaining* epochs would be tested, so that a run that was killed late would give other
    numbers than an unbroken one.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Rewrite what the checkpoint says of kept files, before the callbacks read it."""
        if trainer.state.fn != "fit":
            return
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint["callbacks"].get(callback.state_key)
            if state and isinstance(callback, ModelCheckpoint) and callback.monitor is not None and callback.dirpath:
                _carry(trainer, str(callback.dirpath), state)


def _carry(trainer: Trainer, folder: str, state: dict[str, Any]) -> None:
    kept = list(state["best_k_models"])
    if not kept:
        return
    found = {path: _find(trainer, path) for path in kept}
    missing = [path for path, source in found.items() if source is None]
    if missing:
        rank_zero_warn(f"dmlm: {missing[0]} is gone; the best weights are those of the epochs from here on")
        state.update(best_model_path="", dirpath=None)  # of another folder: Lightning starts to choose anew
        return
    # as a string: Lightning compares the folder letter by letter, and a Path would lose a leading ./
    moved = {path: os.path.join(folder, Path(path).name) for path in kept}  # noqa: PTH118
    if trainer.is_global_zero:
        for path, source in found.items():
            if source is not None and source.resolve() != Path(moved[path]).resolve():
                with atomic_path(moved[path]) as temporary:
                    shutil.copyfile(source, temporary)
    trainer.strategy.barrier()
    state["dirpath"] = folder
    state["best_k_models"] = {moved[path]: score for path, score in state["best_k_models"].items()}
    for name in ("best_model_path", "kth_best_model_path"):
        state[name] = moved.get(state[name], state[name])
    state["last_model_path"] = ""


def _find(trainer: Trainer, path: str) -> Path | None:
    """Find a kept file where it was written, or beside the checkpoint that is read (run folders are moved)."""
    beside = [Path(str(trainer.ckpt_path)).parent / Path(path).name] if trainer.ckpt_path else []
    return next((place for place in [*beside, Path(path)] if place.is_file()), None)
