"""The command line in parts: verb, ``--config`` files, ``--ckpt`` and the rest, so that flags win over files."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmlm.errors import ConfigError
from dmlm.io.yaml_text import read_yaml

_CONFIG = ("--config", "-c")
_CHECKPOINT = ("--ckpt", "--ckpt_path")
_SECTIONS = ("trainer", "model", "data")


@dataclass
class CommandLine:
    """A command line in parts.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        configs: Values of ``--config``, in order.
        flags: All other options, in order.
        ckpt: Value of ``--ckpt``, or None.
    """

    verb: str
    configs: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    ckpt: str | None = None

    @classmethod
    def split(cls, argv: Sequence[str]) -> CommandLine:
        """Split ``argv`` into its parts.

        Raises:
            ConfigError: If ``--config`` or ``--ckpt`` has no value, or a configuration file is missing or is no YAML.
        """
        line = cls(argv[0])
        tokens = list(argv[1:])
        while tokens:
            token = tokens.pop(0)
            name, has_value, value = token.partition("=")
            if name not in (*_CONFIG, *_CHECKPOINT):
                line.flags.append(token)
                continue
            if not has_value:
                if not tokens or tokens[0].startswith("--"):
                    msg = f"{name} needs a path"
                    raise ConfigError(msg)
                value = tokens.pop(0)
            if name in _CONFIG:
                _check_file(value)
                line.configs.append(value)
            else:
                line.ckpt = value
        for token in line.flags:  # a section may be a file, too: --trainer cpu.yaml
            value = token.partition("=")[2] or token
            if value.endswith((".yaml", ".yml")) and Path(value).is_file():
                read_yaml(Path(value))
        return line

    @property
    def asks_for_help(self) -> bool:
        """Whether the command only prints help."""
        return any(flag in ("-h", "--help") or flag.partition("=")[0].endswith(".help") for flag in self.flags)

    def argv(self, first: Sequence[str] = (), last: Sequence[str] = (), printing: bool = True) -> list[str]:
        """Put the parts together: the verb, configurations (later ones win), then flags.

        Args:
            first: Configurations as JSON that lose against the files.
            last: Configurations as JSON that win over the files.
            printing: Whether ``--print_config`` stays in.
        """
        configs = [token for config in (*first, *self.configs, *last) for token in ("--config", config)]
        flags = [flag for flag in self.flags if printing or not flag.startswith("--print_config")]
        return [self.verb, *configs, *flags]


def _check_file(value: str) -> None:
    """Say which configuration file is missing or malformed; jsonargparse names neither the file nor the line."""
    if value.lstrip().startswith("{") or "\n" in value or "://" in value:
        return  # written out on the command line, or remote
    path = Path(value)
    if not path.is_file():
        folder = path.parent
        names = [item.name for item in folder.glob("*.y*ml")] if folder.is_dir() else []
        near = difflib.get_close_matches(path.name, names, n=1)
        hint = f"; did you mean '{folder / near[0]}'?" if near else f" (looked in {folder.resolve()})"
        msg = f"configuration file not found: '{value}'{hint}"
        raise ConfigError(msg)
    content = read_yaml(path)
    if not isinstance(content, dict):
        found = "is empty" if content is None else f"holds {type(content).__name__} '{str(content)[:40]}'"
        msg = f"{value} {found}; expected sections such as trainer, model and data"
        raise ConfigError(msg)
    for name in _SECTIONS:
        if name in content and not isinstance(content[name], (dict, str)):
            msg = f"{value}: {name}: expected a section with options, got '{str(content[name])[:60]}'"
            raise ConfigError(msg)
    _check_classes(content, value, "")


def _check_classes(content: Any, source: str, key: str) -> None:  # noqa: ANN401 - YAML values are anything
    """Say where a class is named by something that is no name, which jsonargparse answers in Python's words."""
    if isinstance(content, list):
        for place, item in enumerate(content):
            _check_classes(item, source, f"{key}[{place}]")
    if not isinstance(content, dict):
        return
    if "class_path" in content:
        named, arguments = content["class_path"], content.get("init_args")
        if not isinstance(named, str) or not named.strip():
            msg = f"{source}: {key}.class_path: expected the name of a class, got '{str(named)[:60]}'"
            raise ConfigError(msg)
        if arguments is not None and not isinstance(arguments, dict):
            msg = f"{source}: {key}.init_args: expected options of {named}, got '{str(arguments)[:60]}'"
            raise ConfigError(msg)
    for name, item in content.items():
        inner = key if name == "init_args" else f"{key}.{name}" if key else str(name)
        _check_classes(item, source, inner)
