"""Do all runs of a plan, several at a time; finished ones are not repeated, and one that fails does not stop others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from dmlm.io.lock import lock
from dmlm.reproduce.plan import Plan, Run
from dmlm.reproduce.runs import (
    Status,
    blocked_by,
    folder_of,
    put_status,
    read_status,
    threads_per_job,
    write_plan_of,
)


def run_plan(plan: Plan, out: Path, jobs: int = 1, quiet: bool = False) -> dict[str, Status]:
    """Do what is not done yet.

    Args:
        plan: What to run.
        out: Folder of the reproduction.
        jobs: Runs at a time, each in a process of its own.
        quiet: No progress bar.

    Returns:
        State of every run.

    Raises:
        ConfigError: If ``out`` holds runs of another configuration, or another process works there.
        KeyboardInterrupt: After Ctrl+C; the same command resumes.
    """
    out.mkdir(parents=True, exist_ok=True)
    held = lock(out, f"{out}: another dmlm reproduce is running there; wait for it, or choose another --out")
    try:
        return _do(plan, out, jobs, quiet)
    finally:
        if held is not None:
            os.close(held)


def _do(plan: Plan, out: Path, jobs: int, quiet: bool) -> dict[str, Status]:
    for run in plan.runs:
        write_plan_of(run, out)
    from tqdm import tqdm

    with tqdm(total=len(plan.runs), unit="run", disable=quiet, file=sys.stderr) as bar:
        for stage in plan.stages():
            waiting = []
            for run in stage:
                folder = folder_of(out, run.name)
                status = read_status(folder)
                if status.state == "done":  # it stays so where its data are away by now
                    continue
                reason = blocked_by(run, out)
                if reason:
                    put_status(folder, Status("missing", reason, status.seconds, status.attempts))
                else:
                    waiting.append(run)
            bar.update(len(stage) - len(waiting))
            if waiting:
                _Jobs(waiting, out, min(jobs, len(waiting)), jobs, bar).finish()
    return {run.name: read_status(folder_of(out, run.name)) for run in plan.runs}


class _Jobs:
    """Worker processes that take runs from one list."""

    def __init__(self, waiting: list[Run], out: Path, count: int, jobs: int, bar: object) -> None:
        self.waiting, self.out, self.bar = list(reversed(waiting)), out, bar
        self.threads = threads_per_job(min(count, jobs))
        self.lock = threading.Lock()
        self.workers: list[subprocess.Popen[str]] = []
        self.stopped = False
        self.feeders = [threading.Thread(target=self._feed, daemon=True) for _ in range(count)]

    def finish(self) -> None:
        """Wait until all runs have ended; Ctrl+C ends the workers, which leave resumable runs behind."""
        for feeder in self.feeders:
            feeder.start()
        try:
            for feeder in self.feeders:
                while feeder.is_alive():
                    feeder.join(0.5)
        except BaseException:
            self.stopped = True
            for worker in self.workers:
                worker.terminate()
            raise

    def _feed(self) -> None:
        worker: subprocess.Popen[str] | None = None
        while (run := self._next()) is not None:
            if worker is None:
                worker = self._start()
            answer = _ask(worker, run)
            if answer is None and not self.stopped:  # it died in the middle: out of memory, killed
                folder = folder_of(self.out, run.name)
                status = read_status(folder)
                reason = f"its process ended with status {worker.wait()}; see {folder / 'log.txt'}"
                put_status(folder, Status("failed", reason, status.seconds, status.attempts))
                worker = None
            with self.lock:
                self.bar.update(1)  # type: ignore[attr-defined] # tqdm's stubs hide the class
        if worker is not None and worker.stdin is not None:
            worker.stdin.close()
            worker.wait()

    def _next(self) -> Run | None:
        with self.lock:
            return self.waiting.pop() if self.waiting and not self.stopped else None

    def _start(self) -> subprocess.Popen[str]:
        threads = str(self.threads)
        # threads that wait for each other asleep: spinning costs everything on a machine that others use as well
        limits = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
        environment = {**limits, **os.environ}
        worker = subprocess.Popen(
            [sys.executable, "-m", "dmlm.reproduce.worker", str(self.out)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
        )
        self.workers.append(worker)
        return worker


def _ask(worker: subprocess.Popen[str], run: Run) -> Status | None:
    """Send a run and wait for its state; None if the worker died."""
    try:
        worker.stdin.write(json.dumps(asdict(run)) + "\n")  # type: ignore[union-attr] # both are pipes
        worker.stdin.flush()  # type: ignore[union-attr]
        line = worker.stdout.readline()  # type: ignore[union-attr]
    except OSError:
        return None
    return Status(**json.loads(line)) if line.strip() else None
