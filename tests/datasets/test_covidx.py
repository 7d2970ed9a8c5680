"""COVIDx CXR and COVID-Rural: lists of all versions, masks, and what is said about damage."""

import shutil

import numpy as np
import pytest

from dmlm.datasets import covid_rural, covidx
from dmlm.datasets.catalog import open_table, recognise
from dmlm.datasets.covidx_lists import Row, parse_line, read_list
from dmlm.datasets.synthesize import synthesize
from dmlm.datasets.synthesize.covidx import write_variant
from dmlm.datasets.table_dataset import TableDataset
from dmlm.datasets.table_splits import SplitPlan, assign_splits
from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("5 ARDSSevere.png negative cohen", Row("5", "ARDSSevere.png", "negative", "cohen")),
        ("COVID 1 COVID(1).png positive sirm", Row("COVID 1", "COVID(1).png", "positive", "sirm")),
        ("COVID 1 COVID(1).png positive", Row("COVID 1", "COVID(1).png", "positive", "")),
        ("7 a.jpeg pneumonia", Row("7", "a.jpeg", "pneumonia", "")),
        ("7 a.JPG COVID-19 rnsa", Row("7", "a.JPG", "covid-19", "rsna")),
        ("7 a.jpg level2 ricord", None),
        ("a.jpg positive", None),
        ("", None),
    ],
)
def test_lines_are_read_from_the_right(line, row):
    assert parse_line(line) == row


def test_official_lists(real_data):
    """The first rows of the real lists of versions 4 and 9A; the severity list is refused."""
    old = read_list(real_data / "fixtures" / "covidx_train_COVIDx4.txt")
    new = read_list(real_data / "fixtures" / "covidx_train_COVIDx9A.txt")
    assert len(old) > 15
    assert {row.source for row in new} <= {"cohen", "rsna", "ricord", "sirm", "bimcv", "stonybrook", "actmed", "fig1"}
    with pytest.raises(DatasetFormatError, match=r"line 1: .* is not 'patient file class"):
        read_list(real_data / "fixtures" / "covidx_train_COVIDxSev.txt")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("covidx") / "covidx"
    synthesize("covidx", out, 10, 0, 64)
    return out


def test_version_9b(whole):
    assert recognise(whole) == "covidx"
    table = open_table("covidx", whole)
    assert table.label_names == ("COVID-19",)
    assert table.task == "binary"
    lines = [line for part in ("train", "test") for line in (whole / f"{part}.txt").read_text().splitlines()]
    assert len(lines) == len(table) + 1  # one is there twice
    assert {len(line.split()) for line in lines} == {3, 4, 5}
    assert "rnsa" not in table.extra["source"]
    assert {"rsna", "sirm", ""} <= set(table.extra["source"])
    positive = {line.split()[-2] == "positive" or line.split()[-1] == "positive" for line in lines}
    assert positive == {True, False}
    assert {name.rpartition(".")[2] for name in table.images} == {"png", "jpg", "jpeg", "PNG", "JPG"}
    data = TableDataset(table, 32)
    assert all(data[row]["image"].shape == (1, 32, 32) for row in range(5))
    places = assign_splits(table, SplitPlan("official"))
    assert ((places == "test") == (np.asarray(table.splits) == "test")).all()
    assert (places == "val").any()


def test_three_classes_val_and_versions_side_by_side(tmp_path):
    write_variant(tmp_path, 10, 0, 64, classes="A", with_val=True, lists="{part}_COVIDx9A.txt")
    table = open_table("covidx", tmp_path)
    assert table.label_names == ("Normal", "Pneumonia", "COVID-19")
    np.testing.assert_array_equal(table.labels.sum(1), 1)
    assert set(assign_splits(table, SplitPlan("official"))) == {"train", "val", "test"}
    for part in ("train", "val", "test"):
        text = (tmp_path / f"{part}_COVIDx9A.txt").read_text()
        for old, new in (("COVID-19", "positive"), ("pneumonia", "negative"), ("normal", "negative")):
            text = text.replace(old, new)
        (tmp_path / f"{part}_COVIDx9B.txt").write_text(text)
    with pytest.raises(ConfigError, match="has lists of the versions 9A, 9B; set version"):
        open_table("covidx", tmp_path)
    assert open_table("covidx", tmp_path, version="v9b").label_names == ("COVID-19",)
    with pytest.raises(ConfigError, match="set version to one of them"):
        open_table("covidx", tmp_path, version="8A")
    labels = tmp_path / "labels"
    labels.mkdir()
    for path in tmp_path.glob("*9A.txt"):
        path.rename(labels / path.name)
    for path in tmp_path.glob("*9B.txt"):
        path.unlink()
    assert list(open_table("covidx", tmp_path).images) == list(table.images)


