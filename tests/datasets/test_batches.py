"""Samples asked for together: the same as one by one, in the rows of one tensor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dmlm.datasets import ChestXrayDataset, EvalTransform, SampleKey, TrainTransform, collate
from dmlm.datasets.base import RawSample, _rng
from dmlm.datasets.fractions import DatasetPart
from dmlm.errors import DatasetFormatError
from dmlm.reports.schema import StructuredReport

SIZE = 24


class Noise(ChestXrayDataset):
    """Nine studies of random pixels."""

    label_names = ("a", "b")

    def __len__(self) -> int:
        return 9

    def read(self, index: int) -> RawSample:
        rng = np.random.default_rng(index)
        pixels = rng.integers(0, 256, (40, 36 + index), dtype=np.uint8)
        masks = rng.integers(0, 2, (1, 40, 36 + index), dtype=np.uint8)
        return RawSample(
            pixels, StructuredReport(str(index), ()), f"t{index}", self.labels[index], str(index), "p", masks
        )

    @property
    def labels(self):
        return np.array([[k, np.nan] for k in range(9)], np.float32)

    @property
    def patient_ids(self):
        return ["p"] * 9


KEYS = [SampleKey(4, 2), SampleKey(0, 2), SampleKey(8, 1)]


def same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == other[name].dtype, name
            torch.testing.assert_close(value, other[name], rtol=0, atol=0, equal_nan=True)
        else:
            assert value == other[name]


@pytest.mark.parametrize("transform", [None, TrainTransform(SIZE)])
@pytest.mark.parametrize("part", [False, True])
def test_together_or_one_by_one(transform, part):
    data = Noise(SIZE, transform, seed=3)
    if part:
        data = DatasetPart(data, np.array([8, 7, 6, 5, 4, 3, 2, 1, 0]))
    together, single = data.__getitems__(KEYS), [data[key] for key in KEYS]
    for one, other in zip(together, single, strict=True):
        same(one, other)
    same(collate(together), collate(single))
    batch = collate(together)
    assert [batch[name].dtype for name in ("image", "labels", "index", "matrix", "stored_size")] == [
        torch.uint8, torch.float32, torch.int64, torch.float32, torch.int64
    ]  # fmt: skip
    assert batch["index"].tolist() == ([4, 8, 0] if part else [4, 0, 8])
    assert batch["stored_size"].tolist()[0] == [40, 40]


def test_a_batch_is_not_copied():
    samples = Noise(SIZE, TrainTransform(SIZE)).__getitems__(KEYS)
    batch = collate(samples)
    for name in ("image", "labels", "index", "matrix", "stored_size"):
        assert batch[name].data_ptr() == samples[0][name].data_ptr(), name
    # other rows, another order, or fewer of them are copied
    for chosen in (samples[::-1], samples[:2], [samples[0], samples[0], samples[2]]):
        copied = collate(chosen)
        assert copied["index"].tolist() == [int(sample["index"]) for sample in chosen]
        assert copied["image"].data_ptr() != samples[0]["image"].data_ptr()


def test_rows_that_were_turned_stay_turned():
    """They begin in memory where the row began."""
    samples = Noise(SIZE).__getitems__(KEYS)
    turned = [{**one, "image": one["image"].mT, "labels": one["labels"][:1].expand(2)} for one in samples]
    for some in (turned, turned[:1]):
        batch = collate(some)
        for k, one in enumerate(some):
            assert torch.equal(batch["image"][k], one["image"])
            assert batch["labels"][k].tolist() == one["labels"].tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_asks_for_them_together(workers):
    data = Noise(SIZE, TrainTransform(SIZE), seed=1)
    loader = DataLoader(data, 4, sampler=[SampleKey(k, 5) for k in range(9)], collate_fn=collate, num_workers=workers)
    batches = list(loader)
    assert [len(batch["image"]) for batch in batches] == [4, 4, 1]
    for k, image in enumerate(torch.cat([batch["image"] for batch in batches])):
        torch.testing.assert_close(image, data[SampleKey(k, 5)]["image"], rtol=0, atol=0)


class Marked(Noise):
    """A data set that makes its samples in its own way."""

    def __getitem__(self, key):
        return {**super().__getitem__(key), "mark": 1}


class MarkedPart(DatasetPart):
    """A part that does so."""

    def __getitem__(self, key):
        return {**super().__getitem__(key), "mark": 1}


class Inverted(TrainTransform):
    """A transform that goes on from ours."""

    def __call__(self, image, masks, rng):
        done = super().__call__(image, masks, rng)
        return done._replace(image=255 - done.image)


def test_what_users_override_is_what_they_get():
    assert all(sample["mark"] == 1 for sample in Marked(SIZE).__getitems__(KEYS))
    assert all(sample["mark"] == 1 for sample in MarkedPart(Noise(SIZE), np.arange(9)).__getitems__(KEYS))
    plain, inverted = (Noise(SIZE, make(SIZE)).__getitems__(KEYS) for make in (TrainTransform, Inverted))
    for one, other in zip(plain, inverted, strict=True):
        assert torch.equal(one["image"], 255 - other["image"])


@pytest.mark.parametrize("transform", [EvalTransform(20), TrainTransform(20), Inverted(20)])
def test_a_transform_of_another_size_is_named(transform):
    with pytest.raises(DatasetFormatError, match=r"shape \[20, 20\], expected \[24, 24\]"):
        Noise(SIZE, transform).__getitems__(KEYS)


class Deep(Noise):
    """Pixels as a radiograph stores them."""

    def read(self, index):
        raw = super().read(index)
        return replace(raw, image=raw.image.astype(np.uint16) * 16)


class Scaled(EvalTransform):
    """Grey levels as numbers from 0 to 1."""

    def __call__(self, image, masks, rng=None):
        done = super().__call__(image, masks, rng)
        return done._replace(image=done.image / np.float32(255))


@pytest.mark.parametrize(
    ("data", "expected"),
    [(Deep(SIZE), "study '4': it was read as uint16"), (Noise(SIZE, Scaled(SIZE)), "the transform gave float32")],
)
def test_pixels_that_are_no_bytes_are_named(data, expected):
    with pytest.raises(DatasetFormatError, match=expected + ", expected uint8"):
        data.__getitems__(KEYS)


def test_samples_that_are_not_there():
    data = Noise(SIZE)
    with pytest.raises(IndexError, match="sample 9 does not exist"):
        data.__getitems__([0, 9])
    same(data[-1], data[8])


@pytest.mark.parametrize("numbers", [(0, 0, 0), (7, 3, 12345), (2**32 - 1, 0, 1), (2**32, 1, 2), (2**40 + 5, 9, 9)])
def test_draws_of_a_sample_come_from_seed_epoch_and_index(numbers):
    with pytest.raises(ValueError, match="non-negative"):
        _rng(-1, 0, 0)
    assert _rng(*numbers).random(4).tolist() == np.random.default_rng(list(numbers)).random(4).tolist()
