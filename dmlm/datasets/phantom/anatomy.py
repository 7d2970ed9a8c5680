"""The body of one patient: what stays the same in all of their studies, as curves in anatomical coordinates.

Lengths are fractions of a film in standard position. Shapes are given for the patient's right side (image left) and
mirrored for the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.phantom.canvas import Plane, Points, curve, ribbon
from dmlm.datasets.phantom.vessels import Vessels

Side = Literal["left", "right"]
SIDES: Final[tuple[Side, Side]] = ("right", "left")
MIDLINE: Final = 0.5025
CARINA: Final = (0.503, 0.335)

_APEX_TO_BASE: Final = [(0.335, 0.127), (0.385, 0.150), (0.425, 0.205), (0.448, 0.290), (0.462, 0.40), (0.468, 0.55)]
_DOME: Final = [(0.468, 0.700), (0.430, 0.712), (0.370, 0.694), (0.305, 0.690), (0.235, 0.716), (0.182, 0.760)]
_ANGLE: Final = (0.147, 0.812)
_WALL: Final = [
    (0.139, 0.755),
    (0.138, 0.66),
    (0.143, 0.55),
    (0.155, 0.43),
    (0.176, 0.32),
    (0.212, 0.22),
    (0.268, 0.148),
]

_WALL_LINE: Final = curve([_ANGLE, *_WALL, _APEX_TO_BASE[0]])
_MEDIAL_LINE: Final = curve(_APEX_TO_BASE)
_FLANK: Final = np.array([*_WALL[::-1], _ANGLE])


@dataclass(frozen=True)
class Anatomy:
    """A patient.

    Args:
        habitus: Build, 0 (thin) to 1 (obese).
        breast: Size of the breast shadows, 0 for none.
        heart_width: Cardiothoracic ratio without disease.
        aorta: Prominence of the aortic knob, 0 to 1.
        width: Width of the chest relative to the standard.
        left_drop: How much lower the left dome of the diaphragm is.
        rib_start: Height of the first posterior rib.
        rib_step: Distance between ribs.
        rib_drop: Steepness of the ribs relative to the standard.
        bone: Density of bone relative to the standard.
        scoliosis: Largest sideways deviation of the spine.
        clavicle: How much higher (negative) or lower the outer end of the clavicles is.
        vessels: Vessel tree of each side.
    """

    habitus: float
    breast: float
    heart_width: float
    aorta: float
    width: float
    left_drop: float
    rib_start: float
    rib_step: float
    rib_drop: float
    bone: float
    scoliosis: float
    clavicle: float
    vessels: dict[Side, Vessels]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Anatomy:
        """Draw a patient."""
        woman = rng.random() < 0.5
        return cls(
            habitus=float(rng.beta(2.0, 2.4)),
            breast=float(rng.uniform(0.35, 1.0)) if woman else 0.0,
            heart_width=float(rng.uniform(0.40, 0.475)),
            aorta=float(rng.uniform(0.0, 1.0)),
            width=float(rng.uniform(0.95, 1.04)),
            left_drop=float(rng.uniform(0.008, 0.032)),
            rib_start=float(rng.uniform(0.118, 0.140)),
            rib_step=float(rng.uniform(0.066, 0.074)),
            rib_drop=float(rng.uniform(0.85, 1.2)),
            bone=float(rng.uniform(0.75, 1.15)),
            scoliosis=float(rng.normal(0.0, 0.004)),
            clavicle=float(rng.uniform(-0.02, 0.02)),
            vessels={side: Vessels(side, rng) for side in SIDES},
        )

    def place(self, points: Points, side: Side) -> Points:
        """Move a shape ``[..., 2]`` of the right side to ``side`` of this patient."""
        placed: Points = points.copy()
        offset = (MIDLINE - points[..., 0]) * self.width
        placed[..., 0] = MIDLINE - offset if side == "right" else MIDLINE + offset
        return placed

    def lung(self, side: Side, raised: float = 0.0, reach_midline: bool = False) -> Points:
        """Outline of a hemithorax above the diaphragm.

        Args:
            side: The patient's side.
            raised: How much higher than usual the dome is.
            reach_midline: Whether to continue beyond the midline and the diaphragm, so that the outline follows the
                pleura only along the apex and the lateral wall.
        """
        drop = (self.left_drop if side == "left" else 0.0) - raised
        if reach_midline:
            inner = np.array([(0.36, 0.127), (0.70, 0.127), (0.70, 1.2), (_ANGLE[0], 1.2)])
            return self.place(np.concatenate([_WALL_LINE, inner]), side)
        dome = np.array(_DOME) + np.array([0.0, 1.0]) * (drop * np.array([1, 1, 1, 1, 0.8, 0.5])[:, None])
        return self.place(np.concatenate([_MEDIAL_LINE, curve([*dome, _ANGLE]), _WALL_LINE]), side)

    def heart(self, ratio: float, raised: float = 0.0) -> Points:
        """Outline of the heart for a cardiothoracic ratio; with ``raised`` it lies higher."""
        whole = ratio * 0.728 * self.width
        right, left = 0.475 - 0.25 * whole, 0.475 + 0.75 * whole
        base = 0.742 + 0.02 * (ratio - 0.45)
        shape = [
            (0.452, 0.40),
            (0.70 * right + 0.30 * 0.452, 0.475),
            (right + 0.002, 0.550),
            (right, 0.630),
            (right + 0.012, 0.695),
            (right + 0.036, base),
            (0.53, base + 0.016),
            (left - 0.050, base + 0.016),
            (left - 0.006, base - 0.024),
            (left - 0.006, base - 0.066),
            (left - 0.036, 0.612),
            (0.58 * left + 0.42 * 0.600, 0.540),
            (0.612, 0.470),
            (0.598, 0.415),
            (0.555, 0.375),
        ]
        return curve(np.array(shape) - [0.0, raised], steps=5)

    def spine_x(self, y: Plane) -> Plane:
        """Middle of the spine at height ``y``."""
        return np.asarray(MIDLINE + self.scoliosis * np.sin(5.0 * y), dtype=np.float32)

    @cached_property
    def ribs(self) -> tuple[list[Points], list[Points]]:
        """Outlines of the posterior and of the anterior ribs on both sides.

        A rib is seen as half an ellipse: from the spine it rises a little, falls to the lateral wall, turns and runs
        steeply down towards the sternum.
        """
        angle = np.linspace(0.0, 0.5 * np.pi, 12)
        index = np.arange(11)[:, None]
        start = self.rib_start + index * self.rib_step
        drop = np.minimum(0.035 + 0.0155 * index, 0.125) * self.rib_drop
        outer = np.where(index == 0, 0.245, np.interp(start + drop, _FLANK[:, 1], _FLANK[:, 0]) - 0.005)
        x = 0.468 + (outer - 0.468) * np.sin(angle) ** 0.9
        y = start - 0.016 * np.sin(2.0 * angle) + drop * (1.0 - np.cos(angle))
        posterior = np.stack([x, y], axis=-1)
        back = np.linspace(0.5 * np.pi, 0.80 * np.pi, 9)
        index, start, drop, outer = index[1:8], start[1:8], drop[1:8], outer[1:8]
        x = outer + (0.36 - 0.012 * index - outer) * (1.0 - np.sin(back)) / (1.0 - np.sin(back[-1]))
        y = start + drop + (0.063 + 0.42 * drop) * np.sin(back - 0.5 * np.pi) / np.sin(0.3 * np.pi)
        bands = (
            ribbon(posterior, np.linspace(0.019, 0.0245, 12)),
            ribbon(np.stack([x, y], axis=-1), np.linspace(0.022, 0.028, 9)),
        )
        back_outlines, front_outlines = ([o for side in SIDES for o in self.place(band, side)] for band in bands)
        return back_outlines, front_outlines

    @cached_property
    def vessel_lines(self) -> tuple[list[Points], NDArray[np.float64]]:
        """Vessels of both sides as lines, and their widths."""
        trees = [self.vessels[side].lines for side in SIDES]
        return [line for points, _ in trees for line in points], np.concatenate([widths for _, widths in trees])

    @cached_property
    def trunk(self) -> tuple[list[Points], list[float]]:
        """Outlines of arms and trunk, and how dense their soft tissue is."""
        flank = 0.075 - 0.125 * self.habitus
        shoulder = [
            (0.405, -0.1),
            (0.402, 0.015),
            (0.375, 0.058),
            (0.27, 0.085),
            (0.12, 0.092),
            (0.02, 0.13),
            (-0.06, 0.20),
        ]
        below = [(-0.06, 0.36), (0.5 * flank - 0.01, 0.40), (flank, 0.50), (flank + 0.004, 0.66), (flank - 0.02, 0.85)]
        right = np.concatenate([curve(shoulder), curve([*below, (flank - 0.04, 1.6)])])
        left = right[::-1] * [-1.0, 1.0] + [2 * MIDLINE, 0.0]
        arm = np.array([(-0.1, 0.1), (0.0, 0.14), (-0.004 + 0.3 * flank, 0.42), (-0.02, 1.6), (-0.2, 1.6)])
        arms = [self.place(arm, side) for side in SIDES]
        return [*arms, np.concatenate([right, left])], [0.75, 0.75, 1.0]

    @cached_property
    def mediastinum(self) -> Points:
        """Outline of the great vessels, from the neck to the heart."""
        knob = 0.010 + 0.022 * self.aorta
        right = [(0.456, 0.0), (0.455, 0.12), (0.447, 0.20), (0.443, 0.30), (0.444, 0.42), (0.47, 0.60)]
        left = [(0.56, 0.60), (0.580, 0.42), (0.560, 0.385), (0.567 + knob, 0.345), (0.560 + knob, 0.305)]
        top = [(0.548, 0.265), (0.551, 0.20), (0.545, 0.12), (0.545, 0.0)]
        return np.concatenate([curve(right, 4), curve([*left, *top], 4)])

    @cached_property
    def shoulders(self) -> tuple[list[Points], list[float]]:
        """Outlines of shafts of the humeri and clavicles, and their density."""
        high = self.clavicle
        line = [(0.455, 0.192), (0.40, 0.172 + 0.2 * high), (0.31, 0.158 + 0.5 * high), (0.21, 0.128 + high)]
        clavicle = ribbon(curve([*line, (0.10, 0.112 + high)]), np.array([0.034, *([0.024] * 23), 0.028]))
        shaft = ribbon(np.array([(0.03, 0.2), (0.0, 0.4), (-0.02, 0.7)]), 0.055)
        return [self.place(bone, side) for bone in (shaft, clavicle) for side in SIDES], [0.12, 0.12, 0.16, 0.16]

    def wall_x(self, y: float) -> float:
        """Inner edge of the right chest wall at height ``y``, in the standard shape."""
        return float(np.interp(y, _FLANK[:, 1], _FLANK[:, 0]))
