"""Where the time of fine-tuning goes, and whether the memory of a large test stays flat.

``python -m benchmarks.finetuning`` prints the figures. Training reads a prepared store of NIH's layout in the process
that trains, without workers: the share of model compute is what a machine without a spare core gets. The test reads
25,596 images, NIH's official number.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import SimpleProfiler
from lightning.pytorch.utilities.types import STEP_OUTPUT

from dmlm.datamodules import ManifestDataModule, NIHChestXray14DataModule
from dmlm.models import HFTextEncoder, ProbabilisticEncoder, TimmImageEncoder
from dmlm.tasks import ClassificationModule

TESTED = 25_596
STEPS = 4
TOWERS = {
    "vit_base_224": ("vit_base_patch16_224", 224, 4),
    "vit_small_224": ("vit_small_patch16_224", 224, 16),
    "efficientnet_lite0_96": ("tf_efficientnet_lite0", 96, 32),
}
"""Name of a figure: timm's name, side of the images, batch."""


def measure() -> dict[str, float]:
    """Return shares of model compute in training, and resident memory during a test of 25,596 images."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _store(folder)
        for tower, (model, side, batch) in TOWERS.items():
            data = NIHChestXray14DataModule(
                str(folder / "nih"), side, batch, store=str(folder / "store"), num_workers=0, min_epoch_steps=STEPS + 2
            )
            figures[f"finetuning_model_share_{tower}"] = _share(model, side, data)
        figures |= _test_memory(folder)
    return figures


def _store(folder: Path) -> None:
    for words in (
        ("data", "synthesize", "nih", str(folder / "nih")),
        ("data", "prepare", str(folder / "nih"), "--out", str(folder / "store")),
    ):
        subprocess.run([sys.executable, "-m", "dmlm", *words], check=True, stdout=subprocess.DEVNULL)


def _encoder(model: str, side: int) -> ProbabilisticEncoder:
    shape = {"model_type": "bert", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    text = HFTextEncoder("bert", pretrained=False, hf_config={**shape, "intermediate_size": 64}, tokenizer="library")
    return ProbabilisticEncoder(TimmImageEncoder(model, False, side), text, 64, "mlp", 4)


def _share(model: str, side: int, data: NIHChestXray14DataModule) -> float:
    """Share of a full tuning's steps, after the first two, that is forward, backward and optimiser."""
    task = ClassificationModule(_encoder(model, side), 14, "multilabel")
    profiler = SimpleProfiler()
    with tempfile.TemporaryDirectory() as name:
        trainer = Trainer(
            max_steps=STEPS + 2,
            limit_val_batches=0,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=name,
            profiler=profiler,
        )
        trainer.fit(task, datamodule=data)
    waits = next(values for key, values in profiler.recorded_durations.items() if key.endswith("train_dataloader_next"))
    steps = profiler.recorded_durations["run_training_batch"]
    compute, wait = sum(steps[2:]), sum(waits[2 : len(steps)])
    return compute / (compute + wait)


class _Resident(Callback):
    """Resident memory of the process during a test, in MiB, by share of the batches done."""

    def __init__(self, batches: int) -> None:
        self.seen: dict[int, float] = {}
        self.batches = batches

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: object, batch_idx: int, *_: int
    ) -> None:
        del trainer, pl_module, outputs, batch
        done = 100 * (batch_idx + 1) // self.batches
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.seen.setdefault(done, pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


def _test_memory(folder: Path) -> dict[str, float]:
    from PIL import Image

    rng, labels = np.random.default_rng(0), [f"label{k}" for k in range(14)]
    for k in range(64 + 16):
        Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).save(folder / f"{k}.png")
    lines = [",".join(["path", "patient_id", "study_id", "split", *labels])]
    for row in range(TESTED + 16):
        split = "test" if row >= 16 else "train" if row < 8 else "val"
        values = ",".join(map(str, rng.integers(0, 2, 14)))
        image = row % 64 if row >= 16 else 64 + row  # one image in two splits would be refused as a leak
        lines.append(f"{image}.png,p{row},s{row},{split},{values}")
    (folder / "many.csv").write_text("\n".join(lines) + "\n")
    data = ManifestDataModule(
        str(folder / "many.csv"), 32, 64, label_columns=labels, num_workers=0, cache_images=False, text_column=None
    )
    task = ClassificationModule(_encoder("test_resnet", 32), 14, "multilabel", bootstrap=100)
    watch = _Resident(-(-TESTED // 64))
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder / "test"),
        callbacks=[watch],
    )
    trainer.test(task, datamodule=data, verbose=False)
    return {
        "finetuning_test_images": float(TESTED),
        "finetuning_test_resident_mib_at_10_percent": watch.seen[10],
        "finetuning_test_resident_mib_at_50_percent": watch.seen[50],
        "finetuning_test_resident_mib_at_100_percent": watch.seen[100],
        "finetuning_test_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
