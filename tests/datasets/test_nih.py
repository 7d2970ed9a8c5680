"""NIH ChestX-ray14: folder variants, both tables, boxes, lists, and what is said about damage."""

import shutil

import numpy as np
import pytest

from dmlm.datasets import nih
from dmlm.datasets.catalog import open_table, recognise
from dmlm.datasets.nih_tables import BOX_NAMES, read_boxes, read_entries
from dmlm.datasets.synthesize.nih import write_variant
from dmlm.datasets.table_dataset import TableDataset
from dmlm.datasets.table_splits import SplitPlan, assign_splits
from dmlm.errors import DatasetFormatError, DatasetNotFoundError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("nih") / "nih"
    write_variant(out, 10, 0, 64)
    return out


@pytest.fixture
def root(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "nih")


def test_both_versions_in_folders_or_flat_are_one_data_set(whole, tmp_path):
    table = open_table("nih", whole)
    write_variant(tmp_path / "old", 10, 0, 64, version=1, flat=True)
    old = open_table("nih", tmp_path / "old")
    assert recognise(tmp_path / "old") == "nih"
    assert list(old.study_ids) == list(table.study_ids)
    np.testing.assert_array_equal(old.labels, table.labels)
    for column in ("age", "sex", "view", "boxes"):
        assert list(old.extra[column]) == list(table.extra[column])
    assert list(old.splits) == list(table.splits)
    assert "images_001/images/, images_002/images/" in nih.describe_layout(whole)
    assert "images/" in nih.describe_layout(tmp_path / "old")


@pytest.mark.parametrize("place", ["all_classes", "images/images_01/images", "data/images/images_001"])
def test_other_places_of_images(root, place):
    before = open_table("nih", root)
    target = root / place
    target.mkdir(parents=True)
    for folder in ("images_001", "images_002"):
        for image in (root / folder / "images").iterdir():
            image.rename(target / image.name)
        shutil.rmtree(root / folder)
    table = open_table("nih", root)
    assert list(table.study_ids) == list(before.study_ids)
    assert all(image.startswith(f"{place}/") for image in table.images)


def test_labels_follow_the_cells(whole):
    table = open_table("nih", whole)
    assert table.label_names[2] == "Effusion"
    assert table.label_names[12:] == ("Pleural_Thickening", "Hernia")
    for line in (whole / "Data_Entry_2017_v2020.csv").read_text().splitlines()[1:]:
        name, findings = line.split(",")[:2]
        row = list(table.study_ids).index(name[:-4])
        present = [n for n, value in zip(table.label_names, table.labels[row], strict=True) if value == 1]
        assert present == ([] if findings == "No Finding" else findings.split("|"))
        assert table.patient_ids[row] == name[:8]
    assert table.masks is None


def test_boxes_that_do_not_fit_cost_a_warning_and_not_an_epoch(root, caplog):
    table = open_table("nih", root)
    row = next(row for row, found in enumerate(table.extra["boxes"]) if not found)
    absent = next(name for name in BOX_NAMES if not table.labels[row, table.label_names.index(name)])
    shown = next(row for row, found in enumerate(table.extra["boxes"]) if found)
    finding = table.extra["boxes"][shown][0].finding
    with (root / "BBox_List_2017.csv").open("a") as file:
        file.write(f"{table.study_ids[row]}.png,{absent},10,10,20,20,,,\n")
        file.write(f"{table.study_ids[shown]}.png,{finding},800,800,224.4,200,,,\n")
    found = open_table("nih", root)
    assert "1 images have boxes of findings that their labels do not name" in caplog.text
    assert not found.extra["boxes"][row]
    assert found.extra["boxes"][shown][-1].x1 == 1.0
    samples = TableDataset(found, 32)
    assert [samples.read(place).report.study_id for place in range(len(samples))] == list(found.study_ids)


def test_rows_with_boxes_have_masks(whole):
    table = open_table("nih", whole, rows="boxes")
    assert 0 < len(table) < len(open_table("nih", whole))
    lines = (whole / "BBox_List_2017.csv").read_text().splitlines()
    assert lines[0] == "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    assert any(",Infiltrate," in line for line in lines)
    assert table.mask_names[3] == "Infiltration"
    line = next(line for line in lines if ",Infiltrate," in line).split(",")
    mask = table.masks(list(table.study_ids).index(line[0][:-4]))[3]
    x, y, w, h = (float(cell) for cell in line[2:])
    assert mask.sum() == pytest.approx(w * h, rel=0.05)
    ys, xs = np.nonzero(mask)
    assert xs.min() == pytest.approx(x, abs=1)
    assert ys.max() == pytest.approx(y + h, abs=1.5)


