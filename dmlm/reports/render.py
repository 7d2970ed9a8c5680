"""A structured report as text, in the paper's form (section 3.2), with the place of each section's body.

Training texts and zero-shot prompts are both written by :func:`render`; there is no other way to write them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from dmlm.errors import ReportFormatError
from dmlm.reports.knowledge import FindingKnowledge, canonical_name
from dmlm.reports.schema import Existence, Observation, ReportText, Section, Span, StructuredReport
from dmlm.reports.sentences import OBSERVATIONS_HEADER, VERDICT_HEADER, has_question, question, triplet, verdict

STRUCTURED_SECTIONS: tuple[Section, ...] = ("definition", "appearance", "observations", "verdict")
"""The paper's four sections, in their order."""

_HEADERS: dict[Section, str] = {
    "definition": "Definition:",
    "appearance": "Radiographic characteristics:",
    "observations": OBSERVATIONS_HEADER,
    "verdict": VERDICT_HEADER,
}
_RANK: dict[Existence, int] = {"present": 0, "uncertain": 1, "absent": 2}


def render(
    report: StructuredReport,
    sections: Collection[Section] = STRUCTURED_SECTIONS,
    findings: Collection[str] | None = None,
    modifiers: bool = True,
    max_findings: int | None = None,
    max_defined: int | None = None,
) -> ReportText:
    """Write a structured report as text.

    ``"Definition: ... Radiographic characteristics: ... Observations: Is there a moderate pleural effusion on the left
    in the lower zone? Yes. Is there pneumothorax? No. Verdict: Pleural Effusion is present. Pneumothorax is absent."``

    Findings stand in the order present, uncertain, absent, otherwise as in the report. A section with nothing to say is
    left out with its header.

    Args:
        report: What to write.
        sections: Which of the four sections to write; their order is always the paper's.
        findings: Only these findings (any of their names); all by default.
        modifiers: Whether observations name severity, side and position. Without them there is one observation per
            finding, the verdict's, both in the text and in ``statements``.
        max_findings: At most this many findings are observed; absent ones go first.
        max_defined: At most this many findings are defined and described.

    Returns:
        Text, spans of the bodies, and the observations that the text states (``evidence`` removed: it points into
        another text). A text without observations and verdict states nothing.

    Raises:
        ReportFormatError: If a section is unknown or nothing is left to write.
    """
    _check_sections(sections)
    wanted = None if findings is None else {canonical_name(name) for name in findings}
    verdicts = {
        name: state
        for name, state in sorted(report.verdicts.items(), key=lambda item: _RANK[item[1]])
        if wanted is None or canonical_name(name) in wanted
    }
    kept = list(verdicts)[:max_findings]
    stated = _stated(report.observations, {name: verdicts[name] for name in kept}, sections, modifiers)
    sentences: dict[Section, list[str]] = {
        "definition": _constants(report.definition, verdicts, wanted, max_defined),
        "appearance": _constants(report.appearance, verdicts, wanted, max_defined),
        "observations": [question(item, modifiers) for item in stated if has_question(item.finding)],
        "verdict": [verdict(name, verdicts[name]) for name in kept],
    }
    bodies = {name: " ".join(sentences[name]) for name in STRUCTURED_SECTIONS if name in sections and sentences[name]}
    if not bodies:
        msg = f"study '{report.study_id}': nothing to write in section(s) {', '.join(sections)}; leave the study out"
        raise ReportFormatError(msg)
    return _assemble(bodies, stated)


def render_original(text: str, statements: Sequence[Observation] = ()) -> ReportText:
    """Take a report as it was written, as one section ``"text"``.

    Args:
        text: The free text; runs of white space become one space.
        statements: What is known to be stated in it, e.g. the observations of its structured report.

    Raises:
        ReportFormatError: If the text is blank.
    """
    body = " ".join(text.split())
    if not body:
        msg = "a report's text is blank; leave the study out or give it labels"
        raise ReportFormatError(msg)
    return ReportText(body, (Span("text", 0, len(body)),), tuple(statements))


def render_triplets(
    report: StructuredReport, modifiers: bool = True, knowledge: Mapping[str, FindingKnowledge] | None = None
) -> ReportText:
    """Write a report as triplets of entity, position and existence, as one section ``"observations"``.

    ``"pleural effusion, left lower zone, present. pneumothorax, absent."`` The order is that of :func:`render`;
    severity is not written, and not in ``statements``.

    Args:
        report: What to write.
        modifiers: Whether side and position are named.
        knowledge: Findings whose definition (its first sentence) stands for the name: a knowledge-enhanced triplet.

    Raises:
        ReportFormatError: If the report has no observation.
    """
    order = sorted(report.observations, key=lambda item: _RANK[item.existence])
    stated = [replace(item, severity=None, evidence=None) for item in order]
    if not modifiers:
        stated = [Observation(name, state) for name, state in report.verdicts.items()]
        stated.sort(key=lambda item: _RANK[item.existence])
    stated = list(dict.fromkeys(stated))
    if not stated:
        msg = f"study '{report.study_id}': no observation to write as a triplet; leave the study out"
        raise ReportFormatError(msg)
    known = {} if knowledge is None else knowledge
    descriptions = [known[item.finding].definition if item.finding in known else "" for item in stated]
    firsts = [description.partition(". ")[0] for description in descriptions]
    text = " ".join(triplet(item, modifiers, first) for item, first in zip(stated, firsts, strict=True))
    return ReportText(text, (Span("observations", 0, len(text)),), tuple(stated))


def _check_sections(sections: Collection[Section]) -> None:
    unknown = [name for name in sections if name not in STRUCTURED_SECTIONS]
    if unknown or not sections:
        msg = (
            f"sections must be some of {', '.join(STRUCTURED_SECTIONS)}; got {', '.join(map(repr, unknown)) or 'none'}"
        )
        raise ReportFormatError(msg)


def _stated(
    observations: Sequence[Observation],
    verdicts: Mapping[str, Existence],
    sections: Collection[Section],
    modifiers: bool,
) -> tuple[Observation, ...]:
    """Return what the chosen sections state about the findings of ``verdicts``, in that order, each thing once."""
    detailed = modifiers and "observations" in sections
    stated: list[Observation] = []
    for name, state in verdicts.items():
        if not ("verdict" in sections or ("observations" in sections and has_question(name))):
            continue
        if detailed and has_question(name):
            own = sorted(
                (item for item in observations if item.finding == name), key=lambda item: _RANK[item.existence]
            )
            stated.extend(replace(item, evidence=None) for item in own)
        else:
            stated.append(Observation(name, state))
    return tuple(dict.fromkeys(stated))


def _constants(
    texts: Mapping[str, str], verdicts: Mapping[str, Existence], wanted: Collection[str] | None, limit: int | None
) -> list[str]:
    """Return definitions or appearances: of observed findings in their order, then of others such as "No Finding"."""
    names = [name for name in verdicts if name in texts]
    names += [name for name in texts if name not in verdicts and (wanted is None or canonical_name(name) in wanted)]
    return [" ".join(texts[name].split()) for name in names[:limit] if texts[name].strip()]


def _assemble(bodies: Mapping[Section, str], stated: tuple[Observation, ...]) -> ReportText:
    text, spans = "", []
    for name, body in bodies.items():
        text += f"{' ' if text else ''}{_HEADERS[name]} "
        spans.append(Span(name, len(text), len(text) + len(body)))
        text += body
    return ReportText(text, tuple(spans), stated)
