"""Masking by ridges: the strategy of Masks-and-Manuscripts, on the Meijering filter (Meijering et al. 2004)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dmlm.errors import ConfigError
from dmlm.masking.guided import GuidedMask, stretch
from dmlm.masking.image import MaskContext

_WIDTH = 224
_SIGMAS = (1.0, 3.0, 5.0, 7.0, 9.0)  # pixels of an image of 224 pixels
_SHRINK = 2  # the filter runs on an image of half the size: one value per patch is wanted


class MeijeringMask(GuidedMask):
    """Prefer patches with many bright ridges, vessels and ribs (row "Masks and Manuscripts" of Table 7).

    The paper that it is named after does not say which share is hidden nor in which direction; 60 % and ``high`` are
    our choice. The filter runs at half resolution.

    Args:
        direction: ``"high"`` hides patches rich in ridges, ``"low"`` those poor in them.
        ratio: Share of the patches that is hidden.
        temperature: See :class:`GuidedMask`.
        uniform: See :class:`GuidedMask`.

    Raises:
        ConfigError: If a value is out of range.
    """

    def __init__(
        self,
        direction: Literal["high", "low"] = "high",
        ratio: float = 0.6,
        temperature: float = 0.15,
        uniform: float = 0.1,
    ) -> None:
        if direction not in ("high", "low"):
            msg = f"direction of the ridge mask must be high or low, got '{direction}'"
            raise ConfigError(msg)
        super().__init__(ratio, None, temperature, uniform)
        self.direction = direction

    def relevance(self, context: MaskContext) -> Tensor:
        """Mean ridge response per patch, stretched to 0..1 per image; see :meth:`GuidedMask.relevance`."""
        height, width = context.images.shape[-2:]
        grey = context.images.float()
        if min(height, width) >= 2 * _SHRINK:
            grey = F.avg_pool2d(grey, _SHRINK)
        factor = grey.shape[-1] / _WIDTH
        response = meijering(grey[:, 0], [max(sigma * factor, 0.5) for sigma in _SIGMAS])
        values = stretch(F.adaptive_avg_pool2d(response[:, None], context.grid).flatten(1))
        self.counts["no_ridges"] += int((values.amax(1) == 0).sum())
        if self.direction == "high":
            return values
        return torch.where(values.amax(1, keepdim=True) > 0, 1.0 - values, values)


def meijering(images: Tensor, sigmas: list[float]) -> Tensor:
    """Ridge response of bright lines.

    With the eigenvalues ``a``, ``b`` of the Hessian of the negated, smoothed image: of ``a + b/3`` and ``b + a/3`` the
    one of larger magnitude, where positive, divided by its largest value in the image; then the maximum over scales
    (Meijering et al., Cytometry 58A, 2004, with the normalisation of scikit-image).

    Args:
        images: float ``(B, H, W)``.
        sigmas: Scales in pixels, ascending.

    Returns:
        float ``(B, H, W)``, 0 to 1.
    """
    smooth, reached = -images, 0.0
    best = torch.zeros_like(images)
    for sigma in sigmas:
        # smoothing twice adds variances, so that each scale starts from the one before
        smooth = _gauss(smooth, math.sqrt(max(sigma**2 - reached**2, 1e-6)))
        reached = sigma
        down, across = torch.gradient(smooth, dim=(1, 2))
        (yy, xy), xx = torch.gradient(down, dim=(1, 2)), torch.gradient(across, dim=2)[0]
        half, root = 0.5 * (xx + yy), torch.sqrt(0.25 * (xx - yy).square() + xy.square())
        high, low = half + root, half - root
        strong = torch.where((high + low / 3).abs() >= (low + high / 3).abs(), high + low / 3, low + high / 3)
        strong = strong.clamp_min(0.0)
        best = torch.maximum(best, strong / strong.amax((1, 2), keepdim=True).clamp_min(1e-12))
    flat = images.amax((1, 2), keepdim=True) == images.amin((1, 2), keepdim=True)
    return best.masked_fill(flat, 0.0)


def _gauss(images: Tensor, sigma: float) -> Tensor:
    half = max(1, round(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-half, half + 1, device=images.device) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(images.dtype)
    padded = F.pad(images[:, None], (half, half, half, half), mode="replicate")
    soft = F.conv2d(padded, kernel[None, None, :, None])
    return F.conv2d(soft, kernel[None, None, None, :])[:, 0]
