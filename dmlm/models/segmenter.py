"""`Segmenter`: masks from the image side of a probabilistic encoder; plain torch, for any training loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from dmlm.distributions import Gaussian
from dmlm.errors import ConfigError
from dmlm.models.classifier import freeze_unused
from dmlm.models.encoder import ProbabilisticEncoder
from dmlm.models.feature_maps import LEVELS, MapShapes, feature_maps, map_shapes
from dmlm.models.segmenter_decoders import DecoderName, SegmentationDecoder

MapSource = Literal["backbone", "mean"]


class Segmenter(nn.Module):
    """An encoder and a decoder.

    Args:
        encoder: The encoder; its text side is not used.
        num_masks: Number of masks ``M``; they may overlap.
        decoder: ``unet``, ``dpt``, ``upernet`` or ``setr``.
        features: What the decoder sees: maps of the image tower (``backbone``), or the means of the patches'
            distributions (``mean``, for ``setr`` only), from which samples can be drawn.
        width: Channels inside the decoder.

    Raises:
        ConfigError: If the options do not fit each other or the encoder.
    """

    def __init__(
        self,
        encoder: ProbabilisticEncoder,
        num_masks: int = 1,
        decoder: DecoderName = "unet",
        features: MapSource = "backbone",
        width: int = 128,
    ) -> None:
        super().__init__()
        self.encoder, self.features = encoder, features
        self.decoder = make_decoder(encoder, num_masks, decoder, features, width)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, M, H, W)`` of images uint8 ``(B, 1, H, W)``."""
        return segment(self.encoder, self.decoder, images, self.features)


def make_decoder(
    encoder: ProbabilisticEncoder, num_masks: int, name: DecoderName, features: MapSource, width: int
) -> SegmentationDecoder:
    """Make a decoder that fits an encoder.

    Raises:
        ConfigError: If the options do not fit each other or the encoder.
    """
    if features not in ("backbone", "mean") or (features == "mean" and name != "setr"):
        msg = f"features must be backbone, or mean with decoder setr; got {features} with {name}"
        raise ConfigError(msg)
    size = encoder.image.image_size
    if features == "mean":
        stride = size / encoder.image.patch_grid[0]
        shapes = MapShapes((encoder.embed_dim,) * LEVELS, (stride,) * LEVELS, False)
    else:
        shapes = map_shapes(encoder.image)
    return SegmentationDecoder(shapes, num_masks, name, width, size)


def segment(encoder: ProbabilisticEncoder, decoder: SegmentationDecoder, images: Tensor, features: MapSource) -> Tensor:
    """Return logits ``(B, M, H, W)`` of images uint8 ``(B, 1, H, W)``."""
    size = (int(images.shape[-2]), int(images.shape[-1]))
    if features == "backbone":
        maps, prefixes = feature_maps(encoder.image, images)
        return decoder(maps, prefixes, size)  # type: ignore[no-any-return]
    return decoder([_as_map(encoder, patch_gaussians(encoder, images).mean)], [None], size)  # type: ignore[no-any-return]


def patch_gaussians(encoder: ProbabilisticEncoder, images: Tensor) -> Gaussian:
    """Distributions of all patches, ``(B, N, D)``."""
    return encoder.encode_image(images).at(slice(1, None))


@torch.no_grad()
def sampled_masks(
    encoder: ProbabilisticEncoder, decoder: SegmentationDecoder, images: Tensor, samples: int, seeds: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Monte-Carlo masks: probabilities over samples of the patches' distributions (``features`` mean).

    Args:
        encoder: The encoder.
        decoder: A ``setr`` decoder on the patches' means.
        images: uint8 ``(B, 1, H, W)``.
        samples: Number of samples.
        seeds: One per image, so that the result of an image does not depend on its batch.

    Returns:
        Mean and standard deviation of the probability, float32 ``(B, M, H, W)``.
    """
    patches = patch_gaussians(encoder, images)
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    size = (int(images.shape[-2]), int(images.shape[-1]))
    first = mean = squares = torch.zeros((), device=patches.mean.device)
    for count in range(1, samples + 1):  # one at a time: the maps of many samples would not fit the memory
        noise = torch.stack([torch.randn(patches.mean.shape[1:], generator=source) for source in generators])
        point = patches.mean.float() + patches.std * noise.to(patches.mean.device)
        probability = torch.sigmoid(decoder([_as_map(encoder, point)], [None], size).float())
        # Welford's sums of the distances from the first answer: the mean square minus the square of the mean would be
        # rounding noise where answers are sure, and so would be a mean near 1
        first = probability if count == 1 else first
        before = probability - first - mean
        mean = mean + before / count
        squares = squares + before * (probability - first - mean)
    return first + mean, (squares / samples).sqrt()


def freeze_untouched(
    encoder: ProbabilisticEncoder, decoder: SegmentationDecoder, features: MapSource, frozen: bool = False
) -> None:
    """Stop the gradient of what a segmentation does not use, so that no process waits for it.

    Which layers of a tower lie beyond its maps is known to the tower only, so one black image is sent through.

    Args:
        encoder: Changed in place: which parameters need a gradient.
        decoder: The decoder.
        features: What the decoder sees.
        frozen: Whether the whole encoder is stopped.
    """
    freeze_unused(encoder, "mean" if features == "mean" else None, frozen)
    if frozen:
        return
    modes = encoder.training, decoder.training
    encoder.eval()
    decoder.eval()
    side = encoder.image.image_size
    blank = torch.zeros(1, 1, side, side, dtype=torch.uint8, device=encoder.device)
    with torch.enable_grad():
        segment(encoder, decoder, blank, features).sum().backward()  # type: ignore[no-untyped-call]
    for parameter in (*encoder.parameters(), *decoder.parameters()):
        if parameter.grad is None:
            parameter.requires_grad_(False)
        parameter.grad = None
    encoder.train(modes[0])
    decoder.train(modes[1])


def _as_map(encoder: ProbabilisticEncoder, patches: Tensor) -> Tensor:
    """Patches ``(B, N, D)`` in row-major order as a map ``(B, D, rows, columns)``."""
    return patches.transpose(1, 2).reshape(len(patches), -1, *encoder.image.patch_grid)
