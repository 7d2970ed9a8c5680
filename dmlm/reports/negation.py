"""Whether a sentence says that a finding is present, absent or uncertain: cues with a direction and a reach.

After NegEx (Chapman et al. 2001) and ConText (Harkema et al. 2009): cues before and after a finding, words that end
their reach, and phrases that look like negations but are none. A negation reaches through a list to the end of its
clause; a cue that stands behind a finding reaches back through the list that ends there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dmlm.reports.clauses import Sentence
from dmlm.reports.lexicon import Item
from dmlm.reports.schema import Existence
from dmlm.reports.terms import word_list

_NEAR = 4
"""Words that "not" reaches."""

_OUTLINES = frozenset({"heart", "heart chambers", "mediastinum", "diaphragm", "trachea", "aorta", "vasculature"})
"""Structures that can themselves be "not seen"."""

_DOUBT = frozenset({"doubtful_after", "doubtful_start"})
_SHOWING = word_list("showing")
_AFTERWARDS = frozenset({"after", "following", "post"})
_TAKEN_OUT = frozenset({"removal", "removed", "removing", "withdrawal"})


class Judgement(NamedTuple):
    """What a sentence says of the existence of a finding.

    Args:
        existence: The state, or ``None`` where the sentence speaks of the past or of a question.
        cues: The words that say so.
    """

    existence: Existence | None
    cues: tuple[Item, ...] = ()


def judge(sentence: Sentence, mentions: Sequence[Item], devices: frozenset[int] = frozenset()) -> list[Judgement]:
    """Judge every mention of a sentence.

    Args:
        sentence: The sentence.
        mentions: Items that mention findings, in order.
        devices: Indices of the mentions of devices, which a history ("status post pacemaker placement") leaves present.

    Returns:
        A judgement per mention.
    """
    behind = _reached_from_behind(sentence, mentions)
    either = _alternatives(sentence, mentions)
    return [
        _judge(sentence, mention, behind.get(index, []), index in either, index in devices)
        for index, mention in enumerate(mentions)
    ]


def _judge(sentence: Sentence, mention: Item, behind: list[Item], either: bool, device: bool) -> Judgement:
    gone = [cue for cue in behind if cue.kind == "absent_before"]
    if gone:
        return Judgement("absent", tuple(gone))
    clause = sentence.clause(mention)
    before = [item for item in sentence.items if item.last <= mention.first and sentence.clause(item) == clause]
    pasts = ("question",) if device else ("question", "past")
    negation = _negation(sentence, before, mention, device)
    if negation is not None:
        # "no history of pneumonia", "not tested for it": that is denied, not the finding
        if _is_past(sentence, [item for item in before if item.first >= negation.last], mention, pasts):
            return Judgement(None)
        return Judgement("absent", (negation,))
    if behind:
        return Judgement("uncertain", tuple(behind))
    doubts = [item for item in before if item.kind in _DOUBT]
    if doubts:
        return Judgement("uncertain", (doubts[-1],))
    if _is_past(sentence, before, mention, pasts):
        return Judgement(None)
    return Judgement("uncertain" if either else "present")


def _negation(sentence: Sentence, before: list[Item], mention: Item, device: bool = False) -> Item | None:
    for index in range(len(before) - 1, -1, -1):
        cue = before[index]
        if cue.kind == "doubtful_start" and _opens_statement(sentence, before[:index], cue):
            return None
        if cue.kind == "absent_after":
            return None if device and _was_placed(sentence, cue, mention) else cue
        if cue.kind == "absent_near" and mention.first - cue.last <= _NEAR:
            return cue
    return None


def _was_placed(sentence: Sentence, cue: Item, device: Item) -> bool:
    """Whether a denial is about what came of a device: "no pneumothorax after placement of a chest tube"."""
    words = {sentence.tokens[place][0] for place in range(cue.last, min(device.last + _NEAR, len(sentence.tokens)))}
    between = {sentence.tokens[place][0] for place in range(cue.last, device.first)}
    return bool(between & _AFTERWARDS) and not words & _TAKEN_OUT


def _opens_statement(sentence: Sentence, before: list[Item], doubt: Item) -> bool:
    """Whether a doubt stands apart from the negation before it: "no effusion, possible nodule", not "no likely ..."."""
    last = next((item.last for item in reversed(before) if item.kind in ("absent_after", "absent_near")), None)
    return last is not None and any(
        sentence.tokens[place][0] in (",", "and") or sentence.kind_at.get(place, doubt).kind in ("finding", "state")
        for place in range(last, doubt.first)
    )


def _is_past(sentence: Sentence, before: list[Item], mention: Item, kinds: tuple[str, ...]) -> bool:
    past = next((item for item in reversed(before) if item.kind in kinds), None)
    if past is None:
        return False
    # "in a patient with a history of failure, there is edema": the main clause is not history
    opened = False
    for place in range(past.last, mention.first):
        if sentence.tokens[place][0] in _SHOWING:
            return False  # "radiographs of a man with a history of failure show edema"
        opened = opened or sentence.tokens[place][0] == ","
        item = sentence.kind_at.get(place)
        if opened and item is not None and item.kind in ("verb", "present"):
            return False
    return True


def _reached_from_behind(sentence: Sentence, mentions: Sequence[Item]) -> dict[int, list[Item]]:
    """Cues per mention that stand behind it, or before it where nothing in the clause precedes them."""
    reached: dict[int, list[Item]] = {}
    for cue in sentence.items:
        if cue.kind == "state" and cue.value == "normal":
            index = _only_a_verb_before(sentence, mentions, cue)
            if index is not None:
                reached.setdefault(index, []).append(cue._replace(kind="absent_before"))
        if cue.kind not in ("absent_before", "doubtful_before", "doubtful_start"):
            continue
        clause = sentence.clause(cue)
        inside = [index for index, mention in enumerate(mentions) if sentence.clause(mention) == clause]
        earlier = [index for index in inside if mentions[index].last <= cue.first]
        later = [index for index in inside if mentions[index].first >= cue.last]
        if not earlier and not later and cue.kind != "doubtful_start" and sentence.tokens[cue.first][0] != "unlikely":
            # "..., which has resolved": a relative clause speaks of the last mention before it
            earlier = [index for index, mention in enumerate(mentions) if mention.last <= cue.first][-1:]
            if not _is_relative(sentence, clause):
                earlier = []
        if cue.kind == "doubtful_start" and later:
            continue  # it speaks of what follows
        if earlier and _speaks_of_structure(sentence, mentions[earlier[-1]], cue):
            continue
        for index in _list_back(sentence, mentions, earlier) if earlier else _list_on(sentence, mentions, later):
            reached.setdefault(index, []).append(cue)
    return reached


def _only_a_verb_before(sentence: Sentence, mentions: Sequence[Item], cue: Item) -> int | None:
    """Mention that "normal" speaks of: "vascular engorgement is within limits of normal"."""
    place = cue.first - 1
    verbs = 0
    while (
        place >= 0
        and place in sentence.kind_at
        and sentence.kind_at[place].kind == "verb"
        and sentence.tokens[place][0] not in _SHOWING  # "views with overlying leads show normal size of the heart"
    ):
        place, verbs = place - 1, verbs + 1
    if not verbs:
        return None
    return next((i for i, item in enumerate(mentions) if item.first != cue.first and item.last == place + 1), None)


def _speaks_of_structure(sentence: Sentence, mention: Item, cue: Item) -> bool:
    """Whether another subject stands between: "opacity at the base, and the heart border is not seen"."""
    joints = [place for place in range(mention.last, cue.first) if sentence.tokens[place][0] in (",", "and")]
    between = [item for item in sentence.of("anatomy") if joints and joints[-1] < item.first < cue.first]
    return any(item.value.structure in _OUTLINES for item in between)


def _is_relative(sentence: Sentence, clause: int) -> bool:
    first = sentence.clause_of.index(clause)
    return sentence.tokens[first][0] in ("which", "that", ",", "and", "(") or first == 0


def _list_back(sentence: Sentence, mentions: Sequence[Item], earlier: list[int]) -> list[int]:
    """Indices of the list that ends with the last of ``earlier``; commas count only in a list with a conjunction."""
    chain, joined = [earlier[-1]], 1
    conjunction = False
    for index in reversed(earlier[:-1]):
        linked, word = sentence.linked(mentions[index], mentions[chain[-1]])
        if not linked:
            break
        chain.append(index)
        conjunction = conjunction or word in ("joint", "either")
        joined = len(chain) if conjunction else joined
    return chain[:joined]


def _list_on(sentence: Sentence, mentions: Sequence[Item], later: list[int]) -> list[int]:
    chain = later[:1]
    for index in later[1:]:
        if not sentence.linked(mentions[chain[-1]], mentions[index])[0]:
            break
        chain.append(index)
    return chain


def _alternatives(sentence: Sentence, mentions: Sequence[Item]) -> set[int]:
    """Mentions joined by "or" or "versus": each of them may be."""
    found: set[int] = set()
    if not any(item.kind == "either" for item in sentence.items):
        return found
    for index in range(len(mentions) - 1):
        first, second = mentions[index : index + 2]
        if sentence.linked(first, second)[1] == "either" and not _is_unchanged(sentence, first):
            found |= {index, index + 1}
    return found


def _is_unchanged(sentence: Sentence, mention: Item) -> bool:
    """Whether "no change in" stands before: its "or" is an "and", "no change in effusion or cardiomegaly"."""
    return any(
        item.kind == "neutral" and sentence.tokens[item.first][0] in ("no", "without")
        for item in sentence.items
        if item.last <= mention.first and sentence.clause(item) == sentence.clause(mention)
    )
