"""What a run leaves beside its results: the resolved configuration, the versions, and after Ctrl+C how to go on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from dmlm import __version__
from dmlm.errors import ConfigError
from dmlm.io.atomic import write_json, write_text
from dmlm.io.lock import lock, unlock

_PACKAGES = ("torch", "lightning", "timm", "transformers", "numpy")
_HEADER = b"# dmlm=="
_HELD: list[int] = []
"""Descriptors of the locks that runs of this process hold."""


class RunRecord(SaveConfigCallback):
    """Write ``config.yaml`` and ``versions.json`` into the run folder.

    ``fit`` writes ``config.yaml``. Another verb does so in a folder of its own; where a ``config.yaml`` is already, it
    writes ``config_test.yaml`` (``config_validate.yaml``, ``config_predict.yaml``) beside it. So does ``fit``
    (``config_fit.yaml``) where that file is the user's own.
    """

    written: Path | None = None
    """The configuration that this run wrote; None before, and on other processes than the first."""

    _held: int | None = None
    """The lock of the run folder while ``fit`` runs; the system ends that of a killed one."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Write the files once per run, on the first process, before anything else happens."""
        if self.already_saved:
            return
        self.already_saved = True
        log_dir = trainer.log_dir  # a collective call: every process takes part
        folder = Path(log_dir or trainer.default_root_dir)
        verb = str(trainer.state.fn.value) if trainer.state.fn is not None else stage
        if verb == "fit":
            self._lock(folder, trainer)
        if trainer.is_global_zero:
            self._write(folder, verb)

    def release(self) -> None:
        """End the lock of the run folder; every command does so at its end."""
        if self._held in _HELD:
            _HELD.remove(self._held)
            unlock(self._held)
        self._held = None

    def _lock(self, folder: Path, trainer: Trainer) -> None:
        """Let no second ``fit`` write into the folder.

        Raises:
            ConfigError: If one does already; on all processes, so that none waits for the first.
        """
        refused = ""
        if trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self._held = lock(
                    folder,
                    f"{folder}: another dmlm fit is writing into this folder; wait for it, or choose another one "
                    "(--trainer.logger.version NAME, or without a logger --trainer.default_root_dir DIR)",
                )
            except ConfigError as error:
                refused = str(error)
            if self._held is not None:
                _HELD.append(self._held)
        refused = trainer.strategy.broadcast(refused)
        if refused:
            raise ConfigError(refused)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """After Ctrl+C in ``fit``, say how to resume."""
        if not isinstance(exception, KeyboardInterrupt) or not trainer.is_global_zero:
            return
        if trainer.state.fn != "fit":
            sys.stderr.write("dmlm: interrupted\n")
            return
        # the last ones first: of files of the same time, max takes the first
        kinds = ("last_model_path", "best_model_path")
        saved = [getattr(callback, kind, "") for kind in kinds for callback in trainer.checkpoint_callbacks]
        newest = max(filter(None, saved), key=_time_of, default=None)
        config = self.written or Path(trainer.default_root_dir) / "config.yaml"
        if newest is not None:
            line = f"resume with: dmlm fit --config {config} --ckpt {newest}"
        else:
            line = f"no checkpoint yet; start again with: dmlm fit --config {config}"
        sys.stderr.write(f"dmlm: interrupted; {line}\n")

    def _write(self, folder: Path, verb: str) -> None:
        there = folder / "config.yaml"
        first = not there.exists() or (verb == "fit" and _is_ours(there))
        suffix = "" if first else f"_{verb}"
        self.written = folder / f"config{suffix}.yaml"
        write_text(self.written, self.parser.dump(self.config, skip_none=False) + "\n")
        write_json(folder / f"versions{suffix}.json", versions())


def _forget() -> None:
    """Close the locks in a forked process: data workers that outlive a killed run for a moment would keep them."""
    while _HELD:
        os.close(_HELD.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _is_ours(path: Path) -> bool:
    """Whether a run wrote this file, and not the user."""
    with path.open("rb") as file:
        return file.read(len(_HEADER)) == _HEADER


def _time_of(path: str) -> int:
    """When a checkpoint was written; those that are gone, or not on this disk, count as older than all others."""
    return Path(path).stat().st_mtime_ns if Path(path).exists() else -1


def versions() -> dict[str, str | list[str] | None]:
    """Versions of Python, dmlm and what it stands on, the platform, dmlm's git commit and the command line."""
    found: dict[str, str | list[str] | None] = {"python": platform.python_version(), "dmlm": __version__}
    found.update({package: _version(package) for package in _PACKAGES})
    return {**found, "git_commit": git_commit(), "platform": platform.platform(), "command": list(sys.argv)}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Commit of dmlm's sources, with ``-dirty`` if they were changed; None where they are in no git repository."""
    git = shutil.which("git")
    if git is None:
        return None
    folder = Path(__file__).resolve().parent
    try:
        # a package that was installed inside somebody else's repository is not tracked there
        subprocess.run(
            [git, "-C", folder, "ls-files", "--error-unmatch", Path(__file__).name],
            check=True,
            capture_output=True,
            timeout=10,
        )
        answer = subprocess.run(
            [git, "-C", folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            check=True,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (subprocess.SubprocessError, OSError):
        return None
    return answer.stdout.strip() or None
