"""A record as one line of JSON, and back.

A line::

    {"study_id": "50414267", "engine": "rules", "version": "0.1.0", "model": "", "prompt_hash": "5d0c...", "date":
     "2026-11-25", "text_hash": "91ab...", "flags": [], "observations": [{"finding": "Pleural Effusion", "existence":
     "present", "laterality": "left", "severity": "mild", "evidence": [12, 40]}], "definition": {}, "appearance": {}}

``definition`` and ``appearance`` hold only texts that are not the library's: the constants of a finding are filled in
when a record is read, so that a file stays small and other texts can be chosen without building it again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dmlm.errors import ReportFormatError
from dmlm.reports.builder import with_knowledge
from dmlm.reports.knowledge import FindingKnowledge, as_knowledge
from dmlm.reports.provenance import Provenance, ReportRecord
from dmlm.reports.schema import Observation, StructuredReport

_REQUIRED = ("study_id", "engine", "version", "observations")
_KNOWN = (*_REQUIRED, "model", "prompt_hash", "date", "text_hash", "flags", "definition", "appearance")
_MODIFIERS = ("laterality", "position", "severity")
_NAMES = {list: "a list", dict: "a mapping from findings to texts", str: "text"}


def to_json(record: ReportRecord, knowledge: Mapping[str, FindingKnowledge] | None = None) -> str:
    """Write a record as one line without a line break; ``study_id`` is its first key.

    Args:
        record: The record.
        knowledge: Texts of findings that need not be written, because they are filled in again; the library's by
            default.
    """
    known = as_knowledge(knowledge)
    report, made = record.report, record.provenance
    own = {
        name: {
            finding: text
            for finding, text in texts.items()
            if finding not in known or getattr(known[finding], name) != text
        }
        for name, texts in (("definition", report.definition), ("appearance", report.appearance))
    }
    fields: dict[str, Any] = {
        "study_id": report.study_id,
        "engine": made.engine,
        "version": made.version,
        "model": made.model,
        "prompt_hash": made.prompt_hash,
        "date": made.date,
        "text_hash": record.text_hash,
        "flags": list(report.flags),
        "observations": [_written(item) for item in report.observations],
        **own,
    }
    return json.dumps(fields, ensure_ascii=False)


def from_json(
    line: str | bytes, where: str = "record", knowledge: Mapping[str, FindingKnowledge] | None = None
) -> ReportRecord:
    """Read one line.

    Args:
        line: The line.
        where: Its file and number, for messages.
        knowledge: Where definitions and appearances come from that the line does not hold; the library's by default.

    Raises:
        ReportFormatError: If the line does not follow the schema; the message names the key.
    """
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:  # brackets in brackets without end
        msg = f"{where}: not a line of JSON ({error}); build the file again, or with --resume to keep its whole lines"
        raise ReportFormatError(msg) from error
    fields = _checked(data, where)
    observations = tuple(_observation(item, number, where) for number, item in enumerate(fields["observations"], 1))
    report = StructuredReport(fields["study_id"], observations, source=fields["engine"], flags=tuple(fields["flags"]))
    if observations:
        report = with_knowledge(report, knowledge)
    report = replace(
        report,
        definition={**report.definition, **fields["definition"]},
        appearance={**report.appearance, **fields["appearance"]},
    )
    made = Provenance(*(fields[key] for key in ("engine", "version", "model", "prompt_hash", "date")))
    return ReportRecord(report, made, fields["text_hash"])


def _written(item: Observation) -> dict[str, Any]:
    fields: dict[str, Any] = {"finding": item.finding, "existence": item.existence}
    fields |= {name: value for name in _MODIFIERS if (value := getattr(item, name)) is not None}
    if item.evidence is not None:
        fields["evidence"] = list(item.evidence)
    return fields


def _checked(data: Any, where: str) -> dict[str, Any]:  # noqa: ANN401 - JSON is anything
    if not isinstance(data, dict):
        msg = f"{where}: expected an object with the keys {', '.join(_KNOWN)}; got {type(data).__name__}"
        raise ReportFormatError(msg)
    missing = [key for key in _REQUIRED if key not in data]
    unknown = [key for key in data if key not in _KNOWN]
    if missing or unknown:
        fault = f"lacks {', '.join(missing)}" if missing else f"has unknown keys {', '.join(map(str, unknown))}"
        msg = f"{where}: {fault}; a record has {', '.join(_KNOWN)}"
        raise ReportFormatError(msg)
    lists, texts = ("flags", "observations"), ("definition", "appearance")
    fields = {key: data.get(key, [] if key in lists else {} if key in texts else "") for key in _KNOWN}
    for key, value in fields.items():
        wanted = list if key in lists else dict if key in texts else str
        if not isinstance(value, wanted):
            msg = f"{where}: {key} must be {_NAMES[wanted]}; got {json.dumps(value)[:60]}"
            raise ReportFormatError(msg)
    odd = [key for key in (*texts, "flags") if not all(isinstance(text, str) for text in _values(fields[key]))]
    if odd:
        msg = f"{where}: {odd[0]} must hold texts only; got {json.dumps(fields[odd[0]])[:60]}"
        raise ReportFormatError(msg)
    return fields


def _values(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def _observation(item: Any, number: int, where: str) -> Observation:  # noqa: ANN401
    keys = {"finding", "existence", *_MODIFIERS, "evidence"}
    if not isinstance(item, dict) or not {"finding", "existence"} <= set(item) <= keys:
        msg = f"{where}: observation {number}: expected an object with {', '.join(sorted(keys))}; got {str(item)[:80]}"
        raise ReportFormatError(msg)
    evidence = item.get("evidence")
    if evidence is not None and not (
        isinstance(evidence, list)
        and len(evidence) == 2
        and all(isinstance(place, int) for place in evidence)
        and 0 <= evidence[0] <= evidence[1]
    ):
        msg = f"{where}: observation {number}: evidence must be [start, end] in characters; got {str(evidence)[:60]}"
        raise ReportFormatError(msg)
    try:
        values = {**item, "evidence": None if evidence is None else (evidence[0], evidence[1])}
        return Observation(**values)
    except (ReportFormatError, AttributeError, TypeError) as error:
        msg = f"{where}: observation {number}: {error}"
        raise ReportFormatError(msg) from error
