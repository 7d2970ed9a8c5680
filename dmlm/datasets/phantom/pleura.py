"""Findings of the pleura and what lies on the patient: effusion, thickening, pneumothorax, devices, lookalikes.

Each function changes the planes of a :class:`Chest` and returns the place of the finding, a plane 0..1.
"""

from __future__ import annotations

import numpy as np

from dmlm.datasets.phantom.anatomy import Side
from dmlm.datasets.phantom.canvas import Plane, Points, bell, curve, ramp, ribbon
from dmlm.datasets.phantom.findings import Lesion, Lookalike
from dmlm.datasets.phantom.thorax import Chest


def effusion(chest: Chest, lesion: Lesion) -> Plane:
    """Fluid at the base: it hides the dome and the costophrenic angle, and climbs the lateral wall (meniscus)."""
    canvas, rng = chest.canvas, np.random.default_rng(lesion.seed)
    place = np.zeros_like(chest.air)
    for side in lesion.sides:
        strength = lesion.strength * (1.0 if lesion.side != "bilateral" else rng.uniform(0.8, 1.0))
        lateral = np.clip(_lateral(chest, side), 0.0, 1.0)
        bottom = 0.812 + (chest.anatomy.left_drop if side == "left" else 0.0) - 0.6 * chest.shape.raised[side]
        height = 0.062 + 0.35 * strength**1.2
        rise = height * (0.60 + 0.25 * lateral**2) + 0.055 * lateral**6
        surface = np.float32(bottom) - rise + 0.003 * canvas.clouds(rng, 0.15)
        fluid = ramp(canvas.y - surface, -0.010 - 0.010 * strength, 0.014) * chest.lung[side]
        chest.aeration *= 1.0 - 0.96 * fluid
        chest.vessel_gain *= 1.0 - 0.9 * fluid
        # fluid before and behind the lung veils what lies above the level
        veil = (0.06 + 0.16 * strength) * ramp(canvas.y - surface, -0.16, 0.0) * chest.lung[side]
        chest.aeration *= 1.0 - veil
        # the abdomen is no brighter than the fluid above it
        chest.dense += (0.05 + 0.08 * strength) * fluid
        place = np.maximum(place, fluid)
    return place


def thickening(chest: Chest, lesion: Lesion) -> Plane:
    """Thick pleura: an uneven dense band along the lateral wall, or a cap over the apex."""
    canvas, rng = chest.canvas, np.random.default_rng(lesion.seed)
    place = np.zeros_like(chest.air)
    for side in lesion.sides:
        rim = chest.rim(side)
        bumps = 1.0 + 0.22 * canvas.clouds(rng, 0.07)
        thick = (0.020 + 0.030 * lesion.strength) * bumps
        if lesion.zone == "upper zone":
            along = ramp(canvas.y, 0.225 + 0.05 * lesion.strength, 0.175) * 1.45
        else:
            middle = {"mid zone": 0.42, "lower zone": 0.60}[lesion.zone or "lower zone"] + rng.uniform(-0.02, 0.02)
            reach = 0.12 + 0.07 * lesion.strength
            along = ramp(np.abs(canvas.y - np.float32(middle)), reach, 0.65 * reach)
        edge = thick * along
        band = ramp(rim - edge, 0.004, -0.004) * ramp(along, 0.03, 0.2) * chest.lung[side] * (rim > 0.0)
        chest.aeration *= 1.0 - (0.55 + 0.4 * lesion.strength) * band
        chest.dense += (0.14 + 0.24 * lesion.strength) * band
        chest.vessel_gain *= 1.0 - band
        place = np.maximum(place, band)
    return place


def pneumothorax(chest: Chest, lesion: Lesion) -> Plane:
    """Air between lung and chest wall: a dark rim without vessels, widest at the apex, and the line of the pleura."""
    canvas, rng = chest.canvas, np.random.default_rng(lesion.seed)
    side = lesion.sides[0]
    strength = lesion.strength
    outline = chest.anatomy.lung(side, chest.shape.raised[side])
    hilum = chest.anatomy.place(np.array((0.445, 0.47)), side)
    # the lung shrinks towards its root, less at the base, where it stays on the diaphragm
    towards = np.interp(outline[:, 1], [0.12, 0.45, 0.80], [1.0, 0.85, 0.42 + 0.4 * strength])
    shrink = (0.115 + 0.415 * strength) * towards * rng.uniform(0.95, 1.05)
    edge = outline + (hilum - outline) * np.stack([shrink, np.where(outline[:, 1] < 0.47, 0.85 * shrink, 0.0)], axis=1)
    lung = chest.lung[side]
    lateral = ramp(_lateral(chest, side), 0.12, 0.22)
    lateral *= np.maximum(ramp(canvas.y, 0.64, 0.58), ramp(_lateral(chest, side), 0.50, 0.62))  # not along the dome
    free = np.maximum(lung - canvas.polygon(edge), 0.0) * ramp(canvas.y, 0.80, 0.76) * lateral
    chest.vessel_gain *= 1.0 - free
    chest.lucent += (0.13 + 0.14 * strength) * free * np.sqrt(np.maximum(chest.air, 0.0))
    line = canvas.strokes([np.concatenate([edge, edge[:1]])], 0.0062) * lung * ramp(canvas.y, 0.76, 0.70) * lateral
    chest.dense += (0.13 + 0.09 * strength) * line
    # what is left of the lung holds less air
    chest.aeration *= 1.0 - (0.05 + 0.30 * strength**2) * (1.0 - free) * lung
    place: Plane = np.maximum(free, ramp(line, 0.3, 0.6))
    return place


