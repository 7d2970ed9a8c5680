"""Masks in a CSV: one column each, checked with the rows, brought to the image's grid."""

import csv

import numpy as np
import pytest
from PIL import Image

from dmlm.datamodules import ManifestDataModule
from dmlm.datasets import ManifestDataset, ManifestFormat, TrainTransform, read_manifest
from dmlm.errors import ConfigError, DatasetFormatError, ImageReadError

MASKED = ManifestFormat(text_column=None, mask_columns=("lung", "heart"), mask_names=("Lung", "Heart"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DMLM_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def table(tmp_path):
    """Three images of 40 x 56 whose left half is lung; the heart is a square, and absent in the last."""
    rows = [["path", "split", "lung", "heart"]]
    for number, split in enumerate(("train", "val", "test")):
        lung, heart = np.zeros((40, 56), np.uint8), np.zeros((40, 56), np.uint8)
        lung[:, :28] = 255
        heart[10:20, 30:40] = 1 if number < 2 else 0
        pixels = np.random.default_rng(number).integers(0, 256, (40, 56), dtype=np.uint8)
        for name, picture in (("image", pixels), ("lung", lung), ("heart", heart)):
            Image.fromarray(picture).save(tmp_path / f"{name}{number}.png")
        rows.append([f"image{number}.png", split, f"lung{number}.png", f"heart{number}.png"])
    write(tmp_path, rows)
    return tmp_path / "data.csv"


def write(folder, rows):
    with (folder / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def rows_of(table):
    with table.open(newline="") as file:
        return list(csv.reader(file))


def test_masks_follow_the_image(table):
    dataset = ManifestDataset(read_manifest(table, MASKED), "train", 20)
    assert dataset.mask_names == ("Lung", "Heart")
    sample = dataset[0]
    assert sample["masks"].shape == (2, 20, 20)
    # the centre square of 40 x 56 begins at column 8, so the lung is the first 20 of its 40 columns
    assert sample["masks"][0, :, :10].all()
    assert not sample["masks"][0, :, 10:].any()
    assert sample["masks"][1].sum() == 25
    assert not ManifestDataset(read_manifest(table, MASKED), "test", 20)[0]["masks"][1].any()


def test_masks_move_with_augmentation(table):
    with Image.open(table.parent / "lung0.png") as lung:
        lung.save(table.parent / "image0.png")  # the image is its own mask
    sample = ManifestDataset(read_manifest(table, MASKED), "train", 32, TrainTransform(32), seed=3)[0]
    same = (sample["image"][0] > 127) == (sample["masks"][0] == 1)
    assert same.float().mean() > 0.97


def test_mask_of_a_finer_grid_is_brought_to_the_image(table):
    large = np.zeros((80, 112), np.uint8)
    large[:, :56] = 255
    Image.fromarray(large).save(table.parent / "lung0.png")
    raw = ManifestDataset(read_manifest(table, MASKED), "train", 20).read(0)
    assert raw.masks.shape == (2, *raw.image.shape)
    assert raw.masks[0].mean() == 0.5


def test_rows_without_a_mask_are_named(table):
    rows = rows_of(table)
    rows[1][2], rows[2][3] = "", "lost.png"
    write(table.parent, rows)
    with pytest.raises(
        DatasetFormatError, match=r"empty mask path .*black picture.*line 2.*mask file not found.*line 3"
    ):
        read_manifest(table, MASKED)


def test_mask_of_another_field_or_of_many_values_is_refused_with_its_line(table):
    manifest = read_manifest(table, MASKED)
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(table.parent / "heart0.png")
    with pytest.raises(DatasetFormatError, match=r"line 2: .*heart0.png: its mask is 40 x 40, the image 40 x 56"):
        ManifestDataset(manifest, "train", 20)[0]
    Image.fromarray(np.arange(2240).astype(np.uint8).reshape(40, 56)).save(table.parent / "heart0.png")
    with pytest.raises(DatasetFormatError, match=r"line 2: .*has 256 values"):
        ManifestDataset(manifest, "train", 20)[0]
    (table.parent / "heart0.png").unlink()
    with pytest.raises(ImageReadError, match=r"line 2: .*heart0.png.*no such file"):
        ManifestDataset(manifest, "train", 20)[0]


def test_columns_and_names_are_checked(table):
    with pytest.raises(DatasetFormatError, match=r"no column 'hart' \(option mask_columns\); did you mean 'heart'"):
        read_manifest(table, ManifestFormat(text_column=None, mask_columns=("hart",)))
    with pytest.raises(ConfigError, match="1 names for 2 mask_columns"):
        ManifestFormat(mask_columns=("a", "b"), mask_names=("A",))
    module = ManifestDataModule(str(table), 20, text_column=None, mask_columns=["lung"], cache_images=True)
    with pytest.raises(ConfigError, match="cache_images"):
        module.setup("fit")


def test_data_module_gives_named_masks(table):
    module = ManifestDataModule(
        str(table), 20, 1, text_column=None, mask_columns=["lung"], mask_names=["Lung"], num_workers=0
    )
    module.setup("fit")
    assert module.mask_names == ("Lung",)
    assert next(iter(module.train_dataloader()))["masks"].shape == (1, 1, 20, 20)
