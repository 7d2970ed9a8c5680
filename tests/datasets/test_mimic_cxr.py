from __future__ import annotations

import pickle
import shutil
import zipfile

import numpy as np
import pytest

from dmlm.datasets import mimic_cxr
from dmlm.datasets.catalog import open_table, recognise
from dmlm.datasets.mimic_cxr_reports import ARCHIVE, ReportArchive, ReportTree
from dmlm.datasets.mimic_cxr_tables import LABEL_NAMES, METADATA, SPLIT
from dmlm.datasets.synthesize.mimic import DICOM, JPG, write, write_trees
from dmlm.datasets.table_dataset import TableDataset
from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("mimic") / "root"
    return root, write_trees(root / JPG, root / DICOM, 12, 0, 32)


@pytest.fixture
def copy(tree, tmp_path):
    shutil.copytree(tree[0], tmp_path / "copy")
    return tmp_path / "copy"


def _edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _unpacked(root):
    """Replace the gzipped tables by plain ones."""
    import gzip

    for path in (root / JPG).glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()


def test_every_image_has_a_row_with_its_studys_labels_split_and_text(tree):
    root, written = tree
    table = open_table("mimic", root)
    films = [(item, *film) for item in written for film in item.films]
    assert table.label_names == LABEL_NAMES
    assert list(LABEL_NAMES) == sorted(LABEL_NAMES)
    assert len(table) == len(films)
    assert {"PA", "AP", "LATERAL", "LL", ""} >= set(table.extra["view"]) >= {"AP", "LATERAL", "LL", ""}
    cells = {"1.0": 1.0, "0.0": 0.0, "-1.0": -1.0, "": np.nan}
    for row, (item, name, view, _) in enumerate(films):
        assert table.path(row).is_file()
        assert (table.extra["dicom_id"][row], table.extra["view"][row]) == (name, view)
        assert (table.patient_ids[row], table.study_ids[row]) == (str(item.subject), str(item.study))
        assert table.splits[row] == item.split
        assert table.text(row) == (item.report or "")
        known = [cells[cell] for cell in item.labels]
        if item is written[14]:  # has no row in the label tables
            known = [np.nan] * 14
        np.testing.assert_array_equal(table.labels[row], np.array(known, np.float32))
    assert {item.report is None for item in written} == {True, False}


def test_frontal_films_are_pa_and_ap_and_a_study_may_have_two(tree):
    table = open_table("mimic", tree[0], views="frontal")
    assert set(table.extra["view"]) == {"PA", "AP"}
    assert len(set(table.study_ids)) < len(table)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("gzipped", [True, False])
def test_merged_and_separate_trees_packed_or_not_give_the_same_rows(tree, tmp_path, zipped, gzipped):
    whole = open_table("mimic", tree[0])
    root = tmp_path / "merged"
    write_trees(root, root, 12, 0, 32, zipped=zipped, gzipped=gzipped)
    merged = open_table("mimic", root)
    assert list(merged.images) == list(whole.images)
    assert [merged.text(row) for row in range(len(merged))] == [whole.text(row) for row in range(len(whole))]
    np.testing.assert_array_equal(merged.labels, whole.labels)


def test_reports_may_be_named_as_archive_folder_or_root(tree, tmp_path):
    root, _ = tree
    archive = root / DICOM / ARCHIVE
    with zipfile.ZipFile(archive) as pack:
        pack.extractall(tmp_path / "mimic-cxr-reports")
    expected = open_table("mimic", root).text(0)
    for place in (
        archive,
        root / DICOM,
        tmp_path,
        tmp_path / "mimic-cxr-reports",
        tmp_path / "mimic-cxr-reports/files",
    ):
        table = open_table("mimic", root / JPG, reports_root=str(place))
        assert table.text(0) == expected
    assert open_table("mimic", root / JPG).text is None
    with pytest.raises(DatasetNotFoundError, match="holds no reports"):
        open_table("mimic", root / JPG, reports_root=str(root / JPG / "files" / "p10"))


