"""How soon the command answers, and how soon the default run has made its first step.

``python -m benchmarks.startup`` prints the figures: wall and CPU seconds from the command on. The first step is
measured with an empty cache (synthetic studies are made up first, their films drawn meanwhile) and with a filled one.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

ROOT = Path(__file__).parents[1]
START, ANSWER = "DMLM_BENCHMARK_START", "DMLM_BENCHMARK_ANSWER"


class FirstStep(Callback):
    """Write down when the first optimiser step is done, and leave."""

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Answer and stop the process: what comes after is not the subject."""
        wall = time.time() - float(os.environ[START])
        children = resource.getrusage(resource.RUSAGE_CHILDREN)  # those that ended
        cpu = time.process_time() + children.ru_utime + children.ru_stime + _running_children()
        Path(os.environ[ANSWER]).write_text(json.dumps([wall, cpu]), encoding="utf-8")
        os._exit(0)


def _running_children() -> float:
    """CPU seconds of the processes that this one started and that still run: those that draw films."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[1]) == os.getpid():
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(rounds: int = 5) -> dict[str, float]:
    """Return seconds of ``dmlm --help``, ``dmlm plan`` and the first step of the default run."""
    figures = {}
    for name, arguments in (("help", ["--help"]), ("plan", ["plan", "--gpus", "4xV100", "--images", "377110"])):
        wall, cpu = min(_command(arguments) for _ in range(rounds))
        figures |= {f"startup_{name}_seconds": wall, f"startup_{name}_cpu_seconds": cpu}
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("cold", "warm"):
            wall, cpu = _first_step(Path(folder))
            figures |= {f"startup_first_step_{cache}_seconds": wall, f"startup_first_step_{cache}_cpu_seconds": cpu}
            _draw_the_rest(Path(folder))
    return figures


def _command(arguments: list[str]) -> tuple[float, float]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "dmlm", *arguments], check=True, capture_output=True, cwd=ROOT)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _first_step(folder: Path) -> tuple[float, float]:
    """Run ``cli.yaml`` up to its first step, with its cache in ``folder``."""
    answer = folder / "answer.json"
    environment = {**os.environ, "DMLM_CACHE": str(folder / "cache"), START: str(time.time()), ANSWER: str(answer)}
    callback = "--trainer.callbacks+=benchmarks.startup.FirstStep"
    command = ["fit", "--config", str(ROOT / "cli.yaml"), callback, "--trainer.logger", "false"]
    command += ["--trainer.default_root_dir", str(folder / "run")]
    subprocess.run(
        [sys.executable, "-m", "dmlm", *command],
        check=True,
        capture_output=True,
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
    )
    wall, cpu = json.loads(answer.read_text(encoding="utf-8"))
    return float(wall), float(cpu)


def _draw_the_rest(folder: Path) -> None:
    """Finish what the first run left when it stopped after a step."""
    from dmlm.datasets.phantom.drawing import draw_films

    for films in (folder / "cache" / "phantoms").iterdir():
        draw_films(films, workers=2, progress=False)


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
