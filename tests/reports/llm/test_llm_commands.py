"""`dmlm reports` with language models, as a user types it."""

from __future__ import annotations

import json
import socket
import sqlite3

import pytest
import yaml

from dmlm.__main__ import main
from dmlm.reports import load_knowledge
from dmlm.reports.llm.define import plain_paragraph
from dmlm.reports.llm.prompts import APPEARANCE_PROMPT, DEFINITION_PROMPT
from dmlm.reports.records import read_records

KEY = "sk-topsecret-0123456789"
TEXTS = {
    "a": "FINDINGS: Small left pleural effusion. No pneumothorax.",
    "b": "IMPRESSION: Heart size is normal.",
    "c": "",
    "d": "FINDINGS: Possible pneumonia in the right lower lobe.",
}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


@pytest.fixture
def build(fake, root, tmp_path, capsys):
    def run(*arguments, engine="endpoint", url=None):
        where = ["--endpoint", url or fake.url, "--model", "tiny"] if engine == "endpoint" else []
        cache = ["--llm-cache", str(tmp_path / "answers.sqlite")] if engine != "rules" else []
        out = ["--out", str(tmp_path / "out.jsonl")]
        line = ["reports", "build", str(root), *out, "--engine", engine, *where, *cache, "--quiet", *arguments]
        status = main(line)
        return status, capsys.readouterr()

    return run


def test_build_from_an_endpoint_on_this_machine(fake, build, tmp_path):
    status, shown = build("--price-in", "1", "--price-out", "2")
    assert status == 0
    records = {record.study_id: record for record in read_records(tmp_path / "out.jsonl")}
    assert set(records) == set(TEXTS)
    assert len(fake.payloads) == 3  # the empty one is not sent
    assert records["c"].report.flags == ("empty", "no_observations")
    assert records["d"].report.verdicts == {"Pneumonia": "uncertain"}
    assert {record.provenance.engine for record in records.values()} == {"endpoint"}
    assert {record.provenance.model for record in records.values()} == {"tiny"}
    # the estimate comes before anything else, the bill at the end
    lines = shown.out.splitlines()
    assert lines[0].startswith("estimate: 4 reports: about")
    assert "currency" in lines[0]
    assert lines[1].startswith("tiny: 3 answers, 0 from the cache, 0 reports left to the rules; 33 tokens in, 21 out")


def test_estimate_only_sends_and_writes_nothing(fake, build, tmp_path):
    status, shown = build("--estimate-only")
    assert status == 0
    assert shown.out.startswith("estimate: 4 reports")
    assert fake.payloads == []
    assert not (tmp_path / "out.jsonl").exists()


def test_a_remote_host_is_refused_before_anything_is_looked_at(build, tmp_path, monkeypatch):
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **more: real("203.0.113.5" if host == "api.example.org" else host, *rest, **more),
    )
    status, shown = build(url="https://api.example.org/v1")
    assert status == 2
    assert "--allow-remote api.example.org" in shown.err
    assert not list(tmp_path.glob("out*"))


def test_mimic_to_a_remote_host_shows_the_terms_and_stops(build, root, tmp_path):
    (root / "cxr-study-list.csv.gz").touch()
    arguments = ("--allow-remote", "api.example.org", "--estimate-only")
    status, shown = build(*arguments, url="https://api.example.org/v1")
    assert status == 2
    assert "zero" not in shown.out
    assert "PhysioNet Credentialed Health Data Use Agreement" in shown.err
    assert "--accept-physionet-terms MIMIC-CXR" in shown.err.splitlines()[-1]
    status, shown = build(*arguments, "--accept-physionet-terms", "yes", url="https://api.example.org/v1")
    assert status == 2
    # accepted: the terms are shown all the same, and the estimate needs no connection
    status, shown = build(*arguments, "--accept-physionet-terms", "MIMIC-CXR", url="https://api.example.org/v1")
    assert status == 0
    assert "PhysioNet" in shown.err
    assert "text goes to api.example.org" in shown.err


