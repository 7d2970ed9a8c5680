"""Batches of texts of similar length, so that little is computed on padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dmlm.datamodules.samplers import EpochSampler
from dmlm.datasets.base import SampleKey
from dmlm.errors import ConfigError


class LengthBucketSampler(EpochSampler):
    """An order in which every ``batch_size`` samples in a row have texts of similar length.

    Every epoch the samples are shuffled and cut into pools; each pool is sorted by length (ties as shuffled) and cut
    into batches of all processes together, and these are shuffled. Each process takes every ``num_replicas``-th sample
    of such a batch, so in a step all have texts of the same lengths and none waits for another. All make equally many
    steps; the tail of an epoch that does not fill a batch on every process is left to later epochs.

    Large pools pad less, and make batches less random: the reports of a batch are then of one length, which in
    contrastive training makes the wrong pairs more alike. It is a sampler like :class:`EpochSampler`, so Lightning
    leaves it where it is and sets its epoch; the loader's own ``batch_size`` cuts the batches.

    Args:
        lengths: Tokens of each sample's text, or anything that grows with them, such as characters.
        batch_size: Samples per batch and process, as the loader's.
        num_replicas: Number of processes.
        rank: Which of them this is.
        seed: Another seed gives another order.
        passes: How often an epoch goes through the data set; each pass has an order of its own.
        pool_batches: Batches (of all processes) that are sorted together.

    Raises:
        ConfigError: If the samples do not fill one batch on every process, or a number is out of range.
    """

    def __init__(
        self,
        lengths: Sequence[int] | NDArray[np.int64],
        batch_size: int,
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
        passes: int = 1,
        pool_batches: int = 200,
    ) -> None:
        self.lengths = np.asarray(lengths, dtype=np.int64)
        if batch_size < 1 or pool_batches < 1:
            msg = f"batch_size and pool_batches must be at least 1; got {batch_size} and {pool_batches}"
            raise ConfigError(msg)
        size = self.lengths.size
        if passes * size < batch_size * num_replicas:
            msg = (
                f"{size} samples do not fill a batch of {batch_size} on each of {num_replicas} process(es); set "
                f"data.batch_size to {max(1, size // num_replicas)} or less, or data.min_epoch_steps above 1"
            )
            raise ConfigError(msg)
        super().__init__(self.lengths, num_replicas, rank, shuffle=True, seed=seed, passes=passes)  # type: ignore[arg-type]  # a length is all it needs
        self.batch_size, self.pool_batches = batch_size, pool_batches

    def __len__(self) -> int:
        """Number of samples of this process; a multiple of ``batch_size``."""
        return self.passes * self.lengths.size // (self.batch_size * self.num_replicas) * self.batch_size

    def padding(self) -> float:
        """Return the share of padding in this epoch's batches of this process, 0 to 1."""
        rows = self.lengths[[key.index for key in self._keys()]].reshape(-1, self.batch_size)
        computed = int(rows.max(axis=1).sum()) * self.batch_size
        return 1.0 - int(rows.sum()) / computed if computed else 0.0

    def _keys(self) -> list[SampleKey]:
        size = self.batch_size * self.num_replicas
        keys: list[SampleKey] = []
        rest = np.zeros((0, 2), np.int64)  # row and epoch of what a pass leaves over, which goes into the next one
        for epoch in range(self.epoch * self.passes, (self.epoch + 1) * self.passes):
            rng = np.random.default_rng([self.seed, epoch])
            fresh = rng.permutation(self.lengths.size)
            order = np.concatenate([rest, np.stack([fresh, np.full_like(fresh, epoch)], 1)])
            order, rest = np.split(order, [len(order) // size * size])
            batches: list[NDArray[np.int64]] = []
            for start in range(0, len(order), self.pool_batches * size):
                pool = order[start : start + self.pool_batches * size]
                by_length = np.argsort(self.lengths[pool[:, 0]], kind="stable")
                batches += list(pool[by_length].reshape(-1, size, 2))
            for place in rng.permutation(len(batches)):
                keys += [
                    SampleKey(row, drawn) for row, drawn in batches[place][self.rank :: self.num_replicas].tolist()
                ]
        return keys
