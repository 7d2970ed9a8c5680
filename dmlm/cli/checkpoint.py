"""``--ckpt PATH`` as a source of configuration and of weights.

Precedence, later wins: defaults, the checkpoint's data, configuration files, the checkpoint's model, flags. Lightning's
own treatment lets the checkpoint win over flags and replaces the class that the configuration names.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from dmlm.errors import CheckpointError, ConfigError
from dmlm.io.checkpoints import is_sharded, one_line_mismatch, read_checkpoint
from dmlm.models.pretrained import from_pretrained
from dmlm.tasks.base import TaskModule, recorded_class
from dmlm.tasks.optim import OptimConfig
from dmlm.tasks.trained_alignment import TrainedAlignment, read_alignment, recorded_alignment

_PARTS = ("encoder", "predictor")
"""What another task may take: the encoder, and the predictor where both tasks have one."""


class CheckpointSource:
    """A checkpoint file, read without running code from it.

    Args:
        path: A ``.ckpt`` file.

    Raises:
        CheckpointError: If it cannot be read or was not written by a dmlm task.
    """

    def __init__(self, path: str) -> None:
        checkpoint = read_checkpoint(path)
        self.path = path
        self.sharded = bool(checkpoint.get("dmlm", {}).get("sharded"))
        self.task_class = recorded_class(checkpoint, path)
        self.alignment = recorded_alignment(checkpoint)
        self._model = _section(checkpoint.get("hyper_parameters"))
        self._data = _section(checkpoint.get("datamodule_hyper_parameters"))
        self._weights: dict[str, Any] = checkpoint["state_dict"]

    @staticmethod
    def is_file(value: str) -> bool:
        """Whether ``--ckpt`` names a file to read; ``hpc``, addresses and sharded folders are Lightning's own affair.

        Its words ``last`` and ``best`` mean files of this process, of which a command that starts has none.

        Raises:
            CheckpointError: If it looks like a path and nothing is there, or a folder that is no checkpoint.
        """
        if value == "hpc" or "://" in value or value.startswith("registry") or is_sharded(Path(value)):
            return False
        if not Path(value).is_file():
            read_checkpoint(value)  # raises, with a hint
        return True

    @property
    def data_paths(self) -> tuple[str, ...]:
        """Texts among the recorded options of the data that may be paths relative to where that run was started."""
        values = self._data.get("init_args", {}).values()
        return tuple(value for value in values if isinstance(value, str) and value and not Path(value).is_absolute())

    def low(self, asked_data: str | None = None) -> list[str]:
        """Configuration that loses against files: the checkpoint's data, unless another data class is asked for.

        Another class takes nothing over, because a ``root`` or a ``label_fraction`` of one data set would silently be
        used for the other.
        """
        if not self._data or (asked_data is not None and asked_data != self._data["class_path"]):
            return []
        return [json.dumps({"data": self._data})]

    def model(self) -> str:
        """Configuration of the whole model."""
        return json.dumps({"model": self._model})

    def encoder_for(self, asked: type) -> str:
        """Configuration of a task of another class: the class that was asked for, with this checkpoint's encoder."""
        path = f"{asked.__module__}.{asked.__qualname__}"
        arguments = self._model["init_args"]
        parts = {name: arguments[name] for name in _PARTS if _takes(asked, name) and arguments.get(name) is not None}
        return json.dumps({"model": {"class_path": path, "init_args": parts}})

    def check_gives_encoder(self, asked: object, verb: str) -> type[TaskModule]:
        """Return ``asked`` if this checkpoint of another task may lend it its encoder.

        Raises:
            CheckpointError: If it may not; the message has the command that does what was probably meant.
        """
        mine = self.task_class.__name__
        name = getattr(asked, "__name__", str(asked))
        start = f"`dmlm fit --model.encoder dmlm.models.from_pretrained --model.encoder.path {self.path}`"
        if not (isinstance(asked, type) and issubclass(asked, TaskModule) and asked.accepts_encoder_checkpoint):
            msg = f"{self.path} holds a {mine}; {name} has a head to train first: use {start}"
            raise CheckpointError(msg)
        if verb == "fit":
            msg = f"{self.path} holds a {mine}, from which a {name} cannot resume; to start a new run use {start}"
            raise CheckpointError(msg)
        if not isinstance(self._model["init_args"].get("encoder"), Mapping):
            msg = f"{self.path} holds a {mine}, which has no encoder that a {name} could use"
            raise CheckpointError(msg)
        return asked

    def check_keeps_optimiser(self, optim: Mapping[str, Any] | None) -> None:
        """Refuse other rates in a resumed run: the optimiser's state, which goes on, has those of its start.

        Args:
            optim: What the options come to; values that the checkpoint does not record are not compared.

        Raises:
            ConfigError: If it differs from the checkpoint's.
        """
        recorded = self._model["init_args"].get("optim")
        if not isinstance(recorded, Mapping) or optim is None:
            return
        mine = OptimConfig(**{**optim, **recorded})
        asked = OptimConfig(**optim)
        other = [field.name for field in fields(OptimConfig) if getattr(mine, field.name) != getattr(asked, field.name)]
        if other:
            msg = (
                f"{self.path}: optim.{other[0]} is {getattr(mine, other[0])} there, not {getattr(asked, other[0])}: a "
                "resumed run keeps its optimiser; leave --model.optim... out, or start a new run from the weights with "
                f"--model.encoder dmlm.models.from_pretrained --model.encoder.path {self.path}"
            )
            raise ConfigError(msg)

    def load_parts(self, model: nn.Module) -> None:
        """Load the weights of the encoder, and of the predictor where both have one, strictly by prefix.

        Raises:
            CheckpointError: If keys or shapes differ.
        """
        for name in _PARTS:
            part = getattr(model, name, None)
            prefix = f"{name}."
            weights = {key[len(prefix) :]: value for key, value in self._weights.items() if key.startswith(prefix)}
            if not isinstance(part, nn.Module) or (name != "encoder" and not weights):
                continue
            try:
                part.load_state_dict(weights, strict=True)
            except RuntimeError as error:
                msg = f"{self.path}: {name} does not fit this configuration: {one_line_mismatch(error)}"
                raise CheckpointError(msg) from error


