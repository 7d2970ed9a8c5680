"""What a text states, as numbers, and whether a report states it too: the basis of finding-level positives.

:func:`encode_facts` makes the rows that training compares pairwise on the device; :func:`relation` is the slow
reference of that comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Literal

import numpy as np
import numpy.typing as npt

from dmlm.reports.knowledge import canonical_name
from dmlm.reports.schema import SEVERITIES, Existence, Laterality, Observation

Relation = Literal["positive", "negative", "ignored"]

ABSENT, PRESENT, UNCERTAIN = 1, 2, 3
LEFT, RIGHT = 1, 2

_STATE: dict[Existence, int] = {"absent": ABSENT, "present": PRESENT, "uncertain": UNCERTAIN}
_RANK = {ABSENT: 0, UNCERTAIN: 1, PRESENT: 2}
_SIDES: dict[Laterality, int] = {"left": LEFT, "right": RIGHT, "bilateral": LEFT | RIGHT}


@lru_cache(maxsize=4096)
def finding_key(finding: str) -> int:
    """Return a stable key of 63 bits for a finding, the same for all its names, on every machine; never 0."""
    digest = blake2b(canonical_name(finding).lower().encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1 or 1


def encode_facts(statements: Sequence[Observation], max_facts: int = 32) -> npt.NDArray[np.int64]:
    """Write statements as numbers, one row per finding.

    Observations of one finding are merged as in a verdict: present outranks uncertain, uncertain outranks absent; sides
    are the union and severity the highest over the observations in that state. An absent finding has neither, as its
    verdict ("Pneumothorax is absent.") has none. Positions are not encoded.

    Args:
        statements: Observations of a report or of a text.
        max_facts: Rows of the result. Findings beyond it are left out, absent ones first: they then count as not
            mentioned.

    Returns:
        int64 array ``[max_facts, 4]``; columns: key of the finding (0: no fact, the rest of the row is 0 too), state
        (1 absent, 2 present, 3 uncertain), sides (bit 1 left, bit 2 right, 0 unnamed), severity (0 unnamed, 1 mild,
        2 moderate, 3 severe). Rows in the order present, uncertain, absent.
    """
    merged: dict[int, list[int]] = {}
    for item in statements:
        key, state = finding_key(item.finding), _STATE[item.existence]
        fact = merged.setdefault(key, [state, 0, 0])
        if _RANK[state] > _RANK[fact[0]]:
            fact[:] = [state, 0, 0]
        if state == fact[0] != ABSENT:
            fact[1] |= _SIDES[item.laterality] if item.laterality else 0
            fact[2] = max(fact[2], SEVERITIES.index(item.severity) + 1 if item.severity else 0)
    rows = sorted(((key, *fact) for key, fact in merged.items()), key=lambda row: -_RANK[row[1]])[:max_facts]
    facts = np.zeros((max_facts, 4), dtype=np.int64)
    if rows:
        facts[: len(rows)] = rows
    return facts


def relation(report_facts: Iterable[Sequence[int]], text_facts: Iterable[Sequence[int]]) -> Relation:
    """Say whether a report states what a text states (method: finding-level positives).

    *positive*: the report states all of it: the same findings in the same states; the side, where the text names one,
    among the report's; the severity, where the text names one, equal. *negative*: for some finding the report states
    the opposite: present against absent, or both present with a named side that the report's named sides do not cover,
    or with different named severities. *ignored*: neither (not mentioned, named by the text but not by the report,
    uncertain against certain), or the text states nothing. Negative outranks ignored.

    Args:
        report_facts: Rows of :func:`encode_facts` of the report of an image.
        text_facts: Rows of :func:`encode_facts` of a text.
    """
    report = {row[0]: row for row in report_facts if row[0] != 0}
    results = [_compare(report.get(row[0]), row) for row in text_facts if row[0] != 0]
    if "negative" in results:
        return "negative"
    return "ignored" if "ignored" in results or not results else "positive"


def _compare(report: Sequence[int] | None, text: Sequence[int]) -> Relation:
    if report is None:
        return "ignored"
    _, state, sides, severity = report
    _, text_state, text_sides, text_severity = text
    if state != text_state:
        return "negative" if UNCERTAIN not in (state, text_state) else "ignored"
    side_missing = bool(text_sides & ~sides)
    severity_differs = text_severity != 0 and text_severity != severity
    if not side_missing and not severity_differs:
        return "positive"
    opposed = (side_missing and sides != 0) or (severity_differs and severity != 0)
    return "negative" if state == PRESENT and opposed else "ignored"
