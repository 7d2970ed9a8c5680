import itertools

import pytest
from lightning.fabric.utilities.data import _set_sampler_epoch
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from dmlm.datamodules.samplers import EpochSampler
from dmlm.datasets.base import SampleKey


def ranks(size, world, **options):
    return [EpochSampler(range(size), world, rank, **options) for rank in range(world)]


@pytest.mark.parametrize(("size", "world"), [(10, 1), (10, 2), (11, 2), (13, 4)])
def test_training_ranks_are_disjoint_and_equally_long(size, world):
    for epoch in range(4):
        seen = []
        for sampler in ranks(size, world, shuffle=True):
            sampler.set_epoch(epoch)
            keys = list(sampler)
            assert len(keys) == len(sampler) == size // world
            assert all(isinstance(key, SampleKey) and key.epoch == epoch for key in keys)
            seen.append([key.index for key in keys])
        together = list(itertools.chain(*seen))
        assert len(set(together)) == len(together) == size // world * world


def test_over_the_epochs_every_sample_is_trained_on():
    seen = set()
    for epoch in range(12):
        for sampler in ranks(11, 4, shuffle=True):
            sampler.set_epoch(epoch)
            seen |= {key.index for key in sampler}
    assert seen == set(range(11))


def test_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        sampler = EpochSampler(range(50), shuffle=True, seed=seed)
        sampler.set_epoch(epoch)
        return [key.index for key in sampler]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)
    assert order(0, 1) != sorted(order(0, 1))


@pytest.mark.parametrize(("size", "world"), [(10, 1), (11, 2), (13, 4), (4, 4)])
def test_evaluation_sees_every_sample_once(size, world):
    seen = [[key.index for key in sampler] for sampler in ranks(size, world)]
    assert sorted(itertools.chain(*seen)) == list(range(size))
    assert [len(sampler) for sampler in ranks(size, world)] == [len(indices) for indices in seen]
    assert max(map(len, seen)) - min(map(len, seen)) <= 1


def test_idle_process_repeats_a_sample_rather_than_stall():
    assert [[key.index for key in sampler] for sampler in ranks(2, 3)] == [[0], [1], [0]]


def test_lightning_knows_the_sampler():
    loader = DataLoader(range(4), sampler=EpochSampler(range(4), shuffle=True))
    assert isinstance(loader.sampler, DistributedSampler)
    _set_sampler_epoch(loader, 7)
    assert {key.epoch for key in loader.sampler} == {7}
