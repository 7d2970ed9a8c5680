"""One report before and after, with the words that each observation rests on marked."""

from __future__ import annotations

import textwrap

from dmlm.reports.render import render
from dmlm.reports.schema import Existence, Observation, StructuredReport

_COLOURS: dict[Existence, str] = {"present": "\x1b[32m", "absent": "\x1b[31m", "uncertain": "\x1b[33m"}
_SIGNS: dict[Existence, str] = {"present": "+", "absent": "-", "uncertain": "?"}
_RANK: dict[Existence, int] = {"absent": 0, "uncertain": 1, "present": 2}
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


def before_and_after(report: StructuredReport, text: str, use_colour: bool, width: int = 100) -> str:
    """Write a report as it was written, with marks, then its observations, flags and structured text.

    Args:
        report: The structured report; its ``evidence`` points into ``text``.
        text: The report as written.
        use_colour: Mark with colours of a terminal (green present, yellow uncertain, red absent) instead of
            ``[+ ...]``, ``[? ...]`` and ``[- ...]``.
        width: Columns of the structured text.
    """
    bold, plain = (_BOLD, _PLAIN) if use_colour else ("", "")
    lines = [f"{bold}study {report.study_id}{plain}", "", marked(text, report.observations, use_colour).rstrip(), ""]
    for item in report.observations:
        words = [item.severity, item.laterality, item.position]
        said = f" ({', '.join(word for word in words if word)})" if any(words) else ""
        sign = f"{_COLOURS[item.existence]}{_SIGNS[item.existence]}{_PLAIN}" if use_colour else _SIGNS[item.existence]
        evidence = "" if item.evidence is None else " ".join(text[slice(*item.evidence)].split())
        lines.append(f"{sign} {item.finding}{said}" + (f"  <- {evidence}" if evidence else ""))
    if report.flags:
        lines.append(f"{bold}flags:{plain} {', '.join(report.flags)}")
    if report.observations:
        lines += ["", *textwrap.wrap(render(report).text, width)]
    return "\n".join(lines)


def marked(text: str, observations: tuple[Observation, ...], use_colour: bool) -> str:
    """Mark the words that observations rest on; where two overlap, present outranks uncertain outranks absent.

    Args:
        text: The report as written.
        observations: Observations whose ``evidence`` points into it.
        use_colour: Colours of a terminal instead of brackets.
    """
    state: list[Existence | None] = [None] * len(text)
    for item in sorted(observations, key=lambda item: _RANK[item.existence]):
        if item.evidence is not None:
            first, last = item.evidence
            state[first:last] = [item.existence] * (min(last, len(text)) - first)
    parts: list[str] = []
    start = 0
    for end in range(1, len(text) + 1):
        if end < len(text) and state[end] == state[start]:
            continue
        piece, what = _safe(text[start:end]), state[start]
        body = piece.strip()
        if what is None or not body:
            parts.append(piece)
        else:
            mark = f"{_COLOURS[what]}{body}{_PLAIN}" if use_colour else f"[{_SIGNS[what]} {body}]"
            parts.append(piece.replace(body, mark))  # blanks at the seam of two marks stay outside
        start = end
    return "".join(parts)


def _safe(text: str) -> str:
    """Keep a report from steering the terminal: control characters become a visible mark."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)
