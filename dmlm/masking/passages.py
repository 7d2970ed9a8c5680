"""Places that a free description speaks of; contrast, negation and normal anatomy are cut out before looking.

Appearance texts name much that is *not* where the finding is: "unlike atelectasis, ...", "without shift of the
mediastinum", "the diaphragm remains in its usual position". Looking terms up in the whole text marks most of the film.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dmlm.masking.atlas import Guidance, Place
from dmlm.reports.anatomy import find_anatomy

_SENTENCE = re.compile(r"[^.;:!?\n]+")
_BREAK = re.compile(r",|\b(?:but|however|although|though|whereas|while)\b", re.IGNORECASE)
_NEGATION = re.compile(
    r"\b(?:no|not|without|lacks?|lacking|absent|absence of|negative for|never|nor|neither|free of|rules? out|"
    r"excludes?)\b",
    re.IGNORECASE,
)
_CONTRAST = re.compile(
    r"\b(?:unlike|in contrast (?:to|with)|contrary to|as opposed to|rather than|instead of|compared (?:to|with)|"
    r"(?:distinct|different) from|distinguish(?:es|ed|ing)?|differentiat(?:es?|ed|ing)|differs?|mimics?|imitates?)\b",
    re.IGNORECASE,
)
_NORMAL = re.compile(
    r"\b(?:normal(?:ly)?|usual|unremarkable|preserved|intact|unaffected|unchanged|spared|sparing|clear|not displaced|"
    r"remains? (?:sharp|visible|in place|in position|in their|in its))\b",
    re.IGNORECASE,
)
# "whiter than normal lung": a comparison, the passage still says where
_COMPARISON = re.compile(r"\b(?:than|ab|larger|smaller|whiter|darker)[ -]?(?:the )?normal", re.IGNORECASE)
_SIDE = re.compile(r"\b(left|right|bilateral(?:ly)?|both)\b", re.IGNORECASE)


def read_places(text: str) -> Guidance:
    """Find where a description says that something is.

    Args:
        text: Any English text, such as the appearance of a finding or a report.

    Returns:
        Places, each once; with a side where the words before the term, or the term, name one. A side alone ("on the
        left") is that lung. Weights are 1; that of whole lungs is 0.5 where the text is more specific elsewhere.
    """
    found: dict[Place, None] = {}
    for passage in affirmed(text):
        # "chest" and "radiograph" say nothing of the place
        terms = [(term, start) for term, start, _ in find_anatomy(passage) if term.zones and term.structure != "chest"]
        sides = [(match[1].lower(), match.start()) for match in _SIDE.finditer(passage)]
        for term, start in terms:
            side = term.side if term.side is not None else _side_of(sides, start)
            found |= dict.fromkeys(Place(zone, _one(side)) for zone in term.zones)
        if not terms:
            found |= dict.fromkeys(Place("lung", side) for side, _ in sides if side in ("left", "right"))
    specific = any(place.zone != "lung" for place in found)
    return tuple(place._replace(weight=0.5) if specific and place.zone == "lung" else place for place in found)


def affirmed(text: str) -> Iterator[str]:
    """Yield the passages of a text that say where something is, in order.

    A passage is what stands between marks, commas and words such as "but". From a negation or a contrast on, the rest
    of its passage is left out; a passage that calls something normal is left out whole. A list goes on after a comma:
    "no effusion, shift or fracture" and "unlike atelectasis, which pulls the mediastinum, ..." are cut to the end.

    Args:
        text: Any English text.
    """
    for sentence in _SENTENCE.findall(text):
        cut = False
        for passage, joined in _passages(sentence):
            cut = cut and joined
            if cut:
                continue
            end = min(
                (match.start() for match in (_NEGATION.search(passage), _CONTRAST.search(passage)) if match), default=-1
            )
            if end >= 0:
                cut = True
                passage = passage[:end]
            if _NORMAL.search(_COMPARISON.sub(" ", passage)):
                continue
            if passage.strip():
                yield passage.strip()


def _passages(sentence: str) -> Iterator[tuple[str, bool]]:
    """Split a sentence; the second value says whether a passage carries on what the one before it said.

    A passage carries on where a comma alone came before it and it is a member of a list: short and without a verb
    ("..., shift or fracture"), or where it opens a relative clause ("..., which pulls ...").
    """
    start, joined = 0, False
    for match in [*_BREAK.finditer(sentence), None]:
        passage = sentence[start : match.start() if match else len(sentence)]
        short = len(passage.split()) <= _LONGEST_MEMBER or _OR.search(passage) is not None
        listed = short and _VERB.search(passage) is None
        yield passage, joined and (listed or _RELATIVE.match(passage) is not None)
        if match:
            start, joined = match.end(), match[0] == ","


_LONGEST_MEMBER = 4  # words
_OR = re.compile(r"\bn?or\b", re.IGNORECASE)
_RELATIVE = re.compile(r"\s*(?:which|that|where|who|and which)\b", re.IGNORECASE)
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|shows?|appears?|presents?|seen|may|can|often|causes?|obscures?|blurs?|displaces?|"
    r"blunts?|widens?|raises?|pulls?|contains?|occurs?|involves?|typically|usually|there|with|it|look(?:s|ing)?)\b",
    re.IGNORECASE,
)


def _side_of(sides: list[tuple[str, int]], start: int) -> str | None:
    """Nearest side before a term, else the first one after it; "both" is none."""
    before = [side for side, place in sides if place < start]
    after = [side for side, place in sides if place > start]
    return before[-1] if before else (after[0] if after else None)


def _one(side: str | None) -> str | None:
    return side if side in ("left", "right") else None
