"""Outputs that pages show are what the commands print: `dmlm data doctor`, and the twenty reports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dmlm.__main__ import main
from dmlm.datasets.synthesize import GENERATORS
from docs.blocks import ROOT, blocks_of

PAGE_OF = {"mimic": "mimic_cxr", "openi": "open_i"}


@pytest.mark.parametrize("name", GENERATORS)
def test_the_page_shows_what_the_doctor_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = ROOT / "docs" / "datasets" / f"{PAGE_OF.get(name, name)}.md"
    (shown,) = [block.text for block in blocks_of(page) if block.text.startswith("data set")]
    monkeypatch.chdir(tmp_path)  # small pictures: who is ill does not depend on their size, and they are drawn sooner
    assert main(["data", "synthesize", name, "out", "--image-size", "32"]) == 0
    capsys.readouterr()
    assert main(["data", "doctor", "out"]) == 0
    said = iter(capsys.readouterr().out.splitlines())
    assert [line for line in shown.splitlines() if line != "..." and line not in said] == []  # and in this order


def test_the_twenty_reports_are_what_the_command_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = ROOT / "docs" / "reports" / "examples.md"
    shown = [block.text.strip() for block in blocks_of(page) if block.language == "text"]
    monkeypatch.chdir(tmp_path)
    assert main(["data", "synthesize", "openi", "out", "--image-size", "32"]) == 0
    capsys.readouterr()
    assert main(["reports", "show", "out", "--sample", "20", "--seed", "7", "--colour", "never"]) == 0
    said = re.split(r"\n-{20,}\n", capsys.readouterr().out)
    knowledge = re.compile(r"^Definition:.*?(?=Observations:)", re.MULTILINE | re.DOTALL)  # the page leaves it out
    assert shown == [knowledge.sub("", report).strip() for report in said]