def test_a_mimic_like_report_in_a_plain_folder_stops_the_run_unsent(fake, build, root, tmp_path):
    # "localhost" allowed as remote stands for a forwarder: nothing is on this machine any more
    (root / "b.txt").write_text("          FINAL REPORT\n IMPRESSION: Heart size is normal. ___ was told.")
    url = f"http://localhost:{fake.port}/v1"
    status, shown = build("--allow-remote", "localhost", "--workers", "1", url=url)
    assert status == 2
    assert "MIMIC-CXR" in shown.err
    assert not any("was told" in json.dumps(payload) for payload in fake.payloads)
    status, _ = build("--allow-remote", "localhost", "--accept-physionet-terms", "MIMIC-CXR", "--resume", url=url)
    assert status == 0


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(fake, build, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    fake.script = [(500, {"error": KEY}), (429, {"error": KEY}, {"Retry-After": "0"})]
    status, shown = build("--api-key-env", "MY_KEY")
    assert status == 0
    assert fake.headers[0]["Authorization"] == f"Bearer {KEY}"
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or KEY.encode() not in file.read_bytes()
    assert KEY not in shown.out + shown.err


def test_a_service_s_own_variable_is_not_read_unasked(fake, build, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    build()
    assert "Authorization" not in fake.headers[0]


@pytest.mark.parametrize("given", [KEY, "sk_topsecret", "UNSET_VARIABLE", ""])
def test_a_key_in_place_of_its_variable_is_not_repeated(build, given):
    status, shown = build("--api-key-env", given)
    assert status == 2
    assert "topsecret" not in shown.out + shown.err
    assert "--api-key-env" in shown.err


def test_a_run_that_broke_off_is_resumed_from_file_and_cache(fake, build, tmp_path):
    fake.script = [None, (404, {"error": {"code": "model_not_found"}})]
    status, shown = build("--workers", "1")
    assert status == 2
    assert "model_not_found" in shown.err
    assert not (tmp_path / "out.jsonl").exists()
    status, shown = build("--workers", "1", "--resume")
    assert status == 0
    assert len(fake.payloads) == 2 + 2
    status, shown = build("--overwrite")
    assert status == 0
    assert "3 of them answered before" in shown.out
    assert len(fake.payloads) == 4


def test_records_of_another_reader_are_not_continued(fake, build):
    build(engine="rules")
    status, shown = build("--resume")
    assert status == 2
    assert "--overwrite" in shown.err


def test_a_misbehaving_endpoint_still_gives_whole_and_flagged_records(fake, build, misbehaviour, tmp_path):
    fake.script = [
        misbehaviour["hung_up"],
        (503, b"busy", {"Retry-After": "0"}),
        "I cannot.",
        '```json\n{"observations": [{"evidence": "effusion", "finding": "Gout", "existence": "present"}]}\n```',
        "no",
    ]
    status, shown = build("--workers", "1")
    assert status == 0
    records = {record.study_id: record.report for record in read_records(tmp_path / "out.jsonl")}
    assert records["a"].flags == ("llm_failed_answer", "read_by_rules")
    assert list(records["a"].verdicts) == ["Pleural Effusion", "Pneumothorax"]
    assert "read_by_rules 1" in shown.out


def test_reports_are_asked_about_at_once(fake, build):
    fake.delay = 0.4
    build("--workers", "3")
    assert fake.most == 3


def test_requests_per_minute_hold(fake, build):
    build("--requests-per-minute", "200")
    assert fake.times[2] - fake.times[0] >= 0.5  # 0.6, less what the first one was delayed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engine", "rules", "--model", "x"], "--engine endpoint"),
        (["--engine", "rules", "--allow-remote", "h"], "--allow-remote"),
        (["--engine", "rules", "--estimate-only"], "--estimate-only"),
        (["--engine", "endpoint"], "--model"),
        (["--engine", "endpoint", "--model", "x"], "--endpoint"),
        (["--engine", "transformers"], "--model"),
        (["--engine", "transformers", "--model", "x", "--endpoint", "http://127.0.0.1/v1"], "--endpoint"),
        (["--engine", "transformers", "--model", "./none"], "cannot be loaded"),
        (["--engine", "endpoint", "--model", "x", "--endpoint", "http://127.0.0.1", "--device", "cpu"], "--device"),
        (["--engine", "endpoint", "--model", "x", "--endpoint", "http://127.0.0.1", "--timeout", "0"], "--timeout"),
        (["--engine", "endpoint", "--model", "x", "--endpoint", "http://127.0.0.1", "--price-in", "-1"], "--price-in"),
        (["--engine", "endpoint", "--model", "x", "--endpoint", "127.0.0.1:8000"], "http://HOST"),
    ],
)
def test_wrong_options_are_told_in_one_line(root, tmp_path, capsys, arguments, words):
    status = main(["reports", "build", str(root), "--out", str(tmp_path / "out.jsonl"), "--quiet", *arguments])
    shown = capsys.readouterr()
    assert status == 2
    assert words in shown.err
    assert len(shown.err.strip().splitlines()) == 1
    assert not (tmp_path / "out.jsonl").exists()


