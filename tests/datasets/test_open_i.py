from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dmlm.datasets import open_i
from dmlm.datasets.catalog import open_table, recognise
from dmlm.datasets.open_i_labels import LABEL_NAMES, labels_of
from dmlm.datasets.open_i_reports import ARCHIVE, FOLDER, parse_report, read_reports
from dmlm.datasets.synthesize.openi import PNG, write_collection
from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError

REAL = Path(os.environ.get("DMLM_REAL_DATA", Path(__file__).parents[3] / "shared" / "data")) / "openi_reports"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openi") / "root"
    write_collection(folder, 12, 0, 24)
    return folder


@pytest.fixture
def copy(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    return tmp_path / "copy"


def test_each_image_has_a_row_with_its_reports_text_and_labels(root):
    table = open_table("openi", root)
    reports = {f"CXR{report.number}": report for report in read_reports(root)}
    assert recognise(root) == "openi"
    assert len(table) == sum(len(report.images) for report in reports.values())
    assert {len(report.images) for report in reports.values()} == {0, 1, 2, 3}
    for row in range(len(table)):
        report = reports[table.study_ids[row]]
        assert table.path(row).is_file()
        assert table.images[row].split("/")[1].removesuffix(".png") in [image for image, _ in report.images]
        assert table.text(row) == report.text
        np.testing.assert_array_equal(table.labels[row], labels_of(report.major))
    assert "IMPRESSION: " in table.text(0)


def test_archive_folder_and_bare_files_hold_the_same(root, tmp_path):
    expected = read_reports(root)
    write_collection(tmp_path / "packed", 12, 0, 24, archive=True)
    for place in (tmp_path / "packed", tmp_path / "packed" / ARCHIVE, root / FOLDER):
        assert read_reports(place) == expected
    (tmp_path / "packed" / "NLMCXR_reports").mkdir()
    (tmp_path / "packed" / ARCHIVE).rename(tmp_path / "packed" / "NLMCXR_reports" / ARCHIVE)
    assert read_reports(tmp_path / "packed") == expected


def test_projections_of_the_kaggle_copy_say_which_films_are_frontal(root, tmp_path):
    with pytest.raises(ConfigError, match=r"no indiana_projections.csv says"):
        open_table("openi", root, views="frontal")
    write_collection(tmp_path / "k", 12, 0, 24, projections=True)
    # the Kaggle copy calls its files 1_IM-0001-3001.dcm.png
    for path in sorted((tmp_path / "k" / PNG).iterdir()):
        stem = path.stem.removeprefix("CXR1_1_") if path.stem.startswith("CXR1_1_") else path.stem.removeprefix("CXR")
        path.rename(path.with_name(f"{'1_' if path.stem.startswith('CXR1_1_') else ''}{stem}.dcm.png"))
    table = open_table("openi", tmp_path / "k", views="frontal")
    assert set(table.extra["view"]) == {"FRONTAL"}
    assert 0 < len(table) < len(open_table("openi", root))
    path = tmp_path / "k" / "indiana_projections.csv"
    path.write_text(path.read_text().replace("Lateral", "Oblique", 1))
    with pytest.raises(DatasetFormatError, match="projection is 'Oblique'; expected Frontal or Lateral"):
        open_table("openi", tmp_path / "k")


@pytest.mark.parametrize(
    ("major", "present"),
    [
        (["normal"], {"No Finding"}),
        (["Opacity/lung/base/left", "Cardiomegaly/mild"], {"Lung Opacity", "Cardiomegaly"}),
        (["Thickening/pleura/apex"], {"Pleural Thickening"}),
        (["Thickening/trachea"], set()),
        (["Cardiac Shadow/enlarged/mild"], {"Cardiomegaly"}),
        (["Cardiac Shadow"], set()),
        (["Hydropneumothorax/right"], {"Pneumothorax", "Pleural Effusion"}),
        (["Catheters, Indwelling/left", "Pulmonary Emphysema"], {"Support Devices", "Emphysema"}),
        (["Subcutaneous Emphysema", "Pneumoperitoneum"], set()),
    ],
)
def test_labels_come_from_the_indexing(major, present):
    labels = labels_of(major)
    assert {name for name, value in zip(LABEL_NAMES, labels, strict=True) if value == 1} == present
    assert set(labels.tolist()) <= {0.0, 1.0}


def test_reports_that_were_not_indexed_have_unknown_labels():
    assert np.isnan(labels_of([])).all()
    assert np.isnan(labels_of(["No Indexing"])).all()


def test_missing_images_are_refused_dropped_or_not_looked_for(copy):
    whole = open_table("openi", copy)
    whole.path(2).unlink()
    with pytest.raises(DatasetNotFoundError, match=rf"1 of {len(whole)} images named by reports are missing"):
        open_table("openi", copy)
    assert len(open_table("openi", copy, missing_images="drop")) == len(whole) - 1
    shutil.move(copy / PNG, copy.parent / "elsewhere")
    with pytest.raises(DatasetNotFoundError, match=r"reports but no image; unpack NLMCXR_png.tgz"):
        open_table("openi", copy)
    assert len(open_table("openi", copy, missing_images="keep")) == len(whole)
    moved = open_table("openi", copy, missing_images="drop", images_root=str(copy.parent / "elsewhere"))
    assert len(moved) == len(whole) - 1


def test_damaged_reports_are_one_line(copy):
    place = copy / FOLDER / "2.xml"
    text = place.read_text()
    for bad, message in (
        (text[: len(text) // 2], "damaged or no XML"),
        ("<html><body/></html>", "not a report of this collection"),
        (text.replace('id="CXR2"', 'id="CXR1"'), "report CXR1 is there already"),
        (
            text.replace("CXR2_IM-0002-1001", "CXR1_1_IM-0001-1001"),
            "image 'CXR1_1_IM-0001-1001' is named by CXR1 and CXR2",
        ),
    ):
        place.write_text(bad)
        with pytest.raises(DatasetFormatError, match=message) as caught:
            open_table("openi", copy, missing_images="keep")
        assert "\n" not in str(caught.value)


def test_cut_off_archives_and_wrong_roots_are_one_line(tmp_path):
    write_collection(tmp_path / "a", 3, 0, 16, archive=True)
    path = tmp_path / "a" / ARCHIVE
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DatasetFormatError, match="damaged, cut off or no archive"):
        read_reports(path)
    (tmp_path / "b").mkdir()
    with pytest.raises(DatasetNotFoundError, match=r"holds neither ecgen-radiology/1.xml nor NLMCXR_reports.tgz"):
        open_table("openi", tmp_path / "b")
    assert not open_i.recognise(tmp_path / "b")
    with pytest.raises(ConfigError, match=r"data.views must be"):
        open_table("openi", tmp_path / "a", views="lateral")


def test_blank_sections_are_left_out_and_white_space_is_mended():
    data = b"""<eCitation><uId id="CXR7"/><AbstractText Label="FINDINGS"> a\n b </AbstractText>
    <AbstractText Label="IMPRESSION"></AbstractText></eCitation>"""
    report = parse_report(data, "7.xml")
    assert (report.text, report.major, report.images) == ("FINDINGS: a b", (), ())


def test_masks_that_bear_the_names_of_films_are_refused(copy):
    films = next(folder for folder in copy.rglob("NLMCXR_png"))
    shutil.copytree(films, films.parent / "AAA_lung_masks")
    with pytest.raises(DatasetFormatError, match=r"AAA_lung_masks/.* have one name; move what is no film away"):
        open_table("openi", copy)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real reports of Open-i are not there (DMLM_REAL_DATA)")
def test_all_real_reports_parse_and_have_the_documented_counts():
    reports = read_reports(REAL)
    assert len(reports) == open_i.TOTALS["reports"]
    assert sum(len(report.images) for report in reports) == open_i.TOTALS["images"]
    assert sum(bool(report.images) for report in reports) == open_i.TOTALS["studies"]
    labels = np.array([labels_of(report.major) for report in reports])
    counts = dict(zip(LABEL_NAMES, np.nansum(labels, axis=0).astype(int).tolist(), strict=True))
    assert {name: counts[name] for name in ("No Finding", "Cardiomegaly", "Atelectasis", "Pneumothorax")} == {
        "No Finding": 1391,
        "Cardiomegaly": 395,
        "Atelectasis": 332,
        "Pneumothorax": 27,
    }
    table = open_table("openi", REAL, missing_images="keep")
    assert (len(table), len(set(table.study_ids))) == (7470, 3851)