def test_dicom_tree_opens_with_the_record_list_and_borrowed_tables(tree, tmp_path):
    pytest.importorskip("pydicom")
    write_trees(tmp_path / "jpg", tmp_path / "dcm", 3, 0, 16, dicom=True)
    write_trees(tmp_path / "same", tmp_path / "same", 3, 0, 16)
    shutil.move(tmp_path / "jpg" / "files", tmp_path / "dcm" / "files")
    alone = open_table("mimic", tmp_path / "dcm", labels="none")
    assert alone.images[0].endswith(".dcm")
    assert alone.splits is None
    assert alone.labels.shape == (len(alone), 0)
    with pytest.raises(ConfigError, match="does not say which images are frontal"):
        open_table("mimic", tmp_path / "dcm", labels="none", views="frontal")
    whole = open_table("mimic", tmp_path / "dcm", tables=str(tmp_path / "jpg"), views="frontal")
    assert set(whole.extra["view"]) <= {"PA", "AP"}
    sample = TableDataset(whole, image_size=16)[0]
    jpg = open_table("mimic", tmp_path / "same")
    same = TableDataset(jpg, image_size=16)[list(jpg.images).index(whole.images[0].replace(".dcm", ".jpg"))]
    # the DICOM holds the same film in 12 bits: up to the loss of the JPEG they look alike
    assert np.abs(sample["image"].numpy().astype(int) - same["image"].numpy().astype(int)).mean() < 4


def test_policy_for_empty_reports(tree):
    root, written = tree
    silent = {str(item.study) for item in written if item.report is None}
    kept, dropped = open_table("mimic", root), open_table("mimic", root, empty_reports="drop")
    assert set(kept.study_ids) - set(dropped.study_ids) == silent
    assert [dropped.text(row) for row in range(len(dropped))] == [
        kept.text(row) for row in range(len(kept)) if kept.study_ids[row] not in silent
    ]
    with pytest.raises(DatasetFormatError, match="studies have no text, the first is"):
        open_table("mimic", root, empty_reports="raise")
    strict = open_table("mimic", root, empty_reports="drop", text="impression_findings")
    assert len(strict) < len(dropped)
    assert all(strict.text(row) for row in range(len(strict)))


def test_text_policies_choose_sections(tree):
    root, written = tree
    whole, short = open_table("mimic", root), open_table("mimic", root, text="conclusion")
    study = next(item for item in written if item.report and "Preliminary reading" in item.report)
    row = list(whole.study_ids).index(str(study.study))
    assert "Preliminary" in whole.text(row)
    assert "Preliminary" not in short.text(row)
    assert short.text(row) in whole.text(row)
    with pytest.raises(ConfigError, match=r"data.text must be"):
        open_table("mimic", root, text="all")


def test_labels_by_hand_cover_test_studies_only(tree):
    table = open_table("mimic", tree[0], labels="radiologist")
    known = ~np.isnan(table.labels).any(axis=1)
    assert (known == (np.array(table.splits) == "test")).all()


def test_special_cases_reach_the_text(tree, tmp_path):
    root, written = tree
    study = next(item for item in written if item.report)
    path = tmp_path / "special.csv"
    path.write_text(f"study,section,start,end\ns{study.study},,0,0\n")
    table = open_table("mimic", root, text="conclusion", special_cases=str(path))
    assert table.text(list(table.study_ids).index(str(study.study))) == ""


def test_line_ends_of_another_system_change_nothing(tmp_path):
    text = " FINAL REPORT\n FINDINGS: Clear.\n \n IMPRESSION: Normal.\n"
    folder = tmp_path / "files" / "p10" / "p10000001"
    folder.mkdir(parents=True)
    (folder / "s50000001.txt").write_bytes(text.replace("\n", "\r\n").encode())
    with zipfile.ZipFile(tmp_path / ARCHIVE, "w") as pack:
        pack.write(folder / "s50000001.txt", "files/p10/p10000001/s50000001.txt")
    for reports in (ReportTree(tmp_path / "files"), ReportArchive(tmp_path / ARCHIVE)):
        assert reports.read(10000001, 50000001) == text


