"""A sentence as the rules see it: tokens, known words, and the clauses that cues reach in."""

from __future__ import annotations

import itertools

from dmlm.reports.lexicon import Item
from dmlm.reports.terms import Token, word_list

CHAIN_KINDS = frozenset({"side", "degree", "anatomy", "joint", "either"})
"""Known words that may stand between two members of a list ("left effusion and small right pneumothorax")."""

CHAIN_WORDS = word_list("list_words")
"""Other words that may."""

_CHANGED = word_list("change_words")
_EXISTING = word_list("existing")
_OPENERS = word_list("prepositions")
_PLACED = frozenset({"place", "position", "situ"})
_BACK = frozenset({"this", "these", "it", "they", "which", "that"})
_VERBS = 6
"""Tokens that a verb may take with its adverbs ("has been definitely identified")."""
_MEMBER_ENDS = frozenset({",", "and", ";"})


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

    def leans_back(self, clause: int) -> bool:
        """Whether a clause speaks of what the one before it is about: "with ...", "and shows ...", "this is ..."."""
        start = self.clause_of.index(clause)
        is_joined = self.tokens[start][0] in _MEMBER_ENDS
        first = min(start + is_joined, len(self.tokens) - 1)
        item = self.kind_at.get(first)
        kind = None if item is None else item.kind
        return kind == "with" or (is_joined and kind == "verb") or self.tokens[first][0] in _BACK

    def _clauses(self) -> list[int]:
        breaks = {item.first for item in self.items if item.kind in ("stop", "with")}
        breaks |= {place for place, token in enumerate(self.tokens) if token[0] in ";()"}
        if self.items and self.items[0].kind == "stop" and self.items[0].first == 0:
            # "apart from left atelectasis, the lungs are clear"
            breaks |= set([place for place, token in enumerate(self.tokens) if token[0] == ","][:1])
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
            # "..., and on the right, there is": the place that opens a clause belongs to it, with its comma
            if len(joints) > 1 and joints[-1] == after.first - 1 and self.tokens[joints[-2] + 1][0] in _OPENERS:
                joints.pop()
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
        """After a negation, a member of the list that is a statement of its own ends the list."""
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
        sided = min((item.first for item in self.items if item.first >= first and _has_side(item)), default=-1)
        for place, token in enumerate(self.tokens[:-1]):
            if place <= said or place in breaks or token[0] not in (",", "and"):
                continue
            after = place + 1
            if self.tokens[after][0] in ("a", "an", "the", "and") and after + 1 < len(self.tokens):
                after += 1
            item = self.kind_at.get(after)
            # an "or" behind it shows that the list goes on ("no effusion, small nodule, or mass"), whatever its words
            ended = last_either < place
            opens = item is not None and (
                item.kind == "degree"
                # the first side: "no edema, bibasilar atelectasis", but not "no left effusion, right effusion"
                or (token[0] == "," and item.first == sided < findings[-1])
            )
            if (ended and opens) or self._is_statement(after, ended, breaks):
                found.add(place)
        return found

    def _is_statement(self, start: int, ended: bool, breaks: set[int]) -> bool:
        """Whether a member of a negated list says something itself: "the heart is enlarged", "stable edema".

        Args:
            start: Its first token.
            ended: Whether no "or" follows. Where one does, only what no negation denies counts: "cannot be excluded".
            breaks: Breaks that are known.
        """
        mentioned = says = False
        for place in range(start, len(self.tokens)):
            token, item = self.tokens[place][0], self.kind_at.get(place)
            if place > start and (place in breaks or token in _MEMBER_ENDS or token in _BACK):
                break
            kind = None if item is None or item.first != place else item.kind
            if kind in ("finding", "state"):
                mentioned = True
            elif kind in ("doubtful_before", "doubtful_start"):
                # a doubt before the finding is judged by itself ("no effusion, possible nodule")
                says = says or (mentioned and (ended or self._says_not(item)))
            elif ended and kind == "verb":
                says = says or self._says_more_than_being(place)
            elif ended:
                nearby = self.tokens[place + 1 : place + 3] if mentioned and token == "in" else ()
                says = says or token in _CHANGED or any(near[0] in _PLACED for near in nearby)
        return mentioned and says

    def _says_not(self, cue: Item | None) -> bool:
        places = () if cue is None else range(cue.first, cue.last)
        return any(self.tokens[place][0] in ("not", "cannot") for place in places)

    def _says_more_than_being(self, start: int) -> bool:
        """Whether a verb is none of the negation: "no edema, effusion is seen" denies both, "... is large" one."""
        words = [
            token
            for place, (token, _, _) in enumerate(self.tokens[start : start + _VERBS], start)
            if not token.endswith("ly") and (place not in self.kind_at or self.kind_at[place].kind != "verb")
        ]
        return not words or words[0] not in _EXISTING


def _has_side(item: Item) -> bool:
    return item.kind == "side" or (item.kind == "anatomy" and item.value.side is not None)
