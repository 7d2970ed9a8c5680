"""Findings of the lung itself and of the heart: consolidation, atelectasis, edema, nodule, hiatal hernia.

Each function changes the planes of a :class:`Chest` and returns the place of the finding, a plane 0..1.
"""

from __future__ import annotations

import numpy as np

from dmlm.datasets.phantom.anatomy import SIDES, Side
from dmlm.datasets.phantom.canvas import Plane, Points, bell, curve, ramp, ribbon
from dmlm.datasets.phantom.findings import Lesion
from dmlm.datasets.phantom.thorax import Chest

_ZONE_Y = {"upper zone": 0.26, "mid zone": 0.455, "lower zone": 0.625, None: 0.60}


def consolidation(chest: Chest, lesion: Lesion) -> Plane:
    """Fill air spaces: a fluffy dense patch that hides vessels, with air bronchograms where it is dense."""
    canvas, rng = chest.canvas, np.random.default_rng(lesion.seed)
    place = np.zeros_like(chest.air)
    for side in lesion.sides:
        x = rng.uniform(0.25, 0.34) if lesion.zone != "upper zone" else rng.uniform(0.29, 0.35)
        centre = _side_point(chest, (x, _ZONE_Y[lesion.zone] + rng.uniform(-0.03, 0.03)), side)
        size = 0.090 + 0.072 * lesion.strength
        radius = (size * rng.uniform(0.95, 1.25), size * rng.uniform(0.8, 1.05))
        edge = canvas.blob(centre, radius, rng.uniform(-0.5, 0.5))
        edge = edge + 0.28 * canvas.clouds(rng, 0.07) + 0.20 * canvas.clouds(rng, 0.03)
        patch = ramp(edge, 1.65, 0.15) * chest.lung[side]
        density = 0.52 + 0.42 * lesion.strength
        mottle = np.clip(1.0 + 0.16 * canvas.clouds(rng, 0.03), 0.4, 1.3)
        chest.aeration *= 1.0 - np.minimum(density * mottle, 0.97) * patch
        points, widths = chest.anatomy.vessels[side].lines
        airways = canvas.strokes(list(points[:36]), np.minimum(0.6 * widths[:36], 0.005))
        chest.lucent += (0.11 * lesion.strength) * airways * patch
        chest.vessel_gain *= 1.0 - 0.85 * patch
        place = np.maximum(place, patch)
    return place


def atelectasis(chest: Chest, lesion: Lesion) -> Plane:
    """Collapse of the lung base: dense plates, and with severity a wedge below them; the dome was raised before."""
    canvas, rng = chest.canvas, np.random.default_rng(lesion.seed)
    place = np.zeros_like(chest.air)
    for side in lesion.sides:
        strength = lesion.strength
        base = 0.675 + (chest.anatomy.left_drop if side == "left" else 0.0) - chest.shape.raised[side]
        plates: list[Points] = []
        for index in range(1 + round(2.4 * strength)):
            x, y = rng.uniform(0.245, 0.285), base - 0.035 - 0.045 * index + rng.uniform(-0.008, 0.008)
            half, tilt = 0.075 + 0.03 * strength + rng.uniform(-0.012, 0.012), rng.uniform(-0.30, 0.12)
            line = curve([(x - half, y - half * tilt), (x, y + rng.uniform(0.0, 0.010)), (x + half, y + half * tilt)])
            thick = np.sin(np.linspace(0.15, np.pi - 0.15, len(line))) * (0.017 + 0.011 * strength)
            plates.append(chest.anatomy.place(ribbon(line, thick), side))
        plate = canvas.blur(canvas.polygons(plates), 0.005) * chest.lung[side]
        corner = _side_point(chest, (0.40, base + 0.035), side)
        reach = 0.10 + 0.12 * strength
        wedge = ramp(canvas.blob(corner, (1.15 * reach, 0.85 * reach)), 1.2, 0.35) * chest.lung[side]
        haze = 0.22 + 0.52 * max(0.0, strength - 0.2)
        chest.aeration *= (1.0 - (0.52 + 0.26 * strength) * plate) * (1.0 - haze * wedge)
        # behind the heart there is little air to lose, yet a collapsed lobe shows there
        chest.dense += (0.14 + 0.09 * strength) * plate + 0.16 * haze * wedge
        seen = np.maximum(ramp(canvas.blur(plate, 0.006), 0.08, 0.3), wedge * np.float32(strength > 0.4))
        place = np.maximum(place, seen)
    return place


