"""Save an encoder as a folder and load it from a folder or a training checkpoint."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dmlm._config import build
from dmlm.errors import CheckpointError
from dmlm.io.atomic import atomic_path, write_json, write_text
from dmlm.io.checkpoints import about_folder, check_format, format_stamp, read_checkpoint
from dmlm.models.encoder import ProbabilisticEncoder


def save_pretrained(encoder: ProbabilisticEncoder, folder: str | os.PathLike[str], **facts: Any) -> Path:  # noqa: ANN401
    """Write ``config.json``, ``model.safetensors`` and ``tokenizer.json``.

    The tokenizer also lies inside ``model.safetensors``; the separate file is for other tools. ``config.json`` is
    written last, so that a folder that has it is complete.

    Args:
        encoder: What to save.
        folder: Where to; made if missing.
        facts: Further plain data for ``config.json``, e.g. where the weights come from.

    Returns:
        The folder.

    Raises:
        OSError: If the disk is full or forbids it; files of these names that were there stay as they are.
    """
    folder = Path(folder)
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in encoder.state_dict().items()}
    _save_weights(state, folder / "model.safetensors")
    tokenizer = state.get("text._extra_state")
    if tokenizer is not None and tokenizer.numel():
        write_text(folder / "tokenizer.json", json.loads(tokenizer.numpy().tobytes())["tokenizer"])
    write_json(folder / "config.json", {"dmlm": format_stamp(), **encoder.config, **facts})
    return folder


def from_pretrained(path: str) -> ProbabilisticEncoder:
    """Load an encoder, in evaluation mode, to start something new from it.

    Usable as ``class_path: dmlm.models.from_pretrained`` wherever a configuration asks for an encoder. It needs nothing
    but the file: no network, and not the file that the encoder was once trained from.

    Args:
        path: A folder that :func:`save_pretrained` wrote, or the ``.ckpt`` of a run.

    Raises:
        CheckpointError: If the file is missing, damaged, of a newer format, or holds no encoder.
    """
    place = Path(path)
    if place.is_dir():
        config, state = _read_folder(place)
    elif place.is_file():
        config, state = _read_checkpoint(place)
    else:
        msg = f"no encoder at '{path}': expected a folder with config.json and model.safetensors, or a .ckpt file"
        raise CheckpointError(msg)
    encoder: ProbabilisticEncoder = build(config, ProbabilisticEncoder, str(path))
    load_strictly(encoder, state, str(path))
    return encoder.eval()


def load_strictly(module: torch.nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict that must fit exactly.

    Raises:
        CheckpointError: If keys are missing or unexpected, or shapes differ; the first five are named.
    """
    try:
        result = module.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
        msg = f"{source}: weights do not fit the model: {'; '.join(lines[:5])}"
        raise CheckpointError(msg) from error
    for kind, keys in (("lacks", result.missing_keys), ("has unexpected", result.unexpected_keys)):
        if keys:
            more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
            msg = f"{source}: {kind} weights {', '.join(keys[:5])}{more}; it was written for another model or version"
            raise CheckpointError(msg)


def _save_weights(state: dict[str, Tensor], target: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_path(target) as path:
        try:
            save_file(state, path, metadata={"format": "pt"})
        except SafetensorError as error:  # no OSError, also where the system refused
            refused = re.search(r"(?:os error|Os \{ code:) (\d+)", str(error))
            if refused is None:
                msg = f"{target}: cannot be written ({_first_line(error)}); choose another place"
                raise CheckpointError(msg) from error
            number = int(refused[1])
            raise OSError(number, os.strerror(number), str(target)) from error


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    checkpoint = read_checkpoint(path)
    config = checkpoint.get("hyper_parameters", {}).get("encoder")
    state = {
        key.removeprefix("encoder."): value
        for key, value in checkpoint["state_dict"].items()
        if key.startswith("encoder.")
    }
    if not isinstance(config, dict) or not state:
        msg = f"{path}: holds no encoder; pass a checkpoint of a dmlm run"
        raise CheckpointError(msg)
    return config, state


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (folder / "config.json").exists() and [*folder.glob("*.ckpt"), *folder.glob("checkpoints/*.ckpt")]:
        raise CheckpointError(about_folder(folder))
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            msg = f"{folder}: {name} is missing; an encoder folder has config.json and model.safetensors"
            raise CheckpointError(msg)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        state = load_file(folder / "model.safetensors")
    except (ValueError, SafetensorError, RecursionError) as error:
        msg = f"{folder}: cannot be read ({_first_line(error)}); copy or save the folder again"
        raise CheckpointError(msg) from error
    if not isinstance(config, dict) or "class_path" not in config:
        msg = f"{folder / 'config.json'}: is not an encoder's configuration (no class_path)"
        raise CheckpointError(msg)
    check_format(config, folder)
    return config, state


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:160] if text else type(error).__name__
