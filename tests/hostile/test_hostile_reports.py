"""Reports, records of reports and knowledge as strangers hand them over."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hostile.cases import Bad, data, refuse, table, text

BUILD = "--out r.jsonl --workers 1 --quiet"
PART = ("r.jsonl.part",)  # the same command goes on with it
XML = b'<eCitation><uId id="CXR1"/><AbstractText Label="FINDINGS">Clear.</AbstractText></eCitation>'


def tgz(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as pack:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            pack.addfile(member, io.BytesIO(content))
    return file.getvalue()


def packed(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in members:
            pack.writestr(name, content)
    return file.getvalue()


def encrypted(archive: bytes) -> bytes:
    """Set the flag of encryption in both headers of a zip file."""
    changed = bytearray(archive)
    changed[6] |= 1
    changed[archive.index(b"PK\x01\x02") + 8] |= 1
    return bytes(changed)


def method(archive: bytes, number: int) -> bytes:
    changed = bytearray(archive)
    changed[8] = number
    changed[archive.index(b"PK\x01\x02") + 10] = number
    return bytes(changed)


ONE = ("files/p10/p10000032/s50414267.txt", b"FINDINGS: Clear lungs.")
BOMB = ("files/p10/p10000032/s50414267.txt", b"x" * (8 << 20))


def build(name: str, root: str, says: str, make: Callable[[], object]) -> Bad:
    return Bad(name, f"reports build {root} {BUILD}", says, make)


SOURCES = (
    build("zip with a bomb", "a.zip", "holds more than 4,194,304 bytes", data("a.zip", packed(BOMB))),
    build("tgz with a bomb", "a.tgz", "holds more than 4,194,304 bytes", data("a.tgz", tgz(BOMB))),
    build(
        "csv.gz with a bomb",
        "a.csv.gz",
        "field larger",
        data("a.csv.gz", gzip.compress(b'study_id,text\n1,"' + b"x" * (8 << 20) + b'"\n')),
    ),
    build("text of 8 MB", "some", "holds more than", data("some/a.txt", b"x" * (8 << 20))),
    build("zip that leads out", "a.zip", "leads out of its folder", data("a.zip", packed(("../../s1.txt", b"x")))),
    build("zip with an absolute name", "a.zip", "leads out", data("a.zip", packed(("/etc/s1.txt", b"x")))),
    build("zip with a drive", "a.zip", "leads out", data("a.zip", packed(("C:/s1.txt", b"x")))),
    build("zip with backslashes", "a.zip", "leads out", data("a.zip", packed(("..\\..\\s1.txt", b"x")))),
    build("tgz that leads out", "a.tgz", "leads out", data("a.tgz", tgz(("../../1.xml", XML)))),
    build("tgz with an absolute name", "a.tgz", "leads out", data("a.tgz", tgz(("/1.xml", XML)))),
    build("zip cut off", "a.zip", "download it again", data("a.zip", packed(ONE)[:60])),
    build("zip of noise", "a.zip", "download it again", data("a.zip", b"noise" * 50)),
    build("zip of nothing", "a.zip", "a.zip", data("a.zip", b"")),
    build("zip without reports", "a.zip", "no report in it", data("a.zip", packed(("a.png", b"x")))),
    build("zip that is encrypted", "a.zip", "encrypted", data("a.zip", encrypted(packed(ONE)))),
    build("zip of a method that nobody knows", "a.zip", "a.zip", data("a.zip", method(packed(ONE), 99))),
    build("zip with damage inside", "a.zip", "a.zip", data("a.zip", packed(ONE).replace(b"PK\x01\x02", b"PK\x01\x09"))),
    build("tgz cut off", "a.tgz", "download it again", data("a.tgz", tgz(ONE)[:60])),
    build("tgz of noise", "a.tgz", "download it again", data("a.tgz", b"noise" * 50)),
    build("tgz of nothing", "a.tgz", "a.tgz", data("a.tgz", b"")),
    build("tgz without reports", "a.tgz", "no report in it", data("a.tgz", tgz(("a.png", b"x")))),
    build("tar that is a gzip of noise", "a.tgz", "a.tgz", data("a.tgz", gzip.compress(b"noise" * 500))),
    build("folder without reports", "some", "no report in it", text("some/a.png", "x")),
    build("folder with a pipe", "some", "pipe or a device", lambda: (Path("some").mkdir(), os.mkfifo("some/a.txt"))),
    build(
        "folder with a link into nothing",
        "some",
        "some",
        lambda: (Path("some").mkdir(), Path("some/a.txt").symlink_to("/nowhere/at/all")),
    ),
    build(
        "folder with a link to a device",
        "some",
        "pipe or a device",
        lambda: (Path("some").mkdir(), Path("some/a.txt").symlink_to("/dev/zero")),
    ),
    build("csv without a study", "a.csv", "no column that names the study", text("a.csv", "text\nx\n")),
    build("csv without text", "a.csv", "no column of text known", text("a.csv", "study_id\n1\n")),
    build("csv with a blank study", "a.csv", "line 3: no study", text("a.csv", "study_id,text\n1,x\n,y\n")),
    build("csv of nothing", "a.csv", "the columns are none", text("a.csv", "")),
    build(
        "csv with two texts of a study", "a.csv", "two different reports", text("a.csv", "study_id,text\n1,x\n1,y\n")
    ),
    build("csv without rows", "a.csv", "no report in it", text("a.csv", "study_id,text\n")),
    build("csv.gz that is none", "a.csv.gz", "download it again", data("a.csv.gz", b"study_id,text\n1,x\n")),
    build(
        "csv.gz cut off",
        "a.csv.gz",
        "download it again",
        data("a.csv.gz", gzip.compress(b"study_id,text\n1,x\n" * 50)[:-12]),
    ),
    Bad(
        "named column is not there",
        f"reports build a.csv {BUILD} --text-column body",
        "no column 'body'",
        text("a.csv", "study_id,text\n1,x\n"),
    ),
    Bad(
        "named study column is not there",
        f"reports build a.csv {BUILD} --id-column sid",
        "no column 'sid'",
        text("a.csv", "study_id,text\n1,x\n"),
    ),
)

GOOD = {
    "study_id": "1", "engine": "rules", "version": "0.1.0", "model": "", "prompt_hash": "ab", "date": "2026-01-01",
    "text_hash": "cd", "flags": [], "observations": [{"finding": "Edema", "existence": "present"}],
    "definition": {}, "appearance": {},
}  # fmt: skip


def record(name: str, says: str, **changes: object) -> Bad:
    content = json.dumps({key: value for key, value in {**GOOD, **changes}.items() if value is not ...})
    return Bad(f"record: {name}", "reports stats r.jsonl", says, text("r.jsonl", content + "\n"))


def seen(name: str, says: str, **changes: object) -> Bad:
    return record(name, says, observations=[{**{"finding": "Edema", "existence": "present"}, **changes}])


def raw(name: str, content: bytes, says: str = "r.jsonl:1") -> Bad:
    return Bad(f"record: {name}", "reports stats r.jsonl", says, data("r.jsonl", content))


RECORDS = (
    raw("no JSON", b"hello\n"),
    raw("cut off", json.dumps(GOOD).encode()[:-20] + b"\n"),
    raw("a list", b"[1, 2]\n"),
    raw("a number", b"17\n"),
    raw("null", b"null\n"),
    raw("nothing in it", b"{}\n"),
    raw("no UTF-8", b'{"study_id": "\xff\xfe"}\n'),
    raw("nested without end", b'{"study_id": ' + b"[" * 100_000 + b"\n"),
    raw("a number without end", b'{"study_id": ' + b"9" * 10_000 + b"}\n"),
    raw("not a number", b'{"study_id": NaN}\n'),
    raw("second line is bad", json.dumps(GOOD).encode() + b"\nx\n", "r.jsonl:2"),
    raw("binary", bytes(range(256))),
    raw("a pickle", b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.\n"),
    record("study is a number", "study_id", study_id=5),
    record("no study", "study_id", study_id=...),
    record("unknown key", "colour", colour="red"),
    record("flags are text", "flags must be", flags="none"),
    record("flags hold numbers", "flags must hold texts", flags=[1]),
    record("observations are an object", "observations must be", observations={}),
    record("observation is text", "observation", observations=["Edema"]),
    record("definition is a list", "definition must be", definition=[]),
    record("definition holds a number", "definition must hold texts", definition={"Edema": 1}),
    record("engine is null", "engine", engine=None),
    seen("no such existence", "existence", existence="perhaps"),
    seen("existence is a number", "existence", existence=1),
    seen("finding is a number", "observation", finding=1),
    seen("finding is blank", "observation", finding=""),
    seen("unknown key of an observation", "observation", size="large"),
    seen("no such side", "laterality", laterality="upper"),
    seen("no such degree", "severity", severity="awful"),
    seen("evidence is text", "evidence", evidence="here"),
    seen("evidence has three places", "evidence", evidence=[1, 2, 3]),
    seen("evidence ends before it begins", "evidence", evidence=[9, 2]),
    seen("evidence is negative", "evidence", evidence=[-4, 2]),
    Bad(
        "records to resume are none",
        f"reports build some {BUILD} --resume",
        "r.jsonl",
        lambda: (text("some/a.txt", "Clear.")(), data("r.jsonl.part", b"hello\n")()),
        leaves=PART,
    ),
    Bad(
        "records of another engine",
        f"reports build some {BUILD} --resume",
        "start again with --overwrite",
        lambda: (
            text("some/a.txt", "Clear.")(),
            text("r.jsonl.part", json.dumps({**GOOD, "engine": "endpoint"}) + "\n")(),
        ),
        leaves=PART,
    ),
    Bad(
        "labels without a study",
        "reports check r.jsonl --labels l.csv",
        "l.csv",
        lambda: (text("r.jsonl", json.dumps(GOOD) + "\n")(), text("l.csv", "a,b\n1,2\n")()),
    ),
    Bad(
        "labels without a finding",
        "reports check r.jsonl --labels l.csv",
        "l.csv",
        lambda: (text("r.jsonl", json.dumps(GOOD) + "\n")(), text("l.csv", "study_id,b\n1,2\n")()),
    ),
    Bad(
        "label of another kind",
        "reports check r.jsonl --labels l.csv",
        "l.csv",
        lambda: (text("r.jsonl", json.dumps(GOOD) + "\n")(), text("l.csv", "study_id,Edema\n1,yes\n")()),
    ),
    Bad(
        "labels are noise",
        "reports check r.jsonl --labels l.csv",
        "l.csv",
        lambda: (text("r.jsonl", json.dumps(GOOD) + "\n")(), data("l.csv", bytes(range(256)))()),
    ),
    Bad(
        "labels are no gzip",
        "reports check r.jsonl --labels l.csv.gz",
        "l.csv.gz",
        lambda: (text("r.jsonl", json.dumps(GOOD) + "\n")(), text("l.csv.gz", "study_id,Edema\n1,1\n")()),
    ),
    Bad(
        "tokenizer is noise",
        "reports stats r.jsonl --tokenizer t.json",
        "t.json",
        lambda: (text("r.jsonl", json.dumps(GOOD) + "\n")(), text("t.json", "noise")()),
    ),
    Bad(
        "vocabulary is noise",
        "reports stats r.jsonl --tokenizer v.txt",
        "v.txt",
        lambda: (text("r.jsonl", json.dumps(GOOD) + "\n")(), data("v.txt", b"\xff\xfe\x00")()),
    ),
    Bad(
        "vocabulary without the tokens of BERT",
        "reports stats r.jsonl --tokenizer v.txt",
        "v.txt",
        lambda: (text("r.jsonl", json.dumps(GOOD) + "\n")(), text("v.txt", "a\nb\n")()),
    ),
)


def knows(name: str, content: str | bytes, says: str) -> Bad:
    write = data("k.yaml", content if isinstance(content, bytes) else content.encode())
    make = lambda: (text("some/a.txt", "Clear.")(), write())  # noqa: E731
    return Bad(f"knowledge: {name}", f"reports build some {BUILD} --knowledge k.yaml", says, make)


KNOWLEDGE = (
    knows("no YAML", "findings: [", "not valid YAML"),
    knows("empty", "", "expected one mapping 'findings'"),
    knows("a list", "- a\n- b\n", "expected one mapping 'findings'"),
    knows("text", "hello", "expected one mapping 'findings'"),
    knows("another key beside", "findings: {}\nmore: 1\n", "expected one mapping 'findings'"),
    knows("findings are a list", "findings: [a]\n", "expected one mapping 'findings'"),
    knows("a name is a number", "findings: {1: {definition: x}}\n", "a name must be text"),
    knows("a name is blank", "findings: {' ': {definition: x}}\n", "a name must be text"),
    knows("a finding is text", "findings: {Edema: water}\n", "expected a mapping"),
    knows("a key is misspelt", "findings: {Edema: {defintion: x}}\n", "did you mean 'definition'?"),
    knows("a definition is blank", "findings: {Edema: {definition: ''}}\n", "expected text"),
    knows("a definition is a number", "findings: {Edema: {definition: 5}}\n", "expected text"),
    knows("synonyms are text", "findings: {Edema: {synonyms: fluid}}\n", "expected a list of names"),
    knows("synonyms hold numbers", "findings: {Edema: {synonyms: [1]}}\n", "expected a list of names"),
    knows("a synonym means two", "findings: {Edema: {synonyms: [pneumothorax]}}\n", "already means"),
    knows("codes are a list", "findings: {Edema: {codes: [1]}}\n", "expected terminology: code"),
    knows("codes are numbers", "findings: {Edema: {codes: {SNOMED: 1}}}\n", "codes in quotes"),
    knows("a Python object", "findings: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
    knows("a Python name", "findings: !!python/name:os.system ''\n", "not valid YAML"),
    knows("an alias to nothing", "findings: *nowhere\n", "not valid YAML"),
    knows("a tab", "findings:\n\tEdema: {}\n", "not valid YAML"),
    knows("no UTF-8", b"findings: {\xff: {}}\n", "UTF-8"),
    knows("control characters", b"findings: {\x01: {}}\n", "not valid YAML"),
    knows("laughs without end",
          "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{c}: &{c} [{','.join(['*' + p] * 9)}]\n"
                                                for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
          "unfolds to more than 100,000 values"),
    knows("nested without end", "findings: " + "[" * 5000, "YAML"),
)  # fmt: skip


@table(*SOURCES, *RECORDS, *KNOWLEDGE)
def test_one_line(bad: Bad, capsys: pytest.CaptureFixture[str]) -> None:
    refuse(bad, capsys)
