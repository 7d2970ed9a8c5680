"""Read Lightning checkpoints safely: tensors and plain data only, and one-line errors that name the file."""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

from dmlm import __version__
from dmlm.errors import CheckpointError

CHECKPOINT_FORMAT = 1
"""Version of what ``dmlm`` adds to a Lightning checkpoint; raised when an older ``dmlm`` could not read it."""


def format_stamp() -> dict[str, Any]:
    """What a checkpoint carries under ``"dmlm"``: the format that it has and the version that wrote it."""
    return {"format": CHECKPOINT_FORMAT, "version": __version__}


def check_format(checkpoint: dict[str, Any], source: str | os.PathLike[str]) -> None:
    """Refuse a checkpoint that a newer ``dmlm`` wrote.

    Raises:
        CheckpointError: If the format is newer than :data:`CHECKPOINT_FORMAT`.
    """
    stamp = checkpoint.get("dmlm")
    if not isinstance(stamp, dict):
        return
    found = stamp.get("format", 0)
    if not isinstance(found, int) or found > CHECKPOINT_FORMAT:
        msg = (
            f"{os.fspath(source)} has checkpoint format {found}, written by dmlm {stamp.get('version', '(unknown)')}; "
            f"this is dmlm {__version__}, which reads formats up to {CHECKPOINT_FORMAT}: pip install --upgrade dmlm"
        )
        raise CheckpointError(msg)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a Lightning checkpoint on the CPU without running code from it.

    Tensors are memory-mapped, so that looking at the hyper-parameters of a large file is quick.

    Args:
        path: A ``.ckpt`` file.

    Returns:
        The checkpoint: ``state_dict``, ``hyper_parameters``, ``dmlm`` and what else Lightning wrote.

    Raises:
        CheckpointError: If the file is missing, damaged, holds anything but tensors and plain data, is no Lightning
            checkpoint, or was written by a newer ``dmlm``.
    """
    import torch

    path = Path(path)
    if path.is_dir():
        raise CheckpointError(about_folder(path))
    if not path.is_file():
        msg = f"checkpoint not found: {path}{_others_nearby(path)}"
        raise CheckpointError(msg)
    _refuse_bomb(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's guesses about strange files; what matters is raised
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise CheckpointError(_why(path, error)) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        msg = f"{path} is not a Lightning checkpoint: it has no 'state_dict'"
        raise CheckpointError(msg)
    if not all(isinstance(name, str) for name in checkpoint["state_dict"]):
        msg = f"{path}: its weights are not named by text; use a checkpoint that dmlm wrote"
        raise CheckpointError(msg)
    if not isinstance(checkpoint.get("hyper_parameters", {}), dict):
        msg = f"{path}: its hyper_parameters are no mapping; use a checkpoint that dmlm wrote"
        raise CheckpointError(msg)
    check_format(checkpoint, path)
    return checkpoint


def is_sharded(path: Path) -> bool:
    """Whether a folder is a checkpoint that sharded training wrote as many files."""
    # torch's distributed checkpoints (Lightning adds meta.pt), and DeepSpeed's
    return any((path / name).is_file() for name in (".metadata", "meta.pt", "latest")) or (path / "checkpoint").is_dir()


def about_folder(path: Path) -> str:
    """Say what a folder is that was named in the place of a checkpoint, and what to name instead.

    Args:
        path: The folder.
    """
    if (path / "config.json").is_file() and (path / "model.safetensors").is_file():
        return (
            f"{path} is an exported encoder, not a checkpoint: name the .ckpt of a run; to train or test a task with "
            f"this encoder use --model.encoder dmlm.models.from_pretrained --model.encoder.path {path}"
        )
    if is_sharded(path):
        return (
            f"{path} is a checkpoint of sharded training in many files, which only that training reads; name one of "
            "a single file (strategy option save_distributed_checkpoint: false)"
        )
    for folder in (path / "checkpoints", path):
        names = sorted((file.name for file in folder.glob("*.ckpt")), key=lambda name: (name != "best.ckpt", name))
        if names:
            return f"{path} is a folder, not a checkpoint; name the file: {folder / names[0]}"
    return f"{path} is a folder, not a checkpoint, and holds none; name the .ckpt file of a run"


def _refuse_bomb(path: Path) -> None:
    """Refuse a zip that would unpack to more than it has: torch stores its members as they are.

    Raises:
        CheckpointError: If it would.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return  # reading it says what it is
    size = path.stat().st_size
    if unpacked > size:
        msg = (
            f"{path} was refused: it has {size:,} bytes and would unpack to {unpacked:,}, which no checkpoint does; "
            "use a checkpoint that dmlm wrote"
        )
        raise CheckpointError(msg)


def _is_zip(path: Path) -> bool:
    """Whether the file starts like torch's zip format, the only one that can be memory-mapped."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _others_nearby(path: Path) -> str:
    folder = path.parent
    names = sorted(item.name for item in folder.glob("*.ckpt")) if folder.is_dir() else []
    if names:
        return f"; {folder} has {', '.join(names[:5])}"
    return "" if folder.is_dir() else f" (the folder {folder} does not exist)"


def _why(path: Path, error: Exception) -> str:
    text = " ".join(str(error).split())
    refused = re.search(r"(?:GLOBAL|Unsupported class) ([\w.]+)", text)
    if refused:
        return (
            f"{path} was refused: besides tensors and plain data it holds a Python object ({refused[1]}), which "
            "could run code when loaded; use a checkpoint that dmlm wrote"
        )
    text = text.rpartition("WeightsUnpickler error: ")[2].partition(" Check the documentation")[0]
    size = path.stat().st_size
    return (
        f"{path} is damaged or not a checkpoint ({size:,} bytes; {type(error).__name__}: {text[:120]}); copy it again"
    )


def one_line_mismatch(error: RuntimeError) -> str:
    """Shorten what ``load_state_dict`` raised to one line with at most five names of each kind."""
    parts: list[str] = []
    for line in (item.strip() for item in str(error).splitlines()):
        kind, _, rest = line.partition(": ")
        names = re.findall(r'"([^"]+)"', rest)
        if kind.startswith(("Missing key", "Unexpected key")) and names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            parts.append(f"{kind.split()[0].lower()} {', '.join(names[:5])}{more}")
        elif line.startswith("size mismatch"):
            parts.append(line.rstrip("."))
    more = f"; and {len(parts) - 5} more" if len(parts) > 5 else ""
    return "; ".join(parts[:5]) + more if parts else " ".join(str(error).split())
