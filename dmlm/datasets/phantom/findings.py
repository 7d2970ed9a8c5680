"""What can be wrong in a phantom: names, degrees and the record of one lesion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from dmlm.reports.schema import Laterality, Severity

LABEL_NAMES: Final = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Nodule",
    "Pleural Effusion",
    "Pleural Thickening",
    "Pneumothorax",
    "Support Devices",
)
"""Findings of a phantom, in the order of its labels."""

UNSEEN_FINDING: Final = "Hernia"
"""A finding that occurs in a part of the test studies only, never in training or validation; it has no label."""

Zone = Literal["upper zone", "mid zone", "lower zone"]
View = Literal["PA", "AP"]
LookalikeKind = Literal["skin fold", "summation"]

ZONES: Final[tuple[Zone, ...]] = ("upper zone", "mid zone", "lower zone")
MILD_BELOW: Final = 0.4
SEVERE_FROM: Final = 0.72
DOUBTFUL_BELOW: Final = 0.25
"""Strength below which a reader may well be unsure that the finding is there."""

DEVICES: Final = ("endotracheal tube", "enteric tube", "central venous catheter", "pacemaker", "chest tube")


@dataclass(frozen=True)
class Lesion:
    """One finding in one study: what is drawn.

    Args:
        finding: A name of :data:`LABEL_NAMES` or :data:`UNSEEN_FINDING`.
        strength: Extent and contrast, 0 (barely there) to 1 (gross).
        seed: Decides its shape; the same in all studies of a patient, so that a lesion grows and does not jump.
        side: The patient's side (patient left = image right); None where the finding has none.
        zone: Height in the lung, where that varies.
        devices: Which devices (support devices only).
    """

    finding: str
    strength: float
    seed: int
    side: Laterality | None = None
    zone: Zone | None = None
    devices: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity:
        """Degree in words."""
        if self.strength < MILD_BELOW:
            return "mild"
        return "moderate" if self.strength < SEVERE_FROM else "severe"

    @property
    def sides(self) -> tuple[Literal["left", "right"], ...]:
        """Hemithoraces that it is drawn in; both where it has no side."""
        if self.side == "left":
            return ("left",)
        return ("right",) if self.side == "right" else ("right", "left")


@dataclass(frozen=True)
class Lookalike:
    """Something that looks like a finding and is none.

    Args:
        kind: ``skin fold`` (imitates a pneumothorax) or ``summation`` (crossing shadows, imitate a nodule).
        side: The patient's side.
        seed: Decides its shape.
    """

    kind: LookalikeKind
    side: Literal["left", "right"]
    seed: int
