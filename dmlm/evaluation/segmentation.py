"""Overlap of masks under the three Dice conventions of the field, and IoU, side by side, in one pass.

Which convention a paper used changes its number by tens of points, so all are reported:

``dice_all``        Mean over all images. An image without truth scores 1 if nothing is predicted, else 0 (MedKLIP,
                    MGCA, MRM). Where most images are negative, predicting nothing scores high.
``dice_positive``   Mean over the images that have truth (LoVT, PRIOR; the D-MLM paper on SIIM).
``dice_global``     Dice of all pixels of all images together.
``dice_fg_bg``      Mean of ``dice_global`` of the foreground and of the background (BenchX): inflated, because
                    background is easy.
``iou_all``, ``iou_positive``, ``iou_global``, ``iou_fg_bg``  The same for intersection over union.

The counts of each image are kept (three integers per mask), never its pixels, so the memory of 25,596 images is 1 MB,
and the result does not depend on batch size, order, or how many processes shared the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dmlm.errors import MismatchError
from dmlm.evaluation.classification import macro_mean
from dmlm.evaluation.ranking import FloatArray

IntArray = npt.NDArray[np.int64]
MEASURES = tuple(f"{kind}_{how}" for kind in ("dice", "iou") for how in ("all", "positive", "global", "fg_bg"))


@dataclass
class OverlapCounts:
    """Counts of pixels per image and mask; fill by :meth:`update`, join processes by :meth:`merge`.

    Args:
        names: The ``M`` masks.
    """

    names: tuple[str, ...]
    _parts: list[IntArray] = field(default_factory=list, repr=False)

    def update(self, index: npt.ArrayLike, predicted: npt.ArrayLike, truth: npt.ArrayLike) -> None:
        """Count a batch.

        Args:
            index: Position of each image in its split, ``(B,)``; an image that comes twice (padding of the last batch
                of several processes) counts once.
            predicted: Whether each pixel is answered, true or 1, ``(B, M, H, W)``.
            truth: Whether each pixel belongs to the mask, ``(B, M, H, W)``.

        Raises:
            MismatchError: If shapes differ; a mask is compared at its own size only.
        """
        said, real = np.asarray(predicted), np.asarray(truth)
        rows = np.asarray(index, dtype=np.int64).reshape(-1)
        if said.ndim != 4 or said.shape != real.shape or said.shape[:2] != (len(rows), len(self.names)):
            msg = (
                f"predicted masks {said.shape} and true masks {real.shape} must both be "
                f"({len(rows)}, {len(self.names)}, H, W): resize one to the other's size first"
            )
            raise MismatchError(msg)
        said, real = said.astype(np.bool_), real.astype(np.bool_)
        area = (2, 3)
        counts = np.stack([(said & real).sum(area), said.sum(area), real.sum(area)], axis=2)  # (B, M, 3)
        pixels = np.full((len(rows), 1), said.shape[2] * said.shape[3])
        self._parts.append(np.concatenate([rows[:, None], pixels, counts.reshape(len(rows), -1)], axis=1))

    def merge(self, *others: OverlapCounts) -> OverlapCounts:
        """Counts of this and others together.

        Raises:
            MismatchError: If they count other masks.
        """
        if any(other.names != self.names for other in others):
            msg = f"counts of masks {', '.join(self.names)} cannot be joined with those of other masks"
            raise MismatchError(msg)
        return OverlapCounts(self.names, [part for counts in (self, *others) for part in counts._parts])

    def table(self) -> IntArray:
        """What was counted, one row per image by ascending index.

        Returns:
            int64 ``(N, 2 + 3 M)``: index, pixels, and per mask the pixels that are in both, predicted, and true.
        """
        width = 2 + 3 * len(self.names)
        rows = np.concatenate([np.zeros((0, width), np.int64), *self._parts])
        first = np.unique(rows[:, 0], return_index=True)[1]
        return np.asarray(rows[first])

    def report(self) -> OverlapReport:
        """Measure everything that was counted."""
        table = self.table()
        counts = table[:, 2:].reshape(len(table), len(self.names), 3)
        both, said, real = (counts[:, :, k].astype(np.float64) for k in range(3))
        pixels = table[:, 1:2].astype(np.float64)
        values: dict[str, FloatArray] = {}
        for kind in ("dice", "iou"):
            image = _overlap(kind, both, said, real)  # empty truth and nothing predicted: 1, by convention
            has = real > 0
            values[f"{kind}_all"] = _column_mean(image, np.ones_like(has))
            values[f"{kind}_positive"] = _column_mean(image, has)
            total = _overlap(kind, both.sum(0), said.sum(0), real.sum(0))
            rest = _overlap(kind, (pixels - said - real + both).sum(0), (pixels - said).sum(0), (pixels - real).sum(0))
            values[f"{kind}_global"] = total if len(table) else np.full(len(self.names), np.nan)
            values[f"{kind}_fg_bg"] = (total + rest) / 2 if len(table) else np.full(len(self.names), np.nan)
        return OverlapReport(self.names, values, len(table), (real > 0).sum(axis=0), _overlap("dice", both, said, real))


@dataclass(frozen=True)
class OverlapReport:
    """Result of :meth:`OverlapCounts.report`.

    Args:
        names: The ``M`` masks.
        values: By measure (:data:`MEASURES`), 0..1, float64 ``(M,)``; ``*_positive`` is NaN for a mask that no image
            has.
        images: Number of images.
        positives: Images that have the mask, int64 ``(M,)``.
        image_dice: Dice of each image as in ``dice_all``, float64 ``(N, M)``, for intervals and galleries.
    """

    names: tuple[str, ...]
    values: dict[str, FloatArray]
    images: int
    positives: IntArray
    image_dice: FloatArray

    def flat(self, prefix: str) -> dict[str, float]:
        """All numbers under flat keys.

        Keys: ``{prefix}/dice_positive`` (mean over masks; so for all :data:`MEASURES`), per mask
        ``{prefix}/dice_positive/Lungs``, ``{prefix}/images`` and ``{prefix}/positives/Lungs``.
        """
        flat = {f"{prefix}/images": float(self.images)}
        for measure in MEASURES:
            flat[f"{prefix}/{measure}"] = macro_mean(self.values[measure]).value
            flat.update(_named(f"{prefix}/{measure}", self.names, self.values[measure]))
        return flat | _named(f"{prefix}/positives", self.names, self.positives.astype(np.float64))


def _overlap(kind: str, both: FloatArray, said: FloatArray, real: FloatArray) -> FloatArray:
    """Dice or IoU of counts; 1 where both sides are empty."""
    union = said + real - both
    top, bottom = (2 * both, said + real) if kind == "dice" else (both, union)
    ratio: FloatArray = np.divide(top, bottom, out=np.ones_like(top), where=bottom > 0)
    return ratio


def _column_mean(values: FloatArray, keep: npt.NDArray[np.bool_]) -> FloatArray:
    count = keep.sum(axis=0).astype(np.float64)
    ratio: FloatArray = np.divide((values * keep).sum(axis=0), count, out=np.full(len(count), np.nan), where=count > 0)
    return ratio


def _named(key: str, names: Sequence[str], values: FloatArray) -> dict[str, float]:
    return {f"{key}/{name}": float(value) for name, value in zip(names, values, strict=True)}
