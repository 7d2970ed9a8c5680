"""One study as pixels: the chest with its lesions, and where they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.phantom import parenchyma, pleura
from dmlm.datasets.phantom.anatomy import Anatomy
from dmlm.datasets.phantom.canvas import Canvas, Plane
from dmlm.datasets.phantom.film import Technique, expose
from dmlm.datasets.phantom.findings import Lesion, Lookalike
from dmlm.datasets.phantom.thorax import Chest, Shape, draw_chest

OVERSAMPLING: Final = (1.25, 1.5)
"""Pixels of the drawing per pixel of the film, along each side: for thumbnails (below 128 pixels), and above."""

# drawn in this order: what changes vessels first, what lies on top last
_DRAW: Final[Mapping[str, Callable[[Chest, Lesion], Plane]]] = {
    "Cardiomegaly": parenchyma.cardiomegaly,
    "Edema": parenchyma.edema,
    "Consolidation": parenchyma.consolidation,
    "Atelectasis": parenchyma.atelectasis,
    "Nodule": parenchyma.nodule,
    "Hernia": parenchyma.hernia,
    "Pleural Thickening": pleura.thickening,
    "Pneumothorax": pleura.pneumothorax,
    "Pleural Effusion": pleura.effusion,
    "Support Devices": pleura.devices,
}


def shape_of(anatomy: Anatomy, lesions: Sequence[Lesion], portable: bool) -> Shape:
    """Return the outlines that lesions leave: heart size, domes of the diaphragm, displacement of the mediastinum."""
    ratio = anatomy.heart_width * (1.05 if portable else 1.0)
    shape = Shape(heart_ratio=min(ratio, 0.495))
    for lesion in lesions:
        toward = 1.0 if lesion.side == "left" else -1.0
        if lesion.finding == "Cardiomegaly":
            shape.heart_ratio = 0.507 + 0.150 * lesion.strength
        elif lesion.finding == "Atelectasis":
            for side in lesion.sides:
                shape.raised[side] = 0.012 + 0.05 * lesion.strength
            if lesion.side != "bilateral":
                shape.push += 0.025 * toward * max(0.0, lesion.strength - 0.3)
        elif lesion.finding in ("Pneumothorax", "Pleural Effusion") and lesion.side != "bilateral":
            shape.push -= 0.055 * toward * max(0.0, lesion.strength - 0.55)
    return shape


def render(
    anatomy: Anatomy,
    technique: Technique,
    lesions: Sequence[Lesion],
    size: int,
    lookalikes: Sequence[Lookalike] = (),
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.bool_]]]:
    """Draw a study.

    Args:
        anatomy: The patient.
        technique: How the film was taken.
        lesions: What is wrong, at most one lesion per finding.
        size: Side of the film in pixels.
        lookalikes: What looks like a finding and is none.

    Returns:
        Grey values uint8 ``[size, size]``, and per finding its place, bool ``[size, size]``.
    """
    import cv2

    canvas = Canvas(round(OVERSAMPLING[size >= 128] * size), technique.frame)
    shape = shape_of(anatomy, lesions, technique.view == "AP")
    chest = draw_chest(canvas, anatomy, shape, technique.view, np.random.default_rng([technique.seed, 1]))
    for mimic in lookalikes:
        pleura.lookalike(chest, mimic)
    by_name = {lesion.finding: lesion for lesion in lesions}
    masks: dict[str, NDArray[np.bool_]] = {}
    for name, draw in _DRAW.items():
        if name in by_name:
            place = cv2.resize(draw(chest, by_name[name]), (size, size), interpolation=cv2.INTER_AREA)
            masks[name] = np.asarray(place) >= 0.5
    return expose(canvas, chest.attenuation(), technique, size), masks