def edema(chest: Chest, lesion: Lesion) -> Plane:
    """Fluid in both lungs: wide blurred vessels and haze around the hila, septal lines, then bat-wing opacities."""
    canvas, rng = chest.canvas, np.random.default_rng(lesion.seed)
    strength = lesion.strength
    lungs = np.maximum(chest.lung["right"], chest.lung["left"])
    wings = np.zeros_like(chest.air)
    for side in SIDES:
        centre = _side_point(chest, (0.365, 0.485), side)
        wings = np.maximum(wings, bell(canvas.blob(centre, (0.115 + 0.05 * strength, 0.165 + 0.07 * strength))))
    fluff = np.clip(1.0 + 0.24 * canvas.clouds(rng, 0.05) + 0.12 * canvas.clouds(rng, 0.022), 0.2, 1.6)
    haze = (0.06 + 0.66 * strength**1.15) * wings * fluff + 0.03 + 0.13 * strength * ramp(canvas.y, 0.25, 0.65)
    chest.aeration *= 1.0 - np.clip(haze, 0.0, 0.9) * lungs
    # upper-zone vessels widen, and all lose their edges
    wide = canvas.blur(chest.vessels, 0.005 + 0.004 * strength)
    chest.vessels += (
        np.minimum((0.45 + 1.35 * strength) * wide, 0.15 - 0.04 * strength)
        * (0.55 + 0.45 * ramp(canvas.y, 0.55, 0.30))
        * lungs
    )
    septa: list[Points] = []
    for side in SIDES:
        for y in np.arange(0.56, 0.72, 0.014):
            start = float(chest.anatomy.wall_x(y)) + 0.006
            line = np.array([(start, y), (start + rng.uniform(0.022, 0.040), y + rng.uniform(-0.004, 0.004))])
            septa.append(chest.anatomy.place(line, side))
    chest.dense += (0.04 + 0.10 * strength) * canvas.strokes(septa, 0.0035) * lungs
    return ramp(wings, 0.30, 0.45) * lungs


def nodule(chest: Chest, lesion: Lesion) -> Plane:
    """A round soft-tissue density within the lung, slightly lobulated; large ones are masses."""
    canvas, rng = chest.canvas, np.random.default_rng(lesion.seed)
    side = lesion.sides[0]
    height = {"upper zone": (0.21, 0.31), "mid zone": (0.38, 0.50), "lower zone": (0.56, 0.655)}
    low, high = height[lesion.zone or "mid zone"]
    y = rng.uniform(low, high)
    x = rng.uniform(0.235, 0.345) if lesion.zone != "upper zone" else rng.uniform(0.275, 0.37)
    radius = 0.038 + 0.032 * lesion.strength
    centre = _side_point(chest, (x, y), side)
    squared = canvas.blob(centre, (radius, radius * rng.uniform(0.88, 1.05)), rng.uniform(0.0, np.pi))
    squared = squared + 0.06 * canvas.clouds(rng, 0.03)
    # the path through a sphere: sqrt(1 - r^2), with a rim that partial volume softens
    sphere = np.sqrt(np.clip(1.0 - squared, 0.0, 1.0)) ** 0.7 * chest.lung[side]
    chest.dense += (0.33 + 0.20 * lesion.strength) * canvas.blur(sphere, 0.002)
    return ramp(squared, 1.12, 0.92) * chest.lung[side]


def cardiomegaly(chest: Chest, lesion: Lesion) -> Plane:  # noqa: ARG001 - the heart was drawn wide; see render.shape_of
    """Return the place of the heart, which :func:`dmlm.datasets.phantom.render.shape_of` has made wide."""
    return chest.heart_mask


def hernia(chest: Chest, lesion: Lesion) -> Plane:
    """Stomach above the diaphragm: a round mass behind the heart with an air-fluid level."""
    canvas, rng = chest.canvas, np.random.default_rng(lesion.seed)
    radius = 0.068 + 0.045 * lesion.strength
    x, y = 0.545 + rng.uniform(-0.012, 0.022), 0.715 - 0.80 * radius
    ball = canvas.blob((x, y), (radius, 0.92 * radius), rng.uniform(-0.3, 0.3)) + 0.07 * canvas.clouds(rng, 0.09)
    inside = ramp(ball, 1.06, 0.92)
    wall = np.exp(-np.square((np.sqrt(np.maximum(ball, 0.0)) - 0.96) / 0.055))
    level = y - 0.12 * radius
    gas = ramp(ball, 0.86, 0.74) * ramp(canvas.y, level + 0.003, level - 0.003)
    chest.dense += 0.17 * inside * (1.0 - gas) + 0.05 * wall
    chest.lucent += (0.18 + 0.12 * lesion.strength) * gas
    return inside


def _side_point(chest: Chest, point: tuple[float, float], side: Side) -> tuple[float, float]:
    x, y = chest.anatomy.place(np.array(point), side)
    return float(x), float(y)
