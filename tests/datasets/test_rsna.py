"""RSNA Pneumonia: layouts, labels, boxes, and what is said about damaged tables."""

import shutil

import numpy as np
import pytest

from dmlm.datasets import rsna
from dmlm.datasets.catalog import open_table, recognise
from dmlm.datasets.synthesize import synthesize
from dmlm.datasets.table_dataset import TableDataset
from dmlm.errors import DatasetFormatError, DatasetNotFoundError
from dmlm.io.images import read_grey

LABELS, CLASSES = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("rsna") / "rsna"
    synthesize("rsna", out, 10, 0, 64)
    return out


@pytest.fixture
def root(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "rsna")


def rows(root, name=LABELS):
    return (root / name).read_text().splitlines()


def rewrite(root, lines, name=LABELS):
    (root / name).write_text("\n".join(lines) + "\n")


def test_labels_boxes_and_masks_agree(whole):
    table = open_table("rsna", whole)
    assert table.label_names == ("Pneumonia",)
    assert table.task == "binary"
    counts = [len(boxes) for boxes in table.extra["boxes"]]
    assert max(counts) == 4
    assert 0 in counts
    np.testing.assert_array_equal(table.labels[:, 0], [float(n > 0) for n in counts])
    row = counts.index(4)
    mask = table.masks(row)
    assert mask.shape == (1, 1024, 1024)
    drawn = np.zeros((1024, 1024), np.uint8)
    for line in rows(whole):
        name, x, y, w, h, target = line.split(",")
        if name == table.study_ids[row]:
            assert target == "1"
            x, y, w, h = (int(float(value)) for value in (x, y, w, h))
            drawn[y : y + h, x : x + w] = 1
    np.testing.assert_array_equal(mask[0], drawn)
    assert not table.masks(counts.index(0)).any()


def test_three_classes(whole):
    table = open_table("rsna", whole, labels="class")
    assert table.label_names == rsna.CLASSES
    assert table.task == "multiclass"
    np.testing.assert_array_equal(table.labels.sum(1), 1)
    named = [rsna.CLASSES[int(place)] for place in table.labels.argmax(1)]
    assert named == list(table.extra["class"])


def test_monochrome1_and_16_bit_files_read_like_the_others(whole):
    pydicom = pytest.importorskip("pydicom")
    table = open_table("rsna", whole)
    kinds = {}
    for row in range(3):
        data = pydicom.dcmread(table.path(row))
        kinds[(data.PhotometricInterpretation, data.BitsStored)] = read_grey(table.path(row))
    assert set(kinds) == {("MONOCHROME2", 8), ("MONOCHROME1", 8), ("MONOCHROME2", 16)}
    for image in kinds.values():  # lungs are darker than what is below them
        assert image[20:35, 12:25].mean() < image[52:, 20:44].mean()


def test_test_images_without_labels_are_passed_over(whole):
    assert len(list((whole / "stage_2_test_images").iterdir())) == 3
    table = open_table("rsna", whole)
    assert not any("test_images" in image for image in table.images)


def test_converted_images_in_any_folder(root):
    from PIL import Image

    table = open_table("rsna", root)
    (root / "png224").mkdir()
    for row in range(len(table)):
        Image.fromarray(read_grey(table.path(row))).save(root / "png224" / f"{table.study_ids[row]}.png")
    shutil.rmtree(root / "stage_2_train_images")
    converted = open_table("rsna", root)
    assert all(image.startswith("png224/") for image in converted.images)
    assert list(converted.study_ids) == list(table.study_ids)
    assert rsna.describe_layout(root) == "converted images in png224/"


def test_the_folder_above_is_recognised_and_samples_come_out(whole):
    assert recognise(whole.parent) == "rsna"
    data = TableDataset(open_table("rsna", whole.parent), 32, with_masks=True)
    sample = data[0]
    assert sample["image"].shape == (1, 32, 32)
    assert sample["masks"].shape == (1, 32, 32)


def test_missing_images_are_refused_or_dropped(root):
    table = open_table("rsna", root)
    table.path(0).unlink()
    with pytest.raises(DatasetNotFoundError, match=rf"1 of {len(table)} images .* missing_images: drop"):
        open_table("rsna", root)
    assert len(open_table("rsna", root, missing_images="drop")) == len(table) - 1
    shutil.rmtree(root / "stage_2_train_images")
    (root / "stage_2_train_images.zip").write_bytes(b"PK")
    with pytest.raises(DatasetNotFoundError, match=r"none of the .* stage_2_train_images.zip is not unpacked"):
        open_table("rsna", root)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [lines[0].replace("Target", "target_"), *lines[1:]], "has no column 'Target'; did you mean"),
        (lambda lines: [lines[0], lines[1].rsplit(",", 1)[0] + ",2", *lines[2:]], "line 2: Target is '2'"),
        (lambda lines: [lines[0], "a,,,,,1", *lines[1:]], "line 2: Target 1 needs a box"),
        (lambda lines: [lines[0], "a,1000,10,100,20,1", *lines[1:]], "does not lie in an image of 1024 x 1024"),
        (lambda lines: [lines[0], "a,1,1,5,5,0", *lines[1:]], "has a box, but Target 0"),
        (lambda lines: [lines[0], "a,,,,,0", "a,,,,,0", *lines[1:]], "line 3: 'a' has Target 0, but is listed already"),
        (lambda lines: [lines[0], "a,,,,,0", "a,1,1,5,5,1", *lines[1:]], "Target 1 here and Target 0 above"),
        (lambda lines: [lines[0], ",,,,,0", *lines[1:]], "line 2: patientId is blank"),
        (lambda lines: [lines[0], "a,,,0", *lines[1:]], "line 2: has 4 fields, the header has 6"),
    ],
)
def test_damaged_labels_are_named_with_their_line(root, change, said):
    rewrite(root, change(rows(root)))
    with pytest.raises(DatasetFormatError) as caught:
        open_table("rsna", root)
    assert said in str(caught.value)
    assert LABELS in str(caught.value)
    assert "\n" not in str(caught.value)


def test_extra_columns_and_spaces_in_the_header_do_no_harm(root):
    before = open_table("rsna", root)
    lines = rows(root)
    rewrite(root, [lines[0].replace("Target", " Target ,note"), *(f"{line},n" for line in lines[1:])])
    np.testing.assert_array_equal(open_table("rsna", root).labels, before.labels)


def test_classes_that_do_not_fit(root):
    lines = rows(root, CLASSES)
    rewrite(root, [lines[0], lines[1].split(",")[0] + ",Lung Opacityy", *lines[2:]], CLASSES)
    with pytest.raises(DatasetFormatError, match="class is 'Lung Opacityy'; expected Normal"):
        open_table("rsna", root)
    rewrite(root, lines[:-5], CLASSES)
    with pytest.raises(DatasetFormatError, match="has no row for"):
        open_table("rsna", root)
    (root / CLASSES).unlink()
    assert set(open_table("rsna", root).extra["class"]) == {""}
    with pytest.raises(DatasetNotFoundError, match="which labels: class needs"):
        open_table("rsna", root, labels="class")


def test_a_wrong_folder(tmp_path):
    assert not rsna.recognise(tmp_path / "nothing")
    with pytest.raises(DatasetNotFoundError, match=r"has no stage_2_train_labels\.csv; accept the rules"):
        open_table("rsna", tmp_path)
