"""What a structured report is: observations and verdicts about findings, as plain immutable records.

The paper's four sections (section 3.2) map to: ``definition`` and ``appearance`` (text per finding), ``observations``
(:class:`Observation`) and :attr:`StructuredReport.verdicts`. Rendering to text lives in :mod:`dmlm.reports.render`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, get_args

from dmlm.errors import ReportFormatError

Existence = Literal["present", "absent", "uncertain"]
Laterality = Literal["left", "right", "bilateral"]
Severity = Literal["mild", "moderate", "severe"]
Section = Literal["definition", "appearance", "observations", "verdict", "text"]

EXISTENCES: tuple[Existence, ...] = get_args(Existence)
LATERALITIES: tuple[Laterality, ...] = get_args(Laterality)
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
SECTIONS: tuple[Section, ...] = get_args(Section)


@dataclass(frozen=True)
class Observation:
    """One thing that a report says of one finding.

    Args:
        finding: Canonical name, e.g. ``"Pleural Effusion"``.
        existence: Whether the report says that it is there, that it is not, or that it may be.
        laterality: The patient's side, where the report names one.
        position: Place in words, e.g. ``"lower zone"``, where the report names one.
        severity: Degree, where the report names one.
        evidence: ``(start, end)`` characters of the source text that say so, where known.

    Raises:
        ReportFormatError: If a value is not one of the schema's.
    """

    finding: str
    existence: Existence
    laterality: Laterality | None = None
    position: str | None = None
    severity: Severity | None = None
    evidence: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not self.finding.strip():
            msg = "an observation needs the name of a finding, got an empty one"
            raise ReportFormatError(msg)
        _one_of("existence", self.existence, EXISTENCES, self.finding)
        if self.laterality is not None:
            _one_of("laterality", self.laterality, LATERALITIES, self.finding)
        if self.severity is not None:
            _one_of("severity", self.severity, SEVERITIES, self.finding)


@dataclass(frozen=True)
class StructuredReport:
    """A report as records.

    Args:
        study_id: Identifier of the study that it belongs to.
        observations: What is said, in the order in which it is said.
        definition: Definition per finding (only findings that the text should define).
        appearance: Radiographic appearance per finding.
        source: Where the records come from: ``"labels"``, ``"phantom"``, ``"rules"`` or an engine's name.
        flags: What is unusual about the source text, e.g. ``"empty"`` or ``"conflicting"``.
    """

    study_id: str
    observations: tuple[Observation, ...]
    definition: Mapping[str, str] = field(default_factory=dict)
    appearance: Mapping[str, str] = field(default_factory=dict)
    source: str = "labels"
    flags: tuple[str, ...] = ()

    @cached_property
    def verdicts(self) -> dict[str, Existence]:
        """State per finding, in order of first mention; present outranks uncertain, uncertain outranks absent."""
        rank = {"absent": 0, "uncertain": 1, "present": 2}
        states: dict[str, Existence] = {}
        for observation in self.observations:
            old = states.get(observation.finding)
            if old is None or rank[observation.existence] > rank[old]:
                states[observation.finding] = observation.existence
        return states


class Span(NamedTuple):
    """Characters ``start`` to ``end`` (exclusive) of a text belong to ``section``; headers lie outside all spans."""

    section: Section
    start: int
    end: int


@dataclass(frozen=True)
class ReportText:
    """A text as the encoder reads it, with the place of each section's body and what it states.

    Args:
        text: The text; never empty.
        spans: Bodies of the sections, in order, without their headers. Only what lies in a span may be masked.
        statements: The observations that the text states (those of a statement view, or of the whole report).
    """

    text: str
    spans: tuple[Span, ...]
    statements: tuple[Observation, ...] = ()


def _one_of(name: str, value: str, allowed: tuple[str, ...], finding: str) -> None:
    if value not in allowed:
        msg = f"observation of '{finding}': {name} must be one of {', '.join(allowed)}; got '{value}'"
        raise ReportFormatError(msg)