def test_show_reads_with_the_model(fake, root, tmp_path, capsys):
    cache = ["--llm-cache", str(tmp_path / "answers.sqlite")]
    where = ["--engine", "endpoint", "--endpoint", fake.url, "--model", "tiny"]
    assert main(["reports", "show", str(root), "--study", "a", *where, *cache, "--colour", "never"]) == 0
    assert "Pleural Effusion is present" in capsys.readouterr().out
    assert len(fake.payloads) == 1


def test_define_asks_the_paper_s_two_questions(fake, tmp_path, capsys):
    out = tmp_path / "own.yaml"
    fake.script = [
        "**Definition:** Pneumothorax is air in the pleural space.",
        "<think>hm</think>- A thin pleural line.\n- No lung markings beyond it.",
        "",
        "An enlarged heart is called cardiomegaly.",
        "The cardiothoracic ratio is above one half.",
    ]
    line = ["reports", "define", "pneumothorax", "Cardiomegaly", "--out", str(out), "--endpoint", fake.url]
    line += ["--model", "tiny", "--llm-cache", str(tmp_path / "answers.sqlite"), "--quiet"]
    assert main(line) == 0
    asked = [payload["messages"][0]["content"] for payload in fake.payloads]
    assert asked[:2] == [template.format(finding="Pneumothorax") for template in (DEFINITION_PROMPT, APPEARANCE_PROMPT)]
    assert asked[2] == asked[3]  # the empty answer
    known = load_knowledge(str(out))
    assert known["Pneumothorax"].definition == "Pneumothorax is air in the pleural space."
    assert known["Pneumothorax"].appearance == "A thin pleural line. No lung markings beyond it."
    assert out.read_text().startswith("# written by tiny (endpoint), prompts ")
    assert set(yaml.safe_load(out.read_text())["findings"]) == {"Pneumothorax", "Cardiomegaly"}
    capsys.readouterr()
    assert main(line) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*line, "--overwrite"]) == 0
    assert len(fake.payloads) == 5  # from the cache


def test_define_gives_up_on_a_silent_model(fake, tmp_path, capsys):
    fake.script = ["", "", ""]
    out = tmp_path / "own.yaml"
    line = ["reports", "define", "Edema", "--out", str(out), "--endpoint", fake.url, "--model", "tiny", "--quiet"]
    assert main([*line, "--llm-cache", str(tmp_path / "answers.sqlite")]) == 2
    assert "'Edema'" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "is_cut", "expected"),
    [
        ("Edema is fluid in the lung. It is", True, "Edema is fluid in the lung."),
        ("Edema is fluid in", True, ""),
        ("Yes.", False, ""),
        ("# Edema\n\n1. **Fluid** in the `lung`.", False, "Edema Fluid in the lung."),
        ("Edema. Verdict: it is fluid.", False, "Edema. Verdict it is fluid."),
    ],
)
def test_answers_become_plain_paragraphs(text, is_cut, expected):
    assert plain_paragraph(text, is_cut) == expected


def test_the_cache_file_holds_answers_only(build, tmp_path):
    build()
    with sqlite3.connect(tmp_path / "answers.sqlite") as database:
        rows = database.execute("SELECT answer FROM answers").fetchall()
    assert sorted(len(json.loads(answer)["observations"]) for (answer,) in rows) == [1, 1, 2]
