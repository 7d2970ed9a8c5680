"""What goes wrong with films, in five degrees: noise, blur, exposure, covered areas. For tests of robustness only.

The degrees are chosen so that 1 is barely visible and 5 hides findings from a reader; they are ours and compare with no
published benchmark.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dmlm.errors import ConfigError

Corruption = Literal["noise", "blur", "exposure", "covered"]
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)
LEVELS = (1, 2, 3, 4, 5)

_NOISE = (6.0, 12.0, 20.0, 32.0, 48.0)  # standard deviation in grey levels
_BLUR = (0.006, 0.012, 0.02, 0.03, 0.045)  # standard deviation as a share of the side
_GAMMA = (1.2, 1.5, 1.9, 2.5, 3.5)  # above 1 too dark, its inverse too bright
_COVERED = (0.02, 0.05, 0.1, 0.2, 0.35)  # share of the area under one square plate


def corrupt(image: NDArray[np.uint8], kind: Corruption, level: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Spoil a film.

    Args:
        image: Grey levels, uint8 ``[H, W]``.
        kind: ``noise`` (too little dose), ``blur`` (the patient moved), ``exposure`` (too dark or too bright, by a
            draw), ``covered`` (one white square, as of an object on the patient).
        level: Degree, 1 to 5; 0 leaves the film as it is.
        rng: Source of all randomness: equal seeds spoil equally.

    Returns:
        The spoilt film, uint8 ``[H, W]``.

    Raises:
        ConfigError: If there is no such kind or degree.
    """
    if kind not in CORRUPTIONS or level not in (0, *LEVELS):
        msg = f"corruption must be one of {', '.join(CORRUPTIONS)} at level 0 to {LEVELS[-1]}, got {kind} at {level}"
        raise ConfigError(msg)
    if level == 0:
        return image
    height, width = image.shape
    if kind == "noise":
        return _grey(image + rng.normal(0.0, _NOISE[level - 1], image.shape))
    if kind == "blur":
        import cv2

        sigma = _BLUR[level - 1] * min(height, width)
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.uint8)
    if kind == "exposure":
        power = _GAMMA[level - 1] if rng.random() < 0.5 else 1 / _GAMMA[level - 1]
        return _grey(255.0 * (image / 255.0) ** power)
    side = round((_COVERED[level - 1] * height * width) ** 0.5)
    top, left = (int(rng.integers(0, max(length - side, 0) + 1)) for length in (height, width))
    spoilt: NDArray[np.uint8] = np.array(image)
    spoilt[top : top + side, left : left + side] = 235
    return spoilt


def _grey(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    grey: NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return grey
