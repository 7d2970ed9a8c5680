"""Image encoders: any timm ViT (masked patches are dropped before the blocks) or CNN (masked patches are blanked)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dmlm._config import Configurable
from dmlm.errors import ConfigError, PretrainedWeightsError
from dmlm.models.checkpointing import Checkpointing, check_checkpointing, check_compiled, run_blocks


class ImageFeatures(NamedTuple):
    """What an image encoder returns.

    Args:
        patches: Features of the visible patches in row-major order, ``(B, K, F)``; ``K = N`` without a mask.
        pooled: Feature of the whole image (class token or average), ``(B, F)``.
    """

    patches: Tensor
    pooled: Tensor


class ImageEncoder(Configurable, nn.Module, ABC):
    """Contract of an image encoder: grey images in, one feature per visible patch and one for the image out.

    A subclass sets ``feature_dim`` (width ``F``), ``patch_grid`` (rows, columns), ``image_size`` (pixels) and calls
    :meth:`set_normalisation`.
    """

    feature_dim: int
    patch_grid: tuple[int, int]
    image_size: int
    pixel_mean: Tensor
    pixel_std: Tensor

    @property
    def num_patches(self) -> int:
        """Number of patches ``N`` of an unmasked image."""
        return self.patch_grid[0] * self.patch_grid[1]

    def set_normalisation(self, mean: float, std: float) -> None:
        """Keep the grey level's mean and standard deviation (of pixels scaled to 0..1) as buffers.

        Raises:
            ConfigError: If they are not finite, or the deviation is not positive.
        """
        if not (math.isfinite(mean) and 0 < std < math.inf):
            msg = f"mean and std of the grey levels must be finite and std above 0, got {mean} and {std}"
            raise ConfigError(msg)
        self.register_buffer("pixel_mean", torch.tensor(float(mean)))
        self.register_buffer("pixel_std", torch.tensor(float(std)))

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 images into normalised floats on their own device: ``(B, 1, H, W)`` -> ``(B, 1, H, W)``.

        Raises:
            ConfigError: If the images are not grey uint8 of the encoder's size.
        """
        expected = (1, self.image_size, self.image_size)
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != expected:
            found = f"{images.dtype} {tuple(images.shape)}"
            msg = f"expected uint8 images of shape (B, {expected}), got {found}; set image_size"
            raise ConfigError(msg)
        return (images.float() / 255.0 - self.pixel_mean) / self.pixel_std

    @abstractmethod
    def forward(self, images: Tensor, mask: Tensor | None = None) -> ImageFeatures:
        """Encode images.

        Args:
            images: uint8 ``(B, 1, H, W)``.
            mask: bool ``(B, N)``, True where a patch is hidden, the same number in every row; None shows all.
        """


