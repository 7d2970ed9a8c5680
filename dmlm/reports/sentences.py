"""The sentences of an observation and of a verdict: how they are written, and how they are read back.

Writer and reader stand side by side because they must agree: ``parse(render(report).text)`` gives the statements again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dmlm.reports.knowledge import NO_FINDING, canonical_name
from dmlm.reports.schema import SEVERITIES, Existence, Laterality, Observation

OBSERVATIONS_HEADER = "Observations:"
VERDICT_HEADER = "Verdict:"

_ANSWERS: dict[Existence, str] = {"present": "Yes", "absent": "No", "uncertain": "Uncertain"}
_STATES: dict[Existence, str] = {"present": "present", "absent": "absent", "uncertain": "possible"}
_SIDES: dict[Laterality, str] = {"left": "on the left", "right": "on the right", "bilateral": "on both sides"}
_EXISTENCE_OF_ANSWER = {word: key for key, word in _ANSWERS.items()}
_EXISTENCE_OF_STATE = {word: key for key, word in _STATES.items()}
_LATERALITY_OF = {word: key for key, word in _SIDES.items()}
_SEVERITY_OF = {str(word): word for word in SEVERITIES}
# last words of names that take no article: "moderate edema", but "a moderate pleural effusion"
_WITHOUT_ARTICLE = re.compile(
    "atelectasis|cardiomegaly|changes|consolidation|covid-19|devices|edema|emphysema|fibrosis|hyperinflation|"
    "infiltration|nodes|other|pneumonia|scarring|scoliosis|thickening|tuberculosis|volumes"
)

_QUESTION = re.compile(r"Is there (?P<phrase>.+?)\? (?P<answer>Yes|No|Uncertain)\.(?= |$)")
_VERDICT = re.compile(r"(?P<finding>\S.*?) is (?P<state>present|absent|possible)\.(?= |$)")


def question(observation: Observation, modifiers: bool = True) -> str:
    """Write an observation as question and answer: ``"Is there pneumothorax on the left? Yes."``.

    Args:
        observation: What is observed.
        modifiers: Whether severity, side and position are named.
    """
    words = ["Is there"]
    name = entity(observation.finding)
    if modifiers and observation.severity is not None:
        article = "" if _WITHOUT_ARTICLE.fullmatch(name.rpartition(" ")[2].lower()) else "a "
        words.append(f"{article}{observation.severity}")
    words.append(name)
    if modifiers and observation.laterality is not None:
        words.append(_SIDES[observation.laterality])
    if modifiers and observation.position is not None:
        words.append(f"in the {observation.position}")
    return f"{' '.join(words)}? {_ANSWERS[observation.existence]}."


def verdict(finding: str, existence: Existence) -> str:
    """Write the verdict on a finding: ``"Pleural Effusion is present."`` (uncertain: ``"is possible."``)."""
    return f"{finding} is {_STATES[existence]}."


def triplet(observation: Observation, modifiers: bool = True, description: str = "") -> str:
    """Write an observation as entity, position, existence: ``"pleural effusion, left lower zone, present."``.

    Args:
        observation: What is observed; a triplet has no place for its severity.
        modifiers: Whether side and position are named.
        description: What stands for the entity instead of its name (a knowledge-enhanced triplet).
    """
    place = [observation.laterality, observation.position] if modifiers else []
    words = [description.rstrip(".") or entity(observation.finding), " ".join(word for word in place if word)]
    return f"{', '.join(word for word in words if word)}, {_STATES[observation.existence]}."


def entity(finding: str) -> str:
    """Return a finding's name in lower case, acronyms (two capitals or a digit, as in COVID-19) left as they are."""
    return " ".join(word if _is_acronym(word) else word.lower() for word in finding.split(" "))


def has_question(finding: str) -> bool:
    """Whether a finding is asked for in the observations; "No Finding" is a verdict only."""
    return finding != NO_FINDING


def parse(text: str) -> list[Observation]:
    """Read the statements of a rendered text back.

    Args:
        text: Text as :func:`dmlm.reports.render.render` writes it. Sections other than observations and verdict are
            passed over. Names are those of the verdict; without one they are the library's canonical names.

    Returns:
        Observations in the order of the verdict. A verdict without a question gives an observation without modifiers.
    """
    head, has_verdict, tail = text.rpartition(VERDICT_HEADER)
    verdicts = [(match["finding"], match["state"]) for match in _VERDICT.finditer(tail)] if has_verdict else []
    _, has_observations, body = (head if has_verdict else text).rpartition(OBSERVATIONS_HEADER)
    names = {entity(finding): finding for finding, _ in verdicts}
    pattern = _phrase_pattern(list(names))
    found: dict[str, list[Observation]] = {finding: [] for finding, _ in verdicts}
    for match in _QUESTION.finditer(body if has_observations else ""):
        observation = _observation(match["phrase"], match["answer"], pattern, names)
        found.setdefault(observation.finding, []).append(observation)
    for finding, word in verdicts:
        if not found[finding]:
            found[finding] = [Observation(finding, _EXISTENCE_OF_STATE[word])]
    return [observation for observations in found.values() for observation in observations]


def _observation(phrase: str, answer: str, pattern: re.Pattern[str], names: dict[str, str]) -> Observation:
    match = pattern.fullmatch(phrase) or _phrase_pattern([]).fullmatch(phrase)
    parts = match.groupdict() if match else {"name": phrase}
    return Observation(
        finding=names.get(parts["name"], "") or canonical_name(parts["name"]),
        existence=_EXISTENCE_OF_ANSWER[answer],
        laterality=_LATERALITY_OF.get(parts.get("side") or ""),
        position=parts.get("position"),
        severity=_SEVERITY_OF.get(parts.get("severity") or ""),
    )


def _phrase_pattern(names: Sequence[str]) -> re.Pattern[str]:
    """Pattern of severity, name, side and position; known names are tried first, the longest before the others."""
    known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) or ".+?"
    severities, sides = "|".join(SEVERITIES), "|".join(_SIDES.values())
    return re.compile(
        rf"(?:(?:a )?(?P<severity>{severities}) )?{'?' if names else ''}"
        rf"(?P<name>{known})(?: (?P<side>{sides}))?(?: in the (?P<position>.+))?"
    )


def _is_acronym(word: str) -> bool:
    return sum(letter.isupper() for letter in word) > 1 or any(letter.isdigit() for letter in word)
