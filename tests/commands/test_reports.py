"""`dmlm reports` as a user runs it."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from dmlm.__main__ import main
from dmlm.reports.records import ReportIndex, read_records

TEXTS = {
    "good": "FINDINGS: Small left pleural effusion. No pneumothorax. IMPRESSION: Possible pneumonia.",
    "empty": "",
    "word": "Portable",
    "german": "Keine Infiltrate. Das Herz ist nicht vergrößert und die Lunge ist frei.",
    "addendum": "ADDENDUM: Small left effusion after all.",
    "markup": "<html><body><p>Small left effusion.</p>&nbsp;</body></html>",
    "long": "Small left effusion. No pneumothorax. " * 1350,
    "binary": "Effusion. " + "\x00\x01\x02" * 20,
    "conflict": "There is a left effusion. There is no left effusion.",
    "unknown": "A gossypiboma is seen.",
}
FLAGS = {
    "good": set(),
    "empty": {"empty", "no_observations"},
    "word": {"no_observations"},
    "german": {"not_english", "no_observations"},
    "addendum": {"addendum_only"},
    "markup": {"markup"},
    "long": set(),
    "binary": {"binary"},
    "conflict": {"conflicting"},
    "unknown": {"no_observations"},
}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "reports"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


def build(root, out, *options):
    return main(["reports", "build", str(root), "--out", str(out), "--workers", "1", "--quiet", *options])


def test_build_flags_what_it_cannot_read(root, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    assert build(root, out) == 0
    records = {record.study_id: record for record in read_records(out)}
    assert {name: set(record.report.flags) for name, record in records.items()} == FLAGS
    assert records["good"].report.verdicts == {
        "Pleural Effusion": "present",
        "Pneumothorax": "absent",
        "Pneumonia": "uncertain",
    }
    made = records["good"].provenance
    assert (made.engine, made.model, len(made.prompt_hash), len(made.date)) == ("rules", "", 16, 10)
    assert "10 studies written" in capsys.readouterr().out


def test_no_socket_is_opened(root, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        msg = "no network here"
        raise OSError(msg)

    for name in ("socket", "create_connection", "getaddrinfo", "socketpair"):
        monkeypatch.setattr(socket, name, refuse)
    assert build(root, tmp_path / "out.jsonl") == 0
    assert main(["reports", "show", str(root), "--study", "good"]) == 0


def test_processes_write_the_same_file(root, tmp_path):
    many = tmp_path / "many.csv"
    with many.open("w", newline="") as handle:
        csv.writer(handle).writerows([("study_id", "text"), *((str(n), TEXTS["good"]) for n in range(200))])
    assert build(many, tmp_path / "one.jsonl") == 0
    assert build(many, tmp_path / "two.jsonl", "--workers", "2") == 0
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_an_existing_file_is_kept_resumed_or_replaced(root, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    build(root, out)
    before = out.read_bytes()
    assert build(root, out) == 2
    assert "--resume" in capsys.readouterr().err
    (root / "new.txt").write_text("Cardiomegaly.")
    assert build(root, out, "--resume") == 0
    assert "1 studies written, 10 kept" in capsys.readouterr().out
    assert out.read_bytes().startswith(before)
    assert build(root, out, "--overwrite") == 0
    assert len(ReportIndex(out)) == 11


def test_resume_refuses_records_of_another_reader(root, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    build(root, out)
    out.write_text(out.read_text().replace('"version": "', '"version": "0.'))
    assert build(root, out, "--resume") == 2
    error = capsys.readouterr().err
    assert "--overwrite" in error
    assert error.count("\n") == 1


def test_resume_after_a_kill(tmp_path):
    many, out = tmp_path / "many.csv", tmp_path / "out.jsonl"
    with many.open("w", newline="") as handle:
        csv.writer(handle).writerows([("study_id", "text"), *((str(n), TEXTS["good"]) for n in range(3000))])
    command = [sys.executable, "-m", "dmlm", "reports", "build", str(many), "--out", str(out), "--workers", "1"]
    process = subprocess.Popen([*command, "--quiet"], env={**os.environ, "OMP_NUM_THREADS": "1"})
    part = tmp_path / "out.jsonl.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    kept = part.read_bytes().count(b"\n")
    assert 0 < kept < 3000
    assert build(many, out, "--resume") == 0
    assert [record.study_id for record in read_records(out)] == [str(n) for n in range(3000)]
    assert not part.exists()


def test_show_marks_evidence(root, tmp_path, capsys):
    assert main(["reports", "show", str(root), "--study", "good", "--colour", "never"]) == 0
    shown = capsys.readouterr().out
    assert "[+ Small left pleural effusion]. [- No pneumothorax]." in shown
    assert "+ Pleural Effusion (mild, left)  <- Small left pleural effusion" in shown
    assert "Verdict: Pleural Effusion is present." in " ".join(shown.split())
    assert main(["reports", "show", str(root), "--study", "binary", "--colour", "always"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b[32m" in shown
    assert "\x01" not in shown
    assert main(["reports", "show", str(root), "--sample", "3", "--seed", "1"]) == 0
    first = capsys.readouterr().out
    main(["reports", "show", str(root), "--sample", "3", "--seed", "1"])
    assert capsys.readouterr().out == first
    assert sum(f"study {name}" in first for name in TEXTS) == 3


def test_show_of_built_records(root, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    build(root, out)
    capsys.readouterr()
    assert main(["reports", "show", str(root), "--study", "good", "--reports", str(out)]) == 0
    assert "Pleural Effusion" in capsys.readouterr().out
    (root / "good.txt").write_text("Another text.")
    assert main(["reports", "show", str(root), "--study", "good", "--reports", str(out)]) == 2
    assert "another text" in capsys.readouterr().err
    assert main(["reports", "show", str(root), "--study", "bad"]) == 2
    assert "no study 'bad'" in capsys.readouterr().err


def test_stats(root, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    build(root, out)
    capsys.readouterr()
    assert main(["reports", "stats", str(out), "--tokenizer", "library", "--max-length", "100"]) == 0
    said = capsys.readouterr().out
    assert "10 studies, 6 with observations (60.0 %)" in said
    assert "| Pleural Effusion | 6 | 0 | 0 | 4 |" in said
    assert "| no_observations | 4 |" in said
    assert "| whole report | 6 |" in said
    assert "longer than 100 tokens: " in said


def test_check(root, tmp_path, capsys):
    out, labels, conflicts = tmp_path / "out.jsonl", tmp_path / "labels.csv", tmp_path / "conflicts.csv"
    build(root, out)
    rows = [("subject_id", "study_id", "Pleural Effusion", "Pneumonia", "Pneumothorax")]
    rows += [("1", "good", "1.0", "1.0", "1.0"), ("2", "long", "", "", "0.0"), ("3", "absent", "", "", "")]
    with labels.open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    capsys.readouterr()
    assert main(["reports", "check", str(out), "--labels", str(labels), "--out", str(conflicts)]) == 0
    said = capsys.readouterr().out
    assert "2 studies in both, 1 with labels only" in said
    assert "| Pleural Effusion | 50.0 % | 0 | 0 | 0 | 1 | 0 | 0.67 |" in said
    assert "| Pneumothorax | 50.0 % | 0 | 1 | 0 | 0 | 0 | 0.00 |" in said
    assert "| Pneumonia | 50.0 % | 0 | 0 | 1 | 0 | 0 | 0.00 |" in said
    assert conflicts.read_text().splitlines()[1:] == ["good,Pneumothorax,absent,present"]
    labels.write_text("study_id,Edema\ngood,3\n")
    assert main(["reports", "check", str(out), "--labels", str(labels)]) == 2
    assert "line 2: Edema must be 1, 0, -1 or blank; got '3'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["build", "none", "--out", "x"], "no such file or folder"),
        (["build", ".", "--out", "x", "--workers", "0"], "--workers must be at least 1"),
        (["build", ".", "--out", "x", "--knowledge", "none.yaml"], "none.yaml"),
        (["stats", "none.jsonl"], "dmlm reports build"),
        (["show", ".", "--sample", "0"], "--sample must be at least 1"),
    ],
)
def test_errors_are_one_line(options, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["reports", *options]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_is_light():
    code = "import sys\nfrom dmlm.__main__ import main\n"
    code += "try:\n    main(['reports', 'build', '--help'])\nexcept SystemExit:\n    pass\n"
    code += "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "--resume" in done.stdout


def test_open_i_in_one_command(real_data, tmp_path, capsys):
    out = tmp_path / "openi.jsonl"
    assert build(real_data / "openi_reports" / "NLMCXR_reports.tgz", out) == 0
    assert "3955 studies written" in capsys.readouterr().out
    silent = sum(not json.loads(line)["observations"] for line in out.open(encoding="utf-8"))
    assert silent <= 30


def test_marks_that_meet_leave_the_blank_between_them_outside():
    from dmlm.reports.display import marked
    from dmlm.reports.schema import Observation

    text = "Right effusion suggests infection."
    found = (
        Observation("Pleural Effusion", "present", evidence=(0, 14)),
        Observation("Pneumonia", "uncertain", evidence=(0, 33)),
    )
    assert marked(text, found, use_colour=False) == "[+ Right effusion] [? suggests infection]."