class TimmImageEncoder(ImageEncoder):
    """An image encoder from timm with a one-channel stem.

    Plain ViTs drop masked patches after the position embedding, so that only visible ones are computed. That gives the
    output of attention-masking them, cheaper. Other models (CNNs) see the normalised image with masked patches set to 0
    (the mean grey) and return the features at visible places of their last map. With ``pretrained`` the weights of the
    first layer are summed over the channels, which is exact for weights that were trained with equal mean and standard
    deviation in all channels (as ``vit_base_patch16_224``).

    Args:
        model_name: timm's name.
        pretrained: Load timm's weights (needs the hub or its cache). Recorded as False: a checkpoint brings its own.
        image_size: Height and width in pixels.
        model_kwargs: Further arguments of ``timm.create_model``, e.g. ``embed_dim``, ``depth``, ``drop_path_rate``.
        mean: Mean grey level of 0..1; None takes timm's (averaged over channels).
        std: Standard deviation of the grey level; None takes timm's.
        freeze_norm: Keep batch normalisation at its stored statistics while training. Whole and masked images go
            through a CNN in separate batches of different statistics; what is stored would become a mixture that fits
            neither.
        gradient_checkpointing: True keeps only the input of each ViT block for the backward pass and computes the rest
            again: the same gradients for a fraction of the memory and about a quarter more time; ``"selective"`` keeps
            the matrix products, too: a third less memory at nearly the same speed; ``"auto"`` is selective where that
            is worth it (:data:`dmlm.models.checkpointing.Checkpointing`); False keeps everything. ViTs only: batch
            normalisation would count every batch twice.

    Raises:
        PretrainedWeightsError: If weights were asked for and could not be had.
        ConfigError: If timm does not know the model, the model gives no feature map, or an option does not fit it.
    """

    def __init__(
        self,
        model_name: str = "vit_base_patch16_224",
        pretrained: bool = True,
        image_size: int = 224,
        model_kwargs: dict[str, Any] | None = None,
        mean: float | None = None,
        std: float | None = None,
        freeze_norm: bool = False,
        gradient_checkpointing: Checkpointing = "auto",
    ) -> None:
        super().__init__()
        if image_size < 1:
            msg = f"image_size must be at least 1 pixel, got {image_size}"
            raise ConfigError(msg)
        check_checkpointing(gradient_checkpointing)
        self.freeze_norm, self.gradient_checkpointing = freeze_norm, gradient_checkpointing
        self.model, self.is_vit = _create(model_name, pretrained, image_size, dict(model_kwargs or {}))
        if gradient_checkpointing not in (False, "auto") and not self.is_vit:
            msg = f"gradient_checkpointing of the image encoder is for plain ViTs, not for '{model_name}'; leave it off"
            raise ConfigError(msg)
        settings = self.model.pretrained_cfg
        self.image_size = image_size
        self.set_normalisation(
            sum(settings["mean"]) / len(settings["mean"]) if mean is None else mean,
            sum(settings["std"]) / len(settings["std"]) if std is None else std,
        )
        self.feature_dim = int(self.model.num_features)
        self.channels_last = False
        if self.is_vit:
            rows, columns = self.model.patch_embed.grid_size
            self.prefix = int(self.model.num_prefix_tokens)
        else:
            rows, columns = self._probe_map()
            # depth-wise convolutions take about half the time on a CPU when channels lie innermost
            self.model.to(memory_format=torch.channels_last)
        self.patch_grid = (int(rows), int(columns))
        self.train()  # a new module counts as training: batch normalisation that stays frozen must know

    def train(self, mode: bool = True) -> TimmImageEncoder:
        """Switch between training and evaluation; with ``freeze_norm`` batch normalisation stays in evaluation."""
        super().train(mode)
        if self.freeze_norm:
            for module in self.model.modules():
                if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
                    module.eval()
        return self

    @property
    def config(self) -> dict[str, Any]:
        """Recorded constructor arguments with the resolved normalisation and ``pretrained: false``."""
        config = super().config
        resolved = {"pretrained": False, "mean": float(self.pixel_mean), "std": float(self.pixel_std)}
        return {**config, "init_args": {**config["init_args"], **resolved}}

    def compile(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as torch's
        """Compile the tower; what it keeps for its backward pass is then decided by the compiler."""
        check_compiled(self.gradient_checkpointing)
        super().compile(*args, **kwargs)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> ImageFeatures:
        """Encode images; see :meth:`ImageEncoder.forward`."""
        pixels = self.normalise(images)
        return self._forward_vit(pixels, mask) if self.is_vit else self._forward_map(pixels, mask)

    def _forward_vit(self, pixels: Tensor, mask: Tensor | None) -> ImageFeatures:
        model = self.model
        tokens = model._pos_embed(model.patch_embed(pixels))
        if mask is not None:
            keep = visible_indices(mask) + self.prefix
            patches = tokens.gather(1, keep.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
            tokens = torch.cat([tokens[:, : self.prefix], patches], dim=1)
        tokens = model.norm(run_blocks(model.blocks, model.norm_pre(tokens), self.gradient_checkpointing))
        patches = tokens[:, self.prefix :]
        return ImageFeatures(patches, tokens[:, 0] if self.prefix else patches.mean(1))

    def _forward_map(self, pixels: Tensor, mask: Tensor | None) -> ImageFeatures:
        if mask is not None:
            grid = mask.reshape(-1, 1, *self.patch_grid).to(pixels.dtype)
            pixels = pixels * (1.0 - nn.functional.interpolate(grid, size=pixels.shape[-2:], mode="nearest"))
        patches = self._feature_map(pixels).flatten(2).transpose(1, 2)
        if mask is not None:
            patches = patches.gather(1, visible_indices(mask).unsqueeze(-1).expand(-1, -1, patches.shape[-1]))
        return ImageFeatures(patches, patches.mean(1))

    def _feature_map(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.model.forward_features(pixels)
        return features.permute(0, 3, 1, 2) if self.channels_last else features

    def _probe_map(self) -> tuple[int, int]:
        training = self.model.training
        try:
            with torch.no_grad():
                features = self.model.eval().forward_features(torch.zeros(1, 1, self.image_size, self.image_size))
        except RuntimeError as error:
            msg = f"the model cannot read images of image_size {self.image_size}: {str(error).splitlines()[0][:200]}"
            raise ConfigError(msg) from error
        self.model.train(training)
        if features.ndim != 4 or self.feature_dim not in (features.shape[1], features.shape[3]):
            shape = tuple(features.shape)
            msg = f"timm model gives features of shape {shape}; expected a map (B, C, H, W), use a ViT or a CNN"
            raise ConfigError(msg)
        self.channels_last = features.shape[1] != self.feature_dim
        rows, columns = (features.shape[1:3]) if self.channels_last else features.shape[2:4]
        return int(rows), int(columns)


def visible_indices(mask: Tensor) -> Tensor:
    """Positions of the False entries of each row, in order.

    Args:
        mask: bool ``(B, N)`` with the same number of True in every row (the gather must be rectangular).

    Returns:
        int64 ``(B, K)``.

    Raises:
        ConfigError: If rows differ in their number of visible patches.
    """
    counts = (~mask).sum(1)
    visible = int(counts[0])
    if bool((counts != visible).any()):
        msg = f"every image of a batch must hide the same number of patches, got {mask.sum(1).tolist()}"
        raise ConfigError(msg)
    return mask.to(torch.uint8).argsort(dim=1, stable=True)[:, :visible]


def _create(name: str, pretrained: bool, image_size: int, kwargs: dict[str, Any]) -> tuple[Any, bool]:
    import timm
    from timm.models.vision_transformer import VisionTransformer

    if not timm.is_model(name.split(".")[0]):
        close = timm.list_models(f"*{name.split('_')[0]}*")[:3]
        msg = f"timm has no model '{name}'" + (f"; it has {', '.join(close)}, ..." if close else "")
        raise ConfigError(msg)
    if name.startswith(("vit_", "deit", "test_vit", "flexivit")):
        kwargs.setdefault("img_size", image_size)
    try:
        model = timm.create_model(name, pretrained=pretrained, in_chans=1, num_classes=0, **kwargs)
    except Exception as error:
        if not pretrained:
            msg = f"timm cannot build '{name}' with {kwargs}: {str(error) or type(error).__name__}"
            raise ConfigError(msg) from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        msg = (
            f"the pre-trained weights of '{name}' could not be loaded ({reason}); offline, pass pretrained=false "
            "(--model.encoder.image.pretrained false), or model_kwargs={'pretrained_cfg_overlay': {'file': PATH}} "
            "with a weights file that you have"
        )
        raise PretrainedWeightsError(msg) from error
    return model, isinstance(model, VisionTransformer)
