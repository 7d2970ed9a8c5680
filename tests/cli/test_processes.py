"""`dmlm fit` on two processes, sharded or not, is `dmlm fit` on one; a run that was killed on two goes on with one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import skip_without_shards

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# batch normalisation would see other batches; nothing else looks across a batch
FLAGS = {
    "model.encoder.image.freeze_norm": "true",
    "model.zero_shot.bootstrap": "20",
    "data.num_train": "24",
    "data.num_val": "46",  # 89 studies: the processes get unequally many batches
    "data.num_test": "6",
    "data.num_workers": "0",
    "trainer.accelerator": "cpu",
    "trainer.max_epochs": "3",
    "trainer.log_every_n_steps": "1",
    "trainer.enable_progress_bar": "false",
    "trainer.logger.save_dir": ".",
}


SHARDED = """
accelerator: cpu
devices: 2
strategy:
  class_path: lightning.pytorch.strategies.ModelParallelStrategy
  init_args: {data_parallel_size: 2, tensor_parallel_size: 1, save_distributed_checkpoint: false}
"""


def command(name: str, processes: int, *more: str) -> list[str]:
    flags = {**FLAGS, "trainer.logger.name": name, "trainer.devices": processes, "data.batch_size": 8 // processes}
    if "--trainer" not in more:
        flags["trainer.strategy"] = "auto" if processes == 1 else "ddp"
    options = [part for key, value in flags.items() for part in (f"--{key}", str(value))]
    return [sys.executable, "-m", "dmlm", "fit", "--config", str(ROOT / "cli.yaml"), *more, *options]


def run(folder: Path, name: str, processes: int, *more: str) -> Path:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = command(name, processes, *more)
    # processes that wait for each other would do so for half an hour
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / name / "version_0"


def scalars(run: Path) -> dict[str, dict[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, dict[int, float]] = {}
    for file in run.glob("events*"):
        events = EventAccumulator(str(file)).Reload()
        for tag in events.Tags()["scalars"]:
            found.setdefault(tag, {}).update({event.step: event.value for event in events.Scalars(tag)})
    return found


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("processes"), "one", 1)


def check(result: Path, wanted: Path, since: int = 0) -> None:
    given, expected = scalars(result), scalars(wanted)
    for tag in ("train_loss", "train_align", "train_kl_text", "train_kl_image", "val_auroc"):
        steps = [step for step in expected[tag] if step >= since]
        assert steps, tag
        # of 89 studies by towers that have hardly learned, a pair of scores may lie closer than rounding: its order is
        # worth up to a thousandth of the macro AUC
        near = 1e-3 if tag == "val_auroc" else 1e-5
        np.testing.assert_allclose(
            [given[tag][step] for step in steps], [expected[tag][step] for step in steps], atol=near, rtol=1e-5
        )
    first, second = (json.loads((folder / "metrics.json").read_text()) for folder in (wanted, result))
    assert first.keys() == second.keys()
    for key, value in first.items():
        if isinstance(value, float) and "threshold" not in key:
            assert second[key] == pytest.approx(value, abs=1e-5, nan_ok=True), key


def test_two_processes_train_and_test_as_one(one: Path) -> None:
    check(run(one.parents[1], "two", 2), one)


FROZEN = """
trainer:
  callbacks:
    - class_path: dmlm.tasks.FrozenEvaluation
      init_args: {few: 0.5, draws: 2, bootstrap: 20}
data: {init_args: {with_masks: true}}
"""


def test_a_frozen_encoder_is_measured_on_two_processes_as_on_one(tmp_path: Path) -> None:
    """The first process does it alone: it must see all data, and wait for nobody."""
    (tmp_path / "frozen.yaml").write_text(FROZEN)
    runs = [run(tmp_path, f"frozen{count}", count, "--config", str(tmp_path / "frozen.yaml")) for count in (1, 2)]
    tables = [[row.split(",") for row in (folder / "probe.csv").read_text().splitlines()[1:]] for folder in runs]
    assert tables[0]
    assert [row[:-1] for row in tables[0]] == [row[:-1] for row in tables[1]]
    scores = [np.array([float(row[-1]) for row in table]) for table in tables]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-2, atol=1e-2)
    first, second = (json.loads((folder / "metrics.json").read_text()) for folder in runs)
    assert first.keys() == second.keys()
    assert {"probe/auc_macro", "probe_few/auc_macro", "grounding/pointing", "masked/variance_rho"} <= first.keys()
    for key, value in first.items():
        if key.startswith(("probe/", "grounding/", "masked/")) and value is not None:
            # what is fitted to weights that differ in their last bits may order two images the other way round
            assert second[key] == pytest.approx(value, abs=0.02), key


@pytest.fixture
def sharded(tmp_path: Path) -> tuple[str, str]:
    skip_without_shards()
    (tmp_path / "sharded.yaml").write_text(SHARDED)
    return "--trainer", str(tmp_path / "sharded.yaml")


def test_two_sharded_processes_train_and_test_as_one(one: Path, sharded: tuple[str, str]) -> None:
    """Also before masked prediction joins in, when the predictor takes no part; tested are the best epoch's weights."""
    check(run(one.parents[1], "shards", 2, *sharded), one)


def test_a_run_that_was_killed_on_two_processes_goes_on_with_one(one: Path) -> None:
    killed_goes_on(one, "killed", 2, 1)


def test_a_run_that_was_killed_on_shards_goes_on_with_one(one: Path, sharded: tuple[str, str]) -> None:
    killed_goes_on(one, "killed_shards", 2, 1, sharded)


def test_a_run_that_was_killed_on_shards_goes_on_with_shards(one: Path, sharded: tuple[str, str]) -> None:
    killed_goes_on(one, "killed_twice", 2, 2, sharded, sharded)


def test_shards_refuse_a_run_that_was_not_sharded(one: Path, sharded: tuple[str, str]) -> None:
    more = ("--ckpt", str(one / "checkpoints" / "last.ckpt"))
    done = subprocess.run(
        command("refused", 2, *sharded, *more), cwd=one.parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "last.ckpt was not written by sharded training" in done.stderr
    assert "Traceback" not in done.stderr


def killed_goes_on(
    one: Path, name: str, before: int, after: int, how: tuple[str, ...] = (), then: tuple[str, ...] = ()
) -> None:
    folder = one.parents[1]
    last = folder / name / "version_0" / "checkpoints" / "last.ckpt"
    process = subprocess.Popen(
        command(name, before, *how),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        while not last.exists():
            assert process.poll() is None, "ended before its first checkpoint"
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    # where it was killed is a matter of time; what it left is a checkpoint of a whole epoch
    check(run(folder, f"resumed_{name}", after, *then, "--ckpt", str(last)), one, since=steps_done(last))


def steps_done(checkpoint: Path) -> int:
    import torch

    step = torch.load(checkpoint, weights_only=True)["global_step"]
    assert 0 < step < 18
    return int(step)
