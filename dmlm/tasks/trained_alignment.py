"""How images and texts were aligned in the pre-training that an encoder comes from, as its file records it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dmlm.errors import ConfigError
from dmlm.io.checkpoints import read_checkpoint
from dmlm.models.zero_shot import Distance
from dmlm.objectives.alignment import AlignmentLoss

_SCALE = "objective.alignment.log_scale"


class TrainedAlignment(NamedTuple):
    """What zero-shot scores take over from pre-training; the names are those of ``ZeroShotModule``'s options.

    Args:
        trained_distance: Distance that alignment trained with.
        scale: Scale that it learned.
    """

    trained_distance: Distance
    scale: float


UNKNOWN = TrainedAlignment("w2", 7.14)
"""What is assumed where nothing is recorded: the default alignment, as it starts."""


def recorded_alignment(checkpoint: Mapping[str, Any]) -> TrainedAlignment | None:
    """Return how the run of a checkpoint aligned; None if it does not say, as that of another task.

    Args:
        checkpoint: What :func:`dmlm.io.checkpoints.read_checkpoint` returned.
    """
    objective = (checkpoint.get("hyper_parameters") or {}).get("objective")
    log_scale = checkpoint["state_dict"].get(_SCALE)
    if not isinstance(objective, Mapping) or "alignment" not in objective or log_scale is None:
        return None
    try:
        # the loss itself knows its distance and the limit of its scale
        alignment = AlignmentLoss(objective["alignment"], scale_max=float(objective.get("scale_max", 50.0)))
        alignment.load_state_dict({"log_scale": log_scale}, strict=False)
    except (ConfigError, TypeError, ValueError, RuntimeError):  # a task of someone else, with an objective of its own
        return None
    return TrainedAlignment(alignment.distance, float(alignment.scale.detach()))


def read_alignment(path: str | os.PathLike[str]) -> TrainedAlignment | None:
    """Return how an encoder was aligned; None if its file does not say.

    Args:
        path: What :func:`dmlm.models.from_pretrained` takes: the ``.ckpt`` of a run, or a folder; ``dmlm export``
            records it there.

    Raises:
        CheckpointError: If a checkpoint cannot be read.
    """
    place = Path(path)
    if not place.is_dir():
        return recorded_alignment(read_checkpoint(place))
    try:
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
        return TrainedAlignment(config["trained_distance"], float(config["scale"]))
    except (OSError, ValueError, KeyError, TypeError):  # an older folder; what is wrong with it, its reader says
        return None
