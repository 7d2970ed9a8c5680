"""Existence of findings on the gold set: our rules against negspacy and medspacy, which get the same entities.

``python -m benchmarks.reports_rules [--negspacy PYTHON] [--medspacy PYTHON]`` where PYTHON is the interpreter of an
environment with that library (``pip install negspacy``; ``pip install medspacy``). They are no dependency of ours.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from dmlm.reports.rules import RuleEngine
from dmlm.reports.sections import choose_sections
from dmlm.reports.segment import sentences

ROOT = Path(__file__).parents[1]
PARTS = ("tuned", "held_out", "second_tuned", "second_held_out")
STATES = {"+": "present", "-": "absent", "?": "uncertain"}


def cases(part: str) -> list[dict[str, Any]]:
    """Sentences with named findings: text, the spans of the names, and the right state of each.

    Left out are findings that a sentence says by a state of a structure ("heart size is normal"; no entity to judge),
    findings with two states in one sentence, and text outside the sections that are read.
    """
    gold = yaml.safe_load((ROOT / "tests" / "reports" / "gold.yaml").read_text(encoding="utf-8"))[part]
    engine = RuleEngine()
    found = []
    for entry in gold:
        wanted: dict[str, set[str]] = {}
        for line in entry["expect"]:
            wanted.setdefault(re.split(r" [@!]", line[2:])[0], set()).add(STATES[line[0]])
        for _, first, last in choose_sections(entry["text"]):
            for start, end in sentences(entry["text"], first, last):
                tokens, items = engine.lexicon.scan(entry["text"], start, end)
                spans, names, states = [], [], []
                for item in items:
                    name = item.value.rule.name if item.kind == "finding" else ""
                    right = wanted.get(name, {"none"})
                    if not name or item.value.gone or item.value.lung_only or len(right) > 1:
                        continue
                    span = [tokens[item.first][1] - start, tokens[item.last - 1][2] - start]
                    if span in spans:
                        continue  # one word for two findings ("hydropneumothorax") is one entity
                    spans.append(span)
                    names.append(name)
                    states.append(next(iter(right)))
                if spans:
                    text = entry["text"][start:end]
                    found.append({"text": text, "spans": spans, "names": names, "states": states})
    return found


def ours(given: list[dict[str, Any]]) -> tuple[list[list[str]], float]:
    """Existence by the rules for the named findings."""
    engine = RuleEngine()
    start, result = time.process_time(), []
    for case in given:
        said: dict[str, str] = {}
        for item in engine.read_sentence(case["text"], 0, len(case["text"])):
            said.setdefault(item.finding, item.existence)
        result.append([said.get(name, "none") for name in case["names"]])
    return result, time.process_time() - start


def theirs(name: str, python: str, given: list[dict[str, Any]]) -> tuple[list[list[str]], float]:
    """Existence by a library, run by the interpreter that has it."""
    command = [python, str(ROOT / "benchmarks" / "negation_libraries.py"), name]
    output = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=True).stdout
    result = json.loads(output[output.index("{") :])
    return result["states"], result["seconds"]


def row(name: str, given: list[dict[str, Any]], states: list[list[str]], seconds: float) -> str:
    """A line of the table."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    negated = 0
    for case, said in zip(given, states, strict=True):
        for want, got in zip(case["states"], said, strict=True):
            total[want] += 1
            right[want] += want == got
            negated += (want == "absent") == (got == "absent")
    count = sum(total.values())
    each = " | ".join(f"{right[state]} / {total[state]}" for state in ("present", "absent", "uncertain", "none"))
    overall, binary = 100 * sum(right.values()) / count, 100 * negated / count
    return f"| {name} | {overall:.1f} % | {binary:.1f} % | {each} | {1000 * seconds / len(given):.2f} ms |"


def main() -> None:
    """Print the table for every part of the gold set."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--negspacy", help="interpreter of an environment with negspacy")
    parser.add_argument("--medspacy", help="interpreter of an environment with medspacy")
    options = parser.parse_args()
    for part in PARTS:
        given = cases(part)
        print(f"\n{part}: {sum(len(case['spans']) for case in given)} findings in {len(given)} sentences\n")
        print("| engine | right | absent or not | present | absent | uncertain | no statement | per sentence |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        print(row("dmlm rules", given, *ours(given)))
        for name in ("negspacy", "medspacy"):
            if python := getattr(options, name):
                print(row(name, given, *theirs(name, python, given)))


if __name__ == "__main__":
    main()
