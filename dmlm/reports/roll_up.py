"""Observations in the coarser classes of a data set's labels: a nodule is a lung lesion, a consolidation an opacity."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dmlm.reports.knowledge import NO_FINDING, canonical_name
from dmlm.reports.lexicon import parents
from dmlm.reports.rules_result import DEVICES
from dmlm.reports.schema import Existence, StructuredReport

_VALUES: dict[Existence, float] = {"absent": 0.0, "uncertain": -1.0, "present": 1.0}
_RANK: dict[float, int] = {0.0: 0, -1.0: 1, 1.0: 2}


def roll_up(report: StructuredReport, names: Sequence[str]) -> dict[str, float]:
    """Write a report's verdicts as labels of the given classes.

    What is present or uncertain counts for its wider findings too (``parent`` in ``knowledge/lexicon.yaml``). As in
    CheXpert, present outranks uncertain and uncertain outranks absent. That a narrow finding is absent says nothing of
    the wider one. "No Finding" is 1 where something is said and nothing but devices is present or uncertain, and
    unknown otherwise.

    Args:
        report: The report.
        names: Classes, in any of their names.

    Returns:
        Per name 1 present, 0 absent, -1 uncertain, nan not mentioned.
    """
    labels: dict[str, float] = {}
    for finding, state in report.verdicts.items():
        value = _VALUES[state]
        for name in {finding, *(_wider(finding) if value else ())}:
            if name not in labels or _RANK[value] > _RANK[labels[name]]:
                labels[name] = value
    positive = [name for name, value in labels.items() if value and name not in (NO_FINDING, DEVICES)]
    labels.pop(NO_FINDING, None)
    if report.observations and not positive:
        labels[NO_FINDING] = 1.0
    return {name: labels.get(canonical_name(name), math.nan) for name in names}


def _wider(finding: str) -> set[str]:
    found: set[str] = set()
    todo = [finding]
    while todo:
        for parent in parents().get(todo.pop(), ()):
            if parent not in found:
                found.add(parent)
                todo.append(parent)
    return found
