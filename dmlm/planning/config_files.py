"""Configuration files of ``dmlm fit`` as plain data: stacked, with the files that their sections name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dmlm.errors import ConfigError
from dmlm.io.yaml_text import read_yaml

_FLAT = ("data", "trainer")  # an option of theirs may be called image and name a column
_SECTIONS = (*_FLAT, "model", "encoder", "predictor", "objective", "image", "text", "image_masker", "text_masker")
_DEEPEST = 10


def read_configs(paths: Sequence[Path]) -> dict[str, Any]:
    """Read stacked configuration files.

    Args:
        paths: YAML files; later ones win key by key, as on the command line.

    Raises:
        ConfigError: If a file cannot be read, is no configuration, or names itself.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        merged = _merge(merged, _load(path))
    return merged


def _merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(first)
    for key, value in second.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _load(path: Path) -> dict[str, Any]:
    content = _read(path)
    if not content.keys() & {"model", "data", "trainer"}:
        msg = (
            f"{path} has none of the sections model, data and trainer: name it inside one of them, as in trainer: FILE"
        )
        raise ConfigError(msg)
    return _with_files(content, (path,))


def _with_files(content: Mapping[str, Any], files: tuple[Path, ...]) -> dict[str, Any]:
    """Sections of the last of ``files``, with those that name another file read, as `dmlm fit` does it."""
    filled = dict(content)
    for key, value in content.items():
        if isinstance(value, Mapping) and key not in _FLAT:
            filled[key] = _with_files(value, files)
        elif isinstance(value, str) and key in _SECTIONS:
            path = files[-1].parent / value  # beside the file that names it
            if _is_file(path):
                if path in files or len(files) > _DEEPEST:
                    msg = f"{files[-1]}: {key}: {value} names itself; write the section out"
                    raise ConfigError(msg)
                inner = _read(path)
                filled[key] = inner if key in _FLAT else _with_files(inner, (*files, path))
            elif path.suffix in (".yaml", ".yml"):
                msg = f"{files[-1]}: {key}: '{value[:60]}' is neither a file beside it nor a section written out"
                raise ConfigError(msg)
            elif key != "trainer":
                filled[key] = {"class_path": value}
    return filled


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # too long for a name
        return False


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path)
    except OSError as error:
        msg = f"{path} cannot be read as a configuration: {' '.join(str(error).split())}"
        raise ConfigError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} holds no configuration of dmlm fit (a mapping with model, data, trainer)"
        raise ConfigError(msg)
    return content
