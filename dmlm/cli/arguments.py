"""The command line in parts: verb, ``--config`` files, ``--ckpt`` and the rest, so that flags win over files."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from dmlm.errors import ConfigError

_CONFIG = ("--config", "-c")
_CHECKPOINT = ("--ckpt", "--ckpt_path")


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
    try:
        yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        msg = f"{value}{where}: not valid YAML: {error.problem}"
        raise ConfigError(msg) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        msg = f"{value} is not a YAML file: {error}"
        raise ConfigError(msg) from error
