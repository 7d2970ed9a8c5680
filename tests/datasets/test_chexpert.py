from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dmlm.datasets import chexpert
from dmlm.datasets.catalog import open_table, recognise
from dmlm.datasets.chexpert import COMPETITION, LABEL_NAMES
from dmlm.datasets.synthesize.chexpert import write_layout
from dmlm.datasets.table import StudyTable
from dmlm.datasets.table_splits import SplitPlan, assign_splits
from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError

SMALL = "CheXpert-v1.0-small"


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    base = tmp_path_factory.mktemp("chexpert")
    for layout in ("small", "full", "aimi"):
        write_layout(base / layout, 12, 0, 24, layout)
    return base


@pytest.fixture
def copy(roots, tmp_path):
    shutil.copytree(roots / "small", tmp_path / "copy")
    return tmp_path / "copy"


def _edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_labels_are_in_the_order_of_the_release_not_of_mimic():
    assert LABEL_NAMES[:3] == ("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly")
    assert tuple(sorted(LABEL_NAMES)) != LABEL_NAMES
    assert set(COMPETITION) < set(LABEL_NAMES)


def test_all_layouts_hold_the_same_rows(roots):
    tables = {layout: open_table("chexpert", roots / layout) for layout in ("small", "full", "aimi")}
    small = tables["small"]
    for layout, table in tables.items():
        assert recognise(roots / layout) == "chexpert"
        assert [table.study_ids[row] for row in range(len(table))] == list(small.study_ids)
        np.testing.assert_array_equal(table.labels, small.labels)
        assert all(table.path(row).is_file() for row in range(len(table)))
    assert {image.split("/")[0] for image in tables["aimi"].images} == {
        "CheXpert-v1.0 batch 1 (validate & csv)",
        "CheXpert-v1.0 batch 2 (train 1)",
        "CheXpert-v1.0 batch 3 (train 2)",
        "CheXpert",
    }


def test_root_may_be_the_release_or_the_folder_above(roots, tmp_path):
    above, inside = open_table("chexpert", roots / "small"), open_table("chexpert", roots / "small" / SMALL)
    assert set(inside.splits) == {"train", "val"}  # test labels and images lie beside it
    assert list(inside.study_ids) == [
        s for s, part in zip(above.study_ids, above.splits, strict=True) if part != "test"
    ]


def test_cells_become_numbers_and_lateral_films_have_their_view(roots):
    table = open_table("chexpert", roots / "small")
    values = table.labels[np.array(table.splits) == "train"]
    assert {1.0, 0.0, -1.0} <= set(values[~np.isnan(values)].tolist())
    assert np.isnan(values).any()
    assert not np.isnan(table.labels[np.array(table.splits) != "train"]).any()
    for view, plane, part in zip(table.extra["view"], table.extra["plane"], table.splits, strict=True):
        assert (view == "LATERAL") == (plane == "Lateral")
        assert (view in ("AP", "PA")) == (plane == "Frontal" and part != "test")
    frontal = open_table("chexpert", roots / "small", views="frontal")
    assert set(frontal.extra["plane"]) == {"Frontal"}
    assert 0 < len(frontal) < len(table)


def test_the_competition_tasks_are_columns_of_all_labels(roots):
    whole, five = open_table("chexpert", roots / "full"), open_table("chexpert", roots / "full", labels="competition")
    assert five.label_names == ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
    np.testing.assert_array_equal(five.labels, whole.labels[:, [LABEL_NAMES.index(name) for name in COMPETITION]])


def test_named_splits_are_by_patient_and_hold_5x200_out(roots, tmp_path):
    table = open_table("chexpert", roots / "small")
    origin, held = np.array(table.splits), np.array(table.extra["in_5x200"])
    patients = np.array(table.patient_ids)
    assert held.any()
    official = assign_splits(table, SplitPlan("official"))
    assert (official == origin).all()
    valid = assign_splits(table, SplitPlan("chexpert_valid", (0.6, 0.4, 0.0)))
    same = assign_splits(table, SplitPlan("chexpert_valid", (0.8, 0.2, 0.0)))
    assert (assign_splits(table, SplitPlan("paper")) == same).all()
    assert ((valid == "test") == (origin == "val")).all()
    assert not set(patients[np.isin(valid, ["train", "val"])]) & set(patients[held])
    assert not set(patients[valid == "train"]) & set(patients[valid == "val"])
    assert {"train", "val"} <= set(valid)
    other = assign_splits(table, SplitPlan("chexpert_valid", (0.6, 0.4, 0.0), seed=3))
    assert (other != valid).any()
    outside = assign_splits(table, SplitPlan("chexpert5x200"))
    assert ((outside == "test") == held).all()
    assert not set(patients[outside == "train"]) & set(patients[held])
    assert ((outside == "val") == (origin == "val")).all()


def test_5x200_needs_its_list_and_may_be_given_one(copy, tmp_path):
    (copy / "chexpert_5x200.csv").rename(tmp_path / "list.csv")
    table = open_table("chexpert", copy)
    with pytest.raises(ConfigError, match=r"needs chexpert_5x200.csv"):
        assign_splits(table, SplitPlan("chexpert5x200"))
    given = open_table("chexpert", copy, held_out=str(tmp_path / "list.csv"))
    assert "test" in assign_splits(given, SplitPlan("chexpert5x200"))
    (tmp_path / "list.csv").write_text("Path\nsomething/else.jpg\n")
    with pytest.raises(DatasetFormatError, match=r"line 2: Path is 'something/else.jpg'; expected one like"):
        open_table("chexpert", copy, held_out=str(tmp_path / "list.csv"))