def test_known_totals_by_version(tmp_path):
    for part, count in (("train", 30_482), ("test", 400)):
        (tmp_path / f"{part}.txt").write_text("\n".join(f"{n} {n}.png positive rsna" for n in range(count)))
    assert covidx.totals_of(tmp_path) == {"images": 30_882, "train images": 30_482, "test images": 400}
    (tmp_path / "test.txt").write_text("1 1.png positive rsna")
    assert covidx.totals_of(tmp_path) == {}


def other_class(line):
    return line.replace("negative", "x").replace("positive", "negative").replace("x", "positive")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: ["1 a.png covid19 rsna", *rows], "line 1: '1 a.png covid19 rsna' is not"),
        (lambda rows: [*rows, other_class(rows[0])], "is listed before as"),
        (lambda rows: ["1 a.png normal rsna", *rows], None),
        (lambda rows: [], "the list is empty"),
    ],
)
def test_damaged_lists(whole, tmp_path, change, said):
    root = shutil.copytree(whole, tmp_path / "covidx")
    path = root / "train.txt"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    if said is None:
        shutil.copy(next((root / "train").iterdir()), root / "train" / "a.png")
        said = "mix classes of several versions"
    with pytest.raises(DatasetFormatError) as caught:
        open_table("covidx", root)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_patient_in_two_lists_is_refused(whole, tmp_path):
    root = shutil.copytree(whole, tmp_path / "covidx")
    line = (root / "train.txt").read_text().splitlines()[0].split()
    shutil.copy(root / "train" / line[1], root / "test" / "more.png")
    with (root / "test.txt").open("a") as file:
        file.write(f"{line[0]} more.png negative rsna\n")
    table = open_table("covidx", root)
    with pytest.raises(ConfigError, match="is in 'train' and in 'test'"):
        assign_splits(table, SplitPlan("official"))
    assert (assign_splits(table, SplitPlan("official", allow_leaks=True)) == "test").any()


def test_missing_images_and_lists(whole, tmp_path):
    root = shutil.copytree(whole, tmp_path / "covidx")
    shutil.rmtree(root / "test")
    with pytest.raises(DatasetNotFoundError, match=r"images that train.txt and test.txt lists? are not there"):
        open_table("covidx", root)
    (root / "test.txt").unlink()
    with pytest.raises(DatasetNotFoundError, match="but no list for test of the same version"):
        open_table("covidx", root)
    with pytest.raises(DatasetNotFoundError, match=r"has no list train.txt"):
        open_table("covidx", tmp_path / "covidx" / "train")


def test_covid_rural(tmp_path, caplog):
    from PIL import Image

    out = tmp_path / "rural"
    synthesize("covid_rural", out, 8, 0, 64)
    caplog.clear()
    for root in (out, next(out.glob("opacity*")), next(out.glob("opacity*/covid_rural_annot"))):
        assert recognise(root) == "covid_rural"
        table = open_table("covid_rural", root)
    assert "1 images have no mask and are left out" in caplog.text
    assert len(table) == len(list((root / "pngs_masks").iterdir()))
    assert len({str(name) for name in table.patient_ids}) == 8
    shapes = {table.masks(row).shape for row in range(len(table))}
    assert len(shapes) > 1  # not square, not all alike
    assert {int(table.masks(row).max()) for row in range(len(table))} == {0, 1}
    raw = np.asarray(Image.open(root / "pngs_masks" / f"{table.study_ids[2]}.png"))
    np.testing.assert_array_equal(table.masks(2)[0], raw)
    sample = TableDataset(table, 32, with_masks=True)[2]
    assert sample["masks"].max() == 1
    Image.fromarray(raw * 255).save(root / "pngs_masks" / f"{table.study_ids[2]}.png")  # 0 and 255 means the same
    np.testing.assert_array_equal(table.masks(2)[0], raw)
    (root / "jpgs" / f"{table.study_ids[0]}.jpg").unlink()
    with pytest.raises(DatasetNotFoundError, match="1 masks have no image"):
        open_table("covid_rural", root)
    assert len(open_table("covid_rural", root, missing_images="drop")) == len(table) - 1
    (root / "jpgs" / f"{table.study_ids[1]}.jpg").rename(root / "jpgs" / "x.jpg")
    (root / "pngs_masks" / f"{table.study_ids[1]}.png").rename(root / "pngs_masks" / "x.png")
    with pytest.raises(DatasetFormatError, match="expected names such as COVID-19-AR"):
        open_table("covid_rural", root, missing_images="drop")
    with pytest.raises(DatasetNotFoundError, match="has no folders jpgs and pngs_masks"):
        covid_rural.open_table(tmp_path / "none")