def test_official_split_is_that_of_the_lists(whole):
    table = open_table("nih", whole)
    test = set((whole / "test_list.txt").read_text().split())
    places = assign_splits(table, SplitPlan("official"))
    assert {f"{n}.png" for n, part in zip(table.study_ids, places, strict=True) if part == "test"} == test
    (whole / "test_list.txt").rename(whole / "t")
    assert open_table("nih", whole).splits is None
    (whole / "t").rename(whole / "test_list.txt")


def edit(root, name, change):
    path = root / name
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


ENTRIES = "Data_Entry_2017_v2020.csv"


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (ENTRIES, lambda r: [r[0].replace("Finding Labels", "Findings"), *r[1:]], "has no column 'Finding Labels'"),
        (ENTRIES, lambda r: [r[0], "a.png,Effusion|Masss,0,1,5,M,PA,1,1,1,1", *r[1:]], "'Masss'; did you mean 'Mass'?"),
        (ENTRIES, lambda r: [r[0], "a.png,No Finding|Mass,0,1,5,M,PA,1,1,1,1", *r[1:]], "'No Finding' alone"),
        (ENTRIES, lambda r: [*r, r[1]], "is listed twice"),
        (ENTRIES, lambda r: [r[0], "a.png,Mass,0,1,old,M,PA,1,1,1,1", *r[1:]], "line 2: Patient Age is 'old'"),
        (ENTRIES, lambda r: [r[0], "a.png,Mass", *r[1:]], "line 2: has 2 fields"),
        ("BBox_List_2017.csv", lambda r: [r[0], "a.png,Hernia,1,1,5,5"], "is no image, finding and box"),
        ("BBox_List_2017.csv", lambda r: [r[0], "a.png,Mass,1,1,x,5"], "line 2"),
        ("BBox_List_2017.csv", lambda r: [r[0], "a.png,Mass,1000,1,500,5"], "does not lie in an image"),
    ],
)
def test_damaged_tables_are_named_with_their_line(root, name, change, said):
    edit(root, name, change)
    with pytest.raises(DatasetFormatError) as caught:
        open_table("nih", root)
    assert said in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lists_that_share_an_image(root):
    name = (root / "train_val_list.txt").read_text().split()[0]
    edit(root, "test_list.txt", lambda lines: [*lines, name])
    with pytest.raises(DatasetFormatError, match="is in the other list, too"):
        open_table("nih", root)


def test_half_unzipped(root):
    count = len(list((root / "images_002" / "images").iterdir()))
    shutil.rmtree(root / "images_002")
    (root / "images_002.tar.gz").write_bytes(b"")
    with pytest.raises(DatasetNotFoundError, match=rf"{count} of .* images_002.tar.gz is not unpacked"):
        open_table("nih", root)
    assert len(open_table("nih", root, missing_images="drop")) > 0


def test_patient_sex_instead_of_gender_and_ages_in_months(root):
    edit(root, ENTRIES, lambda r: [r[0].replace("Gender", "Sex"), "x.png,Mass,0,7,018M,M,PA,1,1,1,1", *r[1:]])
    entry = read_entries(root / ENTRIES)["x.png"]
    assert entry.age == pytest.approx(1.5)
    assert entry.patient == "00000007"


def test_official_rows(real_data):
    """The first rows of the real files."""
    entries = read_entries(real_data / "fixtures" / "nih_Data_Entry_2017_v2020.csv")
    assert entries["00000001_001.png"] == (("Cardiomegaly", "Emphysema"), "00000001", 58.0, "M", "PA")
    assert len(entries) == 20
    shutil.copy(real_data / "tables" / "nih_BBox_List_2017.csv", "BBox_List_2017.csv")
    from pathlib import Path

    boxes = read_boxes([Path.cwd()])
    assert sum(map(len, boxes.values())) == nih.TOTALS["boxes"] == 984
    assert len(boxes) == 880
