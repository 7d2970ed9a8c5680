"""Drawing in the frame of a thorax: smooth curves, filled shapes and strokes, antialiased, on a square of pixels.

Anatomical coordinates are fractions of a film in standard position: x to the right of the image (the patient's left),
y downwards. A :class:`Frame` says where they land on the film of one study.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Points = NDArray[np.float64]

_SHIFT = 4  # fixed-point bits of OpenCV coordinates
_APEX_Y = 0.125
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


@dataclass(frozen=True)
class Frame:
    """How the patient stood and breathed.

    Args:
        angle: Rotation in radians.
        scale: Magnification.
        shift: Displacement ``(x, y)`` as fractions of the film.
        breath: Length of the chest below the apex relative to a full inspiration.
    """

    angle: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    breath: float = 1.0

    def to_film(self, points: Points) -> Points:
        """Map anatomical coordinates ``[..., 2]`` to fractions of the film."""
        y = points[..., 1]
        y = np.maximum(y - _APEX_Y, 0.0) * self.breath + np.minimum(y, _APEX_Y) - 0.5
        x = points[..., 0] - 0.5
        cosine, sine = self.scale * math.cos(self.angle), self.scale * math.sin(self.angle)
        film = np.empty(points.shape)
        film[..., 0] = cosine * x - sine * y + (0.5 + self.shift[0])
        film[..., 1] = sine * x + cosine * y + (0.5 + self.shift[1])
        return film

    def grids(self, size: int) -> tuple[Plane, Plane]:
        """Return the anatomical x and y of every pixel centre, float32 ``[size, size]`` each."""
        line = _centres(size)
        cosine, sine = np.cos(self.angle) / self.scale, np.sin(self.angle) / self.scale
        u, v = line - 0.5 - self.shift[0], (line - 0.5 - self.shift[1])[:, None]
        x = (cosine * u + sine * v + 0.5).astype(np.float32)
        y = (cosine * v - sine * u + 0.5).astype(np.float32)
        return x, np.where(y > _APEX_Y, _APEX_Y + (y - _APEX_Y) / np.float32(self.breath), y)


@lru_cache(maxsize=8)
def _centres(size: int) -> Points:
    return (np.arange(size) + 0.5) / size


class Canvas:
    """A square of ``size`` pixels that a :class:`Frame` lies on; ``x`` and ``y`` are its anatomical coordinates."""

    def __init__(self, size: int, frame: Frame) -> None:
        self.size = size
        self.frame = frame
        self.x, self.y = frame.grids(size)

    def pixels(self, points: Points) -> NDArray[np.int32]:
        """Map anatomical coordinates to OpenCV's fixed-point pixels."""
        film = self.frame.to_film(points)
        film *= self.size << _SHIFT
        film -= 0.5 * (1 << _SHIFT)
        return np.rint(film, out=film).astype(np.int32)

    def _all_pixels(self, lines: Sequence[Points]) -> list[NDArray[np.int32]]:
        """Map several lines at once: one call of numpy instead of hundreds."""
        if not lines:
            return []
        placed = self.pixels(np.concatenate(lines))
        ends = list(accumulate(len(line) for line in lines))
        return [placed[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def polygon(self, points: Points) -> Plane:
        """Fill a closed outline ``[N, 2]``; returns coverage 0..1."""
        return self.polygons([points])

    def polygons(self, outlines: Sequence[Points], values: Sequence[float] | None = None) -> Plane:
        """Fill several outlines with ``values`` (0..1; 1 by default); where they overlap, the last one stays."""
        import cv2

        target = np.zeros((self.size, self.size), np.uint8)
        levels = [255] * len(outlines) if values is None else [round(255 * value) for value in values]
        for outline, level in zip(self._all_pixels(outlines), levels, strict=True):
            cv2.fillPoly(target, [outline], level, cv2.LINE_AA, _SHIFT)
        return _fraction(target)

    def strokes(self, lines: Sequence[Points], width: float | Sequence[float] | Points, value: float = 1.0) -> Plane:
        """Draw open lines of ``width`` (fraction of the film; one, or one per line); returns coverage 0..``value``.

        Lines thinner than a pixel become fainter instead. Where lines cross, the wider one wins.
        """
        import cv2

        target = np.zeros((self.size, self.size), np.uint8)
        widths = np.broadcast_to(np.asarray(width, dtype=np.float64), (len(lines),)) * self.size * self.frame.scale
        steps = np.where(widths < 1.0, np.ceil(widths * 4) / 4, np.rint(widths))
        placed = self._all_pixels(lines)
        order = np.argsort(steps, kind="stable")
        levels, starts = np.unique(steps[order], return_index=True)
        for step, start, end in zip(levels, starts, [*starts[1:], len(order)], strict=True):
            group = [placed[place] for place in order[start:end]]
            level = round(255 * min(1.0, max(float(step), 0.1)))
            cv2.polylines(target, group, False, level, max(1, int(step)), cv2.LINE_AA, _SHIFT)
        plane = _fraction(target)
        return plane if value == 1.0 else plane * np.float32(value)

    def blur(self, plane: Plane, sigma: float) -> Plane:
        """Blur by a Gaussian of ``sigma`` (fraction of the film); wide ones are made on a coarser grid."""
        import cv2

        pixels = sigma * self.size * self.frame.scale
        if pixels < 0.25:
            return plane
        step = int(pixels // 3)
        if step >= 2:
            small = _plane(cv2.resize(plane, (self.size // step, self.size // step), interpolation=cv2.INTER_AREA))
            small = _plane(cv2.GaussianBlur(small, (0, 0), pixels / step))
            return _plane(cv2.resize(small, (self.size, self.size), interpolation=cv2.INTER_LINEAR))
        return _plane(cv2.GaussianBlur(plane, (0, 0), pixels))

    def depth(self, mask: Plane) -> Plane:
        """Distance of each pixel inside ``mask`` from its edge, as a fraction of the film (0 outside)."""
        import cv2

        inside = (mask > 0.5).astype(np.uint8)
        # the coverage of the edge pixel restores the part of a pixel that thresholding loses
        distance = _plane(cv2.distanceTransform(inside, cv2.DIST_L2, 3))
        return _plane(np.maximum(distance - 0.5, 0.0) / np.float32(self.size * self.frame.scale))

    def clouds(self, rng: np.random.Generator, cell: float) -> Plane:
        """Smooth noise of zero mean and about unit deviation, with structures of ``cell`` (fraction of the film)."""
        import cv2

        count = max(3, round(1.0 / cell) + 2)
        coarse = rng.standard_normal((count, count), dtype=np.float32)
        return _plane(cv2.resize(coarse, (self.size, self.size), interpolation=cv2.INTER_CUBIC))

    def blob(self, centre: tuple[float, float], radius: tuple[float, float], angle: float = 0.0) -> Plane:
        """Squared elliptic distance from ``centre`` in radii: 0 at the centre, 1 on the ellipse."""
        dx, dy = self.x - np.float32(centre[0]), self.y - np.float32(centre[1])
        if angle:
            cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
            dx, dy = cosine * dx + sine * dy, cosine * dy - sine * dx
        dx *= np.float32(1.0 / radius[0])
        dy *= np.float32(1.0 / radius[1])
        dx *= dx
        dy *= dy
        dx += dy
        return _plane(dx)


def ramp(plane: Plane, start: float, end: float) -> Plane:
    """Smooth step: 0 where ``plane`` is before ``start``, 1 past ``end`` (``start`` may exceed ``end``)."""
    t = plane - np.float32(start)
    t *= np.float32(1.0 / (end - start))
    np.minimum(np.maximum(t, _ZERO, out=t), _ONE, out=t)
    slope = np.float32(-2.0) * t
    slope += np.float32(3.0)
    t *= t
    t *= slope
    return _plane(t)


def bell(squared: Plane) -> Plane:
    """Gaussian of a squared distance: 1 at 0, 0.37 at 1."""
    return np.exp(-squared)


@lru_cache(maxsize=32)
def _weights(steps: int) -> Points:
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[:, None]
    return np.hstack(
        [
            -0.5 * t + t**2 - 0.5 * t**3,
            1.0 - 2.5 * t**2 + 1.5 * t**3,
            0.5 * t + 2.0 * t**2 - 1.5 * t**3,
            -0.5 * t**2 + 0.5 * t**3,
        ]
    )


def curve(controls: Any, steps: int = 6) -> Points:  # noqa: ANN401 - anything that numpy takes
    """Smooth open line through control points ``[N, 2]`` (Catmull-Rom); its ends are the first and last point."""
    points = np.asarray(controls, dtype=np.float64)
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    windows = np.stack([padded[i : len(padded) - 3 + i] for i in range(4)], axis=1)
    inner = np.einsum("sk,nkd->nsd", _weights(steps), windows).reshape(-1, 2)
    return np.concatenate([inner, points[-1:]])


def ribbon(line: Points, width: Points | float) -> Points:
    """Outline ``[..., 2N, 2]`` of a band along ``line`` ``[..., N, 2]``; ``width`` is a number or one per point."""
    tangent = np.empty_like(line)
    tangent[..., 1:-1, :] = line[..., 2:, :] - line[..., :-2, :]
    tangent[..., 0, :] = line[..., 1, :] - line[..., 0, :]
    tangent[..., -1, :] = line[..., -1, :] - line[..., -2, :]
    half = 0.5 * np.asarray(width, dtype=np.float64) / np.maximum(np.hypot(tangent[..., 0], tangent[..., 1]), 1e-9)
    normal = np.stack([-tangent[..., 1] * half, tangent[..., 0] * half], axis=-1)
    return np.concatenate([line + normal, (line - normal)[..., ::-1, :]], axis=-2)


def _fraction(target: NDArray[np.uint8]) -> Plane:
    return _plane(target.astype(np.float32) * np.float32(1 / 255))


def _plane(values: Any) -> Plane:  # noqa: ANN401 - the types of cv2 are wider than what it returns
    return np.asarray(values, dtype=np.float32)
