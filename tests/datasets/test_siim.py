"""SIIM-ACR Pneumothorax: the same films in five layouts are the same data set; what is said about damage."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from dmlm.datasets import siim
from dmlm.datasets.catalog import open_table, recognise
from dmlm.datasets.rle import decode_rle
from dmlm.datasets.synthesize.siim import write_layout
from dmlm.datasets.table_dataset import TableDataset
from dmlm.datasets.table_splits import SplitPlan, assign_splits
from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError, ImageReadError

LAYOUTS = ("A", "B", "C", "D", "E")


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """Root and written films of each layout."""
    found = {}
    for layout in LAYOUTS:
        root = tmp_path_factory.mktemp("siim") / layout
        found[layout] = (root, write_layout(root, layout, 5, 1, 64))
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_films_that_were_written(layouts, layout):
    root, films = layouts[layout]
    assert recognise(root) == "siim"
    assert f"layout {layout}" in siim.describe_layout(root)
    table = open_table("siim", root)
    assert len(table) == len(films)
    by_name = {film.name: film for film in films}
    positives = 0
    for row, name in enumerate(table.study_ids):
        film = by_name[name]
        assert table.labels[row, 0] == film.mask.any()
        assert table.path(row).is_file()
        np.testing.assert_array_equal(table.masks(row)[0], film.mask)
        positives += film.mask.any()
    assert 0 < positives < len(films)
    if layout in ("A", "C"):
        assert {s for s, n in zip(table.splits, table.study_ids, strict=True) if by_name[n].split == "test"} == {"test"}
        assert set(table.splits) == {"train", "test"}
    elif layout in ("D", "E"):
        assert [by_name[name].split for name in table.study_ids] == list(table.splits)
    else:
        assert table.splits is None


def test_quirks_of_the_csv_are_there_and_harmless(layouts):
    root, _ = layouts["A"]
    lines = (root / "train-rle.csv").read_text().splitlines()
    assert lines[0] == "ImageId, EncodedPixels"
    values = {line.partition(",")[2] for line in lines[1:]}
    assert {"-1", " -1"} <= values
    table = open_table("siim", root)
    several = [row for row, numbers in enumerate(table.extra["csv_lines"]) if len(numbers) == 2]
    assert len(several) == 2
    overlaps = []
    for row in several:
        parts = [decode_rle(lines[number - 1].partition(",")[2]) for number in table.extra["csv_lines"][row]]
        np.testing.assert_array_equal(table.masks(row)[0], parts[0] | parts[1])
        overlaps.append(bool((parts[0] & parts[1]).any()))
    assert sorted(overlaps) == [False, True]
    files = list(root.rglob("*.dcm"))
    assert len(files) == len(table) + 1  # a DICOM that no row speaks of


def test_samples_have_masks_at_any_size(layouts):
    for layout in ("A", "C"):
        table = open_table("siim", layouts[layout][0])
        row = int(np.flatnonzero(table.labels[:, 0])[0])
        sample = TableDataset(table, 48, with_masks=True)[row]
        assert sample["masks"].shape == (1, 48, 48)
        share = table.masks(row).mean()
        assert sample["masks"].float().mean().item() == pytest.approx(share, abs=0.4 * share)


def test_official_and_benchx_splits(layouts):
    table = open_table("siim", layouts["C"][0])
    for name in ("official", "benchx"):
        places = assign_splits(table, SplitPlan(name))
        assert ((places == "test") == (np.asarray(table.splits) == "test")).all()
        assert (places == "val").any()
    table = open_table("siim", layouts["B"][0])
    with pytest.raises(ConfigError, match="say nothing about an official split"):
        assign_splits(table, SplitPlan("official"))


def test_an_image_in_two_folders_leaks(layouts, tmp_path):
    root = shutil.copytree(layouts["E"][0], tmp_path / "siim")
    film = next((root / "siim" / "images" / "training").iterdir())
    for kind in ("images", "annotations"):
        folder = root / "siim" / kind
        shutil.copy(folder / "training" / film.name, folder / "test" / film.name)
    table = open_table("siim", root)
    with pytest.raises(ConfigError, match="an image is in two of the folders"):
        assign_splits(table, SplitPlan("official"))
    assert (assign_splits(table, SplitPlan("official", allow_leaks=True)) != "").all()
    drawn = assign_splits(table, SplitPlan("ratios", file=str(tmp_path / "s.json")))
    twice = [part for part, name in zip(drawn, table.study_ids, strict=True) if name == film.stem]
    assert len(twice) == 2
    assert len(set(twice)) == 1


def damaged(layouts, tmp_path, change):
    root = shutil.copytree(layouts["A"][0], tmp_path / "siim")
    path = root / "train-rle.csv"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    return root


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: [rows[0], rows[1].split(",")[0] + ",1 2 3", *rows[2:]], "line 2: image"),
        (lambda rows: [rows[0], rows[1].split(",")[0] + ",1 2 3", *rows[2:]], "odd number of integers"),
        (lambda rows: [rows[0], rows[1].split(",")[0] + ",1048570 10", *rows[2:]], "past the end of an image"),
        (lambda rows: ["ImageId,Pixels", *rows[1:]], "has no column 'EncodedPixels'"),
        (lambda rows: [rows[0], rows[1], rows[1].split(",")[0] + ",5 5", *rows[2:]], "one of its rows says -1"),
        (lambda rows: [*rows, rows[1]], "one of its rows says -1"),
    ],
)
def test_damaged_csv_is_named_with_its_line(layouts, tmp_path, change, said):
    root = damaged(layouts, tmp_path, lambda rows: change([rows[0], *sorted(rows[1:], key=len)]))
    with pytest.raises(DatasetFormatError) as caught:
        open_table("siim", root)
    assert said in str(caught.value)
    assert "train-rle.csv, line" in str(caught.value) or "column" in said
    assert "\n" not in str(caught.value)


def test_listed_but_missing_on_disk(layouts, tmp_path):
    root = damaged(layouts, tmp_path, lambda rows: [*rows, "1.2.3.4,-1"])
    with pytest.raises(
        DatasetNotFoundError, match=r"images that train-rle.csv lists are not there \(first: '1.2.3.4'\)"
    ):
        open_table("siim", root)
    assert len(open_table("siim", root, missing_images="drop")) == len(layouts["A"][1])


def test_masks_that_are_missing_of_another_size_or_of_strange_values(layouts, tmp_path):
    from PIL import Image

    root = shutil.copytree(layouts["C"][0], tmp_path / "siim")
    masks = sorted((root / "siim-acr-pneumothorax" / "png_masks").iterdir())
    Image.fromarray(np.zeros((1024, 300), np.uint8)).save(masks[0])
    Image.fromarray(np.full((1024, 1024), 7, np.uint8)).save(masks[1])
    masks[2].write_bytes(masks[2].read_bytes()[:60])
    data = TableDataset(open_table("siim", root), 32, with_masks=True)
    with pytest.raises(DatasetFormatError, match="its mask is 1024 x 300, the image 64 x 64"):
        data[0]
    with pytest.raises(DatasetFormatError, match=r"a mask of 0 and 1 \(or 0 and 255\) was expected"):
        data[1]
    with pytest.raises(ImageReadError, match="the mask cannot be read"):
        data[2]
    masks[3].unlink()
    with pytest.raises(DatasetNotFoundError, match="the mask of an image is not there"):
        open_table("siim", root)


def test_labels_in_the_name_and_in_the_table_must_agree(layouts, tmp_path):
    root = shutil.copytree(layouts["C"][0], tmp_path / "siim")
    path = root / "siim-acr-pneumothorax" / "stage_1_train_images.csv"
    path.write_text(path.read_text().replace("_0_.png", "_1_.png", 1))
    with pytest.raises(DatasetFormatError, match=r"stage_1_train_images.csv, line 2: has_pneumo '0' does not fit"):
        open_table("siim", root)


def test_a_wrong_folder(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="none of the five layouts"):
        open_table("siim", tmp_path)
    assert not siim.recognise(Path("/nonexistent"))
