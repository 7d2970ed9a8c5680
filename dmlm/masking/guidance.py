"""From the text of a pair to the places that its image mask should prefer, remembered per text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from dmlm.masking.atlas import Atlas, Guidance, Place
from dmlm.masking.passages import read_places
from dmlm.reports.anatomy import find_anatomy
from dmlm.reports.knowledge import NO_FINDING, FindingKnowledge, as_knowledge
from dmlm.reports.schema import ReportText

Fallback = Literal["nothing_present", "no_anatomy"]

_Stated = tuple[str, "str | None", "str | None"]
_MAX_FINDINGS = 4
_KEPT = 20_000  # texts


class Guided(NamedTuple):
    """What a text gives.

    Args:
        places: Where to look; empty where the text says nothing of it.
        fallback: Why there are no places: ``"nothing_present"`` (all that the text names is absent) or
            ``"no_anatomy"`` (nothing in it names a place, and its findings are unknown); None where there are.
        unknown: Findings that are neither in the atlas nor described by a text that names a place.
    """

    places: Guidance
    fallback: Fallback | None = None
    unknown: tuple[str, ...] = ()


class TextGuide:
    """Reads the places out of texts.

    For every finding that a text states as present or possible (the first four): the zones that the atlas lists for it,
    on the named side. Where the observation names a position ("in the lower lobe"), that comes first and the finding's
    own zones weigh half. A finding that the atlas lacks is read from its name and its appearance text. A text without
    statements (free text) is searched for anatomy itself.

    Args:
        atlas: Zones and findings.
        knowledge: Where appearance texts come from; the library's by default.
    """

    def __init__(self, atlas: Atlas, knowledge: Mapping[str, FindingKnowledge] | None = None) -> None:
        self.atlas = atlas
        self.knowledge = as_knowledge(knowledge)
        self._kept: dict[object, Guided] = {}

    def __call__(self, text: ReportText) -> Guided:
        """Return the places of a text."""
        stated = tuple(
            (item.finding, item.laterality, item.position)
            for item in text.statements
            if item.existence != "absent" and item.finding != NO_FINDING
        )
        key: object = stated if text.statements else text.text
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            found = self._read_statements(stated) if text.statements else self._read_text(text.text)
            self._kept[key] = found
        return found

    def _read_statements(self, stated: tuple[_Stated, ...]) -> Guided:
        if not stated:
            return Guided((), "nothing_present")
        names = list(dict.fromkeys(finding for finding, _, _ in stated))[:_MAX_FINDINGS]
        places: list[Place] = []
        unknown: dict[str, None] = {}
        for item in stated:
            if item[0] in names:
                found = self._observed(*item)
                places += found
                unknown |= {} if found else {item[0]: None}
        return Guided(_strongest(places), None if places else "no_anatomy", tuple(unknown))

    def _observed(self, finding: str, laterality: str | None, position: str | None) -> Guidance:
        side = laterality if laterality in ("left", "right") else None
        located = []
        for term, _, _ in find_anatomy(position or ""):
            own = side or (term.side if term.side in ("left", "right") else None)
            located += [Place(zone, own) for zone in term.zones]
            side = own
        usual = self.atlas.places(finding, side) or self._described(finding)
        usual = tuple(place._replace(side=place.side if side is None else side) for place in usual)
        return (*located, *(place._replace(weight=0.5 * place.weight) for place in usual)) if located else usual

    def _described(self, finding: str) -> Guidance:
        name = self.knowledge.canonical(finding)
        described = self.knowledge[name].appearance if name in self.knowledge else ""
        return tuple(dict.fromkeys((*self._known(read_places(finding)), *self._known(read_places(described)))))

    def _read_text(self, text: str) -> Guided:
        places = self._known(read_places(text))
        return Guided(places, None if places else "no_anatomy")

    def _known(self, places: Guidance) -> Guidance:
        return tuple(place for place in places if place.zone in self.atlas.zones)


def _strongest(places: list[Place]) -> Guidance:
    weights: dict[tuple[str, str | None], float] = {}
    for place in places:
        key = (place.zone, place.side)
        weights[key] = max(place.weight, weights.get(key, 0.0))
    return tuple(Place(zone, side, weight) for (zone, side), weight in weights.items())
