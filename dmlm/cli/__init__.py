"""The training verbs of the command line: LightningCLI with ``--ckpt``, nearest-name hints and a record of runs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from lightning.fabric.utilities.exceptions import MisconfigurationException

from dmlm.cli.app import DMLMCLI
from dmlm.cli.console import quiet
from dmlm.errors import ConfigError

__all__ = ["DMLMCLI", "main"]

_CLASSES = ("dmlm.models", "dmlm.tasks", "dmlm.datamodules")


def main(argv: Sequence[str]) -> int | None:
    """Run ``fit``, ``validate``, ``test`` or ``predict``.

    Args:
        argv: The verb and its options.

    Returns:
        None, or 130 if the user interrupted the run.

    Raises:
        DMLMError: What a user can mend.
    """
    quiet()
    _import_classes()
    try:
        DMLMCLI(args=list(argv))
    except MisconfigurationException as error:  # Lightning's own word for options that cannot work together
        msg = " ".join(str(error).split())
        raise ConfigError(msg) from error
    except SystemExit as error:
        # Lightning turns Ctrl+C into exit status 1 after an orderly end; RunRecord has said how to resume
        if isinstance(error.__context__, KeyboardInterrupt):
            return 130
        raise
    return None


def _import_classes() -> None:
    """Import the classes that a configuration may name in short: jsonargparse finds subclasses that exist."""
    for name in _CLASSES:
        package = import_module(name)
        for public in getattr(package, "__all__", ()):
            getattr(package, public)  # packages may load their names on first use
