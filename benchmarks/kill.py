"""``kill -9`` at random moments: does every command come to the same end as if nothing had happened?

``python -m benchmarks.kill [prepare|reports|fit|reproduce ...] [--kills N] [--seed S]`` runs each command once without
a fault, then kills it ``N`` times at random moments between its start and a little after its usual end, each time going
on with the same command, and compares the end byte by byte (for training: the losses of every step and all weights; for
``reproduce``: the tables).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

RUN = """
seed_everything: 0
test_after_fit: false
trainer:
  accelerator: cpu
  max_epochs: 6
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
  num_sanity_val_steps: 0
  logger: {class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: ., flush_logs_every_n_steps: 1}}
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {dirpath: kept, save_last: true, save_top_k: 0}
model:
  class_path: ClassificationModule
  init_args:
    encoder:
      class_path: dmlm.models.ProbabilisticEncoder
      init_args:
        embed_dim: 24
        num_heads: 4
        image:
          class_path: dmlm.models.TimmImageEncoder
          init_args:
            model_name: vit_tiny_patch16_224
            pretrained: false
            image_size: 32
            model_kwargs: {patch_size: 8, embed_dim: 24, depth: 2, num_heads: 2}
        text:
          class_path: dmlm.models.HFTextEncoder
          init_args:
            model_name: bert
            pretrained: false
            tokenizer: library
            hf_config:
              {model_type: bert, hidden_size: 24, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 48}
    num_classes: 1
    task: binary
    bootstrap: 0
data:
  class_path: PhantomDataModule
  init_args:
    {num_train: 24, num_val: 6, num_test: 8, image_size: 32, batch_size: 4, num_workers: 0, target: Consolidation}
"""


@dataclass
class Subject:
    """A command that is killed: how it is (re)started in a folder, and what must be the same at the end."""

    name: str
    prepare: Callable[[Path], None]
    command: Callable[[Path], list[str]]
    result: Callable[[Path], dict[str, str]]


def main() -> int:
    """Kill, go on, compare; the exit status is the number of subjects that did not come to the same end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=[subject.name for subject in SUBJECTS])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    failures = 0
    for subject in SUBJECTS:
        if subject.name in options.what:
            failures += not _one(subject, options.kills, random.Random(f"{options.seed}{subject.name}"))
    return failures


def _one(subject: Subject, kills: int, draw: random.Random) -> bool:
    with tempfile.TemporaryDirectory() as place:
        whole, broken = Path(place, "whole"), Path(place, "broken")
        for folder in (whole, broken):
            folder.mkdir()
            subject.prepare(folder)
        started = time.monotonic()
        _run(subject.command(whole), whole)
        usual = time.monotonic() - started
        expected = subject.result(whole)
        assert expected, f"{subject.name}: nothing to compare"
        hit = finished = 0
        for _ in range(kills):
            child = _start(subject.command(broken), broken)
            try:
                child.wait(draw.uniform(0, 1.1 * usual))
                finished += 1
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                hit += 1
        _run(subject.command(broken), broken)
        same = subject.result(broken) == expected
    verdict = "same end" if same else "NOT the same end"
    print(
        f"{subject.name}: {hit} kills, {finished} times done before; {usual:.1f} s without a fault; {verdict}",
        flush=True,
    )
    return same


def _start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DMLM_CACHE": str(folder.parent / "cache")}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dmlm", *command], cwd=folder, stdout=log, stderr=log, env=environment,
            start_new_session=True,
        )  # fmt: skip


def _run(command: list[str], folder: Path) -> None:
    status = _start(command, folder).wait()
    assert status == 0, f"{command}: exit status {status}\n{(folder / 'log.txt').read_text()[-2000:]}"


def _digests(*patterns: str) -> Callable[[Path], dict[str, str]]:
    def result(folder: Path) -> dict[str, str]:
        files = sorted(path for pattern in patterns for path in folder.glob(pattern))
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return result


def _images(folder: Path) -> None:
    _synthesize("nih", folder, 60)


def _texts(folder: Path) -> None:
    draw = random.Random(0)
    words = ["No pneumothorax.", "Small left pleural effusion.", "Heart size is normal.", "Mild pulmonary edema."]
    with (folder / "reports.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [(number, " ".join(draw.sample(words, 3))) for number in range(4000)]
        csv.writer(file).writerows([("study_id", "text"), *rows])


def _synthesize(name: str, folder: Path, patients: int) -> None:
    _run(["data", "synthesize", name, "set", "--patients", str(patients), "--image-size", "256"], folder)


# a finished file is kept as it is by --resume
BUILD = ["reports", "build", "reports.csv", "--out", "r.jsonl", "--workers", "1", "--quiet", "--resume"]


def _fit(folder: Path) -> list[str]:
    last = folder / "kept" / "last.ckpt"
    return ["fit", "--config", "run.yaml", *(["--ckpt", str(last)] if last.is_file() else [])]


def _weights(folder: Path) -> dict[str, str]:
    """Digest of every weight at the end, and the loss of each step as the last run that took it wrote it."""
    import torch

    found = torch.load(folder / "kept" / "last.ckpt", weights_only=True)
    values = {
        name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in found["state_dict"].items()
    }
    for path in sorted(folder.glob("lightning_logs/version_*/metrics.csv"), key=lambda path: path.stat().st_mtime):
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row.get("train_loss"):
                    values[f"loss of step {row['step']}"] = row["train_loss"]
    return values


PREPARE = ["data", "prepare", "set", "--out", "store", "--size", "64", "--workers", "2", "--quiet"]
REPRODUCE = ["reproduce", "table3", "--seeds", "1", "--out", "tables", "--quiet"]
SUBJECTS = (
    Subject("prepare", _images, lambda _: PREPARE, _digests("store/*")),
    Subject("reports", _texts, lambda _: BUILD, _digests("r.jsonl")),
    Subject("fit", lambda folder: (folder / "run.yaml").write_text(RUN) and None, _fit, _weights),
    Subject("reproduce", lambda _: None, lambda _: REPRODUCE, _digests("tables/*.csv")),
)


if __name__ == "__main__":
    sys.exit(main())
