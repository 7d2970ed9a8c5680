"""Sides, positions and degrees of the mentions of a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dmlm.reports.clauses import Sentence
from dmlm.reports.lexicon import Item
from dmlm.reports.schema import SEVERITIES, Laterality, Severity
from dmlm.reports.terms import word_list

_BEFORE = 3
"""Unknown adjectives that may stand between a modifier and its finding."""

_STOPWORDS = word_list("function_words")
_PREPOSITIONS = word_list("prepositions")
_BESIDE = word_list("landmark_words")
_PORTIONS = word_list("portions")
_LANDMARKS = frozenset({"bone", "soft tissue"})
_JOINTS = frozenset({"joint", "stop"})


@dataclass(frozen=True)
class Place:
    """Where a mention lies and to what degree.

    Args:
        side: The side.
        position: Place in words.
        structures: Structures named (``knowledge/anatomy.yaml``).
        severity: Degree.
        items: The words that say so.
    """

    side: Laterality | None = None
    position: str | None = None
    structures: frozenset[str] = frozenset()
    severity: Severity | None = None
    items: tuple[Item, ...] = field(default=(), compare=False)

    @property
    def is_located(self) -> bool:
        """Whether a side or a position is named."""
        return self.side is not None or self.position is not None


def places(sentence: Sentence, mentions: Sequence[Item]) -> list[list[Place]]:
    """Read what stands before and behind each mention.

    Args:
        sentence: The sentence.
        mentions: Mentions of findings in order.

    Returns:
        Per mention one place, or several where the words name several ("small right and moderate left effusions").
    """
    runs = [
        _run_before(
            sentence, mention, earlier=index > 0 and sentence.clause(mentions[index - 1]) == sentence.clause(mention)
        )
        for index, mention in enumerate(mentions)
    ]
    found: list[list[Place]] = []
    for index, mention in enumerate(mentions):
        groups = runs[index]
        own = [place_of(group) for group in groups]
        limit = len(sentence.tokens)
        # the next one that is not another meaning of the same words ("hydropneumothorax")
        after = next(
            (place for place in range(index + 1, len(mentions)) if mentions[place].first >= mention.last), None
        )
        if after is not None:
            limit = min((item.first for group in runs[after] for item in group), default=mentions[after].first)
        behind, degrees = _run_behind(sentence, mention, max(limit, mention.last))
        degree = place_of(degrees).severity if degrees else None
        if sum(place.severity is not None for place in own) < 2:
            own = _merged(own, [place_of(group) for group in behind], degree, tuple(degrees))
        found.append(own)
    for index, mention in enumerate(mentions):
        if any(place.is_located for place in found[index]):
            continue
        if opening := _opening(sentence, mentions[:index], mention):
            found[index] = [
                replace(place, severity=found[index][0].severity, items=(*place.items, *found[index][0].items))
                for place in _merged([], [place_of(opening)], None, ())
            ]
    return found


def _opening(sentence: Sentence, earlier: Sequence[Item], mention: Item) -> list[Item]:
    """Place that opens the clause of its first mention: "In both upper zones there is ..."."""
    clause = sentence.clause(mention)
    if earlier and sentence.clause(earlier[-1]) == clause:
        return []
    items = [item for item in sentence.items if item.first < mention.first and sentence.clause(item) == clause]
    start = sentence.clause_of.index(clause)
    while sentence.tokens[start][0] == "," or (start in sentence.kind_at and sentence.kind_at[start].kind in _JOINTS):
        start += 1
    if sentence.tokens[start][0] not in _PREPOSITIONS:
        return []
    verbs = [item.first for item in items if item.kind in ("verb", "present")]
    return [item for item in items if item.kind in ("side", "anatomy") and item.first < min(verbs, default=item.last)]


def _run_before(sentence: Sentence, mention: Item, earlier: bool) -> list[list[Item]]:
    """Modifiers right before a mention, as groups that "and" separates; ``earlier``: a mention precedes it."""
    groups: list[list[Item]] = [[]]
    place, unknown, joints = mention.first - 1, 0, 0
    while place >= 0 and sentence.clause_of[place] == sentence.clause_of[mention.first]:
        item, token = sentence.kind_at.get(place), sentence.tokens[place][0]
        if item is not None and item.kind in ("side", "degree", "anatomy"):
            groups[0].insert(0, item)
            place, unknown = item.first - 1, 0
            continue
        left = sentence.kind_at.get(place - 1)
        if item is not None and item.kind in ("joint", "either") and left is not None and groups[0]:
            if left.kind not in ("side", "degree", "anatomy"):
                break
            groups.insert(0, [])
            joints += 1
        elif token == ",":
            if left is None or left.kind != "degree":
                break
        elif token == "to" and left is not None and left.kind == "degree":
            pass
        elif token == "of" and sentence.tokens[max(place - 1, 0)][0] in _PORTIONS:
            unknown = 0  # "bilateral patchy areas of air space consolidation"
        elif token in _STOPWORDS or token in ";:()?" or item is not None:
            # "in the left lung and right effusion": what follows the preposition belongs to another mention
            other = token in _PREPOSITIONS or (place > 0 and sentence.tokens[place - 1][0] in _PREPOSITIONS)
            if joints and other and earlier:
                groups = groups[joints:]
            break
        else:
            unknown += 1
            if unknown > _BEFORE:
                break
        place -= 1
    return [group for group in groups if group]


def _run_behind(sentence: Sentence, mention: Item, limit: int) -> tuple[list[list[Item]], list[Item]]:
    """Places that follow a mention up to the next one, as groups, and degrees that follow a verb."""
    groups: list[list[Item]] = []
    degrees: list[Item] = []
    clause, verb, last = sentence.clause_of[mention.first], False, -2
    place = mention.last
    while place < limit and sentence.clause_of[place] == clause:
        item = sentence.kind_at.get(place)
        if item is None:
            place += 1
            continue
        verb = verb or item.kind == "verb"
        if item.kind in ("absent_after", "past"):
            break
        if item.kind == "degree" and (verb or _is_apposition(sentence, mention, item)):
            degrees.append(item)
        elif item.kind in ("side", "anatomy"):
            if item.kind == "anatomy" and item.value.structure in _LANDMARKS and _is_landmark(sentence, item, mention):
                place = item.last  # "projects over the sixth rib" is not in the rib
                continue
            if groups and item.first - last <= 1:
                groups[-1].append(item)
            else:
                groups.append([item])
            last = item.last
        place = item.last
    return groups, degrees


def _is_apposition(sentence: Sentence, mention: Item, degree: Item) -> bool:
    """Whether a degree ends what is said of a mention: "hiatal hernia, moderate in size"."""
    behind = sentence.tokens[degree.last][0] if degree.last < len(sentence.tokens) else "in"
    return degree.first == mention.last + 1 and sentence.tokens[mention.last][0] == "," and behind in ("in", ",")


def _is_landmark(sentence: Sentence, item: Item, mention: Item) -> bool:
    before = range(max(mention.last, item.first - 4), item.first)
    return any(sentence.tokens[place][0] in _BESIDE for place in before)


def place_of(group: Sequence[Item]) -> Place:
    """Put the sides, anatomical terms and degrees of some words together as one place."""
    sides: list[Laterality] = [item.value for item in group if item.kind == "side"]
    terms = [item.value for item in group if item.kind == "anatomy"]
    sides += [term.side for term in terms if term.side is not None and not (sides and term.side == "bilateral")]
    degrees: list[Severity] = [item.value for item in group if item.kind == "degree"]
    return Place(
        _union(sides),
        next((term.position for term in terms if term.position), None),
        frozenset(term.structure for term in terms),
        max(degrees, key=SEVERITIES.index) if degrees else None,
        tuple(group),
    )


def _union(sides: Sequence[Laterality]) -> Laterality | None:
    named = set(sides)
    if not named:
        return None
    return next(iter(named)) if len(named) == 1 else "bilateral"


def _merged(
    before: list[Place], behind: list[Place], degree: Severity | None, degrees: tuple[Item, ...]
) -> list[Place]:
    """Put the places before and behind a mention together: one place per side and position, one degree for all."""
    severities = [place.severity for place in before if place.severity is not None] + ([degree] if degree else [])
    severity = max(severities, key=SEVERITIES.index) if severities else None
    named = before + behind
    structures = frozenset().union(*(place.structures for place in named))
    items = tuple(item for place in named for item in place.items) + degrees
    located = [place for place in named if place.is_located]
    result: list[Place] = []
    for index, place in enumerate(located):
        side, position = place.side, place.position
        if side is None and index:
            side = located[index - 1].side  # "left lower lobe and lingula"
        if position is None and index + 1 < len(located) and located[index + 1].side is not None:
            position = located[index + 1].position  # "right and left bases"
        if side is None and index + 1 < len(located) and located[index + 1].position is None:
            side = located[index + 1].side  # "basal opacity on the left"
        if result and (position is None or position == result[-1].position or result[-1].position is None):
            # one place said in two words ("bilateral, right greater than left")
            sides = [value for value in (result[-1].side, side) if value is not None]
            result[-1] = replace(result[-1], side=_union(sides), position=result[-1].position or position)
        else:
            result.append(Place(side, position))
    return [replace(place, structures=structures, severity=severity, items=items) for place in result or [Place()]]
