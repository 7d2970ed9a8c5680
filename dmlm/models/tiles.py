"""An image encoder for small compute: a frozen CNN describes each tile by itself, a transformer reads the tiles.

The CNN takes the place of a ViT's patch embedding. A tile is described without its neighbours, so what a mask hides
cannot be read from the features of what it leaves visible, as it could from the map of a CNN over the whole image.
The descriptions never change, so they can be kept: a step then costs what the small transformer costs.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dmlm.errors import ConfigError
from dmlm.io.atomic import atomic_path
from dmlm.io.cache import cache_dir
from dmlm.models.image import ImageEncoder, ImageFeatures, visible_indices

_KEPT: dict[tuple[str, bytes], Tensor] = {}
_MOST_KEPT = 8192
"""Images whose tiles stay in memory, for all encoders of this process; a run of another seed asks for them again."""


class TileEncoder(ImageEncoder):
    """Encode an image tile by tile.

    Args:
        trunk: Describes a tile; its ``image_size`` is the tile's side. Frozen, in evaluation mode.
        image_size: Height and width of the image, a multiple of the tile's side.
        width: Width of the transformer.
        depth: Blocks of the transformer.
        num_heads: Attention heads.
        cache: Keep the descriptions of tiles, in memory and in the cache folder. Only worth it where images come again
            as they were, so with ``data.augment false``.

    Raises:
        ConfigError: If the sizes do not fit.
    """

    position: nn.Parameter

    def __init__(
        self,
        trunk: ImageEncoder,
        image_size: int = 192,
        width: int = 192,
        depth: int = 2,
        num_heads: int = 4,
        cache: bool = False,
    ) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block

        side = trunk.image_size
        if image_size % side:
            msg = f"image_size of a TileEncoder must be a multiple of its trunk's image_size {side}, got {image_size}"
            raise ConfigError(msg)
        self.trunk = trunk.requires_grad_(requires_grad=False).eval()
        self.image_size, self.feature_dim, self.cache = image_size, width, cache
        self.patch_grid = (image_size // side, image_size // side)
        self.set_normalisation(float(trunk.pixel_mean), float(trunk.pixel_std))
        self.embed = nn.Sequential(nn.LayerNorm(trunk.feature_dim), nn.Linear(trunk.feature_dim, width))
        self.position = nn.Parameter(torch.empty(1 + self.num_patches, width).normal_(std=0.02))
        self.blocks = nn.Sequential(*(Block(width, num_heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self._fingerprint = ""
        # a function of the module, not a method: copies of this encoder must not forget in place of the original
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> TileEncoder:
        """Switch between training and evaluation; the trunk stays in evaluation."""
        super().train(mode)
        self.trunk.eval()
        return self

    def forward(self, images: Tensor, mask: Tensor | None = None) -> ImageFeatures:
        """Encode images; see :meth:`ImageEncoder.forward`. Masked tiles are dropped."""
        self.normalise(images[:0])  # says what is wrong with images of another kind
        tiles = self.embed(self._describe(images)) + self.position[1:]
        if mask is not None:
            tiles = tiles.gather(1, visible_indices(mask).unsqueeze(-1).expand(-1, -1, tiles.shape[-1]))
        # the image's own element starts as what the tiles have in common
        whole = tiles.mean(1, keepdim=True) + self.position[0]
        elements = self.norm(self.blocks(torch.cat([whole, tiles], dim=1)))
        return ImageFeatures(elements[:, 1:], elements[:, 0])

    @torch.no_grad()
    def _describe(self, images: Tensor) -> Tensor:
        """Features of all tiles, ``(B, N, F)``."""
        if not self.cache:
            return self._compute(images)
        self._fingerprint = self._fingerprint or _fingerprint(self.trunk)
        keys = [
            (self._fingerprint, blake2b(image.tobytes(), digest_size=16).digest()) for image in images.cpu().numpy()
        ]
        found = [_recall(key) for key in keys]
        lost = [row for row, tiles in enumerate(found) if tiles is None]
        if lost:
            for row, tiles in zip(lost, self._compute(images[lost]).half().cpu(), strict=True):
                found[row] = tiles
                _keep(keys[row], tiles)
        return torch.stack([tiles.float() for tiles in found if tiles is not None]).to(images.device)

    def _compute(self, images: Tensor) -> Tensor:
        side = self.trunk.image_size
        tiles = F.unfold(images.float(), side, stride=side).transpose(1, 2).reshape(-1, 1, side, side)
        with torch.autocast(images.device.type, enabled=False):  # what is kept must not depend on a run's precision
            features: Tensor = self.trunk(tiles.to(torch.uint8)).pooled
        return features.reshape(len(images), self.num_patches, -1)


def _forget(module: nn.Module, _: object) -> None:
    """Forget which trunk it was: other weights were loaded, by itself or as a part of a larger module."""
    module._fingerprint = ""  # type: ignore[assignment]


def _fingerprint(trunk: ImageEncoder) -> str:
    """Hash of the tile's side and the weights: descriptions of another trunk, or of other tiles, are others."""
    digest = blake2b(str(trunk.image_size).encode(), digest_size=16)
    for name, value in sorted(trunk.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _recall(key: tuple[str, bytes]) -> Tensor | None:
    tiles = _KEPT.get(key)
    if tiles is None:
        try:
            tiles = torch.from_numpy(np.load(_file(key), allow_pickle=False))
        except (OSError, ValueError):
            return None
        if len(_KEPT) < _MOST_KEPT:
            _KEPT[key] = tiles
    return tiles


def _keep(key: tuple[str, bytes], tiles: Tensor) -> None:
    if len(_KEPT) < _MOST_KEPT:
        _KEPT[key] = tiles
    path = _file(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, tiles.numpy())


def _file(key: tuple[str, bytes]) -> Path:
    return cache_dir() / "tiles" / key[0][:16] / f"{key[1].hex()}.npy"