def test_complete_releases_are_held_to_their_sizes(roots, monkeypatch):
    table = open_table("chexpert", roots / "small")
    trained = Counter(table.splits)["train"]
    monkeypatch.setattr(chexpert, "TOTALS", {**chexpert.TOTALS, "train images": trained})
    with pytest.raises(DatasetFormatError, match=r"train patients instead of 64,540"):
        open_table("chexpert", roots / "small")


@pytest.mark.parametrize(("held_rows", "fits"), [(6_936, True), (6_935, False)])
def test_5x200_of_the_complete_release_leaves_the_published_number_of_images(held_rows, fits):
    # 966 patients with 6,936 of the 223,414 training images
    count = 223_414
    patients = [f"held{row % 966}" if row < held_rows else f"p{row}" for row in range(count)]
    table = StudyTable(
        name="chexpert",
        root=Path("none"),
        label_names=("Edema",),
        images=[str(row) for row in range(count)],
        study_ids=patients,
        patient_ids=patients,
        labels=np.zeros((count, 1), np.float32),
        splits=["train"] * count,
        extra={"in_5x200": np.arange(count) < 1000},
    )
    if fits:
        split = assign_splits(table, SplitPlan("chexpert5x200"))
        assert Counter(split.tolist()) == {"train": 216_478, "test": 1_000, "": 5_936}
    else:
        with pytest.raises(DatasetFormatError, match="216,479 training images remain"):
            assign_splits(table, SplitPlan("chexpert5x200"))


def test_half_unpacked_releases_are_refused_or_their_rows_dropped(copy):
    whole = open_table("chexpert", copy)
    shutil.rmtree(copy / SMALL / "train" / "patient00003")
    with pytest.raises(DatasetNotFoundError, match=r"1 patients listed have no folder.*train/patient00003"):
        open_table("chexpert", copy)
    dropped = open_table("chexpert", copy, missing_images="drop")
    assert set(whole.patient_ids) - set(dropped.patient_ids) == {"patient00003"}
    dropped.path(0).unlink()
    with pytest.raises(DatasetNotFoundError, match="have no folder"):
        open_table("chexpert", copy)
    assert len(open_table("chexpert", copy, missing_images="drop")) == len(dropped) - 1


def test_test_studies_without_images_are_named(copy):
    shutil.rmtree(copy / "CheXpert")
    with pytest.raises(DatasetNotFoundError, match=r"test images of CheXlocalize below .* or move groundtruth.csv"):
        open_table("chexpert", copy)


def test_files_that_a_mac_leaves_beside_test_films_are_none(copy):
    before = open_table("chexpert", copy).images
    for path in list(copy.rglob("test/*/*/*.jpg")):
        path.with_name(f"._{path.name}").write_bytes(b"mac")
    assert list(open_table("chexpert", copy).images) == list(before)
    assert any(copy.rglob("test/*/*/._*.jpg"))


def test_two_releases_side_by_side_are_refused(copy, roots):
    shutil.copytree(roots / "full" / "CheXpert-v1.0", copy / "CheXpert-v1.0")
    with pytest.raises(DatasetFormatError, match=r"give data.root the one release that you mean"):
        open_table("chexpert", copy)


def test_wrong_root_and_wrong_options_are_one_line(tmp_path, roots):
    with pytest.raises(DatasetNotFoundError, match=r"holds no train.csv"):
        open_table("chexpert", tmp_path)
    for option in ("labels", "labeler", "views"):
        with pytest.raises(ConfigError, match=f"data.{option} must be"):
            open_table("chexpert", roots / "small", **{option: "other"})
    with pytest.raises(DatasetNotFoundError, match=r"train_cheXbert.csv"):
        open_table("chexpert", roots / "small", labeler="chexbert")
    assert not chexpert.recognise(tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("train.csv", "Lung Opacity", "Opacity", "no column 'Lung Opacity'"),
        ("train.csv", "-1.0", "-2.0", "is '-2.0'; expected 1.0, 0.0, -1.0 or blank"),
        ("train.csv", "train/patient00001", "valid/patient00001", "line 2: Path is"),
        ("train.csv", ",Frontal,", ",Front,", "Frontal/Lateral is 'Front'; expected Frontal or Lateral"),
        ("valid.csv", "valid/patient", "elsewhere/", "line 2: Path is"),
        ("../groundtruth.csv", "test/patient", "patient", "line 2: Study is"),
    ],
)
def test_changed_tables_are_refused(copy, file, old, new, message):
    _edit(copy / SMALL / file, old, new)
    with pytest.raises(DatasetFormatError, match=message) as caught:
        open_table("chexpert", copy)
    assert "\n" not in str(caught.value)


def test_an_image_listed_twice_is_refused(copy):
    path = copy / SMALL / "train.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1]]) + "\n")
    with pytest.raises(DatasetFormatError, match="is listed already in line 2"):
        open_table("chexpert", copy)
