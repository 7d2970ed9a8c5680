from __future__ import annotations

import csv
import shutil
from collections import Counter

import numpy as np
import pytest

from dmlm.datasets import edema_grades, edema_severity
from dmlm.datasets.catalog import open_table, recognise
from dmlm.datasets.edema_grades import FILES, read_readings
from dmlm.datasets.synthesize.edema import write
from dmlm.datasets.table_splits import SplitPlan, assign_splits
from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edema") / "root"
    write(folder, 20, 0, 24)
    return folder


@pytest.fixture
def copy(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    return tmp_path / "copy"


def _rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_grades_of_reports_are_joined_with_every_frontal_film(root):
    table = open_table("edema", root)
    mimic = open_table("mimic", root / "mimic")
    graded = {row["study_id"]: int(row["edema_severity"]) for row in _rows(root / FILES["regex"])}
    frontal = [row for row, view in enumerate(mimic.extra["view"]) if view in ("PA", "AP")]
    expected = [row for row in frontal if str(mimic.study_ids[row]) in graded]
    assert list(table.images) == [mimic.images[row] for row in expected]
    assert max(Counter(table.study_ids.tolist()).values()) == 2
    assert set(graded) - set(table.study_ids.tolist())  # the study without a frontal film
    for row, study in enumerate(table.study_ids):
        assert table.labels[row].tolist() == np.eye(4)[graded[str(study)]].tolist()
        assert table.extra["edema_grade"][row] == graded[str(study)]
        assert table.text(row) == mimic.text(expected[row])
    assert table.task == "multiclass"
    assert recognise(root) == "edema"


def test_lateral_films_come_with_views_all(root):
    assert "LATERAL" in set(open_table("edema", root, views="all").extra["view"])
    with pytest.raises(ConfigError, match=r"data.views must be"):
        open_table("edema", root, views="lateral")


def test_grades_of_images_are_joined_by_image(root):
    table = open_table("edema", root, source="consensus")
    rows = _rows(root / FILES["consensus"])
    assert sorted(table.extra["dicom_id"]) == sorted(row["dicom_id"] for row in rows)
    expert = {row["study_id"] for row in _rows(root / FILES["expert"])}
    regex = {row["study_id"] for row in _rows(root / FILES["regex"])}
    assert {row["study_id"] for row in rows} <= expert <= regex


def test_the_best_reading_of_a_study_is_consensus_then_expert_then_regex(root):
    by = {source: {item.study: item.grade for item in read_readings(root, source)} for source in ("regex", "expert")}
    seen = {item.study: item for item in read_readings(root, "best")}
    consensus = {row["study_id"]: int(row["edema_severity"]) for row in _rows(root / FILES["consensus"])}
    assert set(seen) == set(by["regex"])
    for study, item in seen.items():
        grade = consensus.get(study, by["expert"].get(study, by["regex"][study]))
        assert item.grade == grade
    assert {item.reader for item in seen.values()} == {"consensus", "expert", "regex"}


def test_joint_chestxray_splits_are_its_folds_and_test(root):
    table = open_table("edema", root, source="joint_chestxray")
    folds = np.array(table.extra["fold"])
    patients = np.array(table.patient_ids)
    for name, fold in (("joint_chestxray", "1"), ("joint_chestxray_fold4", "4")):
        split = assign_splits(table, SplitPlan(name))
        assert ((split == "test") == (folds == "TEST")).all()
        assert ((split == "val") == (folds == fold)).all()
        assert not set(patients[split == "train"]) & set(patients[split != "train"])


def test_leaking_folds_are_refused_unless_allowed(copy):
    path = copy / FILES["joint_chestxray"]
    rows = _rows(path)
    subject = next(row["subject_id"] for row in rows if row["fold"] == "TEST")
    rows[next(place for place, row in enumerate(rows) if row["fold"] != "TEST")]["fold"] = "2"
    twice = [row for row in rows if row["subject_id"] == subject]
    if len(twice) > 1:
        twice[0]["fold"] = "2"
    else:
        twice[0]["fold"] = "TEST"
        other = next(s for s, n in Counter(row["subject_id"] for row in rows).items() if n > 1)
        next(row for row in rows if row["subject_id"] == other)["fold"] = "TEST"
        [row for row in rows if row["subject_id"] == other][1]["fold"] = "3"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    table = open_table("edema", copy, source="joint_chestxray")
    with pytest.raises(ConfigError, match=r"'joint_chestxray' of .* leaks: patient"):
        assign_splits(table, SplitPlan("joint_chestxray"))
    assert "test" in assign_splits(table, SplitPlan("joint_chestxray", allow_leaks=True))


def test_the_ratios_of_the_paper_are_drawn_by_patient(root):
    table = open_table("edema", root)
    split = assign_splits(table, SplitPlan("paper"))
    assert (split == assign_splits(table, SplitPlan("ratios", (0.6, 0.2, 0.2)))).all()
    of_patient = {}
    for patient, part in zip(table.patient_ids, split, strict=True):
        assert of_patient.setdefault(patient, part) == part


def test_expert_test_keeps_other_studies_of_test_patients_out(root):
    table = open_table("edema", root, source="best")
    split = assign_splits(table, SplitPlan("expert_test", (0.7, 0.3, 0.0)))
    patients, reader = np.array(table.patient_ids), np.array(table.extra["reader"])
    assert ((split == "test") == np.isin(reader, ["expert", "consensus"])).all()
    assert not set(patients[split == "test"]) & set(patients[np.isin(split, ["train", "val"])])
    assert not set(patients[split == "train"]) & set(patients[split == "val"])
    with pytest.raises(ConfigError, match=r"set data.source to best"):
        assign_splits(open_table("edema", root), SplitPlan("expert_test"))
    with pytest.raises(ConfigError, match=r"set data.source to joint_chestxray"):
        assign_splits(table, SplitPlan("joint_chestxray"))


def test_images_may_be_elsewhere(copy, tmp_path):
    expected = open_table("edema", copy)
    shutil.move(copy / "mimic", tmp_path / "mimic-cxr")
    with pytest.raises(DatasetNotFoundError, match=r"set data.mimic"):
        open_table("edema", copy)
    moved = open_table("edema", copy, mimic=str(tmp_path / "mimic-cxr"))
    assert list(moved.images) == list(expected.images)


@pytest.mark.parametrize(
    ("source", "old", "new", "message"),
    [
        ("regex", "edema_severity", "severity", "neither a column 'edema_severity' nor 'edeme_severity'"),
        ("regex", "study_id", "study", "no column 'study_id'"),
        ("joint_chestxray", ",TEST", ",6", "fold is '6'; expected 1 to 5 or TEST"),
        ("consensus", "dicom_id", "image", "no column 'dicom_id'"),
    ],
)
def test_changed_tables_are_refused(copy, source, old, new, message):
    path = copy / FILES[source]
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DatasetFormatError, match=message):
        open_table("edema", copy, source=source)


