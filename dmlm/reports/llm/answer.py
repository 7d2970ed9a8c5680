"""From a model's answer to observations of the schema: what is checked, what is mended, what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from dmlm.reports.anatomy import find_anatomy
from dmlm.reports.knowledge import NO_FINDING, FindingKnowledge, as_knowledge
from dmlm.reports.llm.repair import load_json
from dmlm.reports.rules_result import settled
from dmlm.reports.schema import Existence, Laterality, Observation, Severity

_EXISTENCE: dict[str, Existence] = {
    **dict.fromkeys(("present", "yes", "true", "positive"), "present"),
    **dict.fromkeys(("absent", "no", "false", "negative"), "absent"),
    **dict.fromkeys(("uncertain", "possible", "probable", "maybe", "equivocal"), "uncertain"),
}
_LATERALITY: dict[str, Laterality] = {
    "left": "left",
    "right": "right",
    **dict.fromkeys(("bilateral", "both", "left and right", "both sides"), "bilateral"),
}
_SEVERITY: dict[str, Severity] = {
    **dict.fromkeys(("mild", "tiny", "trace", "small", "minimal", "slight"), "mild"),
    "moderate": "moderate",
    **dict.fromkeys(("severe", "large", "extensive", "marked", "massive"), "severe"),
}
_NOTHING = ("", "none", "null", "n/a", "na", "unknown", "unspecified", "not specified", "not stated")
_POSITION = re.compile(r"[a-z0-9][a-z0-9 ,/'()-]{0,59}")
_LONGEST = 200


@dataclass(frozen=True)
class Answer:
    """What an answer says.

    Args:
        observations: What could be used, each said once, in the order of the report.
        faults: What is wrong with the answer, in words for the model; empty if nothing is.
        dropped: Observations that could not be used.
        is_cut: Whether its end was missing.
    """

    observations: tuple[Observation, ...]
    faults: tuple[str, ...] = ()
    dropped: int = 0
    is_cut: bool = False


def read_answer(
    answer: str,
    text: str,
    parts: Sequence[tuple[int, int]] | None = None,
    knowledge: Mapping[str, FindingKnowledge] | None = None,
) -> Answer:
    """Read an answer against the report that it is about.

    Names of findings are resolved by their synonyms, other words for a state, side or degree are understood, and the
    evidence is looked up in the report without regard to case and blanks. An observation is refused if its finding is
    not known, its state is none, or its evidence does not stand in the report: a model must not add to it.

    Args:
        answer: What the model wrote.
        text: The report as written; ``evidence`` of the observations points into it.
        parts: Start and end (exclusive) of what the model was shown of it; all of it by default.
        knowledge: Findings that may be named; the library's by default.

    Returns:
        Observations and faults. Faults quote the answer only where the model named a finding or a state.
    """
    try:
        loaded = load_json(answer)
    except ValueError as error:
        return Answer((), (str(error),))
    items = loaded.value.get("observations") if isinstance(loaded.value, dict) else loaded.value
    if not isinstance(items, list):
        return Answer((), ('the object lacks the list "observations"',), is_cut=loaded.is_cut)
    known = as_knowledge(knowledge)
    find = partial(_find, text, [(0, len(text))] if parts is None else parts)
    found: list[Observation] = []
    faults: list[str] = []
    for number, item in enumerate(items[:_LONGEST], 1):
        read = _observation(item, known, find)
        if isinstance(read, Observation):
            found.append(read)
        else:
            faults.append(f"observation {number}: {read}")
    if len(items) > _LONGEST:
        faults.append(f"it has {len(items)} observations, more than {_LONGEST}")
    # by the place of the evidence, so that the order is the report's whatever the model's
    found.sort(key=lambda observation: observation.evidence or (0, 0))
    return Answer(tuple(settled([(item, True) for item in found])), tuple(faults), len(faults), loaded.is_cut)


def _observation(
    item: Any,  # noqa: ANN401 - JSON is anything
    known: Mapping[str, FindingKnowledge],
    find: Callable[[str], tuple[int, int] | None],
) -> Observation | str:
    """Return the observation, or what is wrong with it."""
    if not isinstance(item, dict):
        return "it is not an object"
    name = as_knowledge(known).canonical(str(item.get("finding") or ""))
    if name not in known:
        return f'"{name[:60]}" is not one of the findings' if name else "it names no finding"
    existence = _EXISTENCE.get(str(item.get("existence")).strip().lower())
    if existence is None:
        return f'existence must be "present", "absent" or "uncertain", not "{str(item.get("existence"))[:30]}"'
    if name == NO_FINDING and existence == "uncertain":
        return f'"{NO_FINDING}" is present or absent, never uncertain'
    evidence = find(str(item.get("evidence") or ""))
    if evidence is None:
        return "its evidence does not stand in the report letter by letter"
    side = _LATERALITY.get(_word(item.get("laterality")))
    position, implied = _position(_word(item.get("position")))
    is_place = name != NO_FINDING
    return Observation(
        name,
        existence,
        (side or implied) if is_place else None,
        position if is_place else None,
        # as in the rules: an absent finding has no degree
        _SEVERITY.get(_word(item.get("severity"))) if is_place and existence != "absent" else None,
        evidence,
    )


def _word(value: Any) -> str:  # noqa: ANN401
    word = " ".join(value.lower().split()) if isinstance(value, str) else ""
    return "" if word in _NOTHING else word


def _position(words: str) -> tuple[str | None, Laterality | None]:
    """Position in the library's words where it knows the place, and the side that the place implies."""
    for term, _, _ in find_anatomy(words):
        if term.position is not None:
            return term.position, _LATERALITY.get(words.partition(" ")[0], term.side)
    plain = re.sub(r"^(?:in |at |the |left |right |bilateral |both )+", "", words)
    return (plain if _POSITION.fullmatch(plain) else None), None


def _find(text: str, parts: Sequence[tuple[int, int]], quote: str) -> tuple[int, int] | None:
    """Place of a quotation in the parts of a text, case, blanks and line breaks apart."""
    words = quote.strip().strip("\"'").rstrip(".,;: ").split()
    if not words or len(words) > 80:
        return None
    pattern = re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE)
    matches = (pattern.search(text, start, end) for start, end in parts)
    return next((match.span() for match in matches if match is not None), None)
