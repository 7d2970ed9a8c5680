"""The files of examples/hardware: every one is read, and the SLURM script queues itself again and goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from dmlm.__main__ import main
from dmlm.datamodules import workers

ROOT = Path(__file__).parents[2]
HARDWARE = ROOT / "examples" / "hardware"


@pytest.mark.parametrize("name", sorted(path.name for path in HARDWARE.glob("*.yaml")))
def test_every_trainer_file_is_one(name, capsys):
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", str(ROOT / "cli.yaml"), "--trainer", str(HARDWARE / name), "--print_config"])
    assert done.value.code in (0, None)
    read = yaml.safe_load(capsys.readouterr().out)["trainer"]
    for key, value in yaml.safe_load((HARDWARE / name).read_text()).items():
        assert read[key] == value or read[key]["class_path"] == value["class_path"], key


@pytest.fixture
def job(tmp_path):
    """Submit a job with stand-ins for srun (notes its command; ends when a file says so) and scontrol."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "srun").write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" > srun.txt\nwhile [ ! -e end ]; do sleep 0.05; done\nexit $(cat end)\n'
    )
    (tools / "scontrol").write_text('#!/bin/sh\necho "$@" > scontrol.txt\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)

    def submit(*options: str) -> subprocess.Popen[bytes]:
        facts = {"SLURM_JOB_ID": "71", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "6"}
        paths = f"{tools}{os.pathsep}{os.environ['PATH']}"
        script = ["bash", str(HARDWARE / "slurm.sh"), "my config.yaml", *options]
        started = subprocess.Popen(script, cwd=tmp_path, env={**os.environ, **facts, "PATH": paths})
        wait(tmp_path / "srun.txt")
        return started

    return submit


def wait(path: Path) -> None:
    end = time.monotonic() + 30
    while not (path.exists() and path.stat().st_size) and time.monotonic() < end:
        time.sleep(0.02)
    assert path.stat().st_size


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("bash") is None, reason="SLURM runs on Linux")
def test_a_job_that_runs_out_of_time_is_queued_again_and_goes_on(job, tmp_path):
    first = job("--data.path", "a b.csv")
    asked = (tmp_path / "srun.txt").read_text().splitlines()
    assert asked[:6] == ["--kill-on-bad-exit=1", "--cpus-per-task=6", "dmlm", "fit", "--config", "my config.yaml"]
    assert asked[-4:] == ["--trainer.logger.init_args.save_dir", "runs/slurm-71", "--data.path", "a b.csv"]
    assert "--ckpt" not in asked
    first.send_signal(signal.SIGUSR1)
    wait(tmp_path / "scontrol.txt")
    assert (tmp_path / "scontrol.txt").read_text().split() == ["requeue", "71"]
    time.sleep(0.2)
    assert first.poll() is None  # the step goes on until SLURM ends it
    (tmp_path / "end").write_text("3")
    assert first.wait(30) == 3

    for number in (0, 1):  # what the job left, and another one
        for run in ("slurm-71/my run", "slurm-72/my run"):
            kept = tmp_path / "runs" / run / f"version_{number}" / "checkpoints" / "last.ckpt"
            kept.parent.mkdir(parents=True)
            kept.write_text("x")
            os.utime(kept, (1000 + number, 1000 + number))
    (tmp_path / "srun.txt").unlink()
    (tmp_path / "end").write_text("0")
    again = job("--ckpt", "given.ckpt")
    assert again.wait(30) == 0
    asked = (tmp_path / "srun.txt").read_text().splitlines()
    assert asked[-4:] == ["--ckpt", "given.ckpt", "--ckpt", "runs/slurm-71/my run/version_1/checkpoints/last.ckpt"]


def test_cores_of_a_process(monkeypatch):
    monkeypatch.setattr(workers, "usable_cores", lambda: 8)
    for name in ("SLURM_PROCID", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    assert workers.cores_of_a_process(4) == 2
    monkeypatch.setenv("SLURM_PROCID", "3")
    assert workers.cores_of_a_process(4) == 2  # nobody says what a task gets
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    assert workers.cores_of_a_process(4) == 6
    monkeypatch.setattr(workers, "usable_cores", lambda: 4)
    assert workers.cores_of_a_process(4) == 4
