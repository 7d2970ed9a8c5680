"""Reports in every layout that is understood, and in none."""

import gzip
import io
import tarfile
import zipfile

import pytest

from dmlm.errors import DatasetFormatError, DatasetNotFoundError
from dmlm.reports.sources import RawReport, ReportFolder

XML = """<?xml version="1.0" encoding="utf-8"?><eCitation><uId id="CXR{n}"/><Abstract>
<AbstractText Label="INDICATION">Pneumonia?</AbstractText><AbstractText Label="FINDINGS">Effusion {n}.</AbstractText>
<AbstractText Label="IMPRESSION"/></Abstract></eCitation>"""
OPEN_I = RawReport("CXR1", "INDICATION: Pneumonia?\n\nFINDINGS: Effusion 1.")


def tgz(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def test_open_i(tmp_path):
    files = {"ecgen-radiology/1.xml": XML.format(n=1), "ecgen-radiology/2.xml": XML.format(n=2)}
    tgz(tmp_path / "reports.tgz", files)
    folder = tree(tmp_path / "folder", files)
    for root in (tmp_path / "reports.tgz", folder):
        reports = list(ReportFolder(root))
        assert reports[0] == OPEN_I
        assert [report.study_id for report in reports] == ["CXR1", "CXR2"]
    assert ReportFolder(folder).count() == 2


MIMIC = {
    "files/p10/p10000032/s50414267.txt": "FINDINGS: Effusion.",
    "files/p10/p10000032/s53189527.txt": "FINDINGS: None.",
    "LICENSE.txt": "PhysioNet",
    "SHA256SUMS.txt": "0",
    "__MACOSX/files/s50414267.txt": "x",
    ".hidden/s1234567.txt": "x",
}


def test_the_archive_is_found_in_the_layout_of_the_whole_download(tmp_path):
    place = tmp_path / "mimic" / "mimic-cxr" / "2.1.0"
    place.mkdir(parents=True)
    (place / "LICENSE.txt").write_text("terms")
    with zipfile.ZipFile(place / "mimic-cxr-reports.zip", "w") as archive:
        archive.writestr("files/p10/p10000032/s50414267.txt", "Clear lungs.")
    assert [report.study_id for report in ReportFolder(tmp_path / "mimic")] == ["50414267"]


def test_mimic(tmp_path):
    folder = tree(tmp_path / "mimic", MIMIC)
    with zipfile.ZipFile(tmp_path / "mimic-cxr-reports.zip", "w") as archive:
        for name, text in MIMIC.items():
            archive.writestr(name, text)
    for root in (folder, tmp_path / "mimic-cxr-reports.zip"):
        source = ReportFolder(root)
        assert list(source) == [RawReport("50414267", "FINDINGS: Effusion."), RawReport("53189527", "FINDINGS: None.")]
        assert source.count() == 2


def test_a_folder_of_texts(tmp_path):
    tree(tmp_path, {"a/1.txt": "\ufeffOne.", "b/1.txt": "Two.", "b/bytes.txt": b"\xff\xfe\x00"})
    assert [report.study_id for report in ReportFolder(tmp_path)] == ["a/1", "b/1", "b/bytes"]
    first, _, broken = ReportFolder(tmp_path)
    assert first.text == "One."
    assert "\ufffd" in broken.text


def test_tables(tmp_path):
    tree(tmp_path, {
        "sectioned.csv": 'study,impression,findings,last_paragraph\ns50414267,Normal.,,\ns53189527,,"A\nb.",End\n',
        "plain.tsv": "study_id\treport\n1\tEffusion.\n1\tEffusion.\n2\t\n",
        "own.csv": "who,what,text\n1,Edema.,no\n",
    })  # fmt: skip
    assert list(ReportFolder(tmp_path / "sectioned.csv")) == [
        RawReport("50414267", "IMPRESSION: Normal."),
        RawReport("53189527", "FINDINGS: A\nb.\n\nFINDINGS: End"),
    ]
    assert list(ReportFolder(tmp_path / "plain.tsv")) == [RawReport("1", "Effusion."), RawReport("2", "")]
    assert list(ReportFolder(tmp_path / "own.csv", ["what"], "who")) == [RawReport("1", "Edema.")]
    with gzip.open(tmp_path / "own.csv.gz", "wt") as handle:
        handle.write("study_id,text\n7,Edema.\n")
    assert list(ReportFolder(tmp_path / "own.csv.gz")) == [RawReport("7", "Edema.")]


@pytest.mark.parametrize(
    ("name", "text", "options", "named"),
    [
        ("r.csv", "a,text\n1,x\n", {}, "--id-column; the columns are a, text"),
        ("r.csv", "study_id,b\n1,x\n", {}, "no column of text known; name it with --text-column"),
        ("r.csv", "study_id,b\n1,x\n", {"text_columns": ["c"]}, "no column 'c'"),
        ("r.csv", "study_id,text\n,x\n", {}, "line 2: no study"),
        ("r.csv", "study_id,text\n1,x\n1,y\n", {}, "'1' has two different reports"),
        ("r.csv", "", {}, "the columns are none"),
        ("r.zip", "PK", {}, "cannot be read"),
        ("r.tgz", "x", {}, "cannot be read"),
    ],
)
def test_faulty_sources(tmp_path, name, text, options, named):
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetFormatError, match=named) as error:
        list(ReportFolder(tmp_path / name, **options))
    assert str(tmp_path / name) in str(error.value)


def test_a_truncated_archive_is_named(tmp_path):
    tgz(tmp_path / "r.tgz", {f"{n}.xml": XML.format(n=n) * 50 for n in range(20)})
    data = (tmp_path / "r.tgz").read_bytes()
    (tmp_path / "r.tgz").write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetFormatError, match="cannot be read"):
        list(ReportFolder(tmp_path / "r.tgz"))


def test_nothing_there(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="no such file"):
        ReportFolder(tmp_path / "none")
    (tmp_path / "other.zip").touch()
    with pytest.raises(DatasetNotFoundError, match=r"did you mean .*other\.zip"):
        list(ReportFolder(tmp_path))


def test_the_folder_of_the_download_is_enough(tmp_path):
    with zipfile.ZipFile(tmp_path / "mimic-cxr-reports.zip", "w") as archive:
        archive.writestr("files/p10/p10000032/s50414267.txt", "FINDINGS: Clear lungs.")
    (tmp_path / "cxr-study-list.csv.gz").touch()
    assert [report.study_id for report in ReportFolder(tmp_path)] == ["50414267"]


def test_damaged_files_are_flagged_and_do_not_stop_the_others(tmp_path):
    tree(tmp_path, {"1.xml": XML.format(n=1), "2.xml": XML.format(n=2)[:150], "3.xml": "<eCitation/>"})
    reports = list(ReportFolder(tmp_path))
    assert [report.flags for report in reports] == [(), ("damaged_file",), ("no_text_in_file",)]
