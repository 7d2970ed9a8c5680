import csv
import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from manifests import HEADER, NUMERIC, ROWS, write_csv, write_image

from dmlm.datasets import ManifestDataset, ManifestFormat, SampleKey, TrainTransform, collate, read_manifest
from dmlm.datasets.splits import draw_splits, read_splits
from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError, ImageReadError

REAL = Path(os.environ.get("DMLM_REAL_DATA", Path(__file__).parents[2] / "../shared/data"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DMLM_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_sample_follows_the_contract(tmp_path):
    manifest = read_manifest(write_csv(tmp_path, [f" {name} " for name in HEADER], ROWS), NUMERIC)
    train = ManifestDataset(manifest, "train", 32)
    assert len(train) == 3
    assert train.label_names == ("Edema", "Effusion")
    assert train.patient_ids == ["p0", "p1", "p0"]
    np.testing.assert_array_equal(train.labels, [[1, 0], [0, -1], [0, 0]])
    sample = train[1]
    assert sample["image"].dtype == torch.uint8
    assert sample["image"].shape == (1, 32, 32)
    assert sample["text"] == "No edema,\nno effusion."
    assert sample["labels"].tolist() == [0.0, -1.0]
    assert sample["report"].verdicts == {"Edema": "absent", "Pleural Effusion": "uncertain"}
    assert (sample["study_id"], sample["patient_id"], sample["index"].item()) == ("s1", "p1", 1)
    assert sample["index"].dtype == torch.int64
    batch = collate([train[0], train[1]])
    assert batch["image"].shape == (2, 1, 32, 32)
    assert batch["study_id"] == ["s0", "s1"]
    assert batch["labels"].dtype == torch.float32
    assert train[-1]["index"].item() == 2
    with pytest.raises(IndexError):
        train[3]


def test_augmentation_depends_on_seed_epoch_and_index_only(tmp_path):
    manifest = read_manifest(write_csv(tmp_path, HEADER, ROWS), NUMERIC)
    train = ManifestDataset(manifest, "train", 32, TrainTransform(32), seed=3)
    first = train[SampleKey(0, 5)]["image"]
    again = ManifestDataset(manifest, "train", 32, TrainTransform(32), seed=3)
    again[SampleKey(2, 1)]  # other draws in between
    assert torch.equal(first, again[SampleKey(0, 5)]["image"])
    assert torch.equal(train[0]["image"], train[SampleKey(0, 0)]["image"])
    other_seed = ManifestDataset(manifest, "train", 32, TrainTransform(32), seed=4)
    assert not torch.equal(first, train[SampleKey(0, 6)]["image"])
    assert not torch.equal(first, other_seed[SampleKey(0, 5)]["image"])
    evaluated = ManifestDataset(manifest, "train", 32)
    assert torch.equal(evaluated[SampleKey(0, 1)]["image"], evaluated[SampleKey(0, 2)]["image"])


def broken(column, value, line=3):
    rows = [list(row) for row in ROWS]
    rows[line - 2][HEADER.index(column)] = value
    return rows


BAD_ROWS = {
    "missing image": (broken("path", "nowhere.png"), NUMERIC, r"not found under root .* in 1 row \(line 3: 'nowhere"),
    "empty path": (broken("path", ""), NUMERIC, r"empty image path \(column 'path'\) in 1 row \(line 3\)"),
    "escaping path": (broken("path", "../../etc/passwd"), NUMERIC, r"outside of root .* \(line 3: '../../etc/passwd'"),
    "absolute path": (broken("path", "/etc/passwd"), NUMERIC, r"outside of root .* \(line 3: '/etc/passwd'"),
    "not a number": (broken("Edema", "yes"), NUMERIC, r"label 'Edema' is not 1, 0, -1 or blank in 1 row \(line 3: 'y"),
    "nan": (broken("Edema", "NaN"), NUMERIC, r"\(line 3: 'NaN'; blank means unknown\)"),
    "other number": (broken("Effusion", "2"), NUMERIC, r"label 'Effusion' is not .* \(line 3: '2'"),
    "unknown split": (broken("split", "holdout"), NUMERIC, r"unknown split .* \(line 3: 'holdout'"),
    "empty patient": (broken("patient_id", " "), NUMERIC, r"empty patient .* \(line 3\)"),
    "empty text": (ROWS, ManifestFormat(), r"empty text in 1 row \(line 5\)"),
    "says nothing": ([*ROWS[:4], ["img/4.png", "", "train", "p0", "s", "", ""]], NUMERIC,
                     r"neither text nor label in 1 row \(line 7\)"),
    "too few columns": ([ROWS[0], ["img/1.png", "x"], *ROWS[2:]], NUMERIC, r"not 7 columns .* \(line 3: 2\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD_ROWS))
def test_bad_rows_are_named_or_left_out(tmp_path, name, caplog):
    rows, form, expected = BAD_ROWS[name]
    # the second row's text spans two lines, so that line numbers after it differ from row numbers
    path = write_csv(tmp_path, HEADER, rows)
    with pytest.raises(DatasetFormatError, match=expected) as caught:
        read_manifest(path, form)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    with caplog.at_level(logging.WARNING):
        kept = read_manifest(path, ManifestFormat(**{**vars(form), "on_error": "skip"}))
    assert len(kept.rows) == len(rows) - 1
    assert "1 rows are left out" in caplog.text


def test_all_problems_come_at_once_with_the_first_five_rows(tmp_path):
    rows = [[f"none/{n}.png", "t", "train", "p", "s", "x" if n == 0 else "1", "1"] for n in range(9)]
    with pytest.raises(DatasetFormatError) as caught:
        read_manifest(write_csv(tmp_path, HEADER, rows), NUMERIC)
    message = str(caught.value)
    assert "in 9 rows (line 2: 'none/0.png'" in message
    assert "line 6: 'none/4.png', and 4 more)" in message
    assert "label 'Edema'" in message


def test_unreadable_images_are_found_when_the_table_is_read(tmp_path):
    path = write_csv(tmp_path, HEADER, ROWS)
    image = tmp_path / "img/1.png"
    image.write_bytes(image.read_bytes()[:200])
    for _ in range(2):  # the second answer comes from the record in the cache
        with pytest.raises(DatasetFormatError, match=r"unreadable image in 1 row \(line 3: .*img/1.png"):
            read_manifest(path, NUMERIC)
    kept = read_manifest(path, ManifestFormat(label_columns=("Edema", "Effusion"), on_error="skip"))
    assert [row.study_id for row in kept.rows] == ["s0", "s2", "s3", "s0"]
    write_image(image)  # mended: the record is no longer believed
    assert len(read_manifest(path, NUMERIC).rows) == 5


def test_image_that_breaks_later_names_its_line(tmp_path):
    train = ManifestDataset(read_manifest(write_csv(tmp_path, HEADER, ROWS), NUMERIC), "train", 32)
    (tmp_path / "img/4.png").write_bytes(b"")
    with pytest.raises(ImageReadError, match=r"data.csv: line 7: .*4.png.*empty"):
        train[2]


BAD_TABLES = {
    "no text column": (["path", "txt"], [["img/0.png", "a"]], ManifestFormat(), "no column 'text'.*did you mean 'txt'"),
    "no image column": (["img", "text"], [["img/0.png", "a"]], ManifestFormat(), "no column 'path'.*image_column"),
    "no label column": (HEADER, ROWS, ManifestFormat(label_columns=("Edemma",)), "no column 'Edemma'.*'Edema'"),
    "renamed split": (HEADER, ROWS, ManifestFormat(split_column="Splt"), "no column 'Splt'.*did you mean 'split'"),
    "where": (HEADER, ROWS, ManifestFormat(where={"view": ["PA"]}), "no column 'view' .option where"),
    "twice": (["path", "text", "text"], [["img/0.png", "a", "b"]], ManifestFormat(), "'text' more than once"),
    "one label in a column": (HEADER, ROWS, ManifestFormat(label_column="labels"),
                              r"no column 'labels' \(option label_column\)\. It has path, text"),
    "two columns": (["img", "txt"], [], ManifestFormat(label_column="labels"),
                    r"'labels' \(option label_column\); no column 'path' \(option image_column\)\. It has img, txt"),
    "semicolons": (["path;text"], [["a.png;b"]], ManifestFormat(), "separated by semicolons .path;text.; save.*commas"),
    "tabs": (["path\ttext"], [["a.png\tb"]], ManifestFormat(), "separated by tabs"),
    "only a header": (HEADER, [], ManifestFormat(), "no row can be used"),
    "empty": ([], [], ManifestFormat(), "first line is empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD_TABLES))
def test_bad_tables_are_refused(tmp_path, name):
    header, rows, form, expected = BAD_TABLES[name]
    with pytest.raises(DatasetFormatError, match=expected) as caught:
        read_manifest(write_csv(tmp_path, header, rows), form)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="no such file"):
        read_manifest(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("path,text\na.png,Ödem\n".encode("latin-1"))
    with pytest.raises(DatasetFormatError, match="not UTF-8"):
        read_manifest(tmp_path / "latin.csv")
    (tmp_path / "quote.csv").write_text('path,text\na.png,"open\n')
    with pytest.raises(DatasetFormatError, match="not CSV"):
        read_manifest(tmp_path / "quote.csv")


@pytest.mark.parametrize(
    "arguments",
    [{"label_columns": ("a",), "label_column": "b"}, {"label_names": ("a",)}, {"label_columns": ("a", "a")},
     {"label_columns": ("a", "b"), "label_names": ("a",)}, {"label_columns": ("Lung Mass", "lung_mass")},
     {"label_column": "c", "label_names": ("a", "A")}, {"label_column": "c", "label_names": ("1", "1.0")}],
)  # fmt: skip
def test_contradicting_options_are_refused(arguments):
    with pytest.raises(ConfigError):
        ManifestFormat(**arguments)


def test_root_and_paths_outside_of_it(tmp_path, monkeypatch):
    write_image(tmp_path / "pictures/a.png")
    path = write_csv(tmp_path, ["path", "text", "split"], [["pictures/../pictures/a.png", "t", "train"]])
    assert len(read_manifest(path).rows) == 1
    path = write_csv(tmp_path, ["path", "text", "split"], [["../pictures/a.png", "t", "train"]])
    elsewhere = str(tmp_path / "img")
    write_image(tmp_path.parent / "pictures/a.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetFormatError, match="outside of root"):
        read_manifest("data.csv")
    with pytest.raises(DatasetFormatError, match="outside of root"):
        read_manifest(path, ManifestFormat(root=elsewhere))
    assert len(read_manifest(path, ManifestFormat(root=elsewhere, allow_outside_root=True)).rows) == 1


def test_where_selects_rows_before_they_are_judged(tmp_path):
    kept = read_manifest(write_csv(tmp_path, HEADER, ROWS), ManifestFormat(where={"split": ["train"]}))
    assert len(kept.rows) == 3


def test_leaking_patient_is_named(tmp_path):
    path = write_csv(tmp_path, HEADER, broken("patient_id", "p0", 4))
    with pytest.raises(DatasetFormatError, match=r"'p0' is in 'train' \(line 2\) and in 'val' \(line 5\)"):
        read_manifest(path, NUMERIC)
    form = ManifestFormat(label_columns=("Edema", "Effusion"), allow_leaks=True)
    assert len(read_manifest(path, form).rows) == 5


def test_an_image_in_two_splits_is_named_however_it_is_written(tmp_path):
    path = write_csv(tmp_path, HEADER, broken(HEADER[0], f"./{ROWS[0][0]}", 4))
    with pytest.raises(DatasetFormatError, match=r"image '.*' is in 'train' \(line 2\) and in 'val' \(line 5\)"):
        read_manifest(path, NUMERIC)


def table_without_splits(folder, patients=20):
    rows = [[f"img/{n}.png", "text", f"p{n % patients}"] for n in range(2 * patients)]
    return write_csv(folder, ["path", "text", "patient_id"], rows)


def test_splits_are_drawn_by_patient_and_kept(tmp_path):
    path, file = table_without_splits(tmp_path), tmp_path / "splits.json"
    first = read_manifest(path, ManifestFormat(split_file=str(file), ratios=(0.6, 0.2, 0.2)))
    members = {name: {row.patient_id for row in first.split(name)} for name in ("train", "val", "test")}
    assert {name: len(found) for name, found in members.items()} == {"train": 12, "val": 4, "test": 4}
    assert not members["train"] & members["val"]
    assert not members["test"] & (members["train"] | members["val"])
    assert {name: place for place, found in members.items() for name in found} == read_splits(file)
    # the file wins over another draw
    again = read_manifest(path, ManifestFormat(split_file=str(file), ratios=(0.1, 0.1, 0.8), seed=9))
    assert again.rows == first.rows
    unlike = read_manifest(path, ManifestFormat(ratios=(0.6, 0.2, 0.2), seed=9))
    assert unlike.rows != first.rows
    assert len(list(Path(os.environ["DMLM_CACHE"], "splits").glob("data-*.json"))) == 1


def test_split_file_that_was_edited_or_lacks_patients_is_refused(tmp_path):
    path, file = table_without_splits(tmp_path), tmp_path / "splits.json"
    form = ManifestFormat(split_file=str(file))
    read_manifest(path, form)
    good = file.read_text()
    file.write_text(good.replace('"p3"', '"p33"'))
    with pytest.raises(DatasetFormatError, match="hash does not fit"):
        read_manifest(path, form)
    file.write_text("{}")
    with pytest.raises(DatasetFormatError, match="not a split file"):
        read_manifest(path, form)
    file.write_text(good)
    with pytest.raises(DatasetFormatError, match=r"patient 'p20' is in no split"):
        read_manifest(table_without_splits(tmp_path, 22), form)


def test_draw_ignores_order_and_fills_every_wanted_split():
    names = [f"p{n}" for n in range(50)]
    assert draw_splits(names, (0.8, 0.1, 0.1), 0) == draw_splits(reversed(names), (0.8, 0.1, 0.1), 0)
    assert set(draw_splits(["a", "b", "c"], (0.9, 0.05, 0.05), 0).values()) == {"train", "val", "test"}
    assert set(draw_splits(names, (1.0, 0.0, 0.0), 0).values()) == {"train"}
    with pytest.raises(ConfigError, match="sum to 1"):
        draw_splits(names, (0.8, 0.1, 0.2), 0)


def test_cached_images_equal_the_files(tmp_path):
    manifest = read_manifest(write_csv(tmp_path, HEADER, ROWS), NUMERIC)
    plain, cached = ManifestDataset(manifest, "train", 32), ManifestDataset(manifest, "train", 32, cache_size=32)
    files = list(Path(os.environ["DMLM_CACHE"], "images").iterdir())
    assert [file.suffix for file in files] == [".npy"]
    stamp = files[0].stat().st_mtime_ns
    copy = pickle.loads(pickle.dumps(cached))
    assert len(pickle.dumps(cached)) < 20_000
    for index in range(3):
        assert torch.equal(plain[index]["image"], cached[index]["image"])
        assert torch.equal(plain[index]["image"], copy[index]["image"])
    ManifestDataset(manifest, "train", 32, cache_size=32)
    assert files[0].stat().st_mtime_ns == stamp
    write_image(tmp_path / "img/0.png", seed=99)  # a changed image is copied anew
    renewed = ManifestDataset(manifest, "train", 32, cache_size=32)
    assert not torch.equal(renewed[0]["image"], cached[0]["image"])
    with pytest.raises(ConfigError, match="smaller than image_size"):
        ManifestDataset(manifest, "train", 32, cache_size=16)


def test_failing_copy_leaves_nothing_behind(tmp_path):
    manifest = read_manifest(write_csv(tmp_path, HEADER, ROWS), NUMERIC)
    (tmp_path / "img/4.png").write_bytes(b"broken")
    with pytest.raises(ImageReadError, match=r"4\.png"):
        ManifestDataset(manifest, "train", 32, cache_size=32)
    assert not list(Path(os.environ["DMLM_CACHE"], "images").iterdir())


def test_empty_split_is_refused(tmp_path):
    manifest = read_manifest(write_csv(tmp_path, HEADER, ROWS[:2]), NUMERIC)
    with pytest.raises(DatasetFormatError, match="no row belongs to the split 'val'"):
        ManifestDataset(manifest, "val", 32)


@pytest.mark.skipif(not (REAL / "manifest.csv").is_file(), reason="real radiographs are absent (set DMLM_REAL_DATA)")
def test_real_radiographs_are_read():
    form = ManifestFormat(  # some rows have neither a label nor findings
        label_column="labels", text_column="text_findings", where={"source": ["cohen", "nih"]}, on_error="skip"
    )
    manifest = read_manifest(REAL / "manifest.csv", form)
    assert len(manifest.rows) > 1200
    train = ManifestDataset(manifest, "train", 96, TrainTransform(96))
    for index in np.linspace(0, len(train) - 1, 20).astype(int):
        sample = train[SampleKey(int(index), 1)]
        assert sample["image"].shape == (1, 96, 96)
        assert sample["image"].float().std() > 10
        assert 20 < sample["image"].float().mean() < 235


def test_unseen_studies_are_marked_and_stay_out_of_training(tmp_path):
    header, mark = [*HEADER, "odd"], ManifestFormat(label_columns=("Edema", "Effusion"), unseen_column="odd")
    rows = [[*row, "1" if row[2] == "test" else ""] for row in ROWS[:3]]
    rows += [["img/3.png", "Clear.", "test", "p3", "s3", "1", "", "1"], [*ROWS[4], "0"]]
    manifest = read_manifest(write_csv(tmp_path, header, rows), mark)
    assert ManifestDataset(manifest, "test", 32).unseen.tolist() == [True]
    assert not ManifestDataset(manifest, "train", 32).unseen.any()
    assert ManifestDataset(read_manifest(tmp_path / "data.csv", NUMERIC), "test", 32).unseen is None
    rows[0][-1], rows[1][-1] = "1", "maybe"
    with pytest.raises(DatasetFormatError, match=r"outside the test split.*line 2.*must hold 1, 0 or blank.*line 3"):
        read_manifest(write_csv(tmp_path, header, rows), mark)


@pytest.mark.parametrize("name", ["subject_id", "PatientID", "patient", "MRN"])
def test_a_column_of_patients_of_another_name_is_not_passed_over(tmp_path, name):
    rows = [[f"img/{i}.png", "Clear.", f"p{i // 4}"] for i in range(20)]
    path = write_csv(tmp_path, ["path", "text", name], rows)
    with pytest.raises(DatasetFormatError, match=f"but '{name}'; set data.patient_column to it, or to null"):
        read_manifest(path)
    form = ManifestFormat(patient_column=name, ratios=(0.6, 0.2, 0.2))
    drawn = {row.patient_id: row.split for row in read_manifest(path, form).rows}
    assert all(drawn[row.patient_id] == row.split for row in read_manifest(path, form).rows)
    assert len({row.patient_id for row in read_manifest(path, ManifestFormat(patient_column=None)).rows}) == 20


def test_drawing_splits_without_patients_is_said(tmp_path, caplog):
    path = write_csv(tmp_path, ["path", "text"], [[f"img/{i}.png", "Clear."] for i in range(20)])
    read_manifest(path, ManifestFormat(ratios=(0.6, 0.2, 0.2)))
    assert "no column of patients: splits are drawn as if every image were" in caplog.text


def test_long_cells_are_read_as_reports_are(tmp_path):
    long = "word " * 40_000  # Python's own limit is 131,072 characters
    path = write_csv(
        tmp_path, ["path", "text", "split"], [["img/0.png", "a\nb", "train"], ["img/1.png", long, "train"]]
    )
    csv.field_size_limit(131_072)  # reading reports raises it for the whole process
    assert len(read_manifest(path).rows[1].text) == len(long) - 1
    (tmp_path / "long.csv").write_text(f'path,text\n\n"a\n.png","{"x" * ((4 << 20) + 1)}"\n')
    with pytest.raises(DatasetFormatError, match=r"long.csv: line 3: a cell has more than 4,194,304 characters"):
        read_manifest(tmp_path / "long.csv")