def test_unknown_grades_duplicates_and_wrong_counts_are_refused(copy, monkeypatch):
    path = copy / FILES["expert"]
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:-1] + "4", *lines[2:]]))
    with pytest.raises(DatasetFormatError, match="line 2: edema severity is '4'; expected 0, 1, 2 or 3"):
        read_readings(copy, "expert")
    path.write_text("\n".join([*lines, lines[1]]))
    with pytest.raises(DatasetFormatError, match="is listed already in line 2"):
        read_readings(copy, "expert")
    path.write_text("\n".join(lines))
    rows = len(lines) - 1
    monkeypatch.setattr(edema_grades, "COUNTS", {"expert": (0, 0, rows, 0)})
    with pytest.raises(DatasetFormatError, match="released number of rows but"):
        read_readings(copy, "expert")
    assert {name: sum(counts) for name, counts in edema_severity.COUNTS.items()} == {
        "regex": 6710,
        "expert": 485,
        "consensus": 141,
    }


def test_studies_of_another_mimic_and_missing_tables_are_one_line(copy, tmp_path):
    path = copy / FILES["regex"]
    path.write_text("subject_id,study_id,edema_severity\n1,2,0\n")
    with pytest.raises(DatasetFormatError, match="none of 1 graded studies has a frontal image"):
        open_table("edema", copy)
    path.unlink()
    with pytest.raises(DatasetNotFoundError, match=r"holds no regex_report_edema_severity.csv"):
        open_table("edema", copy)
    with pytest.raises(ConfigError, match=r"data.source must be"):
        open_table("edema", copy, source="all")
    assert not edema_severity.recognise(tmp_path / "none")
