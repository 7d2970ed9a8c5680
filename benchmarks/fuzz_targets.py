"""What is fuzzed: readers of files that strangers wrote, each with whole files to start from."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzz_images import dicoms, pictures, read_image

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
"""A picture of one grey pixel."""


@dataclass(frozen=True)
class Target:
    """A reader under test.

    Args:
        name: Its name on the command line.
        file: Name of the file that the bytes are written to.
        seeds: Makes whole, good inputs.
        read: Reads the file.
        words: Pieces that mutations put in.
    """

    name: str
    file: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    words: tuple[bytes, ...] = ()


def _rle(path: Path) -> object:
    from dmlm.datasets.rle import decode_rle

    mask = decode_rle(path.read_bytes().decode("latin-1"), 64, 64)
    assert mask.shape == (64, 64), mask.shape
    return mask


def _tables(path: Path) -> object:
    """Read the file as the table that its first byte names: the readers share their seeds, and get each other's."""
    from dmlm.datasets import csv_columns, edema_grades, nih_tables, rsna
    from dmlm.datasets.chexpert import LABEL_NAMES
    from dmlm.datasets.chexpert_rows import read_part
    from dmlm.datasets.covidx_lists import read_list

    which, content = path.read_bytes()[:1], path.read_bytes()[1:]
    path.write_bytes(content)
    if which == b"r":
        return rsna._read_boxes(path)
    if which == b"n":
        return nih_tables.read_entries(path)
    if which == b"b":
        boxes = path.with_name("BBox_List_2017.csv")
        boxes.write_bytes(content)
        return nih_tables.read_boxes([path.parent])
    if which == b"c":
        return read_part(path, "train", LABEL_NAMES)
    if which == b"e":
        path.with_name("regex_report_edema_severity.csv").write_bytes(content)
        return edema_grades._read(path.parent, "regex")
    if which == b"x":
        return read_list(path)
    columns = csv_columns.read_columns(path, ["ImageId"])
    return csv_columns.to_integers(path, "ImageId", columns["ImageId"])


def _table_seeds() -> list[bytes]:
    from dmlm.datasets.chexpert import LABEL_NAMES

    labels = ",".join(LABEL_NAMES)
    ones = ",".join("1.0" for _ in LABEL_NAMES)
    nih = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"  # noqa: E501
    texts = (
        "rpatientId,x,y,width,height,Target\na,,,,,0\nb,1,2,3,4,1\nb,5.0,6,7,8,1\n",
        f"n{nih}\n00000001_000.png,Cardiomegaly|Mass,0,1,058Y,M,PA,2682,2749,0.143,0.143,\n",
        "bImage Index,Finding Label,Bbox [x,y,w,h],,,\n00000001_000.png,Infiltrate,1.5,2,3,4,,,\n",
        f"cPath,Sex,Age,Frontal/Lateral,AP/PA,{labels}\n"
        f"CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Male,60,Frontal,AP,{ones}\n",
        "estudy_id,edema_severity\ns1,0\ns2,3.0\n",
        "x1 train-1.png positive rsna\n2 train-2.png negative bimcv\n",
        "iImageId\n1\n-2\n",
    )
    return [text.encode() for text in texts]


def _manifest(path: Path) -> object:
    from dmlm.datasets.manifest_format import ManifestFormat
    from dmlm.datasets.manifest_table import read_manifest

    content = path.read_bytes()
    for name in "abc":
        path.with_name(f"{name}.png").write_bytes(PIXEL)
    form = ManifestFormat(
        label_columns=("Edema", "Mass") if content.endswith(b"1\n") else (),
        label_column="labels" if not content.endswith(b"1\n") else None,
        split_file=str(path.with_name("splits.json")),
    )
    return read_manifest(path, form)


def _splits(path: Path) -> object:
    from dmlm.datasets.splits import read_splits

    return read_splits(path)


def _split_seeds() -> list[bytes]:
    from dmlm.datasets.splits import draw_splits, splits_hash

    drawn = draw_splits([str(n) for n in range(30)], (0.8, 0.1, 0.1), 0)
    members = {part: sorted(who for who, at in drawn.items() if at == part) for part in ("train", "val", "test")}
    whole = {"format": 1, "sha256": splits_hash(drawn), "patients": members}
    return [json.dumps(whole).encode()]


def _report(path: Path) -> object:
    from dmlm.reports.rules import structure
    from dmlm.reports.sections import choose_sections

    text = path.read_bytes().decode("utf-8", "replace")
    for _, start, end in choose_sections(text):
        assert 0 <= start <= end <= len(text), (start, end)
    return structure(text, "1")


_REPORT = b"""EXAMINATION: CHEST (PA AND LAT)
INDICATION: ___F with cough // ? pneumonia
FINDINGS: There is no focal consolidation, pleural effusion or pneumothorax. Mild cardiomegaly, unchanged.
IMPRESSION: 1. Small left pleural effusion. 2. No evidence of pneumonia; edema cannot be excluded.
"""


def _records(path: Path) -> object:
    from dmlm.reports.records import read_records

    return list(read_records(path))


def _record_seeds() -> list[bytes]:
    import contextlib
    import tempfile

    from dmlm.__main__ import main

    with tempfile.TemporaryDirectory() as place:
        Path(place, "a.txt").write_bytes(_REPORT)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main(["reports", "build", place, "--out", f"{place}/r.jsonl", "--workers", "1", "--quiet"])
        return [Path(place, "r.jsonl").read_bytes()]


