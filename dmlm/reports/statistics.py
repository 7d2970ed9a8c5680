"""What is in a file of structured reports: how many studies say something, of which findings, in how many tokens."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from dmlm.reports.provenance import Provenance, ReportRecord
from dmlm.reports.render import STRUCTURED_SECTIONS, render
from dmlm.reports.schema import EXISTENCES

LENGTHS = (*STRUCTURED_SECTIONS, "whole report")


@dataclass
class Statistics:
    """Counts over a file of records.

    Args:
        studies: Number of records.
        silent: Records without an observation.
        readers: Records per engine, version, model and prompt.
        flags: Records per flag.
        states: Records per finding and verdict.
        observations: Number of observations.
        modified: Observations that name side, position, severity.
        lengths: Tokens of every rendered section, and of the whole.
    """

    studies: int = 0
    silent: int = 0
    readers: Counter[Provenance] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    states: dict[str, Counter[str]] = field(default_factory=dict)
    observations: int = 0
    modified: Counter[str] = field(default_factory=Counter)
    lengths: dict[str, array[int]] = field(default_factory=lambda: {name: array("H") for name in LENGTHS})


def gather(records: Iterable[ReportRecord], count_tokens: Callable[[list[str]], list[int]] | None = None) -> Statistics:
    """Count over records, reading each once.

    Args:
        records: The records.
        count_tokens: Tokens of each of some texts; None leaves ``lengths`` empty.
    """
    result = Statistics()
    for record in records:
        report = record.report
        result.studies += 1
        result.silent += not report.observations
        result.readers[Provenance(record.provenance.engine, *_reader(record.provenance))] += 1
        result.flags.update(report.flags)
        for finding, state in report.verdicts.items():
            result.states.setdefault(finding, Counter())[state] += 1
        result.observations += len(report.observations)
        for item in report.observations:
            said = (("side", item.laterality), ("position", item.position), ("severity", item.severity))
            result.modified.update(name for name, value in said if value is not None)
        if count_tokens is not None and report.observations:
            text = render(report)
            bodies = [text.text[span.start : span.end] for span in text.spans]
            counts = count_tokens([*bodies, text.text])
            names = [*(span.section for span in text.spans), LENGTHS[-1]]
            for name, number in zip(names, counts, strict=True):
                result.lengths[name].append(min(number, 65535))
    return result


def _reader(made: Provenance) -> tuple[str, str, str]:
    return made.version, made.model, made.prompt_hash


def as_text(statistics: Statistics, max_length: int = 512) -> str:
    """Write counts as Markdown tables.

    Args:
        statistics: The counts.
        max_length: Most tokens that the text encoder reads; says how many reports are longer.
    """
    s = statistics
    said = s.studies - s.silent
    lines = [
        f"{s.studies} studies, {said} with observations ({_share(said, s.studies)}), "
        f"{s.observations} observations ({s.observations / max(said, 1):.1f} per study that has any)",
        "observations that name a side, a position, a severity: "
        + ", ".join(_share(s.modified[name], s.observations) for name in ("side", "position", "severity")),
    ]
    for made, number in s.readers.most_common():
        words = [made.engine, made.version, made.model, f"(words {made.prompt_hash})" if made.prompt_hash else ""]
        lines.append(f"read by {' '.join(word for word in words if word)}: {number}")
    if s.flags:
        lines += ["", "| flag | studies |", "| --- | --- |"]
        lines += [f"| {flag} | {number} |" for flag, number in s.flags.most_common()]
    lines += ["", "| finding | " + " | ".join(EXISTENCES) + " | not mentioned |", "| --- " * 5 + "|"]
    order = sorted(s.states.items(), key=lambda pair: (-pair[1]["present"], -sum(pair[1].values()), pair[0]))
    lines += [
        f"| {finding} | " + " | ".join(str(states[state]) for state in EXISTENCES)
        + f" | {s.studies - sum(states.values())} |"
        for finding, states in order
    ]  # fmt: skip
    if any(s.lengths.values()):
        lines += ["", "| tokens | reports | min | median | mean | 95 % | max |", "| --- " * 7 + "|"]
        lines += [_row(name, np.asarray(values)) for name, values in s.lengths.items() if values]
        whole = np.asarray(s.lengths[LENGTHS[-1]])
        lines.append(f"\nlonger than {max_length} tokens: {int((whole > max_length).sum())} of {len(whole)}")
    return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f} %"


def _row(name: str, values: np.ndarray) -> str:  # type: ignore[type-arg]
    low, middle, high, most = np.percentile(values, (0, 50, 95, 100))
    return f"| {name} | {len(values)} | {low:.0f} | {middle:.0f} | {values.mean():.0f} | {high:.0f} | {most:.0f} |"
