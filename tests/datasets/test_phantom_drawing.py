"""Films drawn by processes of their own, or where they cannot be kept."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dmlm.datasets.phantom import PhantomDataset, drawing, film_store, generate_phantoms, plan_phantoms, store
from dmlm.errors import ConfigError

PATIENTS = {"train": 14, "val": 6, "test": 40}
SIZE = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return generate_phantoms(tmp_path_factory.mktemp("phantoms"), PATIENTS, SIZE, seed=1, progress=False)


@pytest.fixture
def planned(tmp_path):
    return plan_phantoms(tmp_path, PATIENTS, SIZE, seed=1, progress=False)


def contents(folder):
    return {name: (folder / name).read_bytes() for name in store.FILES}


def wait_until(true, seconds=120):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    assert true()


def test_films_that_cannot_be_kept_are_drawn_each_time(folder, planned, monkeypatch, caplog):
    """A folder of somebody else's, who stopped in the middle."""
    store.open_films(planned).draw(0)
    kept = film_store._map

    def refuse(path, mode):
        if mode == "r+":
            raise PermissionError(13, "Permission denied", str(path))
        return kept(path, mode)

    monkeypatch.setattr(film_store, "_map", refuse)
    whole = PhantomDataset(folder, "train", SIZE, with_masks=True)
    data = PhantomDataset(planned, "train", SIZE, with_masks=True)
    for index in (0, 1, 1, 2):
        np.testing.assert_array_equal(data.read(index).image, whole.read(index).image)
        np.testing.assert_array_equal(data.masks(index), whole.masks(index))
        assert data.masks(index).dtype == np.uint8
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"{planned}: cannot be written (Permission denied)" in caplog.text
    assert store.open_films(planned).num_drawn == 1
    with pytest.raises(ConfigError, match="cannot be written; set DMLM_CACHE"):
        drawing.draw_films(planned, progress=False)


def test_a_folder_that_is_gone_does_not_stop_training(folder, planned, caplog):
    data = PhantomDataset(planned, "val", SIZE)
    shutil.rmtree(planned)
    np.testing.assert_array_equal(data.read(0).image, PhantomDataset(folder, "val", SIZE).read(0).image)
    assert "No such file" in caplog.text


def test_another_working_directory_changes_nothing(folder, tmp_path, monkeypatch):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    data = PhantomDataset(plan_phantoms("cache", PATIENTS, SIZE, seed=1, progress=False), "val", SIZE)
    monkeypatch.chdir(tmp_path / "there")
    np.testing.assert_array_equal(data.read(0).image, PhantomDataset(folder, "val", SIZE).read(0).image)


def test_films_are_drawn_beside_what_runs(folder, planned, monkeypatch):
    started = []
    start = drawing._start

    def note(*arguments):
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(drawing, "_start", note)
    assert drawing.draw_beside(planned, workers=2)
    assert drawing.draw_beside(planned, workers=2)  # by the same two
    assert len(started) == 2
    films = store.open_films(planned)
    wait_until(lambda: films.num_drawn == len(films))
    assert contents(planned) == contents(folder)
    wait_until(lambda: all(process.returncode == 0 for process in started))  # nobody has to ask for it
    assert not drawing.draw_beside(planned, workers=2)
    assert len(started) == 2


def test_who_cannot_start_processes_draws_when_films_are_read(folder, planned, monkeypatch, caplog):
    monkeypatch.setattr(drawing.sys, "executable", "")
    assert drawing.draw_beside(planned, workers=1)
    assert "no process that draws phantoms can be started" in caplog.text
    np.testing.assert_array_equal(
        PhantomDataset(planned, "val", SIZE).read(0).image, PhantomDataset(folder, "val", SIZE).read(0).image
    )


def runs(pid):
    """Whether a process runs; one that ended and whose status nobody asked for does not."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("child", ["pass;", "os.fork() or time.sleep(30);"])
def test_what_draws_ends_with_the_process_that_started_it(tmp_path, child):
    """Even where that one is killed, and a child of it goes on: nothing is left that fills cores."""
    planned = plan_phantoms(tmp_path, {"train": 4000}, 64, 0, progress=False)
    code = (
        "import os, sys, time, subprocess; from pathlib import Path; from dmlm.datasets.phantom.drawing import _start\n"
        "started = _start(Path(sys.argv[1]), 0, 1, subprocess.DEVNULL, 10); print(started.pid, flush=True)\n"
        f"{child} sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(planned)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    pid = int(parent.stdout.readline())
    films = store.open_films(planned)
    wait_until(lambda: films.num_drawn)
    assert runs(pid)
    parent.kill()
    parent.wait()
    wait_until(lambda: not runs(pid), 20)
    assert films.num_drawn < len(films)
    parent.stdin.close()
    parent.stdout.close()


def test_the_end_of_a_script_is_the_end_of_what_draws(tmp_path):
    planned = plan_phantoms(tmp_path, {"train": 4000}, 64, 0, progress=False)
    code = (
        "import signal, sys; from pathlib import Path; from dmlm.datasets.phantom import drawing\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"  # what draws has this from us
        "drawing.draw_beside(Path(sys.argv[1]), 1)"
    )
    subprocess.run([sys.executable, "-c", code, str(planned)], check=True, timeout=60)
    drawn = store.open_films(planned).num_drawn
    time.sleep(0.5)
    assert store.open_films(planned).num_drawn == drawn


def test_a_folder_with_names_of_python_is_not_in_the_way(folder, planned, tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    drawing.draw_films(planned, workers=2, progress=False)
    assert contents(planned) == contents(folder)


def test_a_process_that_fails_to_draw_is_named(planned, monkeypatch):
    start = drawing._start

    def elsewhere(folder, part, *arguments):
        return start(folder / "gone" if part else folder, part, *arguments)

    monkeypatch.setattr(drawing, "_start", elsewhere)
    with pytest.raises(ConfigError, match=r"a process that draws films ended \(.*gone.*run the same command again"):
        drawing.draw_films(planned, workers=2, progress=False)


def test_much_that_is_said_does_not_stop_drawing(folder, planned, monkeypatch):
    monkeypatch.setenv("PYTHONVERBOSE", "1")
    drawing.draw_films(planned, workers=2, progress=False)
    assert contents(planned) == contents(folder)
