"""Sides and zones from boxes, for data sets that have boxes and no reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dmlm.errors import ReportFormatError
from dmlm.reports.knowledge import canonical_name
from dmlm.reports.schema import Laterality, Observation, StructuredReport
from dmlm.reports.terms import read_yaml

_ZONES = ((0.40, "upper zone"), (0.60, "middle zone"), (1.0, "lower zone"))
"""Lowest place of a box's centre, as a fraction of the image's height, and its zone. A frontal film of the
whole chest shows the lungs between about 0.1 and 0.85 of its height; these limits are about the thirds of that."""

Box = tuple[str, float, float, float, float]
"""Finding, left, top, right and bottom edge as fractions of the image's width and height."""


def with_boxes(report: StructuredReport, boxes: Iterable[Box]) -> StructuredReport:
    """Say where the findings of a report lie that boxes were drawn around.

    The image is taken as it is shown: the patient's right is on its left. The side and zone are those of the box's
    centre; boxes of one finding on both sides are two observations. A finding that has no side (the heart's size) gets
    none. A finding that the report says is present loses its observation without a place; one that it does not name
    becomes present; one that it calls absent raises, because one of the two must be wrong.

    Args:
        report: A report, e.g. one of :func:`dmlm.reports.from_labels`.
        boxes: Boxes of the study's frontal image, finding names as the data set writes them.

    Returns:
        A copy with located observations, each once.

    Raises:
        ReportFormatError: If a box lies outside the image or around a finding that the report says is absent.
    """
    placed: dict[str, list[Observation]] = {}
    for raw, left, top, right, bottom in boxes:
        name = canonical_name(raw)
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            msg = (
                f"study '{report.study_id}': the box of '{raw}' ({left:g}, {top:g}) to ({right:g}, {bottom:g}) is not "
                "in the image; give left, top, right, bottom as fractions of its width and height"
            )
            raise ReportFormatError(msg)
        if report.verdicts.get(name) == "absent":
            msg = f"study '{report.study_id}': has a box of '{raw}', which its labels call absent; mend one of them"
            raise ReportFormatError(msg)
        placed.setdefault(name, []).append(_observation(name, (left + right) / 2, (top + bottom) / 2))
    found: list[Observation] = []
    for item in report.observations:
        found += placed.pop(item.finding, []) if item.finding in placed else [item]
    found += [item for items in placed.values() for item in items]
    return replace(report, observations=tuple(dict.fromkeys(found)))


def _observation(name: str, across: float, down: float) -> Observation:
    rules = read_yaml("lexicon.yaml")["findings"].get(name, {})
    if rules.get("sides") == "none":
        return Observation(name, "present")
    side: Laterality = "right" if across < 0.5 else "left"
    return Observation(name, "present", side, next(zone for most, zone in _ZONES if down <= most))
