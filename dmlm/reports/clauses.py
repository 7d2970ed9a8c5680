"""A sentence as the rules see it: tokens, known words, and the clauses that cues reach in."""

from __future__ import annotations

import itertools

from dmlm.reports.lexicon import Item
from dmlm.reports.terms import Token, word_list

CHAIN_KINDS = frozenset({"side", "degree", "anatomy", "joint", "either"})
"""Known words that may stand between two members of a list ("left effusion and small right pneumothorax")."""

CHAIN_WORDS = word_list("list_words")
"""Other words that may."""


class Sentence:
    """Tokens, items and clauses of one sentence.

    Args:
        tokens: Words and marks with their places in the text.
        items: What is known among them, in order.
    """

    def __init__(self, tokens: list[Token], items: list[Item]) -> None:
        self.tokens = tokens
        self.items = items
        self.kind_at: dict[int, Item] = {}
        # a word of several kinds ("small": a degree, and a state of lung volumes) is read as a state last
        for item in sorted(items, key=lambda item: item.kind == "state"):
            for place in range(item.first, item.last):
                self.kind_at.setdefault(place, item)
        self.clause_of = self._clauses()

    def of(self, *kinds: str) -> list[Item]:
        """Items of these kinds, in order."""
        return [item for item in self.items if item.kind in kinds]

    def clause(self, item: Item) -> int:
        """Number of the clause in which an item begins."""
        return self.clause_of[item.first]

    def linked(self, before: Item, after: Item) -> tuple[bool, str]:
        """Whether two items are members of one list.

        Args:
            before: The first one.
            after: The next one.

        Returns:
            Whether only words of a list lie between them, and the conjunction that does: ``"either"``, ``"joint"``,
            ``","`` or ``""``.
        """
        word = ""
        for place in range(before.last, after.first):
            item, token = self.kind_at.get(place), self.tokens[place][0]
            if item is not None and item.kind in CHAIN_KINDS:
                word = item.kind if item.kind in ("joint", "either") else word
            elif token in CHAIN_WORDS or set(token) == {"x"}:  # a de-identified word
                word = word or ("," if token == "," else "")
            else:
                return False, ""
        return bool(word), word

    def _clauses(self) -> list[int]:
        breaks = {item.first for item in self.items if item.kind in ("stop", "with")}
        breaks |= {place for place, token in enumerate(self.tokens) if token[0] in ";()"}
        breaks |= self._between_verbs(breaks)
        breaks |= self._after_lists(breaks)
        numbers, current = [], 0
        for place in range(len(self.tokens)):
            current += place in breaks
            numbers.append(current)
        return numbers

    def _between_verbs(self, breaks: set[int]) -> set[int]:
        """Two finite verbs are two clauses: break at the last "and" or comma between them."""
        found: set[int] = set()
        verbs = [item for item in self.items if item.kind in ("verb", "present") and self.tokens[item.first][0] != "of"]
        verbs = [item for item in verbs if item.kind == "verb" or self.tokens[item.first][0] == "there"]
        for before, after in itertools.pairwise(verbs):
            places = range(before.last, after.first)
            if any(place in breaks for place in places):
                continue
            joints = [place for place in places if self.tokens[place][0] in (",", "and")]
            # the last comma or "and" opens the second clause, unless it stands inside the subject of the second verb
            if joints:
                found.add(self._subject_start(before, joints))
        return found

    def _subject_start(self, verb: Item, joints: list[int]) -> int:
        """Place of the comma or "and" that opens the second clause."""
        negations = [item.first for item in self.items if item.kind == "absent_after" and item.first > verb.last]
        for place in joints:
            if place + 1 in negations:
                return place
        commas = [place for place in joints if self.tokens[place][0] == ","]
        both = [place for place in commas if place + 1 in joints]
        return both[-1] if both else joints[-1]

    def _after_lists(self, breaks: set[int]) -> set[int]:
        """After a negation, an item with a degree of its own and no "or" behind it is a new statement."""
        found: set[int] = set()
        negations = [item.last for item in self.items if item.kind == "absent_after"]
        findings = [item.first for item in self.items if item.kind in ("finding", "state")]
        if not negations or len(findings) < 2:
            return found
        eithers = [item.first for item in self.items if item.kind == "either"] + [
            place for place, token in enumerate(self.tokens) if token[0] == "nor"
        ]
        last_either = max(eithers, default=-1)
        first = min(negations)
        said = next((place for place in findings if place >= first), len(self.tokens))
        for place, token in enumerate(self.tokens[:-1]):
            if place <= said or place in breaks or token[0] not in (",", "and"):
                continue
            after = place + 1
            if self.tokens[after][0] in ("a", "an", "the", "and") and after + 1 < len(self.tokens):
                after += 1
            item = self.kind_at.get(after)
            if item is not None and item.kind == "degree" and last_either < place:
                found.add(place)
        return found
