"""Which process sees which sample, in which order: a function of seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from dmlm.datasets.base import SampleKey


class EpochSampler(DistributedSampler[SampleKey]):
    """Yields :class:`SampleKey` so that augmentation can depend on the epoch in any worker process.

    Lightning leaves a :class:`DistributedSampler` where it is and calls its ``set_epoch`` before every epoch.

    For training the order is drawn from ``[seed, epoch]``, and the tail that cannot be shared out evenly is left to
    later epochs, so that all processes make equally many steps. For evaluation the order is that of the data set, every
    sample is seen exactly once, and processes may differ by one sample. (Only if there are fewer samples than
    processes do the idle ones repeat sample 0, because a process without any batch would stall the others.)

    Args:
        dataset: Data set with a length.
        num_replicas: Number of processes.
        rank: Which of them this is.
        shuffle: True for training, False for evaluation.
        seed: Another seed gives another order.
        passes: How often an epoch of training goes through the data set; each pass has an order and augmentation of its
            own, because it counts as an epoch of its own.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        num_replicas: int = 1,
        rank: int = 0,
        shuffle: bool = False,
        seed: int = 0,
        passes: int = 1,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=shuffle, seed=seed, drop_last=shuffle)
        self.passes = passes

    def __iter__(self) -> Iterator[SampleKey]:
        return iter(self._keys())

    def __len__(self) -> int:
        size = len(self.dataset)  # type: ignore[arg-type]
        if self.shuffle:
            return self.passes * size // self.num_replicas
        return max(1, len(range(self.rank, size, self.num_replicas)))

    def _keys(self) -> list[SampleKey]:
        size = len(self.dataset)  # type: ignore[arg-type]
        if not self.shuffle:
            rows = list(range(self.rank, size, self.num_replicas)) or [0]
            return [SampleKey(row, self.epoch) for row in rows]
        order: list[SampleKey] = []
        for epoch in range(self.epoch * self.passes, (self.epoch + 1) * self.passes):
            order += [SampleKey(int(row), epoch) for row in np.random.default_rng([self.seed, epoch]).permutation(size)]
        return order[self.rank : len(self) * self.num_replicas : self.num_replicas]
