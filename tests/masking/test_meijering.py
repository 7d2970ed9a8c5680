"""The ridge filter: bright lines of any direction answer, flat images do not, and the direction of the mask holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dmlm.errors import ConfigError
from dmlm.masking import MaskContext, MeijeringMask
from dmlm.masking.meijering import meijering


def line(angle: float, size: int = 64, bright: bool = True) -> torch.Tensor:
    """A line of width 2 through the centre."""
    y, x = torch.meshgrid(torch.arange(size) - size / 2, torch.arange(size) - size / 2, indexing="ij")
    distance = (x * math.sin(angle) - y * math.cos(angle)).abs()
    return (100 + (1 if bright else -1) * 80 * torch.exp(-0.5 * (distance / 1.5) ** 2))[None]


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 4, math.pi / 2])
def test_a_bright_line_answers_where_it_runs_and_a_dark_one_does_not(angle: float) -> None:
    inner = slice(16, 48)
    bright, dark = (meijering(line(angle, bright=flag), [1.5])[0, inner, inner] for flag in (True, False))
    on = line(angle)[0, inner, inner] > 170
    assert bright[on].mean() > 0.7
    assert dark[on].max() < 0.05
    assert bright.max() <= 1
    assert bright.min() >= 0


def test_it_equals_the_filter_written_with_numpy() -> None:
    """Reference: scipy's Gaussian, numpy's gradients and eigenvalues, as scikit-image orders and scales them."""
    ndimage = pytest.importorskip("scipy.ndimage")
    image = np.random.default_rng(0).normal(size=(80, 80)).cumsum(0).cumsum(1)
    window = np.zeros(80)
    window[24:-24] = np.hanning(32)
    image = 10 * window[:, None] * window[None] * image / image.std()  # flat at the border, where smoothing differs
    best = np.zeros_like(image)
    for sigma in (2.0, 4.0):
        smooth = ndimage.gaussian_filter(-image, sigma, mode="nearest", truncate=6)
        down, across = np.gradient(smooth)
        (yy, xy), xx = np.gradient(down), np.gradient(across, axis=1)
        values = np.linalg.eigvalsh(np.stack([np.stack([yy, xy], -1), np.stack([xy, xx], -1)], -1))
        both = np.stack([values[..., 0] + values[..., 1] / 3, values[..., 1] + values[..., 0] / 3])
        strong = np.maximum(np.take_along_axis(both, np.abs(both).argmax(0)[None], 0)[0], 0)
        best = np.maximum(best, strong / strong.max())
    got = meijering(torch.from_numpy(image)[None], [2.0, 4.0])[0].numpy()
    np.testing.assert_allclose(got, best, atol=0.02)
    assert np.corrcoef(got.ravel(), best.ravel())[0, 1] > 0.999


def test_both_directions_mirror_each_other_and_flat_images_are_counted() -> None:
    images = line(0.0, 64).clamp(0, 255).to(torch.uint8)[None].repeat(2, 1, 1, 1)
    images[1] = 90
    context = MaskContext(images, (4, 4))
    high, low = MeijeringMask("high"), MeijeringMask("low")
    rich, poor = high.relevance(context), low.relevance(context)
    torch.testing.assert_close(poor[0], 1 - rich[0])
    assert rich[0].reshape(4, 4)[1:3].mean() > rich[0].reshape(4, 4)[[0, 3]].mean() + 0.3
    assert (rich[1] == 0).all()
    assert (poor[1] == 0).all()
    assert high.take_counts() == {"no_ridges": 1}
    with pytest.raises(ConfigError, match="direction"):
        MeijeringMask("up")
