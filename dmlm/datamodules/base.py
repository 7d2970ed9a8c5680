"""`ChestXrayDataModule`: splits, transforms and loaders that every data set shares."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader
from typing_extensions import Self

from dmlm._config import Configurable, build
from dmlm.datamodules.buckets import LengthBucketSampler
from dmlm.datamodules.samplers import EpochSampler
from dmlm.datamodules.workers import cores_of_a_process, start_worker
from dmlm.datasets.base import ChestXrayDataset, collate
from dmlm.datasets.fractions import DatasetPart, nested_fraction
from dmlm.datasets.splits import Split
from dmlm.datasets.transforms import AlbumentationsTransform, AugmentConfig, TrainTransform, Transform
from dmlm.errors import ConfigError
from dmlm.io.checkpoints import read_checkpoint

logger = logging.getLogger(__name__)

Task = Literal["multilabel", "binary", "multiclass"]

_INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"
_MOST_WORKERS = 4
_STAGES: dict[str | None, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
    None: ("train", "val", "test"),
}


class ChestXrayDataModule(Configurable, LightningDataModule, ABC):
    """Base of all data modules: a :class:`lightning.pytorch.LightningDataModule` that its checkpoint can rebuild.

    A subclass implements :meth:`make_dataset` and touches no files in ``__init__`` (files are read in ``prepare_data``
    and ``setup``). Facts about the data (``label_names``, ``num_classes``, ``task``, ``image_size``) hold after
    ``setup``; task modules compare them with their own.

    Args:
        image_size: Height and width of the images, in pixels.
        batch_size: Samples per batch and process.
        num_workers: Worker processes per loader; ``auto`` leaves one core to training and takes at most four.
        seed: Seed of order and augmentation.
        augment: Whether training images are varied.
        augmentation: How far; None takes the defaults of :class:`dmlm.datasets.AugmentConfig`.
        albumentations: Pipeline of albumentations steps to use instead, as plain data: a list of
            ``{"class_path": "albumentations.RandomGamma", "init_args": {"p": 0.5}}``.
        fraction: Share of the training patients to use, such as 0.01; nested (see
            :func:`dmlm.datasets.fractions.nested_fraction`). Validation and test stay whole.
        fraction_seed: Which patients those are.
        min_epoch_steps: An epoch has at least this many batches: a small training split is gone through several times
            within it. Ten epochs over 1 % of a data set would otherwise be a few dozen steps, and no training.
        bucket_texts: Whether the reports of a training batch have about equally many words, so that less is computed on
            padding. Worth it where whole reports are read (``views.statement_views: 0``); the text tower groups every
            batch by length in any case.

    Raises:
        ConfigError: If an option is out of range.
    """

    def __init__(
        self,
        image_size: int = 224,
        batch_size: int = 32,
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
        super().__init__()
        sizes = {"image_size": image_size, "batch_size": batch_size, "min_epoch_steps": min_epoch_steps}
        for name, value in sizes.items():
            if value < 1:
                msg = f"data.{name} must be at least 1, got {value}"
                raise ConfigError(msg)
        if seed < 0:
            msg = f"data.seed must be 0 or more, got {seed}"
            raise ConfigError(msg)
        if isinstance(num_workers, int) and num_workers < 0:
            msg = f"data.num_workers must be 'auto', or 0 or more, got {num_workers}"
            raise ConfigError(msg)
        if augmentation is not None and albumentations is not None:
            msg = "give data.augmentation or data.albumentations, not both: one would be ignored"
            raise ConfigError(msg)
        self.image_size = image_size
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.augment = augment
        # a rebuilt data module gets the dataclass as plain data
        self.augmentation = AugmentConfig(**augmentation) if isinstance(augmentation, Mapping) else augmentation
        self.albumentations = albumentations
        if not 0 < fraction <= 1:
            msg = f"data.fraction must be above 0 and at most 1 (0.01 is 1 %), got {fraction}"
            raise ConfigError(msg)
        self.fraction, self.fraction_seed, self.min_epoch_steps = fraction, fraction_seed, min_epoch_steps
        self.bucket_texts = bucket_texts
        self.train_dataset: ChestXrayDataset | None = None
        self.val_dataset: ChestXrayDataset | None = None
        self.test_dataset: ChestXrayDataset | None = None
        recorded = self.config
        # An explicit dict bypasses Lightning's walk over stack frames, whose result differs between CLI and Python.
        self.save_hyperparameters(
            {**recorded["init_args"], "_class_path": recorded["class_path"], "_instantiator": _INSTANTIATOR},
            logger=False,  # Lightning refuses to log when the model has an argument of the same name, such as seed
        )

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's is a custom descriptor
        cls,
        checkpoint_path: str | os.PathLike[str],
        **kwargs: Any,  # noqa: ANN401
    ) -> Self:
        """Rebuild the data module that a checkpoint was trained with; it reads its files from where they were then.

        Args:
            checkpoint_path: A ``.ckpt`` file.
            **kwargs: Constructor arguments that replace recorded ones, such as another ``path``.

        Raises:
            CheckpointError: If the file is damaged, or records no data module of this class.
        """
        recorded = dict(read_checkpoint(checkpoint_path).get(cls.CHECKPOINT_HYPER_PARAMS_KEY) or {})
        recorded.pop("_instantiator", None)
        path = recorded.pop("_class_path", "none")
        rebuilt: Self = build(
            {"class_path": path, "init_args": {**recorded, **kwargs}}, cls, os.fspath(checkpoint_path)
        )
        return rebuilt

    @abstractmethod
    def make_dataset(self, split: Split, transform: Transform | None) -> ChestXrayDataset:
        """Return a split, with the training transform or (None) without augmentation."""

    @property
    def task(self) -> Task:
        """Kind of label."""
        return "multilabel"

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, in the order of ``labels`` in a batch.

        Raises:
            ConfigError: If ``setup`` was not called yet.
        """
        for dataset in (self.train_dataset, self.val_dataset, self.test_dataset):
            if dataset is not None:
                return dataset.label_names
        msg = f"{type(self).__name__}: the labels are known after setup(); call setup() first"
        raise ConfigError(msg)

    @property
    def num_classes(self) -> int:
        """Number of labels."""
        return len(self.label_names)

    @property
    def mask_names(self) -> tuple[str, ...]:
        """Names of the ``masks`` of a batch, in their order; empty where batches hold none, or before ``setup``."""
        for dataset in (self.train_dataset, self.val_dataset, self.test_dataset):
            if dataset is not None:
                return dataset.mask_names
        return ()

    def setup(self, stage: str | None = None) -> None:
        """Open the splits that ``stage`` (fit, validate, test, predict; None for all) needs, unless they are open."""
        for split in _STAGES[stage]:
            if getattr(self, f"{split}_dataset") is None:
                if split == "train":
                    self.train_dataset = self._training_part(self.train_transform())
                else:
                    setattr(self, f"{split}_dataset", self.make_dataset(split, None))

    def train_transform(self) -> Transform | None:
        """Return what training images go through; None without augmentation."""
        if not self.augment:
            if self.augmentation is not None or self.albumentations is not None:
                logger.warning("data.augment is false: data.augmentation and data.albumentations have no effect")
            return None
        if self.albumentations is not None:
            return AlbumentationsTransform(self.image_size, self.albumentations)
        return TrainTransform(self.image_size, self.augmentation)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return shuffled, augmented training batches; an incomplete last batch is dropped.

        Raises:
            ConfigError: If the training split does not fill one batch on every process.
        """
        dataset = self._opened("train")
        world, _ = self._place()
        if self._passes(dataset) * len(dataset) // world < self.batch_size:
            most = max(1, len(dataset) // world)
            msg = (
                f"the training split has {len(dataset)} samples, too few for one batch of {self.batch_size} on each of "
                f"{world} process(es); set data.batch_size to {most} or less, or data.min_epoch_steps above 1 to go "
                "through them several times in an epoch"
            )
            raise ConfigError(msg)
        return self._loader(dataset, train=True)

    def train_eval_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the training split in its own order, not augmented, complete: for features of a linear probe."""
        return self._loader(self._training_part(None), train=False)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the validation split in its own order, complete."""
        return self._loader(self._opened("val"), train=False)

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the test split in its own order, complete."""
        return self._loader(self._opened("test"), train=False)

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the test split."""
        return self.test_dataloader()

    @staticmethod
    def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Stack tensors, keep everything else as lists (see :func:`dmlm.datasets.collate`)."""
        return collate(samples)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ANN401, ARG002
        """Move the tensors of a batch; reports stay.

        Lightning's own version descends into dataclasses and refuses frozen ones such as structured reports.
        """
        pinned = device.type == "cuda"
        return {
            key: value.to(device, non_blocking=pinned) if isinstance(value, torch.Tensor) else value
            for key, value in batch.items()
        }

    def auto_workers(self, cores: int) -> int:
        """Return the number of worker processes that ``num_workers="auto"`` means with ``cores`` cores a process."""
        return max(0, min(cores - 1, _MOST_WORKERS))

    def _training_part(self, transform: Transform | None) -> ChestXrayDataset:
        """Return the training split, or the fraction of it that was asked for."""
        whole = self.make_dataset("train", transform)
        if self.fraction == 1:
            return whole
        return DatasetPart(whole, nested_fraction(whole.patient_ids, whole.labels, self.fraction, self.fraction_seed))

    def _passes(self, dataset: ChestXrayDataset) -> int:
        """Return how often an epoch goes through the training split."""
        if self.min_epoch_steps == 1:
            return 1  # without the option, a split that does not fill a batch is an error that says so
        wanted = self.min_epoch_steps * self.batch_size * self._place()[0]
        return max(1, -(-wanted // max(1, len(dataset))))

    def _opened(self, split: Split) -> ChestXrayDataset:
        dataset: ChestXrayDataset | None = getattr(self, f"{split}_dataset")
        if dataset is None:
            msg = f"{type(self).__name__}: the split '{split}' is not open; call setup() first"
            raise ConfigError(msg)
        return dataset

    def _place(self) -> tuple[int, int]:
        """Return the number of processes and the rank of this one."""
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)

    def _loader(self, dataset: ChestXrayDataset, train: bool) -> DataLoader[dict[str, Any]]:
        workers = self.num_workers
        if workers == "auto":
            processes = 1 if self.trainer is None else self.trainer.num_devices
            workers = self.auto_workers(cores_of_a_process(processes))
        world, rank = self._place()
        passes = self._passes(dataset) if train else 1
        sampler = EpochSampler(dataset, world, rank, train, self.seed, passes)
        if train and self.bucket_texts:
            sampler = LengthBucketSampler(dataset.text_lengths(), self.batch_size, world, rank, self.seed, passes)
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=train,
            num_workers=workers,
            collate_fn=self.collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            worker_init_fn=start_worker,
        )
