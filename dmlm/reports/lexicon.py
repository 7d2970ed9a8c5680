"""All words that the rule engine knows, compiled into one tree: findings, anatomy, states, cues, sides and degrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from dmlm.reports.anatomy import load_anatomy
from dmlm.reports.knowledge import NO_FINDING, Knowledge
from dmlm.reports.terms import Token, Trie, expand, read_yaml, words


@dataclass(frozen=True)
class FindingRule:
    """How a finding is read.

    Args:
        name: Canonical name.
        parents: Wider findings that it is one of.
        sides: ``"neighbour"``: it takes the side of a finding next to it; ``"own"``: only a side said of itself;
            ``"none"``: it has none.
        degrees: Whether size words are degrees of it.
        inherits: Whether findings beside it share its side.
        not_in: Structures in which its terms mean something else.
    """

    name: str
    parents: tuple[str, ...] = ()
    sides: Literal["neighbour", "own", "none"] = "neighbour"
    degrees: bool = True
    inherits: bool = True
    not_in: frozenset[str] = frozenset()


class FindingTerm(NamedTuple):
    """A wording of a finding.

    Args:
        rule: The finding.
        gone: Whether the wording itself says that it is gone ("extubation").
        lung_only: Whether it counts only with a place in the lung.
    """

    rule: FindingRule
    gone: bool = False
    lung_only: bool = False


class Item(NamedTuple):
    """Known words in a sentence.

    Args:
        kind: ``"finding"``, ``"anatomy"``, ``"state"``, ``"side"``, ``"degree"`` or the name of a list of cues.
        value: Meaning within the kind.
        first: First token.
        last: End of its tokens (exclusive).
    """

    kind: str
    value: Any
    first: int
    last: int


class Lexicon:
    """The compiled words.

    Args:
        knowledge: Findings whose names and synonyms are known words too (those that no rule has already).
    """

    def __init__(self, knowledge: Knowledge) -> None:
        self.rules: dict[str, FindingRule] = {}
        self._trie = Trie()
        for name, values in read_yaml("lexicon.yaml")["findings"].items():
            self._add_finding(name, values)
        for place in load_anatomy().values():
            for wording in place.terms:
                self._trie.add(wording.split(), "anatomy", place)
        states = read_yaml("states.yaml")["states"]
        self.states: dict[str, Mapping[str, tuple[str, ...]]] = {}
        for name, values in states.items():
            self.states[name] = {structure: tuple(signed) for structure, signed in values["of"].items()}
            self._add(values["terms"], "state", name)
        cues = read_yaml("cues.yaml")
        for kind, wordings in cues["cues"].items():
            self._add(wordings, kind, kind)
        for kind, group in (("side", "sides"), ("degree", "degrees")):
            for value, wordings in cues[group].items():
                self._add(wordings, kind, value)
        for finding in knowledge.values():
            self._add_known(finding.name, finding.synonyms)

    def scan(self, text: str, start: int, end: int) -> tuple[list[Token], list[Item]]:
        """Read a sentence.

        Args:
            text: The text.
            start: First character of the sentence.
            end: End of the sentence (exclusive).

        Returns:
            Tokens with their places in ``text``, and what is known among them, in order.
        """
        tokens = words(text, start, end)
        found = self._trie.find([token[0] for token in tokens])
        return tokens, [Item(entry.kind, entry.value, first, last) for entry, first, last in found]

    def _add_finding(self, name: str, values: Mapping[str, Any]) -> None:
        rule = FindingRule(
            name,
            tuple(values.get("parent", ())),
            values.get("sides", "neighbour"),
            values.get("degrees", True),
            values.get("inherits", True),
            frozenset(values.get("not_in", ())),
        )
        self.rules[name] = rule
        self._add(values["terms"], "finding", FindingTerm(rule))
        self._add(values.get("absent", ()), "finding", FindingTerm(rule, gone=True))
        self._add(values.get("lung_only", ()), "finding", FindingTerm(rule, lung_only=True))

    def _add_known(self, name: str, synonyms: tuple[str, ...]) -> None:
        if name == NO_FINDING:
            return
        rule = self.rules.setdefault(name, FindingRule(name))
        for wording in (name, *synonyms):
            sequence = [token[0] for token in words(wording, 0, len(wording))]
            if sequence and not any(self._trie.knows(sequence, kind) for kind in ("finding", "state", "anatomy")):
                self._trie.add(sequence, "finding", FindingTerm(rule))

    def _add(self, wordings: Any, kind: str, value: object) -> None:  # noqa: ANN401 - a list of a YAML file
        for written in wordings:
            for sequence in expand(written):
                self._trie.add(sequence, kind, value)


@lru_cache(maxsize=1)
def parents() -> dict[str, tuple[str, ...]]:
    """Wider findings per finding of the library's lexicon: ``"Nodule" -> ("Lung Lesion",)``."""
    return {name: tuple(values.get("parent", ())) for name, values in read_yaml("lexicon.yaml")["findings"].items()}
