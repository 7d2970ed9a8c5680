"""``dmlm fit --profile``: where the time of a training step goes, as a table and as a Chrome trace."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.profilers import Profiler
from torch.profiler import ProfilerActivity, record_function

from dmlm.io.atomic import atomic_path, write_text

logger = logging.getLogger(__name__)

PREFIX = "dmlm: "
"""Names of regions start so, here and in :mod:`dmlm.objectives` and :mod:`dmlm.tasks`."""

# what Lightning names its actions with (the end of them), and the region that we call it
_ACTIONS = {
    ".train_dataloader_next": "data wait",
    ".transfer_batch_to_device": "copy to device",
    "Strategy.training_step": "training step, rest",
    "Strategy.backward": "backward",
    ".configure_gradient_clipping": "clip gradients",
    ".optimizer_step": "optimizer",
    "run_training_batch": "Lightning and callbacks",
}
_BATCH, _EPOCH = "run_training_batch", "run_training_epoch"


class Region(NamedTuple):
    """Time that was spent in a region and in none of the regions inside it.

    Args:
        name: Name without prefix.
        seconds: Over all recorded steps.
        calls: How often it was entered.
    """

    name: str
    seconds: float
    calls: int


class StepProfiler(Profiler):
    """Record some training steps with :mod:`torch.profiler` and write ``profile.txt`` and ``profile_trace.json``.

    Times are those of the host. On a GPU, which works behind it, they say where the host waits; the table of operations
    below them, and the trace, have the times of the device.

    Args:
        skip: Steps before recording: the first ones allocate, and start workers.
        steps: Steps to record; fewer where the training ends before.
    """

    def __init__(self, skip: int = 3, steps: int = 5) -> None:
        super().__init__()
        self.skip, self.steps = skip, steps
        self._batches = self._before = 0  # steps so far, and before recording
        self._torch: Any = None  # a torch.profiler.profile, which is untyped
        self._open: dict[str, Any] = {}
        self._done = False

    def start(self, action_name: str) -> None:
        """Open the region of one of Lightning's actions, while steps are recorded."""
        if self._torch is None:
            # an epoch ended before a step was recorded, in which case recording ended with it
            if action_name == _EPOCH and not self._done and self._batches >= self.skip:
                self._begin()
            return
        region = _region(action_name)
        if region is not None and action_name not in self._open:
            self._open[action_name] = record_function(PREFIX + region)
            self._open[action_name].__enter__()

    def stop(self, action_name: str) -> None:
        """Close it; the end of a batch is where recording starts and ends, so that it holds whole steps."""
        if action_name in self._open:
            self._open.pop(action_name).__exit__(None, None, None)
        if action_name == _BATCH and not self._done:
            self._batches += 1
            if self._batches == self.skip:
                self._begin()
            elif self._torch is not None and self._batches == self._before + self.steps:
                self._finish()
        elif action_name == _EPOCH:  # what comes between epochs (validation, checkpoints) is no part of a step
            self._finish()

    def teardown(self, stage: str | None) -> None:
        """Write what was recorded, if the training ended or failed before all steps were."""
        self._finish()
        if stage == "fit" and not self._done and self._is_first():
            logger.warning("dmlm: nothing was profiled: the training had fewer than %d steps", self.skip + 1)
        super().teardown(stage)

    def _is_first(self) -> bool:
        return self._local_rank in (None, 0)

    def _begin(self) -> None:
        if self._stage != "fit" or not self._is_first():
            self._done = True
            return
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        self._before = self._batches
        self._torch = torch.profiler.profile(activities=activities)
        self._torch.__enter__()

    def _finish(self) -> None:
        if self._torch is None:
            return
        recorded, self._torch = self._torch, None
        for region in reversed(list(self._open.values())):
            with suppress(RuntimeError):
                region.__exit__(None, None, None)
        self._open.clear()
        recorded.__exit__(None, None, None)
        steps = self._batches - self._before
        if steps < 1:
            return
        self._done = True
        folder = Path(self.dirpath or ".")
        events = recorded.events()
        total = 1e-6 * (max(e.time_range.end for e in events) - min(e.time_range.start for e in events))
        spans = [
            (e.name.removeprefix(PREFIX), e.time_range.start, e.time_range.end, e.thread)
            for e in events
            if e.name.startswith(PREFIX)
        ]
        device = torch.cuda.is_available()
        operations = recorded.key_averages().table(
            sort_by="self_device_time_total" if device else "self_cpu_time_total",
            row_limit=20,
            max_name_column_width=60,
        )
        write_text(folder / "profile.txt", report(exclusive(spans), total, steps) + "\n" + operations)
        with atomic_path(folder / "profile_trace.json") as temporary:
            recorded.export_chrome_trace(str(temporary))
        logger.info("dmlm: profile of %d steps in %s", steps, folder / "profile.txt")


def exclusive(spans: Sequence[tuple[str, float, float, int]]) -> list[Region]:
    """Time of each region without the regions inside it.

    Args:
        spans: Name, start, end (microseconds) and thread of every time that a region was entered; those of a thread lie
            inside each other or apart.

    Returns:
        Regions by name, the longest first.
    """
    seconds: dict[str, float] = {}
    calls: dict[str, int] = {}
    stack: list[tuple[str, float, int]] = []
    for name, start, end, thread in sorted(spans, key=lambda span: (span[3], span[1], -span[2])):
        while stack and (stack[-1][2] != thread or stack[-1][1] <= start):
            stack.pop()
        if stack:
            seconds[stack[-1][0]] -= end - start
        seconds[name] = seconds.get(name, 0.0) + end - start
        calls[name] = calls.get(name, 0) + 1
        stack.append((name, end, thread))
    regions = [Region(name, 1e-6 * value, calls[name]) for name, value in seconds.items()]
    return sorted(regions, key=lambda region: -region.seconds)


def report(regions: Sequence[Region], total: float, steps: int) -> str:
    """Table of the regions of ``steps`` steps that took ``total`` seconds."""
    lines = [f"{1e3 * total / steps:.1f} ms a step, mean of {steps} steps (time of the host)", ""]
    lines.append(f"{'region':<28}{'ms a step':>12}{'share':>9}{'calls':>8}")
    rest = Region("between steps", total - sum(region.seconds for region in regions), steps)
    for region in sorted([*regions, rest], key=lambda item: -item.seconds):
        share = region.seconds / total
        lines.append(f"{region.name:<28}{1e3 * region.seconds / steps:>12.2f}{share:>9.1%}{region.calls / steps:>8.1f}")
    return "\n".join(lines) + "\n"


def _region(action: str) -> str | None:
    return next((region for end, region in _ACTIONS.items() if action.endswith(end)), None)
