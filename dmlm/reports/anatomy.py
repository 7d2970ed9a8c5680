"""Anatomical terms of reports with their canonical structure, zones on a frontal film, and side.

The rule engine reads sides and positions with it; appearance-guided masking reads the zones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast, get_args

from dmlm.errors import ReportFormatError
from dmlm.reports.schema import Laterality
from dmlm.reports.terms import Trie, expand, read_yaml, words


@dataclass(frozen=True)
class AnatomicalTerm:
    """One place in the chest.

    Args:
        name: Its name in ``knowledge/anatomy.yaml``.
        structure: What it belongs to, e.g. ``"lung"`` for ``"upper lobe"``.
        zones: Places on a frontal film, e.g. ``("upper",)``; both sides unless ``side`` or the text names one.
        position: How an observation writes it, ``None`` where it says no more than the finding.
        side: The patient's side where the term implies one.
        terms: All its wordings, in lower case.
    """

    name: str
    structure: str
    zones: tuple[str, ...]
    position: str | None = None
    side: Laterality | None = None
    terms: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def load_anatomy() -> dict[str, AnatomicalTerm]:
    """Load the library's anatomical terms by name.

    Raises:
        ReportFormatError: If an entry names an unknown side.
    """
    data: dict[str, dict[str, Any]] = read_yaml("anatomy.yaml")["anatomy"]
    return {name: _term(name, values) for name, values in data.items()}


def find_anatomy(text: str) -> list[tuple[AnatomicalTerm, int, int]]:
    """Find the anatomical terms of a text, the longest at each place.

    Args:
        text: Any text, e.g. an appearance or an observation's position.

    Returns:
        Term, start and end (exclusive) in ``text``, in order.
    """
    tokens = words(text, 0, len(text))
    return [
        (cast(AnatomicalTerm, entry.value), tokens[first][1], tokens[last - 1][2])
        for entry, first, last in _trie().find([token[0] for token in tokens])
    ]


@lru_cache(maxsize=1)
def _trie() -> Trie:
    trie = Trie()
    for term in load_anatomy().values():
        for wording in term.terms:
            trie.add(tuple(wording.split()), "anatomy", term)
    return trie


def _term(name: str, values: dict[str, Any]) -> AnatomicalTerm:
    side = values.get("side")
    if side is not None and side not in get_args(Laterality):
        msg = f"anatomy.yaml: {name}.side must be left, right or bilateral; got '{side}'"
        raise ReportFormatError(msg)
    terms = dict.fromkeys(" ".join(sequence) for written in values["terms"] for sequence in expand(written))
    return AnatomicalTerm(name, values["structure"], tuple(values["zones"]), values.get("position"), side, tuple(terms))
