"""What a model says about single films: outlines of true and predicted masks, uncertainty as colour, a grid of cases.

Drawn with Pillow and OpenCV on uint8 arrays, no figure library needed.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmlm.errors import ConfigError, MismatchError
from dmlm.io.atomic import atomic_path

TRUTH, PREDICTED = (0, 200, 150), (230, 159, 0)
"""Colours of true (green) and predicted (orange) outlines, told apart by colour-blind eyes."""

_GAP, _LINE, _FONT = 8, 14, 12
_PAPER, _INK = (18, 18, 22), (225, 225, 225)


@dataclass(frozen=True)
class Case:
    """One film of a grid.

    Args:
        image: Grey values, uint8 ``[H, W]``.
        caption: Lines beneath it, such as the findings with probability and truth.
        truth: True masks by name, ``[H, W]``.
        predicted: Predicted masks by name, ``[H, W]``.
        maps: Values to lay over the film as colour, float ``[h, w]`` each, by the title of their panel.
        ranges: Values of the lowest and the highest colour, by title. Maps without one share theirs with all maps of
            that title in a grid, from the least to the greatest: a film that nothing is doubtful in is dark.
    """

    image: NDArray[np.uint8]
    caption: str = ""
    truth: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    predicted: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    maps: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def mask_overlay(
    image: NDArray[np.uint8], truth: Sequence[NDArray[Any]], predicted: Sequence[NDArray[Any]]
) -> NDArray[np.uint8]:
    """Outline true masks (green) and predicted masks (orange, on a light tint) on a film.

    Args:
        image: Grey values, uint8 ``[H, W]``.
        truth: Masks ``[H, W]``, true or false.
        predicted: Masks ``[H, W]``, true or false.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        MismatchError: If a mask is of another size than the film.
    """
    import cv2

    picture = np.repeat(image[..., None], 3, axis=2)
    width = max(1, round(min(image.shape) / 220))
    for masks, colour in ((truth, TRUTH), (predicted, PREDICTED)):
        for mask in masks:
            if mask.shape != image.shape:
                msg = f"a mask of {mask.shape} does not lie on a film of {image.shape}: resize it first"
                raise MismatchError(msg)
            inside = np.asarray(mask, dtype=np.uint8)
            if colour == PREDICTED:
                tint = 0.85 * picture + 0.15 * np.asarray(colour, dtype=np.float64)
                picture = np.where(inside[..., None] > 0, tint.astype(np.uint8), picture)
            lines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            picture = np.ascontiguousarray(picture)
            cv2.drawContours(picture, lines, -1, colour, width)
    return picture


def map_overlay(
    image: NDArray[np.uint8], values: NDArray[Any], low: float | None = None, high: float | None = None
) -> NDArray[np.uint8]:
    """Lay a map of numbers over a film: dark blue is low, yellow is high; both ends fade the film equally.

    Args:
        image: Grey values, uint8 ``[H, W]``.
        values: Finite numbers ``[h, w]``, resized to the film (bilinear).
        low: Value of the lowest colour; None is the map's smallest.
        high: Value of the highest colour; None is the map's largest. A constant map has the lowest colour throughout.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        MismatchError: If the map is not a plane of finite numbers.
    """
    import cv2

    plane = np.asarray(values, dtype=np.float32)
    if plane.ndim != 2 or not plane.size or not np.isfinite(plane).all():
        msg = f"a map over a film must be finite numbers [h, w], got shape {plane.shape}"
        raise MismatchError(msg)
    low = float(plane.min()) if low is None else low
    high = float(plane.max()) if high is None else high
    unit = np.clip((plane - low) / (high - low), 0, 1) if high > low else np.zeros_like(plane)
    large = cv2.resize(unit, image.shape[::-1], interpolation=cv2.INTER_LINEAR)
    bgr = cv2.applyColorMap(np.rint(255 * large).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    mixed = 0.55 * image[..., None] + 0.45 * bgr[..., ::-1]
    return np.asarray(mixed.astype(np.uint8))


def case_panels(
    case: Case, shared: Mapping[str, tuple[float, float]] | None = None
) -> list[tuple[str, NDArray[np.uint8]]]:
    """Titled panels of a case, uint8 ``[H, W, 3]`` each: the film, its masks if it has any, and its maps.

    Args:
        case: The case.
        shared: Ranges of maps for which the case has none, by title; without either a map has its own.
    """
    panels = [("film", np.repeat(case.image[..., None], 3, axis=2))]
    if case.truth or case.predicted:
        title = {(True, True): "true, predicted", (True, False): "true", (False, True): "predicted"}
        drawn = mask_overlay(case.image, list(case.truth.values()), list(case.predicted.values()))
        panels.append((title[bool(case.truth), bool(case.predicted)], drawn))
    ranges = {**(shared or {}), **case.ranges}
    return panels + [
        (name, map_overlay(case.image, values, *ranges.get(name, (None, None)))) for name, values in case.maps.items()
    ]


def prediction_grid(cases: Sequence[Case], path: str | os.PathLike[str], columns: int = 4, size: int = 160) -> None:
    """Write cases side by side with their panels and captions as one PNG.

    Args:
        cases: What to show.
        path: PNG file.
        columns: Cases per row.
        size: Height and width of a panel, in pixels.

    Raises:
        ConfigError: If there are no cases.
        MismatchError: If a mask or a map does not fit its film.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not cases:
        msg = "a prediction grid needs at least one case"
        raise ConfigError(msg)
    font = ImageFont.load_default(_FONT)
    shared = _shared_ranges(cases)
    panels = [case_panels(case, shared) for case in cases]
    wide = max(len(row) for row in panels) * (size + 2)
    letters = max(12, int(wide / font.getlength("abcdefghijklm nopqrst") * 21))
    captions = [[line for part in case.caption.splitlines() for line in textwrap.wrap(part, letters)] for case in cases]
    columns = min(columns, len(cases))
    rows = [range(start, min(start + columns, len(cases))) for start in range(0, len(cases), columns)]
    heights = [size + _LINE * (1 + max(len(captions[i]) for i in row)) + 2 * _GAP for row in rows]
    page = Image.new("RGB", (columns * (wide + _GAP) + _GAP, sum(heights) + _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    top = _GAP
    for row, tall in zip(rows, heights, strict=True):
        for column, number in enumerate(row):
            left = _GAP + column * (wide + _GAP)
            for place, (title, picture) in enumerate(panels[number]):
                x = left + place * (size + 2)
                page.paste(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR), (x, top + _LINE))
                draw.text((x, top - 2), title, fill=_INK, font=font)
            for line, text in enumerate(captions[number]):
                draw.text((left, top + _LINE + size + 2 + line * _LINE), text, fill=_INK, font=font)
        top += tall
    with atomic_path(path) as target:
        page.save(target, format="PNG")


def _shared_ranges(cases: Sequence[Case]) -> dict[str, tuple[float, float]]:
    found: dict[str, list[float]] = {}
    for case in cases:
        for name, values in case.maps.items():
            found.setdefault(name, []).extend(np.asarray(values, dtype=np.float64).reshape(-1).tolist())
    return {name: (min(values), max(values)) for name, values in found.items() if values}
