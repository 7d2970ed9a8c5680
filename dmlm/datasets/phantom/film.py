"""From attenuation to grey values: beam, scatter, noise, exposure and the curve of the film."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.phantom.canvas import Canvas, Frame, Plane
from dmlm.datasets.phantom.findings import View


@dataclass(frozen=True)
class Technique:
    """How one study was taken.

    Args:
        view: Direction of the beam.
        frame: How the patient stood and breathed.
        low: Attenuation that is black.
        span: Range of attenuation from black to white.
        gamma: Curve of the film; above 1 it is darker.
        scatter: Share of scattered radiation, which takes contrast away.
        noise: Deviation of the quantum noise behind tissue of no attenuation.
        grid: Strength of uneven exposure across the film.
        marker: Height of the side marker, where there is one.
        seed: Decides noise and what lies differently in each study.
    """

    view: View
    frame: Frame
    low: float
    span: float
    gamma: float
    scatter: float
    noise: float
    grid: float
    marker: float | None
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator, habitus: float, view: View) -> Technique:
        """Draw a technique; obese patients and portable films get more noise and less contrast."""
        portable = view == "AP"
        low_breath = 0.86 if portable else 0.93
        frame = Frame(
            angle=float(np.deg2rad(rng.normal(0.0, 1.8 if portable else 1.0))),
            scale=float(rng.uniform(0.94, 1.05)),
            shift=(float(rng.normal(0.0, 0.013)), float(rng.normal(0.004, 0.012))),
            breath=float(rng.uniform(low_breath, 1.025)),
        )
        return cls(
            view=view,
            frame=frame,
            low=float(rng.uniform(-0.06, 0.06)),
            span=float(rng.uniform(1.42, 1.72) + 0.14 * habitus),
            gamma=float(rng.uniform(0.80, 1.20)),
            scatter=float(rng.uniform(0.05, 0.16) + 0.06 * habitus + 0.05 * portable),
            noise=float(rng.uniform(0.010, 0.022) * (1.0 + 0.5 * habitus + 0.3 * portable)),
            grid=float(rng.uniform(0.0, 0.05)),
            marker=float(rng.uniform(0.03, 0.20)) if rng.random() < 0.6 else None,
            seed=int(rng.integers(2**62)),
        )


def expose(canvas: Canvas, attenuation: Plane, technique: Technique, size: int) -> NDArray[np.uint8]:
    """Turn attenuation on the canvas into a film of ``size`` pixels.

    The beam falls as ``exp(-attenuation)`` (Beer-Lambert); scatter adds a blurred share of it; the film shows the
    logarithm, so that grey values are about proportional to attenuation. Photon noise grows about as
    ``exp(attenuation / 2)``.

    Returns:
        Grey values, uint8 ``[size, size]``.
    """
    import cv2

    rng = np.random.default_rng(technique.seed)
    beam = np.exp(-1.6 * attenuation)
    beam += np.float32(technique.scatter) * canvas.blur(beam, 0.09)
    small = np.asarray(cv2.resize(beam, (size, size), interpolation=cv2.INTER_AREA), dtype=np.float32)
    seen = np.log(small + 1e-6) / np.float32(-1.6)
    seen += np.float32(np.log1p(technique.scatter) / 1.6)
    grain = rng.standard_normal((size, size), dtype=np.float32)
    grain += 0.6 * cv2.GaussianBlur(rng.standard_normal((size, size), dtype=np.float32), (0, 0), 1.2) * 2.0
    seen += np.float32(technique.noise) * grain * np.exp(0.45 * np.minimum(seen, 2.0))
    line = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    tilt = rng.normal(0.0, 1.0, 2).astype(np.float32)
    seen += np.float32(technique.grid) * (tilt[0] * line + tilt[1] * line[:, None])
    level = np.clip((seen - np.float32(technique.low)) / np.float32(technique.span), 0.0, None)
    level /= np.sqrt(np.sqrt(1.0 + np.square(np.square(level))))  # the shoulder of the film curve
    grey = np.power(level, np.float32(technique.gamma)) * np.float32(250.0) + 3.0
    film: NDArray[np.uint8] = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    if technique.marker is not None:
        place = (round(0.885 * size), round((technique.marker + 0.05) * size))
        cv2.putText(film, "L", place, cv2.FONT_HERSHEY_SIMPLEX, size / 420, 235, max(1, round(size / 170)), cv2.LINE_AA)
    return film
