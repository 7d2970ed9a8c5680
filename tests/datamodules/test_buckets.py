"""Batches of similar length."""

from collections import Counter

import numpy as np
import pytest
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from dmlm.datamodules.buckets import LengthBucketSampler
from dmlm.errors import ConfigError

LENGTHS = np.random.default_rng(0).gamma(4.0, 60.0, 30_000).astype(np.int64) + 10


def batches(sampler):
    keys = list(sampler)
    return [[key.index for key in keys[n : n + sampler.batch_size]] for n in range(0, len(keys), sampler.batch_size)]


@pytest.mark.parametrize("world", [1, 4])
def test_processes_share_the_samples_and_the_lengths_of_a_step(world):
    samplers = [LengthBucketSampler(LENGTHS, 32, world, rank) for rank in range(world)]
    steps = [batches(sampler) for sampler in samplers]
    count = len(LENGTHS) // (32 * world)
    assert [len(rows) for rows in steps] == [count] * world
    assert all(len(batch) == 32 for rows in steps for batch in rows)
    seen = [index for rows in steps for batch in rows for index in batch]
    assert len(set(seen)) == len(seen) == count * 32 * world
    for batch in zip(*steps, strict=True):
        longest = [LENGTHS[rows].max() for rows in batch]
        assert max(longest) <= 1.3 * min(longest)


def test_padding_is_at_most_three_percent_and_far_below_that_of_a_random_order():
    sampler = LengthBucketSampler(LENGTHS, 64, 2, 1)
    rows = [LENGTHS[batch] for batch in batches(sampler)]
    waste = 1 - sum(row.sum() for row in rows) / sum(row.max() * len(row) for row in rows)
    assert sampler.padding() == pytest.approx(waste)
    assert waste <= 0.03
    order = np.random.default_rng(1).permutation(len(LENGTHS))[: 468 * 64].reshape(-1, 64)
    random = 1 - LENGTHS[order].sum() / (LENGTHS[order].max(axis=1).sum() * 64)
    assert random > 0.4


def test_order_depends_on_seed_and_epoch_alone():
    sampler = LengthBucketSampler(LENGTHS, 32)
    first = batches(sampler)
    assert batches(LengthBucketSampler(LENGTHS, 32)) == first
    assert batches(LengthBucketSampler(LENGTHS, 32, seed=1)) != first
    sampler.set_epoch(1)
    assert batches(sampler) != first
    assert {key.epoch for key in sampler} == {1}
    sampler.set_epoch(0)
    assert batches(sampler) == first
    # neighbours in length meet in no fixed company, and short batches do not all come first
    longest = np.array([LENGTHS[batch].max() for batch in first])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


def test_passes_have_orders_of_their_own():
    sampler = LengthBucketSampler(LENGTHS[:1000], 32, passes=3)
    rows = batches(sampler)
    assert len(rows) == 3 * 31 == len(sampler) // 32
    assert rows[:31] != rows[31:62]
    assert [key.epoch for key in sampler][:: 31 * 32] == [0, 1, 2]


def test_what_a_pass_leaves_over_goes_into_the_next():
    sampler = LengthBucketSampler(LENGTHS[:40], 64, passes=5)
    keys = list(sampler)
    assert len(keys) == len(sampler) == 3 * 64
    counts = Counter(keys)
    assert set(counts.values()) == {1}
    assert Counter(key.epoch for key in keys)[0] == 40


def test_a_loader_cuts_the_batches():
    sampler = LengthBucketSampler(LENGTHS[:100], 8)
    assert isinstance(sampler, DistributedSampler)  # Lightning then keeps it and sets its epoch

    class Items:
        def __len__(self):
            return 100

        def __getitem__(self, key):
            return key.index

    loader = DataLoader(Items(), batch_size=8, sampler=sampler, drop_last=True)
    assert [batch.tolist() for batch in loader] == batches(sampler)
    assert len(loader) == 12


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((LENGTHS[:7], 8), "7 samples do not fill"), ((LENGTHS, 0), "at least 1"), ((LENGTHS[:20], 8, 3), "6 or less")],
)
def test_faults(arguments, named):
    with pytest.raises(ConfigError, match=named):
        LengthBucketSampler(*arguments)
