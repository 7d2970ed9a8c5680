"""From mentions to observations: what a sentence's mentions amount to, what a report's observations amount to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dmlm.reports.clauses import Sentence
from dmlm.reports.knowledge import NO_FINDING
from dmlm.reports.lexicon import FindingRule, FindingTerm, Item
from dmlm.reports.modifiers import Place, place_of
from dmlm.reports.negation import Judgement
from dmlm.reports.schema import Existence, Laterality, Observation
from dmlm.reports.states import StateMention, read_sign
from dmlm.reports.terms import word_list

DEVICES = "Support Devices"

_LUNG = frozenset({"lung", "hilum", "costophrenic angle", "chest", "fissure"})
_LINKS = frozenset({"verb", "present", "with", "doubtful_after", "doubtful_start"})
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufffd]")
_WORD = re.compile(r"[^\W\d_]{1,}")
_ENGLISH = word_list("english")
_FOREIGN = word_list("foreign")
_FOREIGN_ONLY = word_list("foreign_only")


@dataclass
class _Draft:
    rule: FindingRule
    existence: Existence
    item: Item
    where: list[Place]
    cues: tuple[Item, ...]
    direct: bool


class Found:
    """Observations of a sentence in the making.

    Args:
        sentence: The sentence.
        rules: Rules of all findings.
    """

    def __init__(self, sentence: Sentence, rules: Mapping[str, FindingRule]) -> None:
        self._sentence = sentence
        self._rules = rules
        self._drafts: list[_Draft] = []

    def add_term(self, item: Item, term: FindingTerm, judgement: Judgement, where: list[Place]) -> None:
        """Add a finding that is named, unless its place shows that its name means something else here."""
        structures = frozenset[str]().union(*(place.structures for place in where))
        if structures & term.rule.not_in or (term.lung_only and not structures & _LUNG):
            return
        existence = judgement.existence or "present"
        if term.gone:
            existence = "absent" if existence == "present" else existence
        self._drafts.append(_Draft(term.rule, existence, item, where, judgement.cues, direct=True))

    def add_state(self, mention: StateMention, judgement: Judgement, where: list[Place]) -> None:
        """Add what the state of a structure says."""
        for signed in mention.signed:
            name, meaning = read_sign(signed)
            existence = meaning.get(judgement.existence or "present")
            if existence is None:
                continue
            rule = self._rules.get(name, FindingRule(name, sides="none", degrees=False))
            place = self._state_place(mention, where)
            self._drafts.append(_Draft(rule, existence, mention.item, [place], judgement.cues, direct=False))

    def observations(self) -> list[tuple[Observation, bool]]:
        """Return the observations in the order of the sentence, and whether each is said by name."""
        named = {draft.rule.name for draft in self._drafts if draft.direct}
        found: list[tuple[Observation, bool]] = []
        for index, draft in enumerate(self._drafts):
            # what is named outranks what a state implies ("blunting ... may be pleural thickening or effusion")
            if not draft.direct and draft.existence != "absent" and draft.rule.name in named:
                continue
            where = draft.where
            if draft.direct and draft.existence != "absent" and not any(place.is_located for place in where):
                shared = self._shared(self._drafts, index) if _may_share(draft) else None
                where = shared or self._subject(draft) or where
            found += [(self._observation(draft, place), draft.direct) for place in where]
        return found

    def _state_place(self, mention: StateMention, where: list[Place]) -> Place:
        sides: set[Laterality] = set()
        items: list[Item] = list(mention.subjects)
        for subject in mention.subjects:
            before = self._sentence.kind_at.get(subject.first - 1)
            if before is not None and before.kind == "side":
                sides.add(before.value)
                items.append(before)
        side = None if not sides else next(iter(sides)) if len(sides) == 1 else "bilateral"
        severity = next((place.severity for place in where if place.severity is not None), None)
        degrees = [item for place in where for item in place.items if item.kind == "degree"]
        return Place(side, None, frozenset(), severity, (*items, *degrees))

    def _shared(self, drafts: list[_Draft], index: int) -> list[Place] | None:
        """Place of a neighbour: the next member of the list, or an earlier mention of the sentence."""
        draft = drafts[index]
        if index + 1 < len(drafts):
            after = drafts[index + 1]
            linked, word = self._sentence.linked(draft.item, after.item)
            behind = [place for place in after.where if any(item.first >= after.item.last for item in place.items)]
            if linked and word in ("joint", "either") and behind and after.rule.inherits:
                return [replace(place, severity=draft.where[0].severity) for place in behind]
        for before in reversed(drafts[:index]):
            if not any(place.is_located for place in before.where) or not before.rule.inherits:
                continue
            if before.existence == "absent":
                return None
            clause, other = self._sentence.clause(draft.item), self._sentence.clause(before.item)
            near = other == clause or (other == clause - 1 and self._sentence.leans_back(clause))
            if near or draft.existence == "uncertain":
                return [replace(place, severity=draft.where[0].severity) for place in before.where]
            return None
        return None

    def _subject(self, draft: _Draft) -> list[Place] | None:
        """Place of the words that a sentence is about: "fullness of the right hilum may represent adenopathy"."""
        clause = self._sentence.clause(draft.item)
        earlier = [item for item in self._sentence.items if item.last <= draft.item.first]
        before = [item for item in earlier if self._sentence.clause(item) == clause]
        group = [item for item in before if item.kind in ("side", "anatomy")]
        if not place_of(group).is_located and self._sentence.leans_back(clause):
            before = [item for item in earlier if self._sentence.clause(item) >= clause - 1]
            group = [item for item in before if item.kind in ("side", "anatomy")]
        linked = any(item.kind in _LINKS and group and item.first >= group[-1].last for item in before)
        if draft.rule.sides == "none" or not linked or any(item.kind in ("finding", "absent_after") for item in before):
            return None
        place = place_of(group)
        if not place.is_located or not place.structures <= _LUNG | {"pleura", "diaphragm", "interstitium"}:
            return None
        return [replace(place, severity=draft.where[0].severity)]

    def _observation(self, draft: _Draft, place: Place) -> Observation:
        tokens = self._sentence.tokens
        items = (draft.item, *place.items, *draft.cues)
        absent = draft.existence == "absent"
        return Observation(
            draft.rule.name,
            draft.existence,
            None if draft.rule.sides == "none" else place.side,
            None if draft.rule.sides == "none" else place.position,
            place.severity if draft.rule.degrees and not absent else None,
            (tokens[min(item.first for item in items)][1], tokens[max(item.last for item in items) - 1][2]),
        )


def _may_share(draft: _Draft) -> bool:
    return draft.rule.sides == "neighbour" and draft.rule.inherits


def settled(observations: Sequence[tuple[Observation, bool]]) -> list[Observation]:
    """Put the sentences of a report together.

    Each thing is said once, with the most that is said of it: "effusion" adds nothing to "small left effusion". What a
    state of a structure denies ("lungs are clear", "no bony abnormality") is left out where the report names the
    finding as present or possible on no other side. "No Finding" stays only where nothing but devices is present or
    may be.

    Args:
        observations: Observations of all sentences, and whether each is said by name.
    """
    positive = [item for item, _ in observations if item.existence != "absent"]
    unique: dict[Observation, Observation] = {}
    for item, is_named in observations:
        denied = item.existence == "absent" and not is_named
        if not (denied and any(_contradicts(other, item) for other in positive)):
            unique.setdefault(replace(item, evidence=None), item)
    kept = [item for item in unique.values() if not any(_says_more(other, item) for other in unique)]
    if any(item.existence != "absent" and item.finding not in (NO_FINDING, DEVICES) for item in kept):
        kept = [item for item in kept if item.finding != NO_FINDING]
    return kept


def _says_more(other: Observation, item: Observation) -> bool:
    """Whether another observation of the same state names all that this one names, and more."""
    if item.existence == "absent" or (other.finding, other.existence) != (item.finding, item.existence):
        return False
    pairs = [(getattr(other, name), getattr(item, name)) for name in ("laterality", "position", "severity")]
    return any(more != less for more, less in pairs) and all(less in (None, more) for more, less in pairs)


def _contradicts(positive: Observation, absent: Observation) -> bool:
    sides = {positive.laterality, absent.laterality}
    return positive.finding == absent.finding and sides != {"left", "right"}


def flags_of(text: str, clean: str, chosen: Sequence[str], observations: Sequence[Observation]) -> tuple[str, ...]:
    """Say what is unusual about a report; see :meth:`dmlm.reports.rules.RuleEngine.structure`.

    Args:
        text: The report.
        clean: The report with its markup blanked out.
        chosen: Names of the sections that were read.
        observations: What was found.
    """
    flags = []
    if not text.strip():
        flags.append("empty")
    elif len(_CONTROL.findall(text)) > 0.02 * len(text) or "\x00" in text:
        flags.append("binary")
    if clean is not text and clean != text:
        flags.append("markup")
    if is_not_english(clean):
        flags.append("not_english")
    if text.strip() and not chosen:
        flags.append("no_image_section")
    if chosen and set(chosen) == {"addendum"}:
        flags.append("addendum_only")
    if not observations:
        flags.append("no_observations")
    if _conflict(observations):
        flags.append("conflicting")
    return tuple(flags)


def is_not_english(text: str) -> bool:
    """Whether function words or letters show that a text is in another language."""
    written = _WORD.findall(text[:2000])
    if not written:
        return False
    words = [word.lower() for word in written]
    # "ET tube", "LA enlargement": where not all is in capitals, words in capitals are abbreviations and no "et" or "la"
    is_shouted = 2 * sum(word.isupper() for word in written) > len(written)
    others = [word.lower() for word in written if is_shouted or not word.isupper()]
    letters = sum(not word.isascii() for word in words)
    english = sum(word in _ENGLISH for word in words)
    certain = sum(word in _FOREIGN_ONLY for word in others) + (letters if not english else 0)
    likely = sum(word in _FOREIGN for word in others)
    # a short text is read wrongly rather than not at all ("kein Pneumothorax"), so one certain word is enough there
    return letters > len(words) / 2 or likely > max(english, 1) or certain >= max(english, 1)


def _conflict(observations: Sequence[Observation]) -> bool:
    """Whether a finding is denied as a whole, or at one place, and stated there. Of devices one may go, one stay."""
    states = [item for item in observations if item.finding != DEVICES]
    denied = [item for item in states if item.existence == "absent"]
    return any(
        item.existence == "present"
        and item.finding == no.finding
        and no.laterality in (None, item.laterality)
        and no.position in (None, item.position)
        for no in denied
        for item in states
    )
