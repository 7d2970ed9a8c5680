"""Fractions of a training split: nested, by patient, stratified, with every label."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmlm.datamodules import PhantomDataModule
from dmlm.datasets.base import SampleKey
from dmlm.datasets.fractions import nested_fraction, nested_order
from dmlm.errors import ConfigError, MismatchError


def cohort(patients: int, classes: int, seed: int, prevalence: float = 0.2) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    names = [f"p{patient}" for patient in range(patients) for _ in range(rng.integers(1, 4))]
    labels = rng.choice([1.0, 0.0, -1.0, np.nan], (len(names), classes), p=[prevalence, 0.7 - prevalence, 0.1, 0.2])
    return names, labels.astype(np.float32)


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 99), st.lists(st.floats(0.001, 1), min_size=2, max_size=2))
def test_nested_by_patient_and_every_label_is_there(patients, classes, seed, fractions) -> None:
    names, labels = cohort(patients, classes, seed)
    small, large = (nested_fraction(names, labels, fraction, seed) for fraction in sorted(fractions))
    assert set(small) <= set(large)
    kept = {names[row] for row in small}
    assert [row for row, name in enumerate(names) if name in kept] == small.tolist()
    exists = (labels == 1).any(0)
    np.testing.assert_array_equal((labels[small] == 1).any(0), exists)


def test_sizes_and_seeds() -> None:
    names, labels = cohort(2000, 3, 0)
    rows = {fraction: nested_fraction(names, labels, fraction) for fraction in (0.01, 0.1, 1.0)}
    assert {fraction: len({names[row] for row in found}) for fraction, found in rows.items()} == {
        0.01: 20,
        0.1: 200,
        1.0: 2000,
    }
    other = nested_fraction(names, labels, 0.1, seed=1)
    shared = len({names[row] for row in rows[0.1]} & {names[row] for row in other})
    assert shared < 60  # chance is 20
    np.testing.assert_array_equal(rows[0.1], nested_fraction(names, labels, 0.1))


def test_a_tenth_has_a_tenth_of_every_label() -> None:
    rng = np.random.default_rng(0)
    names = [f"p{patient}" for patient in range(5000)]
    labels = (rng.random((5000, 3)) < [0.5, 0.1, 0.02]).astype(np.float32)
    order, needed = nested_order(names, labels, 0)
    assert needed <= 3
    assert sorted(order) == sorted(names)
    shares = labels[nested_fraction(names, labels, 0.1)].sum(0) / labels.sum(0)
    np.testing.assert_allclose(shares, 0.1, atol=0.025)


def test_rows_without_labels_and_wrong_input() -> None:
    assert len(nested_fraction(["a", "b", "c", "d"], np.full((4, 2), np.nan, np.float32), 0.5)) == 2
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        nested_fraction(["a"], np.ones((1, 1), np.float32), 0)
    with pytest.raises(MismatchError, match="one row per sample"):
        nested_fraction(["a"], np.ones((2, 1), np.float32), 0.5)
    with pytest.raises(ConfigError, match=r"data\.fraction"):
        PhantomDataModule(fraction=1.5)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    def build(**arguments) -> PhantomDataModule:
        cache = str(tmp_path_factory.getbasetemp() / "fraction-phantoms")
        data = PhantomDataModule(24, 4, 4, 32, 8, cache=cache, num_workers=0, **arguments)
        data.prepare_data()
        data.setup()
        return data

    return build


def test_a_data_module_trains_on_the_fraction_and_validates_on_everything(phantoms) -> None:
    whole, part = phantoms(), phantoms(fraction=0.25, min_epoch_steps=5)
    assert len(part.val_dataset) == len(whole.val_dataset)
    assert len(part.test_dataset) == len(whole.test_dataset)
    assert len(set(part.train_dataset.patient_ids)) == 6
    assert set(part.train_dataset.patient_ids) < set(whole.train_dataset.patient_ids)
    assert part.label_names == whole.label_names
    assert part.train_dataset.labels.shape == (len(part.train_dataset), 9)
    batches = list(part.train_dataloader())
    assert len(batches) >= 5
    seen = {int(index) for batch in batches for index in batch["index"]}
    assert seen <= set(part.train_dataset.rows.tolist())
    assert len(list(part.train_eval_dataloader().dataset)) == len(part.train_dataset)
    sample = part.train_dataset[SampleKey(0, 3)]
    direct = whole.train_dataset[SampleKey(int(part.train_dataset.rows[0]), 3)]
    assert (sample["image"] == direct["image"]).all()


def test_passes_of_an_epoch_differ_in_augmentation(phantoms) -> None:
    data = phantoms(fraction=0.1, min_epoch_steps=4)
    keys = list(data.train_dataloader().sampler)
    assert len(set(keys)) == len(keys)  # the same sample comes again, in another pass
    assert len({key.index for key in keys}) == len(data.train_dataset) < len(keys)
    data.train_dataloader().sampler.set_epoch(1)


def test_a_fraction_smaller_than_a_batch_names_the_ways_out(phantoms) -> None:
    data = phantoms(fraction=0.01)
    data.batch_size = 64
    with pytest.raises(ConfigError, match=r"data\.batch_size to \d+ or less, or data\.min_epoch_steps"):
        data.train_dataloader()


def test_targets_and_masks_of_phantoms(phantoms) -> None:
    edema = phantoms(target="edema", with_masks=True, mask_of=["Pleural Effusion", "Edema"])
    assert edema.task == "multiclass"
    assert edema.num_classes == 4
    assert (edema.train_dataset.labels.sum(1) == 1).all()
    np.testing.assert_array_equal(edema.train_dataset.labels.argmax(1), edema.train_dataset.edema_grades)
    assert edema.mask_names == ("Pleural Effusion", "Edema")
    everything = phantoms(with_masks=True)
    names = everything.mask_names
    for index in range(6):
        two, all_masks = edema.train_dataset.masks(index), everything.train_dataset.masks(index)
        np.testing.assert_array_equal(two, all_masks[[names.index("Pleural Effusion"), names.index("Edema")]])
    one = phantoms(target="Cardiomegaly")
    assert (one.task, one.label_names, one.mask_names) == ("binary", ("Cardiomegaly",), ())
    assert one.train_dataset[0]["labels"].shape == (1,)
    with pytest.raises(ConfigError, match="no target 'Flu'"):
        phantoms(target="Flu")
    with pytest.raises(ConfigError, match="no mask of 'Flu'"):
        phantoms(with_masks=True, mask_of=["Flu"])