def test_a_table_is_pickled_small_and_reads_elsewhere(tree):
    table = open_table("mimic", tree[0])
    again = pickle.loads(pickle.dumps(table))
    assert again.text(3) == table.text(3)


def test_recognised_at_each_level_and_by_the_catalog(tree, tmp_path):
    root, _ = tree
    assert recognise(root) == "mimic"
    assert recognise(root / JPG) == "mimic"
    assert not mimic_cxr.recognise(root / JPG / "files")
    assert not mimic_cxr.recognise(tmp_path / "none")


def test_wrong_root_is_one_line(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"has neither mimic-cxr-2.0.0-metadata.csv") as caught:
        open_table("mimic", tmp_path)
    assert "\n" not in str(caught.value)


def test_half_unpacked_trees_are_refused_or_their_rows_dropped(copy):
    whole = open_table("mimic", copy)
    gone = f"p{whole.patient_ids[-1]}"
    shutil.rmtree(copy / JPG / "files" / gone[:3] / gone)
    with pytest.raises(DatasetNotFoundError, match=rf"1 of the 12 patients listed have no folder.*{gone}"):
        open_table("mimic", copy)
    dropped = open_table("mimic", copy, missing_images="drop")
    assert set(whole.patient_ids) - set(dropped.patient_ids) == {gone[1:]}
    assert len(open_table("mimic", copy, missing_images="keep")) == len(whole)
    whole.path(0).rename(whole.path(0).with_suffix(".part"))
    assert len(open_table("mimic", copy, missing_images="drop")) == len(dropped) - 1


def test_a_small_part_of_the_download_opens_where_the_rest_is_dropped(copy, monkeypatch):
    whole = open_table("mimic", copy)
    kept = whole.patient_ids[-1]
    for row, patient in enumerate(whole.patient_ids):
        if patient != kept:
            whole.path(row).unlink()
    monkeypatch.setattr(
        mimic_cxr.np, "linspace", lambda *_: [0.0]
    )  # as if no probe were one of the images that are there
    assert whole.patient_ids[0] != kept
    assert set(open_table("mimic", copy, missing_images="drop").patient_ids) == {kept}
    with pytest.raises(DatasetNotFoundError, match="none of 1 images looked for"):
        open_table("mimic", copy)


def test_a_missing_file_is_named(copy):
    table = open_table("mimic", copy)
    table.path(0).unlink()
    with pytest.raises(DatasetNotFoundError, match="listed but missing") as caught:
        open_table("mimic", copy)
    assert table.images[0] in str(caught.value)


def test_changed_tables_are_refused(copy):
    _unpacked(copy)
    base = copy / JPG
    clean = {path: path.read_text() for path in base.glob("*.csv")}

    def refused(path, old, new, message, error=DatasetFormatError, **options):
        _edit(base / path, old, new)
        with pytest.raises(error, match=message) as caught:
            open_table("mimic", copy, **options)
        assert "\n" not in str(caught.value)
        (base / path).write_text(clean[base / path])

    labels = "mimic-cxr-2.0.0-chexpert.csv"
    refused(METADATA, "dicom_id", "dicom", "no column 'dicom_id'; did you mean 'dicom'")
    refused(labels, "Edema", "Oedema", "no column 'Edema'; did you mean 'Oedema'")
    refused(labels, ",1.0", ",maybe", "is 'maybe'; expected 1.0, 0.0, -1.0 or blank")
    refused(SPLIT, "validate", "val", "split is 'val'; expected train, validate or test")
    first = clean[base / METADATA].splitlines()[1]
    refused(METADATA, first, f"{first}\n{first}", "line 3: dicom_id .* is listed already in line 2")
    row = clean[base / SPLIT].splitlines()[1]
    refused(SPLIT, f"{row}\n", "", "has no row for image")
    study = clean[base / labels].splitlines()[1]
    refused(labels, study, f"{study}\n{study}", "study_id '.*' is listed already in line 2")
    subject = first.split(",")[1]
    second = clean[base / METADATA].splitlines()[2]
    if second.split(",")[2] == first.split(",")[2]:
        refused(METADATA, second, second.replace(subject, "19999999"), "belongs to another subject")
    (base / METADATA).write_text(
        clean[base / METADATA].replace("dicom_id", "extra,dicom_id", 1).replace("\n", "\nx,")[:-2]
    )
    assert len(open_table("mimic", copy)) == len(clean[base / METADATA].splitlines()) - 1


