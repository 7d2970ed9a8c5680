"""Findings that are said as states of structures: "the heart is enlarged", "lungs are clear", "no bony abnormality"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dmlm.reports.clauses import Sentence
from dmlm.reports.lexicon import Item
from dmlm.reports.schema import Existence
from dmlm.reports.terms import Token

_REACH = 5
"""Tokens between an adjective and the structure that follows it."""

_SIGNS: tuple[tuple[str, dict[Existence, Existence]], ...] = (
    # longest sign first; what a state says in a sentence -> what it says of the finding
    ("-~", {"present": "present"}),
    ("-", {"present": "absent"}),
    ("?", {"present": "uncertain", "uncertain": "uncertain", "absent": "absent"}),
    ("!", {"absent": "absent"}),
    ("~", {"absent": "present"}),
    ("", {"present": "present", "absent": "absent", "uncertain": "uncertain"}),
)


class StateMention(NamedTuple):
    """A state with its subjects.

    Args:
        item: The words of the state.
        subjects: The words of the structures, empty for a state that needs none.
        signed: Findings that it speaks of, with their signs (``knowledge/states.yaml``).
    """

    item: Item
    subjects: tuple[Item, ...]
    signed: tuple[str, ...]


def read_sign(signed: str) -> tuple[str, Mapping[Existence, Existence]]:
    """Split ``"-Fracture"`` into the finding and what the states of a sentence mean for it."""
    sign, meaning = next(pair for pair in _SIGNS if signed.startswith(pair[0]))
    return signed[len(sign) :], meaning


def find_states(sentence: Sentence, states: Mapping[str, Mapping[str, tuple[str, ...]]]) -> list[StateMention]:
    """Find the states of a sentence that have a structure to speak of.

    Structures are looked for before the state in its clause ("heart and mediastinum are normal"), or after it where it
    is an adjective ("normal heart size and mediastinal contours").

    Args:
        sentence: The sentence.
        states: Per state the signed findings of each structure.
    """
    places = sentence.of("anatomy")
    found: list[StateMention] = []
    used: set[int] = set()
    for item in sentence.of("state"):
        rules = states[item.value]
        clause = sentence.clause(item)
        own = [place for place in places if sentence.clause(place) == clause and place.value.structure in rules]
        before = [place for place in own if place.last <= item.first]
        after = _following(sentence, item, [place for place in own if place.first >= item.last])
        fresh = [place for place in before if place.first not in used]
        subjects = after if after and (_is_adjective(sentence, item, after[0]) or not fresh) else fresh or before
        if item.value == "abnormal":
            # "no osseous abnormality of the thorax": the bones, not the chest
            subjects = [place for place in own if place.value.structure == "bone"] or subjects
            if not _is_abnormality(sentence, item, subjects):
                continue
        if subjects:
            used.update(place.first for place in subjects)
            found.append(StateMention(item, tuple(subjects), _signed(subjects, rules)))
        elif before_but := _shared_subjects(sentence, item, places, found, rules):
            found.append(StateMention(item, before_but, _signed(before_but, rules)))
        elif "none" in rules and not _other_structure(sentence, item, places):
            found.append(StateMention(item, (), rules["none"]))
        elif "alone" in rules and not any(token[0].isalpha() for token in _others(sentence, item)):
            found.append(StateMention(item, (), rules["alone"]))
    return found


def _signed(subjects: Sequence[Item], rules: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for place in subjects for name in rules[place.value.structure]))


def _shared_subjects(
    sentence: Sentence,
    item: Item,
    places: list[Item],
    found: list[StateMention],
    rules: Mapping[str, tuple[str, ...]],
) -> tuple[Item, ...]:
    """Structures of the state before "but": "the lungs are hyperinflated but clear"."""
    clause = sentence.clause(item)
    is_next = found and sentence.clause(found[-1].item) == clause - 1
    if not is_next or any(sentence.clause(place) == clause for place in places):
        return ()
    return tuple(place for place in found[-1].subjects if place.value.structure in rules)


def _following(sentence: Sentence, item: Item, after: list[Item]) -> list[Item]:
    """Structures that follow a state closely, with those joined to them by "and"."""
    found: list[Item] = []
    last = item
    for place in after:
        gap = range(last.last, place.first)
        kinds = {sentence.kind_at[token].kind for token in gap if token in sentence.kind_at}
        if len(gap) > _REACH or kinds & {"verb", "state", "finding", "with"}:
            break
        if found and not ("joint" in kinds or any(sentence.tokens[token][0] in ",/" for token in gap)):
            break
        found.append(place)
        last = place
    return found


def _is_adjective(sentence: Sentence, item: Item, place: Item) -> bool:
    previous = sentence.kind_at.get(item.first - 1)
    near = place.first - item.last <= 1 or sentence.tokens[item.last][0] == "of"
    return near and (previous is None or previous.kind != "verb")


def _is_abnormality(sentence: Sentence, item: Item, subjects: list[Item]) -> bool:
    """Whether "no abnormality" speaks of the chest: "acute", or a word for chest or bones, stands close before."""
    first = max(0, item.first - 8)
    near = [sentence.kind_at[token].kind for token in range(first, item.first) if token in sentence.kind_at]
    whole = any(place.value.structure in ("chest", "bone") and place.first >= first for place in subjects)
    return "finding" not in near[-2:] and ("acute" in near or whole)


def _others(sentence: Sentence, item: Item) -> list[Token]:
    return sentence.tokens[: item.first] + sentence.tokens[item.last :]


def _other_structure(sentence: Sentence, item: Item, places: list[Item]) -> bool:
    clause = sentence.clause(item)
    return any(sentence.clause(place) == clause and abs(place.first - item.first) <= _REACH for place in places)
