"""From stored grey values to a square of the model's size. The only file that imports albumentations.

A stored image of any shape is looked at through its centre square (side = the shorter side), in training and in
evaluation alike, so that a model never sees in one what it cannot see in the other. Aspect is kept.
"""

from __future__ import annotations

import math
import os
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dmlm.errors import ConfigError

if TYPE_CHECKING:
    import albumentations as A

Pixels = NDArray[np.uint8]


class Transformed(NamedTuple):
    """What a transform gives.

    ``image`` uint8 ``[S, S]``; ``masks`` uint8 ``[M, S, S]`` or None; ``matrix`` float64 ``[2, 3]`` maps stored pixel
    indices ``(x, y, 1)`` to those of ``image`` (pixel centres have whole numbers), so that boxes and zones can follow;
    None where a user's pipeline does not say what it did.
    """

    image: Pixels
    masks: Pixels | None
    matrix: NDArray[np.float64] | None


class Transform(Protocol):
    """A callable from stored pixels to model pixels; every random draw comes from ``rng``."""

    def __call__(self, image: Pixels, masks: Pixels | None, rng: np.random.Generator) -> Transformed:
        """Transform ``image`` uint8 ``[H, W]`` and ``masks`` uint8 ``[M, H, W]`` alike."""


@dataclass(frozen=True)
class AugmentConfig:
    """How far training images are varied.

    Args:
        scale: Smallest and largest side of the crop, as a fraction of the shorter side of the image.
        rotation: Largest rotation either way, in degrees.
        translation: Largest shift of the crop beyond where it fits, as a fraction of the shorter side; black moves in.
        brightness: Grey values are multiplied by a factor in ``1 - brightness`` to ``1 + brightness``.
        contrast: Distances from mid-grey are multiplied by a factor in ``1 - contrast`` to ``1 + contrast``.
        horizontal_flip: Mirror half of the images. This swaps left and right, so that reports and labels that name
            a side become wrong; leave it off unless none of them does.

    Raises:
        ConfigError: If a value is outside its range.
    """

    scale: tuple[float, float] = (0.8, 1.0)
    rotation: float = 10.0
    translation: float = 0.05
    brightness: float = 0.2
    contrast: float = 0.2
    horizontal_flip: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", tuple(self.scale))  # a list where it was rebuilt from plain data
        if len(self.scale) != 2 or not 0.0 < self.scale[0] <= self.scale[1] <= 1.0:
            msg = f"augmentation: scale must be two fractions 0 < smallest <= largest <= 1, got {list(self.scale)}"
            raise ConfigError(msg)
        if not 0.0 <= self.rotation <= 180.0:
            msg = f"augmentation: rotation must be 0 to 180 degrees, got {self.rotation}"
            raise ConfigError(msg)
        for name in ("translation", "brightness", "contrast"):
            if not 0.0 <= getattr(self, name) < 1.0:
                msg = f"augmentation: {name} must be at least 0 and below 1, got {getattr(self, name)}"
                raise ConfigError(msg)


class EvalTransform:
    """Resize so that the shorter side is ``image_size``, then crop the centre; nothing is drawn.

    Args:
        image_size: Side of the square that comes out, in pixels.
    """

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size

    def __call__(self, image: Pixels, masks: Pixels | None, rng: np.random.Generator | None = None) -> Transformed:
        """Transform ``image`` uint8 ``[H, W]`` and ``masks`` uint8 ``[M, H, W]`` alike."""
        return self.into(np.empty((self.image_size, self.image_size), np.uint8), image, masks, rng)

    def into(
        self,
        out: Pixels,
        image: Pixels,
        masks: Pixels | None,
        rng: np.random.Generator | None = None,  # noqa: ARG002
    ) -> Transformed:
        """Do the same, and write the image to ``out``, contiguous uint8 ``[S, S]``."""
        import cv2

        size = self.image_size
        height, width = image.shape
        scale = size / min(height, width)
        new_height, new_width = max(size, round(height * scale)), max(size, round(width * scale))
        if (new_height, new_width) != (height, width):
            # area averaging does not alias when shrinking; enlarging it would give blocks
            how = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
            image = _pixels(cv2.resize(image, (new_width, new_height), interpolation=how))
        left, top = (new_width - size) // 2, (new_height - size) // 2
        zoom_x, zoom_y = new_width / width, new_height / height
        matrix = np.array([[zoom_x, 0.0, 0.5 * zoom_x - 0.5 - left], [0.0, zoom_y, 0.5 * zoom_y - 0.5 - top]])
        np.copyto(out, image[top : top + size, left : left + size])
        return Transformed(out, _warp_masks(masks, matrix, size), matrix)