def adopt_alignment(model: Any, lender: CheckpointSource | None) -> None:  # noqa: ANN401 - jsonargparse's namespace
    """Tell a task that scores by distances which one its encoder was trained with, and the scale that it learned.

    Only where the options say nothing of it. It becomes a part of the configuration, so that ``config.yaml`` shows it.

    Args:
        model: Configuration of the task; changed in place.
        lender: The checkpoint of ``--ckpt`` if it lends its encoder; else a pre-trained encoder may be named.
    """
    options = TrainedAlignment._fields
    if not model or not all(_takes(class_of(model["class_path"]), option) for option in options):
        return
    arguments = model["init_args"]
    found = lender.alignment if lender is not None else _alignment_of(arguments.get("encoder"))
    for option, value in {} if found is None else found._asdict().items():
        if arguments.get(option) is None:
            arguments[option] = value


def _alignment_of(encoder: Any) -> TrainedAlignment | None:  # noqa: ANN401
    """Return how an encoder that the configuration takes from a file was aligned."""
    path = None if encoder is None else encoder.get("class_path")
    if path is None or class_of(path) is not from_pretrained:
        return None
    try:
        return read_alignment(str(encoder["init_args"]["path"]))
    except CheckpointError:  # building the encoder says what is wrong with the file
        return None


def class_of(path: str) -> object:
    """Return the class (or function) of a dotted path that the parser has already accepted."""
    module, _, name = path.rpartition(".")
    owner: object = import_module(module)
    return getattr(owner, name)


def _section(recorded: object) -> dict[str, Any]:
    """Turn Lightning's recorded arguments into ``{"class_path": ..., "init_args": ...}``; {} if there are none."""
    if not isinstance(recorded, Mapping) or "_class_path" not in recorded:
        return {}
    arguments = {key: value for key, value in recorded.items() if key not in ("_class_path", "_instantiator")}
    return {"class_path": recorded["_class_path"], "init_args": arguments}


def _takes(cls: Any, argument: str) -> bool:  # noqa: ANN401 - a class
    return argument in inspect.signature(cls).parameters
