import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from dmlm.__main__ import main
from dmlm.errors import ConfigError
from dmlm.reproduce.plan import Cell, Plan, Run, Table
from dmlm.reproduce.runner import run_plan
from dmlm.reproduce.runs import (
    Status,
    blocked_by,
    command_of,
    folder_of,
    perform,
    put_status,
    read_metrics,
    read_status,
    write_plan_of,
)
from dmlm.reproduce.scale import Scale, trainer

PHANTOMS = {"num_train": 12, "num_val": 6, "num_test": 8, "image_size": 32, "batch_size": 4, "num_workers": 0}


def config(cache, epochs=1, **options):
    """A fit of a second or two."""
    encoder = Scale("smoke").encoder("Scratch")
    encoder["init_args"]["image"]["init_args"]["image_size"] = 32
    model = {"encoder": encoder, "num_classes": 1, "task": "binary", "bootstrap": 0, **options}
    return {
        "seed_everything": 0,
        "trainer": trainer({"max_epochs": epochs}, "val_auroc", "max", "cpu"),
        "model": {"class_path": "ClassificationModule", "init_args": model},
        "data": {
            "class_path": "PhantomDataModule",
            "init_args": {**PHANTOMS, "cache": str(cache), "target": "Consolidation"},
        },
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("phantoms")


def test_a_finished_run_is_not_repeated_and_a_broken_one_stops_no_other(cache, tmp_path):
    good, bad = Run("good", config(cache)), Run("bad", config(cache, num_classes=3))
    after = Run("after", config(cache), needs=("bad",))
    cells = tuple(Cell("r", name, "classify/auc_macro", (name,)) for name in ("good", "bad", "after"))
    plan = Plan((bad, good, after), (Table("t", "", ("r",), ("good", "bad", "after"), cells),))
    states = run_plan(plan, tmp_path, jobs=1, quiet=True)
    assert states["good"].state == "done"
    assert states["bad"].state == "failed"
    assert "num_classes" in states["bad"].reason
    assert states["after"] == Status("missing", f"needs bad, which is failed ({states['bad'].reason})")
    assert "classify/auc_macro" in read_metrics(folder_of(tmp_path, "good"))
    written = (folder_of(tmp_path, "good") / "metrics.json").stat().st_mtime_ns
    assert run_plan(plan, tmp_path, quiet=True)["bad"].attempts == 2
    assert (folder_of(tmp_path, "good") / "metrics.json").stat().st_mtime_ns == written
    other = Plan((Run("good", config(cache, epochs=2)),), ())
    with pytest.raises(ConfigError, match="another configuration"):
        run_plan(other, tmp_path, quiet=True)


def test_a_killed_run_resumes_from_its_last_checkpoint(cache, tmp_path):
    run = Run("long", config(cache, epochs=60))
    write_plan_of(run, tmp_path)
    code = (
        "import json,sys,pathlib;from dmlm.reproduce.plan import Run;from dmlm.reproduce.runs import perform;"
        "perform(Run('long', json.loads(sys.argv[1])), pathlib.Path(sys.argv[2]))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(run.config), str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    last = folder_of(tmp_path, "long") / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert read_status(folder_of(tmp_path, "long")).state == "running"
    assert command_of(run, tmp_path)[-2:] == ["--ckpt", str(last)]
    short = Run("long", {**run.config, "trainer": {**run.config["trainer"], "max_epochs": 61}})
    status = perform(short, tmp_path)
    assert status.state == "done"
    assert status.attempts == 2
    assert yaml.safe_load((last.parent.parent / "planned.yaml").read_text())["verb"] == "fit"


def test_a_finished_run_stays_finished_where_its_data_are_away(cache, tmp_path):
    def plan(missing):
        runs = (Run("first", {}, missing=missing), Run("broken", {}, missing=missing), Run("after", {}, ("first",)))
        return Plan(runs, ())

    put_status(folder_of(tmp_path, "first"), Status("done", "", 5.0, 1))
    put_status(folder_of(tmp_path, "broken"), Status("failed", "disk", 7.0, 2))
    put_status(folder_of(tmp_path, "after"), Status("done", "", 3.0, 1))
    states = run_plan(plan("data not there"), tmp_path, quiet=True)
    assert states == {
        "first": Status("done", "", 5.0, 1),
        "broken": Status("missing", "data not there", 7.0, 2),
        "after": Status("done", "", 3.0, 1),
    }
    assert blocked_by(plan("").runs[2], tmp_path) == ""


def test_words_become_paths(tmp_path):
    best = folder_of(tmp_path, "p") / "checkpoints" / "best.ckpt"
    best.parent.mkdir(parents=True)
    best.touch()
    run = Run("a", {"x": ["{best:p}", {"y": "{folder}/z"}], "n": 3}, needs=("p",))
    command = command_of(run, tmp_path)
    resolved = yaml.safe_load(Path(command[2]).read_text())
    assert resolved == {"x": [str(best), {"y": f"{folder_of(tmp_path, 'a')}/z"}], "n": 3}
    best.unlink()
    with pytest.raises(ConfigError, match="run 'p' first"):
        command_of(run, tmp_path)
    assert blocked_by(run, tmp_path) == "needs p, which is planned"
    assert blocked_by(Run("b", {}, missing="no data"), tmp_path) == "no data"


def test_a_worker_that_dies_is_said_and_the_others_go_on(tmp_path, monkeypatch):
    started = [sys.executable, "-c", "import sys; sys.stdin.readline(); sys.exit(9)"]
    real = subprocess.Popen
    monkeypatch.setattr("dmlm.reproduce.runner.subprocess.Popen", lambda _, **options: real(started, **options))
    states = run_plan(Plan((Run("a", {}), Run("b", {}), Run("c", {})), ()), tmp_path, jobs=2, quiet=True)
    assert {status.state for status in states.values()} == {"failed"}
    assert "status 9" in states["a"].reason


def test_command_line_lists_writes_slurm_and_refuses_wrong_tasks(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "table4", "--list"]) == 0
    assert "edema-D-MLM-s0" in capsys.readouterr().out
    assert main(["reproduce", "table4", "--slurm", "go.sh"]) == 0
    assert subprocess.run(["bash", "-n", "go.sh"], check=True).returncode == 0
    assert main(["reproduce", "table4", "--task", "99"]) == 2
    assert main(["reproduce", "table4", "--task", "3"]) == 2
    error = capsys.readouterr().err
    assert "runs 0 to 3" in error
    assert "needs pretrain, which is planned" in error
    assert main(["reproduce", "tabel4"]) == 2


def test_tables_of_what_is_there_need_no_run(tmp_path, capsys):
    put_status(folder_of(tmp_path, "edema-Scratch-s0"), Status("done", "", 1.0, 1))
    metrics = {"grade/auc_macro": 0.5, "grade/kappa": 0.25}
    (folder_of(tmp_path, "edema-Scratch-s0") / "metrics.json").write_text(json.dumps(metrics))
    assert main(["reproduce", "table4", "--gather", "--out", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "[50.00](runs/edema-Scratch-s0)" in out
    assert "*82.93*" in out
    assert (tmp_path / "table4.png").is_file()


def test_gathering_with_another_plan_leaves_the_tables_alone(tmp_path, capsys):
    name = "edema-Scratch-s0"
    put_status(folder_of(tmp_path, name), Status("done", "", 1.0, 1))
    (folder_of(tmp_path, name) / "planned.yaml").write_text("verb: fit\nneeds: []\nof: another plan\n")
    (tmp_path / "table4.md").write_text("before")
    assert main(["reproduce", "table4", "--gather", "--out", str(tmp_path)]) == 2
    assert "holds a run of another configuration" in capsys.readouterr().err
    assert (tmp_path / "table4.md").read_text() == "before"
