"""Image masking strategies: which patches are hidden, equally many in every image of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dmlm._config import Configurable
from dmlm.errors import ConfigError
from dmlm.masking.draws import Source, random_rows
from dmlm.reports.schema import ReportText


class MaskContext(NamedTuple):
    """What a strategy may look at.

    Args:
        images: uint8 ``(B, 1, H, W)``.
        grid: Rows and columns of the patch grid; ``N`` is their product.
        texts: The text of each pair; empty where there are none.
        matrix: float ``(B, 2, 3)``, maps pixel indices ``(x, y, 1)`` of the stored images to those of ``images``; None
            where the data set does not say.
        stored_size: int64 ``(B, 2)``, height and width of the stored images; with ``matrix``.
        projections: Projection of each image as its source names it, ``""`` where it does not; empty counts as that.
        similarity: float ``(B, N)`` in 0..1, how near each patch is to its text for the teacher; only where the
            strategy asked for it (:meth:`ImageMasker.wants_similarity`).
        progress: Share of all optimiser steps that are done, 0 to 1.
    """

    images: Tensor
    grid: tuple[int, int]
    texts: Sequence[ReportText] = ()
    matrix: Tensor | None = None
    stored_size: Tensor | None = None
    projections: Sequence[str] = ()
    similarity: Tensor | None = None
    progress: float = 0.0

    @property
    def num_patches(self) -> int:
        """Number of patches ``N`` of an image."""
        return self.grid[0] * self.grid[1]


class ImageMasker(Configurable, ABC):
    """Contract of a strategy: hide the same number of patches in every image, drawn from the given generator."""

    @abstractmethod
    def __call__(self, context: MaskContext, generator: Source) -> Tensor:
        """Draw masks.

        Args:
            context: The batch.
            generator: CPU generator, or one per image, for :func:`dmlm.masking.draws.random_rows`; equal states give
                equal masks on every device.

        Returns:
            bool ``(B, N)`` on the images' device, True where a patch is hidden.
        """

    def wants_similarity(self, progress: float) -> bool:  # noqa: ARG002 - a strategy that wants it looks at it
        """Whether the strategy needs the teacher's similarity of patches and texts at this point of the training."""
        return False

    def take_counts(self) -> dict[str, int]:
        """Return how many images each fallback of the strategy met since the last call, and forget it.

        ``"images"`` is the number of all images; a strategy without fallbacks returns nothing.
        """
        return {}


class NoMask(ImageMasker):
    """Hide nothing (row "No Masking" of Table 7): no patches are predicted; predicted words still read the image."""

    def __call__(self, context: MaskContext, generator: Source) -> Tensor:  # noqa: ARG002 - same contract
        """Return an empty mask; see :meth:`ImageMasker.__call__`."""
        return torch.zeros(len(context.images), context.num_patches, dtype=torch.bool, device=context.images.device)


class RandomMask(ImageMasker):
    """Hide a fixed share of the patches, each subset equally likely.

    Args:
        ratio: Share of the patches that is hidden, at least 0 and below 1; see :func:`hidden_count`.

    Raises:
        ConfigError: If the ratio is out of range.
    """

    def __init__(self, ratio: float = 0.3) -> None:
        if not 0 <= ratio < 1:
            msg = f"ratio of an image mask must be at least 0 and below 1, got {ratio}"
            raise ConfigError(msg)
        self.ratio = ratio

    def __call__(self, context: MaskContext, generator: Source) -> Tensor:
        """Draw masks; see :meth:`ImageMasker.__call__`."""
        noise = random_rows(len(context.images), context.num_patches, generator)
        return hide_highest(noise, hidden_count(self.ratio, context.num_patches)).to(context.images.device)


class MAEMask(RandomMask):
    """The masked autoencoder's mask (row "MAE" of Table 7): random, three quarters hidden."""

    def __init__(self, ratio: float = 0.75) -> None:
        super().__init__(ratio)


class MaskVLMMask(RandomMask):
    """The image mask of MaskVLM (row "MaskVLM" of Table 7): random, 60 % hidden; use it with ``cross_full``."""

    def __init__(self, ratio: float = 0.6) -> None:
        super().__init__(ratio)


def hidden_count(ratio: float, patches: int) -> int:
    """Number of patches that a ratio below 1 hides: rounded, but one stays visible, as an image of none has no mean."""
    return min(round(ratio * patches), patches - 1)


def hide_highest(scores: Tensor, count: int) -> Tensor:
    """Mask the ``count`` highest scores of each row: float ``(B, N)`` -> bool ``(B, N)``."""
    mask = torch.zeros_like(scores, dtype=torch.bool)
    return mask.scatter_(1, scores.topk(count, dim=1).indices, value=True)
