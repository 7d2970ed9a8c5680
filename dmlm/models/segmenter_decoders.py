"""From feature maps to logits: U-Net, DPT and UPerNet of segmentation-models-pytorch, and a SETR-style decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from dmlm.errors import ConfigError
from dmlm.models.feature_maps import LEVELS, MapShapes

DecoderName = Literal["unet", "dpt", "upernet", "setr"]

_TARGETS = tuple(2 ** (2 + level) for level in range(LEVELS))  # strides 4, 8, 16, 32


class Pyramid(nn.Module):
    """Bring four maps to strides 4, 8, 16 and 32 of the image, each of one width.

    The maps of a ViT all have one stride: shallow ones are enlarged by learned steps of two, the deepest is shrunk, as
    in ViTDet's simple pyramid (Li et al. 2022). Maps that have their stride already get a 1 x 1 convolution only.

    Args:
        shapes: Maps that come in.
        width: Channels of every map that comes out.
    """

    def __init__(self, shapes: MapShapes, width: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        for channels, stride, target in zip(shapes.channels, shapes.strides, _TARGETS, strict=True):
            layers: list[nn.Module] = [nn.Conv2d(channels, width, 1), nn.GroupNorm(1, width)]
            for _ in range(max(0, round(math.log2(stride / target)))):
                layers += [nn.GELU(), nn.ConvTranspose2d(width, width, 2, stride=2)]
            self.levels.append(nn.Sequential(*layers))

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Return maps of ``ceil(size / stride)``, whatever the image's size."""
        out = []
        for level, found, target in zip(self.levels, maps, _TARGETS, strict=True):
            wanted = (math.ceil(size[0] / target), math.ceil(size[1] / target))
            value = level(found)
            if value.shape[-2:] != wanted:
                value = F.interpolate(value, size=wanted, mode="bilinear", align_corners=False)
            out.append(value)
        return out


class ProgressiveDecoder(nn.Module):
    """SETR-PUP (Zheng et al. 2021), as MGCA and ECAMP use it: the deepest map, doubled until it is the image.

    Each step is a 3 x 3 convolution, batch norm, ReLU and bilinear doubling; the width halves from step to step.

    Args:
        channels: Width of the map.
        stride: Pixels of the image per step of the map.
        width: Channels after the first step.
    """

    def __init__(self, channels: int, stride: float, width: int) -> None:
        super().__init__()
        steps = max(1, round(math.log2(stride)))
        widths = [max(16, width // 2**step) for step in range(steps)]
        self.steps = nn.ModuleList()
        for before, after in zip([channels, *widths[:-1]], widths, strict=True):
            convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
            self.steps.append(nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU()))
        self.out_channels = widths[-1]

    def forward(self, deepest: Tensor) -> Tensor:
        """Return features at about the image's size, ``(B, out_channels, H, W)``."""
        for step in self.steps:
            deepest = F.interpolate(step(deepest), scale_factor=2.0, mode="bilinear", align_corners=False)
        return deepest


class SegmentationDecoder(nn.Module):
    """Logits from the feature maps of an image tower.

    Args:
        shapes: Maps of the tower (:func:`dmlm.models.feature_maps.map_shapes`).
        num_masks: Number of masks ``M``.
        name: ``unet``, ``dpt`` (Ranftl et al. 2021; with the class token, as in the original), ``upernet`` (Xiao et al.
            2018), or ``setr``, which sees the deepest map only.
        width: Channels inside the decoder.
        image_size: Height and width of the images, in pixels.

    Raises:
        ConfigError: If the decoder cannot work on these maps.
    """

    def __init__(self, shapes: MapShapes, num_masks: int, name: DecoderName, width: int, image_size: int) -> None:
        super().__init__()
        if name not in get_args(DecoderName):
            msg = f"decoder must be one of {', '.join(get_args(DecoderName))}, got '{name}'"
            raise ConfigError(msg)
        if num_masks < 1 or width < 16:
            msg = f"a decoder needs at least one mask and a width of 16 or more, got {num_masks} and {width}"
            raise ConfigError(msg)
        self.name = name
        self.pyramid = Pyramid(shapes, width) if name in ("unet", "upernet") else nn.Identity()
        self.body, out_channels = _body(name, shapes, width, image_size)
        self.logits = nn.Conv2d(out_channels, num_masks, 1)
        # masks cover little of a film: starting at 5 % keeps the first steps from only learning "nothing"
        nn.init.constant_(self.logits.bias, math.log(0.05 / 0.95))  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor], prefixes: Sequence[Tensor | None], size: tuple[int, int]) -> Tensor:
        """Return logits.

        Args:
            maps: Four maps, shallow to deep; ``setr`` reads the last only.
            prefixes: Their class tokens, or Nones.
            size: Height and width of the image.

        Returns:
            ``(B, M, H, W)``.

        Raises:
            ConfigError: If it trains on a batch of one, for which batch norm over a map of one pixel is not defined.
        """
        if self.training and len(maps[-1]) == 1 and self.name in ("upernet", "dpt"):
            msg = f"decoder {self.name} cannot train on one image: set --data.batch_size to 2 or more"
            raise ConfigError(msg)
        if self.name == "setr":
            features = self.body(maps[-1])
        elif self.name == "dpt":
            features = self.body(list(maps), list(prefixes))
        else:
            levels = self.pyramid(maps, size)
            # the two finest levels of smp's pyramids: not read by UPerNet; U-Net takes the shape of one
            finest = maps[0].new_empty(len(maps[0]), 0, math.ceil(size[0] / 2), math.ceil(size[1] / 2))
            features = self.body([finest, *levels] if self.name == "unet" else [finest, finest, *levels])
        logits: Tensor = self.logits(features)
        if logits.shape[-2:] != size:
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return logits


def _body(name: str, shapes: MapShapes, width: int, image_size: int) -> tuple[Any, int]:
    """Make the part between maps and logits, and say how many channels it gives."""
    if name == "setr":
        body = ProgressiveDecoder(shapes.channels[-1], shapes.strides[-1], width)
        return body, body.out_channels
    if name == "unet":
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

        widths = [max(16, width // 2**step) for step in range(LEVELS)]
        return UnetDecoder([0, *[width] * LEVELS], widths, n_blocks=LEVELS), widths[-1]
    if name == "upernet":
        from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder

        return UPerNetDecoder([0, 0, *[width] * LEVELS], encoder_depth=LEVELS + 1, decoder_channels=width), width
    from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder

    powers = [math.log2(stride) for stride in shapes.strides]
    if any(power != round(power) for power in powers) or image_size % _TARGETS[-1]:
        strides = ", ".join(f"{stride:g}" for stride in shapes.strides)
        msg = (
            f"decoder dpt needs an image_size that is a multiple of 32 and maps of strides that are powers of 2, got "
            f"{image_size} and {strides}: set image_size accordingly, or use --model.decoder unet"
        )
        raise ConfigError(msg)
    body = DPTDecoder(
        encoder_out_channels=shapes.channels,
        encoder_output_strides=[int(stride) for stride in shapes.strides],
        encoder_has_prefix_tokens=shapes.has_prefix,
        readout="cat" if shapes.has_prefix else "ignore",
        intermediate_channels=[width, width, 2 * width, 2 * width],
        fusion_channels=width,
    )
    return body, width
