"""Draw the films of a folder of phantoms in processes of their own: all of them now, or while something else runs.

A process is ``python -m dmlm.datasets.phantom.drawing FOLDER PART PARTS NICE`` and draws every ``PARTS``-th block of
films. It is a command and not a pool of :mod:`multiprocessing`, so that a user's script needs no main guard, and it
ends with the process that started it, however that ends.
"""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from dmlm.datasets.phantom.film_store import FilmStore
from dmlm.datasets.phantom.store import open_films, plan_phantoms
from dmlm.errors import ConfigError
from dmlm.io.lock import lock, unlock

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.1
_NICE: Final = 10
_BLOCK: Final = 32
"""Films in a row that one process draws: studies of a patient share outlines."""


def generate_phantoms(
    root: str | os.PathLike[str],
    num_patients: Mapping[str, int],
    image_size: int,
    seed: int,
    workers: int = 1,
    progress: bool = True,
) -> Path:
    """Make phantoms with all their films, unless they are there already; an interrupted run goes on where it was.

    Args:
        root: Folder that keeps generated data sets; made where absent.
        num_patients: Patients per split (``train``, ``val``, ``test``), each with one to four studies.
        image_size: Height and width of the films in pixels, at least 32.
        seed: Seed, 0 or more.
        workers: Processes that draw; 1 draws in this one. The result does not depend on it.
        progress: Whether to show progress bars.

    Returns:
        The folder (see :func:`dmlm.datasets.phantom.store.phantom_folder`).

    Raises:
        ConfigError: If a parameter cannot be used, or ``root`` cannot be written.
        OSError: If the disk is full.
    """
    if workers < 1:
        msg = f"phantoms: workers must be at least 1, got {workers}"
        raise ConfigError(msg)
    folder = plan_phantoms(root, num_patients, image_size, seed, progress)
    draw_films(folder, workers, progress)
    return folder


def draw_films(folder: Path, workers: int = 1, progress: bool = True) -> None:
    """Draw the films that are not drawn yet, and return when all are.

    Args:
        folder: A folder of :func:`dmlm.datasets.phantom.store.plan_phantoms`.
        workers: Processes that draw; 1 draws in this one.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: If they cannot be drawn.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    films = open_films(folder)
    if films.num_drawn == len(films):
        return
    description = f"phantoms {films.image_size} px"
    with tqdm(total=len(films), desc=description, unit="film", disable=not progress, initial=films.num_drawn) as bar:
        for done in _one_by_one(films) if workers == 1 else _by_processes(films, workers):
            bar.update(done - bar.n)


def draw_beside(folder: Path, workers: int) -> bool:
    """See to it that films that are not drawn yet are drawn at low priority while this process goes on.

    What this starts ends when it is done, and with this process at the latest. Where a process of this machine draws
    for the folder already, or none can be started, nothing is started: films are drawn when they are read in any case.

    Args:
        folder: A folder of :func:`dmlm.datasets.phantom.store.plan_phantoms`.
        workers: Processes that draw.

    Returns:
        Whether there is something left to draw.
    """
    films = open_films(folder)
    if films.num_drawn == len(films):
        return False
    try:
        handle = lock(folder, "")
    except ConfigError:
        return True
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes.extend(_start(folder, part, workers, subprocess.DEVNULL, _NICE) for part in range(workers))
    except OSError as error:
        logger.warning("no process that draws phantoms can be started (%s): they are drawn when they are read", error)
    threading.Thread(target=_attend, args=(processes, handle), daemon=True).start()
    atexit.register(_end, processes)
    return True


def _attend(processes: list[subprocess.Popen[bytes]], handle: int | None) -> None:
    """Wait for processes that draw, so that the system may forget them, and let others draw."""
    for process in processes:
        process.wait()
    unlock(handle)


def _one_by_one(films: FilmStore) -> Iterator[int]:
    for row in range(len(films)):
        if films.draw(row) is not None:
            msg = f"{films.folder}: cannot be written; set DMLM_CACHE to a writable folder"
            raise ConfigError(msg)
        yield films.num_drawn


def _by_processes(films: FilmStore, workers: int) -> Iterator[int]:
    """Yield how many films are drawn, until all are."""
    with tempfile.TemporaryFile() as answers:
        processes: list[subprocess.Popen[bytes]] = []
        try:
            processes.extend(_start(films.folder, part, workers, answers, 0) for part in range(workers))
            while any(process.poll() is None for process in processes) and not any(p.returncode for p in processes):
                time.sleep(_LOOK_SECONDS)
                yield films.num_drawn
            failed = next((process.returncode for process in processes if process.returncode), 0)
            if failed:
                answers.seek(0)
                said = answers.read().decode(errors="replace").strip().rpartition("\n")[2] or f"status {failed}"
                msg = f"{films.folder}: a process that draws films ended ({said}); run the same command again"
                raise ConfigError(msg)
            yield films.num_drawn
        finally:
            _end(processes)


def _start(folder: Path, part: int, parts: int, answers: int | IO[bytes], nice: int) -> subprocess.Popen[bytes]:
    import dmlm

    command = [sys.executable, "-m", "dmlm.datasets.phantom.drawing", str(folder.absolute())]
    return subprocess.Popen(
        [*command, str(part), str(parts), str(nice)],
        # this package and no other, and nothing of the user's folder in the place of Python's modules
        cwd=Path(dmlm.__file__).absolute().parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=answers,
        start_new_session=True,
    )


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.stdin is not None:
            process.stdin.close()  # they leave then, also where they may not be terminated
        process.terminate()
    for process in processes:
        process.wait()


def _work(folder: str, part: str, parts: str, nice: str) -> None:
    import cv2

    cv2.setNumThreads(0)
    if hasattr(os, "nice"):
        os.nice(int(nice))
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    films, parent = open_films(Path(folder)), os.getppid()
    for row in range(len(films)):
        if os.getppid() != parent:
            return  # it ended, and a child of it still holds the other end of our input
        if row // _BLOCK % int(parts) == int(part) and films.draw(row) is not None:
            sys.exit("the folder cannot be written")


def _leave_with_parent() -> None:
    os.read(0, 1)  # not through sys.stdin, whose lock the end of the interpreter wants
    os._exit(1)


if __name__ == "__main__":
    _work(*sys.argv[1:])
