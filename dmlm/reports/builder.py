"""Structured reports from labels, and definitions and appearances for any structured report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from dmlm.errors import ReportFormatError
from dmlm.reports.knowledge import NO_FINDING, FindingKnowledge, as_knowledge
from dmlm.reports.schema import Existence, Observation, StructuredReport

_STATES: dict[float, Existence] = {1.0: "present", 0.0: "absent", -1.0: "uncertain"}
_COMPATIBLE = frozenset({NO_FINDING, "Support Devices"})


def from_labels(
    study_id: str,
    labels: Mapping[str, float],
    knowledge: Mapping[str, FindingKnowledge] | None = None,
    include_absent: bool = True,
) -> StructuredReport:
    """Write a structured report from labels, for data sets that have no reports.

    ``"No Finding"`` is a verdict, not a question: 1 and 0 become the verdicts "No Finding is present." and "No Finding
    is absent."; -1 says nothing and is left out, and so is a 1 that contradicts another label (anything but Support
    Devices present or uncertain). It is never inferred from the other labels, because those may be incomplete.

    Args:
        study_id: Identifier of the study.
        labels: Per finding 1 present, 0 absent, -1 uncertain, nan unknown (left out). Names may be synonyms.
        knowledge: Where definitions and appearances come from; the library's by default.
        include_absent: Whether absent findings are stated.

    Returns:
        Report with ``source="labels"``, in the order of ``labels``.

    Raises:
        ReportFormatError: If a label has another value.
    """
    known = as_knowledge(knowledge)
    observations: list[Observation] = []
    for raw, value in labels.items():
        if math.isnan(value):
            continue
        state = _STATES.get(float(value))
        if state is None:
            msg = f"study '{study_id}': label '{raw}' must be 1, 0, -1 or nan; got {value}"
            raise ReportFormatError(msg)
        name = known.canonical(raw)
        if (state == "absent" and not include_absent) or (name == NO_FINDING and state == "uncertain"):
            continue
        observations.append(Observation(finding=name, existence=state))
    if any(item.existence != "absent" and item.finding not in _COMPATIBLE for item in observations):
        observations = [item for item in observations if item.finding != NO_FINDING or item.existence == "absent"]
    return with_knowledge(StructuredReport(study_id, tuple(observations)), known)


def with_knowledge(
    report: StructuredReport, knowledge: Mapping[str, FindingKnowledge] | None = None
) -> StructuredReport:
    """Fill in the definitions and appearances of the findings that a report says are present or may be.

    Args:
        report: Any report; texts of its own stay where ``knowledge`` has none for that finding.
        knowledge: Findings with their texts; the library's by default.

    Returns:
        A copy that defines its present and uncertain findings, or "No Finding" where there are none.
    """
    known = as_knowledge(knowledge)
    names = [name for name, state in report.verdicts.items() if state != "absent"] or [NO_FINDING]
    definition = {name: known[name].definition if name in known else "" for name in names}
    appearance = {name: known[name].appearance if name in known else "" for name in names}
    return replace(
        report,
        definition=_filled(names, definition, report.definition),
        appearance=_filled(names, appearance, report.appearance),
    )


def _filled(names: list[str], new: Mapping[str, str], old: Mapping[str, str]) -> dict[str, str]:
    texts = {name: new[name] or old.get(name, "") for name in names}
    return {name: text for name, text in texts.items() if text}
