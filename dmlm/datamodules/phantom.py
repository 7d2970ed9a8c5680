"""`PhantomDataModule`: synthetic chest X-rays, made on the first run, so that everything runs without a data set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_info

from dmlm.datamodules.base import ChestXrayDataModule, Task
from dmlm.datamodules.workers import usable_cores
from dmlm.datasets.phantom import PhantomDataset, plan_phantoms
from dmlm.datasets.phantom.drawing import draw_beside, draw_films
from dmlm.datasets.splits import Split
from dmlm.datasets.transforms import AugmentConfig, Transform
from dmlm.errors import ConfigError
from dmlm.io.cache import cache_dir

_MANY = 4_000_000
"""Work (patients times pixels of a film and what does not depend on them) of some six seconds of one core."""


class PhantomDataModule(ChestXrayDataModule):
    """Synthetic radiographs with reports, labels and masks.

    They are drawn once (a sixth larger than ``image_size``, so that crops keep their sharpness) and kept; the same
    ``num_*``, ``image_size`` and ``data_seed`` give the same studies on every machine. Many are drawn by processes of
    their own while training runs: a film that is asked for before they come to it is drawn at once.

    Args:
        num_train: Patients in the training split; each has one to four studies.
        num_val: Patients in the validation split.
        num_test: Patients in the test split.
        image_size: Height and width of the images, in pixels.
        batch_size: Samples per batch and process.
        data_seed: Seed of what is drawn (apart from ``seed``, so that another training seed keeps the data).
        cache: Folder that keeps the generated data; None means ``phantoms`` in the cache folder of dmlm.
        with_masks: Whether batches hold ``masks``, the place of each finding.
        target: What the labels are: ``findings`` (multi-label), ``edema`` (four grades, multi-class), or the name of
            one finding (binary).
        mask_of: Findings that ``masks`` show, in this order; null shows all.
        num_workers: Worker processes per loader; ``auto`` is none or one, since nothing has to be decoded.
        seed: Seed of order and augmentation.
        augment: Whether training images are varied.
        augmentation: How far; None takes the defaults.
        albumentations: Pipeline of albumentations steps to use instead, as plain data.
        fraction: Share of the training patients to use, nested.
        fraction_seed: Which patients those are.
        min_epoch_steps: Least batches of an epoch; a small training split is gone through several times.
        bucket_texts: Whether the reports of a training batch have about equally many words, so that less is computed on
            padding. Worth it where whole reports are read (``views.statement_views: 0``); the text tower groups every
            batch by length in any case.

    Raises:
        ConfigError: If an option is out of range.
    """

    def __init__(
        self,
        num_train: int = 2000,
        num_val: int = 200,
        num_test: int = 400,
        image_size: int = 96,
        batch_size: int = 64,
        data_seed: int = 0,
        cache: str | None = None,
        with_masks: bool = False,
        target: str = "findings",
        mask_of: list[str] | None = None,
        num_workers: int | Literal["auto"] = "auto",
        seed: int = 0,
        augment: bool = True,
        augmentation: AugmentConfig | None = None,
        albumentations: list[dict[str, Any]] | None = None,
        fraction: float = 1.0,
        fraction_seed: int = 0,
        min_epoch_steps: int = 1,
        bucket_texts: bool = False,
    ) -> None:
        super().__init__(
            image_size,
            batch_size,
            num_workers,
            seed,
            augment,
            augmentation,
            albumentations,
            fraction,
            fraction_seed,
            min_epoch_steps,
            bucket_texts,
        )
        if data_seed < 0:
            msg = f"data.data_seed must be 0 or more, got {data_seed}"
            raise ConfigError(msg)
        self.num_patients = {"train": num_train, "val": num_val, "test": num_test}
        self.data_seed = data_seed
        self.cache = None if cache is None else os.fspath(cache)
        self.with_masks, self.target, self.mask_of = with_masks, target, mask_of

    @property
    def task(self) -> Task:
        """Kind of label."""
        return {"findings": "multilabel", "edema": "multiclass"}.get(self.target, "binary")  # type: ignore[return-value]

    def prepare_data(self) -> None:
        """Make up the studies and draw few films, or begin to draw many; one process per machine does this first."""
        folder = self._planned()
        work = sum(self.num_patients.values()) * (self._stored_size**2 + 2_700)
        if work < _MANY:
            draw_films(folder)
        elif draw_beside(folder, max(1, min(usable_cores() - 1, work // _MANY))):  # training takes a core itself
            rank_zero_info(f"phantoms: films are drawn while this runs, into {folder}")

    def make_dataset(self, split: Split, transform: Transform | None) -> PhantomDataset:
        """Return a split, with the training transform or (None) without augmentation."""
        return PhantomDataset(
            self._planned(),
            split,
            self.image_size,
            transform,
            self.seed,
            self.with_masks,
            self.target,
            self.mask_of,
        )

    def auto_workers(self, cores: int) -> int:
        """Return one worker from four cores on, else none.

        Films are read from memory-mapped files, a few hundredths of a step; on two cores a worker takes turns with
        the threads of the model, which then wait for each other.
        """
        return 1 if cores >= 4 else 0

    @property
    def _stored_size(self) -> int:
        return round(self.image_size * 7 / 6)

    def _planned(self) -> Path:
        root = cache_dir() / "phantoms" if self.cache is None else Path(self.cache).expanduser()
        return plan_phantoms(root, self.num_patients, self._stored_size, self.data_seed)