def devices(chest: Chest, lesion: Lesion) -> Plane:
    """Tubes, lines and implants, as named by the lesion."""
    canvas, rng = chest.canvas, np.random.default_rng(lesion.seed)
    thin: list[Points] = []
    wide: list[Points] = []
    metal = np.zeros_like(chest.air)
    if "endotracheal tube" in lesion.devices:
        end = 0.335 - rng.uniform(0.045, 0.10)
        tube = curve([(0.506, -0.06), (0.508, 0.10), (0.504, 0.5 * end + 0.08), (0.503, end)])
        wide.append(tube)
    if "enteric tube" in lesion.devices:
        thin.append(curve([(0.512, -0.06), (0.514, 0.2), (0.518, 0.45), (0.525, 0.68), (0.58, 0.80), (0.66, 0.83)]))
    if "central venous catheter" in lesion.devices:
        tip = (0.462, rng.uniform(0.37, 0.47))
        if rng.random() < 0.5:
            thin.append(curve([(0.425, -0.06), (0.435, 0.08), (0.452, 0.20), (0.456, 0.30), tip]))
        else:
            thin.append(curve([(0.17, 0.27), (0.25, 0.19), (0.36, 0.185), (0.435, 0.225), (0.456, 0.31), tip]))
    if "chest tube" in lesion.devices:
        side: Side = "left" if lesion.side == "left" else "right"
        tube = curve([(0.02, 0.66), (0.12, 0.58), (0.20, 0.45), (0.255, 0.30), (0.30, 0.215)])
        wide.append(chest.anatomy.place(tube, side))
    if "pacemaker" in lesion.devices:
        x, y = 0.795 + rng.uniform(-0.02, 0.02), 0.205 + rng.uniform(-0.02, 0.02)
        corner = np.abs(canvas.x - x) ** 3 / 0.050**3 + np.abs(canvas.y - y) ** 3 / 0.042**3
        metal = ramp(corner, 1.12, 0.9)
        vein = [(x - 0.045, y - 0.01), (0.68, 0.165), (0.56, 0.205), (0.475, 0.27), (0.458, 0.40)]
        thin.append(curve([*vein, (0.455, 0.56), (0.52, 0.672), (0.612, 0.690)]))
        thin.append(curve([*vein, (0.446, 0.53), (0.425, 0.57), (0.432, 0.53)]))
    hard = canvas.strokes(thin, 0.0068) if thin else np.zeros_like(metal)
    dense = 0.55 * hard + 0.95 * metal
    if wide:
        # a wall on either side and an opaque stripe
        dense = (
            dense + 0.20 * canvas.polygons([ribbon(line, 0.017) for line in wide]) + 0.46 * canvas.strokes(wide, 0.0060)
        )
        hard = np.maximum(hard, canvas.strokes(wide, 0.017))
    chest.dense += dense * (0.8 + 0.35 * lesion.strength)
    return ramp(canvas.blur(np.maximum(hard, metal), 0.004), 0.12, 0.4)


def lookalike(chest: Chest, mimic: Lookalike) -> None:
    """Draw what looks like a finding and is none."""
    canvas, rng = chest.canvas, np.random.default_rng(mimic.seed)
    if mimic.kind == "skin fold":
        # an edge, not a line: dense towards the heart, and vessels go on beyond it
        x = rng.uniform(0.19, 0.23)
        fold = chest.anatomy.place(
            curve([(x + 0.07, 0.16), (x + 0.015, 0.32), (x - 0.005, 0.50), (x - 0.03, 0.66)]), mimic.side
        )
        inward = 0.03 if mimic.side == "right" else -0.03
        band = canvas.polygon(np.concatenate([fold, np.add(fold, (inward, 0.0))[::-1]]))
        fade = np.clip(
            (canvas.x - np.float32(chest.anatomy.place(np.array((x, 0.4)), mimic.side)[0])) / inward, 0.0, 1.0
        )
        chest.dense += 0.11 * band * (1.0 - 0.6 * fade)
        return
    centre = chest.anatomy.place(np.array((rng.uniform(0.24, 0.34), rng.uniform(0.25, 0.60))), mimic.side)
    squared = canvas.blob((float(centre[0]), float(centre[1])), (0.030, 0.017), rng.uniform(-0.6, 0.6))
    chest.dense += 0.15 * bell(squared) * chest.lung[mimic.side]


def _lateral(chest: Chest, side: Side) -> Plane:
    """0 at the midline, 1 at the lateral wall of ``side``."""
    across: Plane = (np.float32(0.5025) - chest.canvas.x) / np.float32(0.362 * chest.anatomy.width)
    return across if side == "right" else -across
