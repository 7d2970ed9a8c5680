from __future__ import annotations

import csv
import gzip

import numpy as np
import pytest

from dmlm.datasets.csv_columns import check_unique, find_table, read_columns, to_integers, to_labels
from dmlm.errors import DatasetFormatError


def _write(path, text):
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_columns_are_read_by_name_whatever_their_order_and_spaces(tmp_path, name):
    path = _write(tmp_path / name, "\ufeffb , extra,a\n 1 ,x,2\n3,y,4\n\n")
    assert read_columns(path, ("a", "b"), ("c",)) == {"a": ["2", "4"], "b": ["1", "3"]}


def test_long_cells_are_read(tmp_path):
    csv.field_size_limit(131_072)  # Python's own limit, whatever was read before
    path = _write(tmp_path / "t.csv", f"a,b\n{'x' * 200_000},1\n")
    assert len(read_columns(path, ("a",))["a"][0]) == 200_000


def test_plain_files_come_before_gzipped_ones_and_near_folders_first(tmp_path):
    (tmp_path / "far").mkdir()
    _write(tmp_path / "far" / "t.csv", "a\n")
    gz = _write(tmp_path / "t.csv.gz", "a\n")
    assert find_table([tmp_path, tmp_path / "far"], "t.csv") == gz
    plain = _write(tmp_path / "t.csv", "a\n")
    assert find_table([tmp_path, tmp_path / "far"], "t.csv") == plain
    assert find_table([tmp_path], "other.csv") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study_id,Edemas\n1,0\n", r"no column 'Edema'; did you mean 'Edemas'"),
        ("", "no column 'study_id'; it has no header"),
        ("study_id,Edema,Edema\n", "column 'Edema' occurs twice"),
        ("study_id,Edema\n1,0\n2\n", "line 3: has 1 fields, the header has 2"),
        ("study_id,Edema\n1,0\n\n2,1\n", "line 3: has 0 fields"),
    ],
)
def test_damaged_tables_are_refused_with_file_and_line(tmp_path, text, message):
    path = _write(tmp_path / "t.csv", text)
    with pytest.raises(DatasetFormatError, match=message) as caught:
        read_columns(path, ("study_id", "Edema"))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cut_off_archives_and_binary_files_are_one_line(tmp_path):
    whole = gzip.compress(b"a,b\n" + b"1,2\n" * 5000)
    for name, data in (("t.csv.gz", whole[:-20]), ("u.csv.gz", b"not gzip"), ("v.csv", b"\xff\xfe\x00a")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DatasetFormatError, match=r"download it again|check the path"):
            read_columns(tmp_path / name, ("a",))


def test_labels_keep_uncertain_apart_from_unmentioned(tmp_path):
    path = tmp_path / "t.csv"
    found = to_labels(path, {"A": ["1.0", "0.0", "-1.0", ""], "B": ["1", "0", "-1", ""]}, ("B", "A"))
    np.testing.assert_array_equal(found, np.array([[1, 1], [0, 0], [-1, -1], [np.nan, np.nan]], np.float32))
    with pytest.raises(DatasetFormatError, match=r"line 3: label 'A' is '2.0'; expected 1.0, 0.0, -1.0 or blank"):
        to_labels(path, {"A": ["1.0", "2.0"]}, ("A",))


def test_identifiers_must_be_whole_numbers_and_single(tmp_path):
    path = tmp_path / "t.csv"
    assert to_integers(path, "id", ["7", "12"]).tolist() == [7, 12]
    with pytest.raises(DatasetFormatError, match="line 3: id is 'x'"):
        to_integers(path, "id", ["7", "x"])
    with pytest.raises(DatasetFormatError, match="line 4: id '7' is listed already in line 2"):
        check_unique(path, "id", ["7", "8", "7"])
    check_unique(path, "id", np.array([1, 2, 3]))
