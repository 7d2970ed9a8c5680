"""Worker processes of a loader: how many cores there are, and how a worker starts."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Return how many cores this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_worker(_: int) -> None:
    """Keep OpenCV to one thread in a worker: the workers are the parallelism."""
    import cv2

    cv2.setNumThreads(0)
