"""`dmlm data`: sends its verbs on. Starts without torch."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Final

from dmlm.datasets.problems import nearest
from dmlm.errors import ConfigError

VERBS: Final = {
    "prepare": "turn a data set into a store of small images for fast training",
    "doctor": "say which data set a folder holds, what is missing and what is corrupt",
    "splits": "write a split down with its hash, print its sizes, look for leaks",
    "synthesize": "make synthetic chest X-rays, also in the layout of a data set",
}
"""Verbs of ``dmlm data``, each in ``dmlm.commands.data_VERB``."""


def run(argv: Sequence[str]) -> int:
    """Run ``dmlm data`` with the arguments after ``data``.

    Returns:
        Exit status: 0 when all went well.

    Raises:
        DMLMError: If what was asked for cannot be done.
        SystemExit: After ``--help`` of a verb.
    """
    arguments = list(argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help(), end="")
        return 0 if arguments else 2
    verb = arguments[0]
    if verb not in VERBS:
        msg = f"unknown verb 'data {verb}'{nearest(verb, list(VERBS)) or '; expected ' + ', '.join(VERBS)}"
        raise ConfigError(msg)
    status: int = import_module(f"dmlm.commands.data_{verb}").run(arguments[1:])
    return status


def _help() -> str:
    lines = [f"  {verb:<11}{what}" for verb, what in VERBS.items()]
    return "\n".join(["usage: dmlm data VERB [options]", "", "Data sets.", "", *lines, "", _MORE, ""])


_MORE: Final = "dmlm data VERB --help shows the options of a verb."