class TrainTransform:
    """One affine warp (crop, scale, rotation, shift), then one straight line of grey levels (brightness, contrast).

    Args:
        image_size: Side of the square that comes out, in pixels.
        config: How far images are varied.
    """

    def __init__(self, image_size: int, config: AugmentConfig | None = None) -> None:
        self.image_size = image_size
        self.config = AugmentConfig() if config is None else config

    def __call__(self, image: Pixels, masks: Pixels | None, rng: np.random.Generator) -> Transformed:
        """Transform ``image`` uint8 ``[H, W]`` and ``masks`` uint8 ``[M, H, W]`` alike."""
        return self.into(np.empty((self.image_size, self.image_size), np.uint8), image, masks, rng)

    def into(self, out: Pixels, image: Pixels, masks: Pixels | None, rng: np.random.Generator) -> Transformed:
        """Do the same, and write the image to ``out``, contiguous uint8 ``[S, S]``."""
        import cv2

        config, size = self.config, self.image_size
        # always as many, so that one option does not change what the others draw
        draws = (rng.random(7) * 2.0 - 1.0).tolist()
        matrix, side = self._matrix(image.shape[0], image.shape[1], draws)
        source, to_source = image, matrix
        factor = int(side / size)
        if factor >= 2:  # bilinear sampling sees 2 x 2 pixels: shrink by area first or fine structure aliases
            height, width = max(1, image.shape[0] // factor), max(1, image.shape[1] // factor)
            source = _pixels(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
            grow_x, grow_y = image.shape[1] / width, image.shape[0] / height
            grow = np.array([[grow_x, 0.0, 0.5 * grow_x - 0.5], [0.0, grow_y, 0.5 * grow_y - 0.5], [0.0, 0.0, 1.0]])
            to_source = matrix @ grow
        gain = 1.0 + config.contrast * draws[5]
        _warp(source, to_source, out, (1.0 + config.brightness * draws[4]) * gain, 127.5 * (1.0 - gain))
        return Transformed(out, _warp_masks(masks, matrix, size), matrix)

    def _matrix(self, height: int, width: int, draws: list[float]) -> tuple[NDArray[np.float64], float]:
        """Return the matrix ``[2, 3]`` from stored to new pixel indices, and the side of the crop in stored pixels."""
        config, size = self.config, self.image_size
        short = min(height, width)
        low, high = config.scale
        crop, right, down, turn, *_, flip = draws
        side = short * (low + (high - low) * 0.5 * (crop + 1.0))
        room = 0.5 * (short - side) + config.translation * short
        # pixel i covers i to i + 1, so its centre is i + 0.5
        centre_x, centre_y = 0.5 * width + room * right - 0.5, 0.5 * height + room * down - 0.5
        angle = math.radians(config.rotation * turn)
        zoom = size / side
        cosine, sine = zoom * math.cos(angle), zoom * math.sin(angle)
        mirror = -1.0 if config.horizontal_flip and flip > 0.0 else 1.0
        middle = 0.5 * size - 0.5
        shift_x = middle - (mirror * cosine * centre_x + mirror * sine * centre_y)
        shift_y = middle - (cosine * centre_y - sine * centre_x)
        return np.array([[mirror * cosine, mirror * sine, shift_x], [-sine, cosine, shift_y]]), side


class AlbumentationsTransform:
    """A user's albumentations pipeline, drawn from the sample's own seed, then :class:`EvalTransform`.

    The pipeline sees the stored image ``[H, W]`` and its masks; what already has the right size afterwards stays as it
    is.

    Args:
        image_size: Side of the square that comes out, in pixels.
        transforms: Steps of the pipeline: albumentations objects, or plain data such as
            ``{"class_path": "albumentations.RandomGamma", "init_args": {"p": 0.5}}`` (nested ones too).

    Raises:
        ConfigError: If a step is not an albumentations transform or refuses its arguments.
    """

    def __init__(self, image_size: int, transforms: Sequence[Mapping[str, Any] | A.BasicTransform]) -> None:
        os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask a server for its newest version when imported
        import albumentations

        self.image_size = image_size
        self._resize = EvalTransform(image_size)
        steps = [
            _albumentation(step, (albumentations.BasicTransform, albumentations.BaseCompose)) for step in transforms
        ]
        self._pipeline = albumentations.Compose(steps)

    def __call__(self, image: Pixels, masks: Pixels | None, rng: np.random.Generator) -> Transformed:
        """Transform ``image`` uint8 ``[H, W]`` and ``masks`` uint8 ``[M, H, W]`` alike."""
        self._pipeline.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        given: dict[str, Any] = {"image": image[..., None]}
        if masks is not None:
            given["masks"] = masks
        done = self._pipeline(**given)
        changed, moved = np.asarray(done["image"]), done.get("masks")
        if changed.dtype != np.uint8 or changed.size != changed.shape[0] * changed.shape[1]:
            msg = (
                f"albumentations: the pipeline gave {changed.dtype} {list(changed.shape)}, expected uint8 grey "
                "[H, W]; leave out steps such as Normalize, ToFloat, ToRGB and ToTensorV2: the model does that"
            )
            raise ConfigError(msg)
        stacked = None if moved is None else np.ascontiguousarray(np.stack(list(moved)), dtype=np.uint8)
        final = self._resize(np.ascontiguousarray(changed.reshape(changed.shape[:2])), stacked)
        return final._replace(matrix=None)


class _Scratch(threading.local):
    """Memory that the warps of a thread use again: asking for it costs as much as a warp."""

    def __init__(self) -> None:
        self.source, self.target = np.empty(0, np.float32), np.empty((0, 0), np.float32)


_scratch = _Scratch()


def _warp(image: Pixels, matrix: NDArray[np.float64], out: Pixels, gain: float, offset: float) -> None:
    """Warp to ``out`` by bilinear interpolation, black moving in from outside, then ``gain * level + offset``.

    In float32, because that kernel of OpenCV 5 takes three quarters of the time of the one for bytes, and levels are
    rounded once. Every step has its memory: new pages of the system cost as much as what is computed in them.
    """
    import cv2

    if _scratch.source.size < image.size:
        _scratch.source = np.empty(image.size, np.float32)
    if _scratch.target.shape != out.shape:
        _scratch.target = np.empty(out.shape, np.float32)
    source, target = _scratch.source[: image.size].reshape(image.shape), _scratch.target
    np.copyto(source, image)
    cv2.warpAffine(source, matrix, out.shape[::-1], dst=target, flags=cv2.INTER_LINEAR)
    if offset >= 0.0:
        cv2.convertScaleAbs(target, dst=out, alpha=gain, beta=offset)  # nothing is below 0
    else:
        cv2.addWeighted(target, gain, target, 0.0, offset, dst=out, dtype=cv2.CV_8U)


def _pixels(values: Any) -> Pixels:  # noqa: ANN401 - the types of cv2 are wider than what it returns
    return np.asarray(values, dtype=np.uint8)


def _warp_masks(masks: Pixels | None, matrix: NDArray[np.float64], size: int) -> Pixels | None:
    """Warp each mask ``[H, W]`` of ``[M, H, W]`` by nearest neighbour, so that 0 and 1 stay 0 and 1."""
    if masks is None:
        return None
    import cv2

    warped = np.zeros((len(masks), size, size), np.uint8)
    for mask, target in zip(masks, warped, strict=True):
        target[...] = cv2.warpAffine(mask, matrix, (size, size), flags=cv2.INTER_NEAREST)
    return warped


def _albumentation(step: Any, kinds: tuple[type, ...]) -> Any:  # noqa: ANN401 - albumentations is untyped
    if isinstance(step, kinds):
        return step
    path = str(step.get("class_path", "")) if isinstance(step, Mapping) else repr(step)
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"albumentations: cannot import '{path}' ({error}); name a class such as albumentations.RandomGamma"
        raise ConfigError(msg) from error
    if not (isinstance(cls, type) and issubclass(cls, kinds)):
        msg = f"albumentations: '{path}' is not an albumentations transform"
        raise ConfigError(msg)
    arguments = dict(step.get("init_args") or {})
    for key, value in arguments.items():
        if isinstance(value, list) and value and all(isinstance(v, Mapping) and "class_path" in v for v in value):
            arguments[key] = [_albumentation(item, kinds) for item in value]
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        msg = f"albumentations: {path} refuses its arguments: {' '.join(str(error).split())}"
        raise ConfigError(msg) from error
