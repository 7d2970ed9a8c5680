"""Where structured reports and a table of labels say different things of the same study.

MIMIC-CXR comes with labels of two labelers (``mimic-cxr-2.0.0-chexpert.csv.gz`` and ``...-negbio.csv.gz``): 1 present,
0 absent, -1 uncertain, blank not mentioned. Neither side is the truth; the places where they differ are worth reading.
"""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dmlm.errors import DatasetFormatError, DatasetNotFoundError, some_of
from dmlm.io.bounded import opened_table
from dmlm.reports.knowledge import load_knowledge
from dmlm.reports.roll_up import roll_up
from dmlm.reports.schema import StructuredReport

_WORDS = {1.0: "present", 0.0: "absent", -1.0: "uncertain"}
NOTHING = "not mentioned"


@dataclass
class Disagreement:
    """Counts per label, and the studies that differ.

    Args:
        studies: Studies in both.
        only_labels: Studies that have labels and no report.
        counts: Per label, studies per pair (what the reports say, what the labels say).
        conflicts: ``(study, label, report's word, labels' word)`` where one says present and the other absent.
    """

    studies: int = 0
    only_labels: int = 0
    counts: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    conflicts: list[tuple[str, str, str, str]] = field(default_factory=list)


def compare(get: Callable[[str], StructuredReport | None], labels: str | os.PathLike[str]) -> Disagreement:
    """Compare reports with a table of labels.

    Args:
        get: The structured report of a study, None where there is none.
        labels: CSV (or ``.csv.gz``) with a column ``study_id`` and columns named like findings.

    Raises:
        DatasetNotFoundError: If there is no such file.
        DatasetFormatError: If it has no column ``study_id``, no column of a known finding, or another value.
    """
    result = Disagreement()
    for study, wanted in _rows(Path(labels)):
        report = get(study)
        if report is None:
            result.only_labels += 1
            continue
        result.studies += 1
        for name, ours in roll_up(report, list(wanted)).items():
            pair = (_WORDS.get(ours, NOTHING), wanted[name])
            result.counts.setdefault(name, Counter())[pair] += 1
            if set(pair) == {"present", "absent"}:
                result.conflicts.append((study, name, *pair))
    if not result.studies:
        msg = f"{labels}: none of its {result.only_labels} studies has a structured report; is it of another data set?"
        raise DatasetFormatError(msg)
    return result


def as_text(result: Disagreement) -> str:
    """Write the counts as a Markdown table; "F1" takes the labels' present as the wanted answer."""
    lines = [
        f"{result.studies} studies in both, {result.only_labels} with labels only",
        "",
        "| label | same | present / absent | absent / present | one uncertain | only reports | only labels "
        "| F1 of present |",
        "| --- " * 8 + "|",
    ]
    for name, counts in result.counts.items():
        same = sum(number for (ours, theirs), number in counts.items() if ours == theirs)
        ours_only = sum(number for (ours, theirs), number in counts.items() if theirs == NOTHING != ours)
        theirs_only = sum(number for (ours, theirs), number in counts.items() if ours == NOTHING != theirs)
        unsure = sum(counts[pair] for state in ("present", "absent") for pair in _orders("uncertain", state))
        lines.append(
            f"| {name} | {100 * same / result.studies:.1f} % | {counts['present', 'absent']} "
            f"| {counts['absent', 'present']} | {unsure} | {ours_only} | {theirs_only} | {_f1(counts):.2f} |"
        )
    return "\n".join(lines)


def _orders(one: str, other: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (one, other), (other, one)


def _f1(counts: Counter[tuple[str, str]]) -> float:
    both = counts["present", "present"]
    either = sum(number * pair.count("present") for pair, number in counts.items())
    return 2 * both / either if either else math.nan


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each study with what its labels say, under the names of the table."""
    if not path.is_file():
        msg = f"{path}: no such file of labels; give mimic-cxr-2.0.0-chexpert.csv.gz or a CSV like it"
        raise DatasetNotFoundError(msg)
    with opened_table(path) as handle:
        table = csv.DictReader(handle)
        columns = table.fieldnames or []
        known = load_knowledge()
        names = [name for name in columns if known.canonical(name) in known]
        if "study_id" not in columns or not names:
            msg = f"{path}: needs a column study_id and columns named like findings; it has {some_of(columns)}"
            raise DatasetFormatError(msg)
        for row in table:
            study = row["study_id"].strip()
            study = study[1:] if study[:1] == "s" and study[1:].isdigit() else study
            yield study, {name: _word(row[name], path, table.line_num, name) for name in names}


def _word(value: str | None, path: Path, line: int, name: str) -> str:
    text = (value or "").strip()
    try:
        return _WORDS[float(text)] if text and text.lower() != "nan" else NOTHING
    except (ValueError, KeyError):
        msg = f"{path}: line {line}: {name} must be 1, 0, -1 or blank; got '{text}'"
        raise DatasetFormatError(msg) from None
