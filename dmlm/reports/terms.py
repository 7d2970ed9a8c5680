"""Word sequences of the lexicons: how they are written, and how they are found in linear time.

A wording is a line of words; ``a|b`` are alternatives and a word with ``~`` may be missing, as in
``"pleural~ effusion|effusions"``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import yaml

from dmlm.errors import ReportFormatError

Token = tuple[str, int, int]
"""A word in lower case (or one mark of punctuation), its start and its end in the text."""

_TOKEN = re.compile(r"[A-Za-z0-9]+|[,;:()?]")


class Entry(NamedTuple):
    """What a word sequence means.

    Args:
        kind: Kind of meaning, e.g. ``"finding"``.
        value: What it means within its kind.
    """

    kind: str
    value: object


class Trie:
    """Word sequences as a tree of words. Looking up takes time linear in the text."""

    def __init__(self) -> None:
        self._root: dict[str, Any] = {}

    def add(self, sequence: Sequence[str], kind: str, value: object) -> None:
        """Let a sequence of words mean something; it keeps its other meanings.

        Args:
            sequence: Words in lower case.
            kind: Kind of meaning.
            value: The meaning.
        """
        node = self._root
        for word in sequence:
            node = node.setdefault(word, {})
        entry = Entry(kind, value)
        old: tuple[Entry, ...] = node.get("", ())
        if entry not in old:
            node[""] = (*old, entry)

    def knows(self, sequence: Sequence[str], kind: str) -> bool:
        """Whether a sequence has a meaning of this kind."""
        node = self._root
        for word in sequence:
            if word not in node:
                return False
            node = node[word]
        return any(entry.kind == kind for entry in node.get("", ()))

    def find(self, tokens: Sequence[str]) -> Iterator[tuple[Entry, int, int]]:
        """Find sequences, the longest at each place, without overlaps.

        Args:
            tokens: Words in lower case.

        Yields:
            Meaning, first token, end of tokens (exclusive); all meanings of a sequence.
        """
        place, count = 0, len(tokens)
        while place < count:
            node = self._root.get(tokens[place])
            if node is None:
                place += 1
                continue
            best: tuple[Entry, ...] = node.get("", ())
            last = step = place + 1
            while step < count and (node := node.get(tokens[step])) is not None:
                step += 1
                if "" in node:
                    best, last = node[""], step
            for entry in best:
                yield entry, place, last
            place = last


def words(text: str, start: int, end: int) -> list[Token]:
    """Split a part of a text into words and marks. Hyphens and slashes separate words."""
    return [(match[0].lower(), match.start(), match.end()) for match in _TOKEN.finditer(text, start, end)]


def expand(written: str) -> list[tuple[str, ...]]:
    """Write out all sequences that a wording stands for.

    Args:
        written: A wording as the YAML files have it.

    Raises:
        ReportFormatError: If it stands for no word, or for more than 5000 sequences.
    """
    choices = []
    for group in written.lower().split():
        options = [option.strip("~") for option in group.split("|")]
        choices.append([*options, ""] if "~" in group else options)
    found = [tuple(word for word in combination if word) for combination in itertools.product(*choices)]
    if not all(found) or len(found) > 5000:
        fault = "nothing" if len(found) <= 5000 else "over 5000 phrases"
        msg = f"wording '{written}' stands for {fault}; mend the ~ and |"
        raise ReportFormatError(msg)
    return list(dict.fromkeys(found))


@lru_cache(maxsize=8)
def read_yaml(name: str) -> dict[str, Any]:
    """Read one of the library's own lexicons (``dmlm/reports/knowledge``)."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    data: dict[str, Any] = yaml.load(read_text(name), Loader=loader)
    return data


def read_text(name: str) -> str:
    """Return one of the library's own lexicons as it is written."""
    return files("dmlm.reports").joinpath("knowledge").joinpath(name).read_text(encoding="utf-8")


def word_list(name: str) -> frozenset[str]:
    """Return a list of ``knowledge/words.yaml``."""
    written: str = read_yaml("words.yaml")[name]
    return frozenset(written.split())