def _archive(path: Path) -> object:
    from dmlm.reports.sources import ReportFolder

    content = path.read_bytes()
    name = "a.zip" if content[:2] == b"PK" else "a.csv.gz" if content[:2] == b"\x1f\x8b" else "a.csv"
    source = path.with_name(name)
    source.write_bytes(content)
    return [report.text[:1] for report in ReportFolder(source)]


def _archive_seeds() -> list[bytes]:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("files/p10/p10000032/s50414267.txt", _REPORT)
        pack.writestr(
            "ecgen-radiology/1.xml", b'<e><uId id="CXR1"/><AbstractText Label="FINDINGS">x</AbstractText></e>'
        )
    table = b'study_id,text\n1,"' + _REPORT + b'"\n2,Clear.\n'
    return [file.getvalue(), gzip.compress(table), table]


def _knowledge(path: Path) -> object:
    from dmlm.reports.knowledge import _with_file

    _with_file.cache_clear()
    return _with_file(str(path))


def _config(path: Path) -> object:
    from dmlm.planning.shapes import read_shapes

    return read_shapes([path])


def _config_seeds() -> list[bytes]:
    return [(Path(__file__).parents[1] / "examples/paper/pretrain_mimic_cxr.yaml").read_bytes()]


def _atlas(path: Path) -> object:
    from dmlm.masking.atlas import load_atlas

    load_atlas.cache_clear()
    return load_atlas(str(path))


def _checkpoint(path: Path) -> object:
    from dmlm.io.checkpoints import read_checkpoint

    return read_checkpoint(path)


def _checkpoint_seeds() -> list[bytes]:
    import torch

    found = []
    for old in (False, True):
        file = io.BytesIO()
        content = {"state_dict": {"encoder.x": torch.zeros(3)}, "hyper_parameters": {"a": [1, None, "b"]}}
        torch.save(content, file, _use_new_zipfile_serialization=not old)
        found.append(file.getvalue())
    return found


def _folder(path: Path) -> object:
    """Half of an encoder folder is what the fuzzer wrote, the other half is whole."""
    from dmlm.models.pretrained import _read_folder

    content = path.read_bytes()
    is_config = content[:1] == b"{"
    path.with_name("config.json").write_bytes(content if is_config else b'{"class_path": "x", "init_args": {}}')
    path.with_name("model.safetensors").write_bytes(_weights() if is_config else content)
    return _read_folder(path.parent)


def _weights() -> bytes:
    header = json.dumps({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0" * 8


YAML = (
    b"&a ",
    b"*a",
    b"!!int ",
    b"!!python/name:os.system ",
    b"<<: ",
    b"- ",
    b"? ",
    b"{",
    b"[",
    b"\n  ",
    b": ",
    b"null",
)
CELLS = (b",", b"\n", b'"', b"\r", b"\xef\xbb\xbf", b"nan", b"-1", b"1e999", b"\xff", b"\0", b"999999999999999999999")
JSON = (b"{", b"[", b'"', b"null", b"1e999", b"NaN", b"\\ud800", b"\\u0000", b"true", b"-1", b",")
NAMES = (b"../", b"/etc/", b"PK\x01\x02", b"PK\x05\x06", b"\x1f\x8b", b"\xff\xff\xff\xff", b"\0\0\0\0")


def targets() -> Iterable[Target]:
    """All targets, the light ones first."""
    own = Path(__file__).parents[1] / "dmlm"
    knowledge = b"findings:\n  Edema: {definition: Fluid., appearance: Haze., synonyms: [wet], codes: {ICD: 'J81'}}\n"
    atlas = b"zones:\n  apex: {right: [[0.1, 0.1, 0.4, 0.3]], left: [[0.6, 0.1, 0.9, 0.3]]}\nfindings:\n  Mass: {primary: [apex]}\n"  # noqa: E501
    manifest = b"path,text,split,patient_id,study_id,labels\na.png,Clear.,train,1,1,Edema|Mass\nb.png,Mass.,val,2,2,\n"
    columns = b"path,patient_id,Edema,Mass\na.png,1,1,0\nb.png,2,,-1\nc.png,3,0,1\n"
    return (
        Target("rle", "a.txt", lambda: [b"-1", b"0 5 3 2", b"10 4 60 1"], _rle, (b" ", b"-", b"9", b"\t")),
        Target("tables", "a.csv", _table_seeds, _tables, CELLS),
        Target("manifest", "a.csv", lambda: [manifest, columns], _manifest, CELLS),
        Target("splits", "s.json", _split_seeds, _splits, JSON),
        Target("report", "a.txt", lambda: [_REPORT], _report, (b"FINDINGS:", b"no ", b"\n", b". ", b"//", b"1. ")),
        Target("records", "r.jsonl", _record_seeds, _records, JSON),
        Target("archive", "upload", _archive_seeds, _archive, NAMES),
        Target("knowledge", "k.yaml", lambda: [knowledge], _knowledge, YAML),
        Target("config", "c.yaml", _config_seeds, _config, YAML),
        Target("image", "a.png", pictures, read_image, NAMES),
        Target("dicom", "a.dcm", dicoms, read_image, NAMES),
        Target("atlas", "a.yaml", lambda: [atlas, (own / "masking/atlas.yaml").read_bytes()], _atlas, YAML),
        Target("checkpoint", "a.ckpt", _checkpoint_seeds, _checkpoint, NAMES),
        Target("folder", "upload", lambda: [_weights(), b'{"class_path": "x", "init_args": {}}'], _folder, JSON),
    )