def test_missing_label_table_is_named_with_its_mend(copy):
    (copy / JPG / "mimic-cxr-2.0.0-chexpert.csv.gz").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"mimic-cxr-2.0.0-chexpert.csv\[.gz\].*data.labels to none"):
        open_table("mimic", copy)
    assert open_table("mimic", copy, labels="none").label_names == ()
    assert open_table("mimic", copy, labels="negbio").label_names == LABEL_NAMES


def test_damaged_archives_are_one_line(copy):
    path = copy / DICOM / ARCHIVE
    data = path.read_bytes()
    reports = ReportArchive(path)
    study = int(reports._entries[0, 0])
    offset = int(reports._entries[0, 1])
    path.write_bytes(data[: offset + 60] + bytes(40) + data[offset + 100 :])
    with pytest.raises(DatasetFormatError, match=f"report of study {study} is damaged"):
        reports.read(0, study)
    assert reports.read(0, 1) is None
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetFormatError, match="cannot be read as a zip file"):
        ReportArchive(path)


def test_reports_of_other_studies_are_refused(tree, tmp_path):
    with zipfile.ZipFile(tmp_path / ARCHIVE, "w") as archive:
        archive.writestr("files/p10/p10000001/s1.txt", "x")
    with pytest.raises(DatasetNotFoundError, match=r"none of .* studies looked up has a report"):
        open_table("mimic", tree[0], reports_root=str(tmp_path))


def test_the_full_index_must_have_the_published_totals(monkeypatch, tree):
    rows = len(open_table("mimic", tree[0]))
    monkeypatch.setattr(mimic_cxr, "TOTALS", {"images": rows, "studies": 1, "patients": 12})
    monkeypatch.setattr(mimic_cxr, "OFFICIAL_SIZES", {})
    with pytest.raises(DatasetFormatError, match="studies instead of 1"):
        open_table("mimic", tree[0])
    assert sum((368_960, 2_991, 5_159)) == 377_110


def test_generator_refuses_a_full_folder_and_repeats_its_bytes(tmp_path):
    write(tmp_path / "a", 3, 1, 16)
    write(tmp_path / "b", 3, 1, 16)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    with pytest.raises(ConfigError, match="exists already"):
        write(tmp_path / "a", 3, 1, 16)
    with pytest.raises(ConfigError, match="at least 3"):
        write(tmp_path / "c", 2, 1, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": "lateral"}, r"data.views must be frontal or all"),
        ({"labels": "gpt"}, r"data.labels must be chexpert, negbio, radiologist or none"),
        ({"missing_images": "ignore"}, "missing_images must be raise, drop or keep"),
        ({"empty_reports": "skip"}, r"data.empty_reports must be keep, drop or raise"),
    ],
)
def test_wrong_options_are_one_line(tree, options, message):
    with pytest.raises(ConfigError, match=message):
        open_table("mimic", tree[0], **options)


def test_dropping_empty_reports_needs_reports(tree):
    with pytest.raises(ConfigError, match="no reports were found"):
        open_table("mimic", tree[0] / JPG, empty_reports="drop")
