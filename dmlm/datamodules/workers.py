"""Worker processes of a loader: how many cores there are, and how a worker starts."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Return how many cores this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_of_a_process(processes: int) -> int:
    """Return the cores that one of the processes of this machine may use.

    Args:
        processes: How many train on it. Under SLURM each may be bound to its own cores already, which then are not
            divided again.
    """
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if "SLURM_PROCID" in os.environ and given.isdigit():
        return min(usable_cores(), int(given))
    return usable_cores() // processes


def start_worker(_: int) -> None:
    """Keep OpenCV to one thread in a worker: the workers are the parallelism."""
    import cv2

    cv2.setNumThreads(0)
