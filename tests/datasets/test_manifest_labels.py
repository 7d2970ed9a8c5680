"""Labels of a CSV of one's own: names in one column, their spellings, the order of grades."""

import numpy as np
import pytest
from manifests import HEADER, NUMERIC, ROWS, write_csv

from dmlm.datasets import ManifestDataset, ManifestFormat, read_manifest
from dmlm.errors import DatasetFormatError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DMLM_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_classes_must_exclude_each_other_where_asked(tmp_path):
    path = write_csv(tmp_path, ["path", "c", "split"], [["img/0.png", "A|B", "train"], ["img/1.png", "A", "train"]])
    with pytest.raises(DatasetFormatError, match=r"not exactly one class in 1 row \(line 2: A, B\)"):
        read_manifest(path, ManifestFormat(label_column="c", one_label=True))


def test_names_in_one_column(tmp_path, caplog):
    rows = [["img/0.png", "Edema|Effusion"], ["img/1.png", "No Finding"], ["img/2.png", ""], ["img/3.png", " Edema "]]
    rows = [[*row, "text", "train"] for row in rows]
    path = write_csv(tmp_path, ["path", "labels", "text", "split"], rows)
    every = read_manifest(path, ManifestFormat(label_column="labels"))
    assert every.label_names == ("Edema", "Effusion", "No Finding")
    some = read_manifest(path, ManifestFormat(label_column="labels", label_names=("Effusion", "Edema", "Edemas")))
    labels = ManifestDataset(some, "train", 32).labels
    np.testing.assert_array_equal(labels, [[1, 1, 0], [0, 0, 0], [np.nan] * 3, [0, 1, 0]])
    assert "'Edemas' is in no row" in caplog.text
    assert "did you mean 'Edema'" in caplog.text


def test_blank_labels_are_unknown_and_leave_the_text_alone(tmp_path):
    manifest = read_manifest(write_csv(tmp_path, HEADER, ROWS), NUMERIC)
    assert np.isnan(ManifestDataset(manifest, "val", 32).labels[0, 0])
    sample = ManifestDataset(manifest, "test", 32)[0]
    assert sample["report"].observations == ()
    assert sample["report"].source == "text"
    assert sample["text"] == "Clear."


@pytest.mark.parametrize("cell", ["Effusion,Mass", "Effusion; Mass", "Effusion/Mass", "effusion"])
def test_labels_that_would_be_misread_as_absent_are_refused(tmp_path, cell, caplog):
    rows = [["img/0.png", "a", "train", "Effusion|Mass"], ["img/1.png", "b", "train", cell]]
    path = write_csv(tmp_path, ["path", "text", "split", "L"], rows)
    with pytest.raises(DatasetFormatError, match=rf"not separated by '\|' in 1 row \(line 3: '{cell}'"):
        read_manifest(path, ManifestFormat(label_column="L", label_names=("Effusion", "Mass")))
    rows[1][3] = "No Finding"
    manifest = read_manifest(
        write_csv(tmp_path, ["path", "text", "split", "L"], rows),
        ManifestFormat(label_column="L", label_names=("Effusion", "Mass")),
    )
    assert [row.labels for row in manifest.rows] == [(1.0, 1.0), (0.0, 0.0)]
    assert "do not count: No Finding" in caplog.text.replace("'", "")


def labelled(folder, cells, **options):
    """Read a table with one row per cell of labels."""
    rows = [[f"img/{n}.png", "text", "train", cell] for n, cell in enumerate(cells)]
    path = write_csv(folder, ["path", "text", "split", "L"], rows)
    return read_manifest(path, ManifestFormat(label_column="L", **options))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (
            ["Pneumonia", "Edema", "pneumonia"],
            r"'Pneumonia' \(line 2\) and 'pneumonia' \(line 4\); spell it alike in all",
        ),
        (["Lung_Thing", "lung thing"], r"'Lung_Thing' \(line 2\) and 'lung thing' \(line 3\)"),
        (
            ["Edema", "Pleural Effusion|Effusion"],
            r"'Pleural Effusion' \(line 3\) and 'Effusion' \(line 3\).*data.label_n",
        ),
        (["Normal", "mass", "No Finding", "Mass"], r"'Normal'.*'No Finding' \(line 4\); 'mass' .line 3. and 'Mass'"),
        (["1", "2", "1.0"], r"'1' \(line 2\) and '1.0' \(line 4\)"),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_one_label_in_two_spellings_is_not_two_labels(tmp_path, cells, expected, on_error):
    with pytest.raises(DatasetFormatError, match=expected) as caught:
        labelled(tmp_path, cells, on_error=on_error)
    assert "\n" not in str(caught.value)


def test_synonyms_that_are_both_asked_for_stay_apart(tmp_path, caplog):
    cells = ["Fracture", "Rib Fracture", "Fracture|Rib Fracture"]
    found = labelled(tmp_path, cells, label_names=("Fracture", "Rib Fracture"))
    assert [row.labels for row in found.rows] == [(1, 0), (0, 1), (1, 1)]
    assert "'Fracture', 'Rib Fracture' stay apart, but reports and prompts take them all for 'Fracture'" in caplog.text
    with pytest.raises(DatasetFormatError, match=r"1 row \(line 3: 'Rib Fracture' for 'Fracture'\)"):
        labelled(tmp_path, cells, label_names=("Fracture",))
    caplog.clear()
    form = ManifestFormat(label_columns=("Edema", "Effusion"), label_names=("Edema", "Pulmonary Edema"))
    read_manifest(write_csv(tmp_path, HEADER, ROWS), form)
    assert "'Edema', 'Pulmonary Edema' stay apart" in caplog.text


def test_labels_of_published_sets_are_labels_of_their_own(tmp_path):
    from dmlm.datasets.chexpert import LABEL_NAMES as CHEXPERT
    from dmlm.datasets.nih import LABEL_NAMES as NIH

    for names in (
        CHEXPERT,
        NIH,
        (*NIH, "No Finding"),
        ("Normal", "Bacterial pneumonia", "Viral pneumonia", "COVID-19"),
    ):
        assert set(labelled(tmp_path, names).label_names) == set(names)


@pytest.mark.parametrize(
    ("cells", "names", "order"),
    [
        (["10", "9", "1", "2"], ("1", "2", "9", "10"), "read"),
        (["-1", "0.5", "-2"], ("-2", "-1", "0.5"), "read"),
        (["KL-2", "KL-10", "KL-1"], ("KL-1", "KL-2", "KL-10"), "read"),
        (["Severe", "None", "moderate", "Trace", "mild"], ("None", "Trace", "mild", "moderate", "Severe"), "read"),
        (["trace", "minimal"], ("minimal", "trace"), "alphabet"),
        (["none", "some", "severe"], ("none", "severe", "some"), "alphabet"),
        (["A1", "B2"], ("A1", "B2"), "alphabet"),
    ],
)
def test_numbers_and_grades_are_sorted_as_such(tmp_path, cells, names, order):
    found = labelled(tmp_path, cells, one_label=True)
    assert (found.label_names, found.label_order) == (names, order)
    assert labelled(tmp_path, cells, label_names=names[::-1]).label_order == "given"
