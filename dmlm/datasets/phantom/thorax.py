"""The normal chest: how much tissue, air, vessel and bone the beam meets at every pixel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dmlm.datasets.phantom.anatomy import CARINA, SIDES, Anatomy, Side
from dmlm.datasets.phantom.canvas import Canvas, Plane, bell, curve, ramp, ribbon
from dmlm.datasets.phantom.findings import View

_X, _Y = CARINA
_TRACHEA: Final = ribbon(curve([(0.504, -0.05), (0.506, 0.10), (0.503, 0.22), CARINA]), 0.030)
_BRONCHI: Final = [
    ribbon(
        np.array([(_X, _Y - 0.012), (_X + dx, _Y + dy), (_X + 1.55 * dx, _Y + 1.5 * dy)]),
        np.array([0.025, 0.020, 0.015]),
    )
    for dx, dy in ((-0.034, 0.048), (0.042, 0.042))
]
_AORTA: Final = ribbon(curve([(0.575, 0.32), (0.560, 0.45), (0.547, 0.60), (0.53, 0.78)]), 0.05)
_TRUNKS: Final = [
    ribbon(curve([(0.45, 0.425), (0.425, 0.455), (0.412, 0.51), (0.408, 0.57)]), np.linspace(0.036, 0.014, 19)),
    ribbon(curve([(0.565, 0.405), (0.590, 0.415), (0.606, 0.47), (0.612, 0.53)]), np.linspace(0.034, 0.013, 19)),
]
_BLADE: Final = curve(
    [
        (0.158, 0.150),
        (0.118, 0.20),
        (0.112, 0.27),
        (0.124, 0.36),
        (0.135, 0.425),
        (0.108, 0.385),
        (0.07, 0.29),
        (0.05, 0.22),
    ]
)


@dataclass
class Shape:
    """What disease does to the outlines before anything is drawn.

    Args:
        heart_ratio: Cardiothoracic ratio.
        raised: Elevation of the diaphragm per side.
        push: Displacement of heart and mediastinum along x.
    """

    heart_ratio: float
    raised: dict[Side, float] = field(default_factory=lambda: {"right": 0.0, "left": 0.0})
    push: float = 0.0


@dataclass
class Chest:
    """The planes that lesions change, all float32 ``[S, S]``.

    Args:
        canvas: Where they are drawn.
        anatomy: The patient.
        shape: The outlines that were drawn.
        lung: Coverage of each hemithorax above the diaphragm, per side.
        heart: Thickness of heart and great vessels, 0..1.
        heart_mask: Coverage of the heart's outline.
        body: Thickness of the body without air.
        air: Thickness of the hemithoraces, as far as they hold lung.
        aeration: How much of that lung is aerated, 0..1; lesions multiply it.
        vessels: Attenuation of pulmonary vessels; lesions hide or widen them.
        vessel_gain: Factor on ``vessels``.
        bone: Attenuation of the skeleton.
        dense: Further attenuation (lesions, devices).
        lucent: Attenuation that is missing (trachea, stomach, free air).
    """

    canvas: Canvas
    anatomy: Anatomy
    shape: Shape
    lung: dict[Side, Plane]
    heart: Plane
    heart_mask: Plane
    body: Plane
    air: Plane
    aeration: Plane
    vessels: Plane
    vessel_gain: Plane
    bone: Plane
    dense: Plane
    lucent: Plane

    def rim(self, side: Side) -> Plane:
        """Depth below the apical and lateral pleura of a side, as a fraction of the film."""
        return self.canvas.depth(self.canvas.polygon(self.anatomy.lung(side, reach_midline=True)))

    def attenuation(self) -> Plane:
        """Sum up what the beam meets: tissue that air displaces, vessels, bone, lesions."""
        held = self.air * self.aeration
        vessels = self.vessels * self.vessel_gain * np.minimum(1.0, 2.0 * self.air)
        total: Plane = self.body - 0.95 * held + vessels + self.bone + self.dense - self.lucent
        return np.maximum(total, 0.0)


def draw_chest(canvas: Canvas, anatomy: Anatomy, shape: Shape, view: View, rng: np.random.Generator) -> Chest:
    """Draw a chest without lesions.

    Args:
        canvas: Where to draw.
        anatomy: The patient.
        shape: Outlines of heart and diaphragm.
        view: With AP the shoulder blades lie over the lungs.
        rng: Draws what differs between studies (stomach, soft texture).
    """
    lung = {side: canvas.polygon(anatomy.lung(side, shape.raised[side])) for side in SIDES}
    both = np.maximum(lung["right"], lung["left"])
    depth = canvas.depth(both)
    air = np.sqrt(1.0 - np.square(1.0 - np.minimum((depth + 0.004) / 0.125, 1.0))) * both
    air *= 0.80 + 0.20 * ramp(canvas.y, 0.12, 0.42)  # apices are thin

    heart_line = anatomy.heart(shape.heart_ratio, 0.5 * (shape.raised["right"] + shape.raised["left"]))
    heart_mask = canvas.polygon(np.add(heart_line, (shape.push, 0.0)))
    heart_depth = canvas.depth(heart_mask)
    thick = np.sqrt(1.0 - np.square(1.0 - np.minimum((heart_depth + 0.006) / 0.11, 1.0))) * heart_mask
    vessels_mask = canvas.polygon(np.add(anatomy.mediastinum, (0.8 * shape.push, 0.0)))
    great = 0.85 * canvas.blur(vessels_mask, 0.003) * ramp(canvas.y, 0.66, 0.5)
    heart = np.maximum(0.92 * thick, great)
    # the descending aorta shows behind the heart
    descending = canvas.blur(canvas.polygon(np.add(_AORTA, (0.012 * anatomy.aorta, 0.0))), 0.004)
    heart = np.maximum(heart, 0.30 * descending) + 0.10 * descending * thick
    air *= 1.0 - 0.86 * np.minimum(heart, 1.0)

    body = _body(canvas, anatomy, both, shape) + 0.22 * np.minimum(heart, 1.2)
    vessels = _vessels(canvas, anatomy)
    bone = _bones(canvas, anatomy, view)
    lucent = _trachea(canvas) + _stomach(canvas, rng, shape)
    texture = canvas.clouds(rng, 0.02) * 0.012 + canvas.clouds(rng, 0.11) * 0.018
    ones = np.ones_like(air)
    return Chest(
        canvas, anatomy, shape, lung, heart, heart_mask, body, air, ones.copy(), vessels, ones, bone, texture, lucent
    )


def _body(canvas: Canvas, anatomy: Anatomy, lungs: Plane, shape: Shape) -> Plane:
    """Soft tissue: trunk, shoulders, neck, abdomen, breasts."""
    fat = anatomy.habitus
    outlines, values = anatomy.trunk
    mask = canvas.blur(canvas.polygons(outlines, values), 0.005)
    across = np.abs(canvas.x - np.float32(0.5025))
    # the trunk is an ellipse in cross-section: thin at its sides
    profile = 0.62 + 0.36 * ramp(across, 0.52, 0.30) + 0.14 * ramp(across, 0.30, 0.0)
    profile -= 0.30 * ramp(canvas.y, 0.22, 0.06)
    body: Plane = mask * profile * np.float32(0.94 + 0.14 * fat)
    level = 0.70 - 0.5 * (shape.raised["right"] + shape.raised["left"])
    belly = ramp(canvas.y, level - 0.03, level + 0.16) * ramp(across, 0.47, 0.33) * (1.0 - lungs)
    body += mask * belly * np.float32(0.26 + 0.16 * fat)
    if anatomy.breast:
        size = anatomy.breast
        for centre in (0.275, 0.725):
            distance = canvas.blob((centre, 0.615 + 0.05 * size), (0.155, 0.10 + 0.035 * size))
            # dense lower edge, fading upwards
            fade = ramp(canvas.y, 0.50, 0.66 + 0.05 * size)
            body += mask * fade * ramp(distance, 1.06, 0.72) * np.float32(0.10 + 0.10 * size)
    return body


def _vessels(canvas: Canvas, anatomy: Anatomy) -> Plane:
    """Hila and the vessels that branch from them."""
    lines, widths = anatomy.vessel_lines
    tree = canvas.blur(canvas.strokes(lines, widths), 0.0016)
    right = bell(canvas.blob((0.428, 0.455), (0.030, 0.062)))
    left = bell(canvas.blob((0.588, 0.428), (0.030, 0.052)))
    trunk = canvas.blur(canvas.polygons([anatomy.place(_TRUNKS[0], "right"), _TRUNKS[1]]), 0.004)
    total: Plane = 0.21 * tree + 0.12 * (right + left) + 0.15 * trunk
    return total


def _bones(canvas: Canvas, anatomy: Anatomy, view: View) -> Plane:
    """Spine, ribs, clavicles, shoulder blades and the heads of the humeri."""
    back, front = anatomy.ribs
    across = canvas.x - anatomy.spine_x(canvas.y)
    beside = np.abs(across)
    # cartilage does not show: anterior ribs fade towards the sternum
    ribs = 0.135 * canvas.polygons(back) + 0.05 * canvas.polygons(front) * ramp(beside, 0.12, 0.26)
    # the abdomen swallows the lower ribs: scatter and the exposure leave little contrast there
    ribs *= 1.0 - 0.75 * ramp(canvas.y, 0.74, 0.84)
    shift = 0.055 if view == "AP" else 0.0
    blades = [anatomy.place(np.add(_BLADE, (shift, 0.0)), side) for side in SIDES]
    outlines, values = anatomy.shoulders
    solid = ribs + canvas.polygons([*blades, *outlines], [0.05, 0.05, *values])
    # bone is a cortex that is denser than what it encloses
    solid += 2.0 * np.maximum(solid - canvas.blur(solid, 0.0045), 0.0)
    bone = canvas.blur(solid, 0.0014)
    head = np.minimum(canvas.blob((0.035, 0.175), (0.052, 0.058)), canvas.blob((0.970, 0.175), (0.052, 0.058)))
    bone += 0.26 * ramp(head, 1.1, 0.75)
    wide = 0.026 + 0.012 * canvas.y
    column = ramp(beside / wide, 1.12, 0.92)
    turn = canvas.y * np.float32(np.pi / 0.0575)
    disc = np.square(np.square(np.cos(turn)))
    pedicles = bell(np.square((beside - 0.6 * wide) / 0.0065) + np.square(np.sin(turn + 0.6) / 0.30))
    bone += column * (0.15 - 0.065 * disc) * (1.0 - 0.55 * ramp(canvas.y, 0.32, 0.48)) + 0.05 * pedicles
    bone *= np.float32(anatomy.bone)
    return bone


def _trachea(canvas: Canvas) -> Plane:
    return 0.20 * canvas.blur(canvas.polygons([*_BRONCHI, _TRACHEA], [0.5, 0.5, 1.0]), 0.004)


def _stomach(canvas: Canvas, rng: np.random.Generator, shape: Shape) -> Plane:
    """Gas below the left dome, and sometimes in the bowel."""
    draws = rng.random(6)
    gas = np.zeros_like(canvas.x)
    if draws[0] < 0.6:
        centre = (0.655 + 0.06 * draws[1], 0.785 + 0.02 * draws[2] - shape.raised["left"])
        distance = canvas.blob(centre, (0.055 + 0.035 * draws[3], 0.026 + 0.022 * draws[4]), -0.15)
        gas += np.float32(0.30 + 0.2 * draws[5]) * ramp(distance, 1.15, 0.55)
    if draws[1] < 0.3:
        distance = canvas.blob((0.78 + 0.05 * draws[2], 0.90), (0.045, 0.03), 0.4)
        gas += 0.22 * ramp(distance, 1.2, 0.5)
    return gas
