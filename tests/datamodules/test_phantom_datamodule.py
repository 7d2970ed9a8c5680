import pytest
import torch

from dmlm._config import build
from dmlm.datamodules import ChestXrayDataModule, PhantomDataModule
from dmlm.datasets.phantom import LABEL_NAMES
from dmlm.errors import ConfigError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("phantoms")


def module(folder, **options):
    return PhantomDataModule(6, 2, 3, 48, batch_size=4, cache=str(folder), num_workers=0, **options)


def test_constructor_makes_nothing(tmp_path):
    module(tmp_path)
    assert not list(tmp_path.iterdir())


def test_batches_facts_and_disjoint_patients(folder):
    data = module(folder, with_masks=True)
    data.prepare_data()
    made = sorted(folder.iterdir())
    data.setup()
    assert sorted(folder.iterdir()) == made
    assert len(made) == 1
    assert "56px" in made[0].name
    assert data.label_names == tuple(LABEL_NAMES)
    assert (data.task, data.num_classes) == ("multilabel", len(LABEL_NAMES))
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (4, 1, 48, 48)
    assert batch["image"].dtype == torch.uint8
    assert batch["masks"].shape == (4, len(LABEL_NAMES), 48, 48)
    assert all(batch["text"])
    patients = [set(part.patient_ids) for part in (data.train_dataset, data.val_dataset, data.test_dataset)]
    assert [len(part) for part in patients] == [6, 2, 3]
    assert len(set.union(*patients)) == 11


def test_training_seed_changes_the_order_and_not_the_data(folder):
    one, other = module(folder), module(folder, seed=1)
    for data in (one, other):
        data.setup()
    assert torch.equal(one.test_dataset[0]["image"], other.test_dataset[0]["image"])
    orders = [next(iter(data.train_dataloader()))["index"].tolist() for data in (one, other)]
    assert orders[0] != orders[1]


def test_rebuilt_from_its_record(folder):
    copy = build(module(folder).config, ChestXrayDataModule)
    assert isinstance(copy, PhantomDataModule)
    copy.setup("test")
    assert len(set(copy.test_dataset.patient_ids)) == 3


def test_impossible_numbers_are_said(tmp_path):
    with pytest.raises(ConfigError):
        PhantomDataModule(-1, 2, 3, 48, cache=str(tmp_path)).prepare_data()
