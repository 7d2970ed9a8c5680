"""One run's folder: its configuration, its state, and doing it through the real command line; a killed run resumes.

``OUT/runs/NAME/`` holds ``planned.yaml`` (what was asked for), ``status.json``, ``log.txt``, and what ``dmlm fit`` and
``dmlm test`` write: ``config.yaml``, ``checkpoints/``, ``metrics.json``, ``predictions.csv``, figures.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from dmlm.errors import ConfigError, DMLMError
from dmlm.io.atomic import write_json, write_text
from dmlm.reproduce.plan import Run

State = Literal["planned", "running", "done", "failed", "missing"]


@dataclass(frozen=True)
class Status:
    """State of a run.

    Args:
        state: ``done`` runs are not repeated; ``running`` ones whose process is gone, and ``failed`` ones, are resumed.
        reason: One line: why it failed or is missing; ``""`` otherwise.
        seconds: Wall time of all attempts.
        attempts: How often it was started.
    """

    state: State = "planned"
    reason: str = ""
    seconds: float = 0.0
    attempts: int = 0


def folder_of(out: Path, name: str) -> Path:
    """Folder of a run."""
    return out / "runs" / name


def read_status(folder: Path) -> Status:
    """State of a run; ``planned`` where there is no folder yet, or its file is damaged."""
    try:
        return Status(**json.loads((folder / "status.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Status()


def read_metrics(folder: Path) -> dict[str, float]:
    """Numbers of a finished run; null becomes NaN.

    Raises:
        ConfigError: If ``metrics.json`` is missing or damaged.
    """
    path = folder / "metrics.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {key: float("nan") if value is None else float(value) for key, value in values.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        msg = f"{path}: cannot be read ({error}); delete {folder} to run it again"
        raise ConfigError(msg) from error


def write_plan_of(run: Run, out: Path) -> None:
    """Write ``planned.yaml``, or make sure that what is there is the same.

    Raises:
        ConfigError: If the folder holds a run of another configuration.
    """
    check_plan_of(run, out)
    write_text(folder_of(out, run.name) / "planned.yaml", _planned(run))


def check_plan_of(run: Run, out: Path) -> None:
    """Make sure that a folder holds no run of another configuration; one without ``planned.yaml`` passes.

    Raises:
        ConfigError: If it does.
    """
    path = folder_of(out, run.name) / "planned.yaml"
    if path.is_file() and path.read_text(encoding="utf-8") != _planned(run) and read_status(path.parent).attempts:
        msg = (
            f"{path.parent} holds a run of another configuration (other seeds, budget, data or version): "
            "choose another --out, or delete that folder"
        )
        raise ConfigError(msg)


def _planned(run: Run) -> str:
    return yaml.safe_dump({"verb": run.verb, "needs": list(run.needs), **run.config}, sort_keys=False)


def command_of(run: Run, out: Path) -> list[str]:
    """Arguments of ``dmlm`` for a run whose needs are done; resumes from its last checkpoint if it has one.

    Raises:
        ConfigError: If a needed checkpoint is not there.
    """
    folder = folder_of(out, run.name)
    best = {f"{{best:{name}}}": str(best_checkpoint(folder_of(out, name))) for name in run.needs}
    config = _filled(run.config, {**best, "{folder}": str(folder)})
    write_text(folder / "resolved.yaml", yaml.safe_dump(config, sort_keys=False))
    command = [run.verb, "--config", str(folder / "resolved.yaml")]
    last = folder / "checkpoints" / "last.ckpt"
    return [*command, "--ckpt", str(last)] if run.verb == "fit" and last.is_file() else command


def best_checkpoint(folder: Path) -> Path:
    """Best checkpoint of a run.

    Raises:
        ConfigError: If there is none.
    """
    found = sorted((folder / "checkpoints").glob("best*.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        msg = f"{folder / 'checkpoints'}: no best checkpoint; run '{folder.name}' first"
        raise ConfigError(msg)
    return found[-1]


def perform(run: Run, out: Path) -> Status:
    """Do a run in this process, unless it is done; whatever happens is in its ``status.json`` afterwards.

    Args:
        run: The run; its needs must be done.
        out: Folder of the reproduction.

    Returns:
        Its new state.
    """
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from dmlm import cli

    folder = folder_of(out, run.name)
    old = read_status(folder)
    if old.state == "done":
        return old
    started = time.monotonic()
    put_status(folder, Status("running", "", old.seconds, old.attempts + 1))
    reason = ""
    try:
        if cli.main(command_of(run, out)):
            raise KeyboardInterrupt  # noqa: TRY301 - Lightning ended in order after Ctrl+C
        if run.config.get("test_after_fit", True):
            read_metrics(folder)
        else:
            best_checkpoint(folder)
    except (KeyboardInterrupt, SIGTERMException):
        put_status(folder, Status("planned", "", old.seconds + time.monotonic() - started, old.attempts + 1))
        raise
    except DMLMError as error:
        traceback.print_exc()
        reason = " ".join(str(error).split())
    except BaseException as error:  # whatever a run raises, SystemExit included, must not end the others
        traceback.print_exc()
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
    state: State = "failed" if reason else "done"
    return put_status(folder, Status(state, reason, old.seconds + time.monotonic() - started, old.attempts + 1))


def put_status(folder: Path, status: Status) -> Status:
    """Write ``status.json``; return what was written."""
    write_json(folder / "status.json", asdict(status))
    return status


def blocked_by(run: Run, out: Path) -> str:
    """Why a run cannot start: what is missing, or a needed run that is not done; ``""`` if it can."""
    if run.missing:
        return run.missing
    for name in run.needs:
        status = read_status(folder_of(out, name))
        if status.state != "done":
            return f"needs {name}, which is {status.state}" + (f" ({status.reason})" if status.reason else "")
    return ""


def _filled(value: Any, words: Mapping[str, str]) -> Any:  # noqa: ANN401 - plain data
    """Plain data with words replaced inside all strings."""
    if isinstance(value, dict):
        return {key: _filled(item, words) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_filled(item, words) for item in value]
    if isinstance(value, str):
        for word, meant in words.items():
            value = value.replace(word, meant)
    return value


def threads_per_job(jobs: int) -> int:
    """Threads of a job so that all jobs together have one per core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // jobs)
