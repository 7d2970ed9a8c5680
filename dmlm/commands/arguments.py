"""The parser of every verb that is no training: what is wrong with the options is one line, with the nearest name."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from dmlm.datasets.problems import nearest
from dmlm.errors import ConfigError


class Arguments(argparse.ArgumentParser):
    """An ``ArgumentParser`` that raises :class:`ConfigError` instead of printing its usage and leaving.

    Its subparsers are of the same class. Abbreviated options are not accepted, so that a misspelt one is an error.

    Args:
        prog: The command, e.g. ``"dmlm data doctor"``.
        description: What it does.
        formatter_class: As in argparse.
    """

    def __init__(
        self,
        prog: str,
        description: str,
        formatter_class: type[argparse.HelpFormatter] = argparse.HelpFormatter,
        **others: object,
    ) -> None:
        super().__init__(prog, description=description, formatter_class=formatter_class, allow_abbrev=False, **others)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Say what is wrong.

        Raises:
            ConfigError: Always.
        """
        found = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        hint = nearest(found[1], self._all_options()) if found else ""
        msg = f"{self.prog.removeprefix('dmlm ')}: {message}{hint or f'; see {self.prog} --help'}"
        raise ConfigError(msg)

    def _all_options(self) -> list[str]:
        """Return the options of this parser and of those of its verbs, which argparse leaves to it to refuse."""
        verbs = [action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        parsers: list[argparse.ArgumentParser] = [self, *(parser for choices in verbs for parser in choices.values())]
        return [option for parser in parsers for option in parser._option_string_actions if option.startswith("--")]
