"""Segmenters over real towers: every decoder, real shapes, gradients where they belong."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_bert, tiny_vit

from dmlm.errors import ConfigError
from dmlm.models import ImageEncoder, ImageFeatures, ProbabilisticEncoder, Segmenter, TimmImageEncoder
from dmlm.models.feature_maps import feature_maps, map_shapes
from dmlm.models.segmenter import freeze_untouched, patch_gaussians, sampled_masks

TOWERS = {
    "vit": tiny_vit,
    "vit without class token": lambda: TimmImageEncoder(
        "vit_tiny_patch16_224",
        False,
        64,
        {"embed_dim": 24, "depth": 5, "num_heads": 2, "class_token": False, "global_pool": "avg"},
    ),
    "resnet of output stride 16": lambda: TimmImageEncoder("test_resnet", False, 96, {"output_stride": 16}),
    "efficientnet": lambda: TimmImageEncoder("test_efficientnet", False, 64),
}


class Patches(ImageEncoder):
    """Somebody's own tower: means of 8 x 8 pixels."""

    def __init__(self, image_size: int = 32) -> None:
        super().__init__()
        self.image_size, self.patch_grid, self.feature_dim = image_size, (4, 4), 6
        self.set_normalisation(0.5, 0.25)
        self.layer = torch.nn.Conv2d(1, 6, 8, stride=8)

    def forward(self, images, mask=None):
        patches = self.layer(self.normalise(images)).flatten(2).transpose(1, 2)
        return ImageFeatures(patches, patches.mean(1))


def encoder_of(tower: ImageEncoder) -> ProbabilisticEncoder:
    torch.manual_seed(0)
    return ProbabilisticEncoder(tower, tiny_bert(), embed_dim=24, head="mlp")


def batch(encoder: ProbabilisticEncoder, count: int = 2) -> torch.Tensor:
    side = encoder.image.image_size
    return torch.randint(0, 256, (count, 1, side, side), dtype=torch.uint8)


@pytest.mark.parametrize("decoder", ["unet", "dpt", "upernet", "setr"])
@pytest.mark.parametrize("tower", TOWERS)
def test_every_decoder_works_on_every_tower(tower, decoder) -> None:
    encoder = encoder_of(TOWERS[tower]())
    model = Segmenter(encoder, 2, decoder, width=16)
    freeze_untouched(encoder, model.decoder, "backbone")
    images = batch(encoder)
    logits = model.train()(images)
    assert logits.shape == (2, 2, *images.shape[-2:])
    logits.square().mean().backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None]
    assert not idle
    assert all(parameter.grad is None for parameter in encoder.image_head.parameters())
    assert any(parameter.grad is not None for parameter in encoder.image.parameters())


def test_image_sizes_that_are_no_multiple_of_32() -> None:
    encoder = encoder_of(TimmImageEncoder("test_resnet", False, 80))
    for decoder in ("unet", "upernet", "setr"):
        assert Segmenter(encoder, 1, decoder, width=16)(batch(encoder)).shape == (2, 1, 80, 80)
    with pytest.raises(ConfigError, match=r"multiple of 32.*got 80.*--model\.decoder unet"):
        Segmenter(encoder, 1, "dpt")


def test_own_towers_and_patch_means() -> None:
    encoder = encoder_of(Patches())
    assert Segmenter(encoder, 1, "unet", width=16)(batch(encoder)).shape == (2, 1, 32, 32)
    model = Segmenter(encoder, 1, "setr", "mean", 16)
    freeze_untouched(encoder, model.decoder, "mean")
    model(batch(encoder)).sum().backward()
    assert encoder.image_head.mean_out.weight.grad is not None
    assert not encoder.image_head.logvar_out.weight.requires_grad
    with pytest.raises(ConfigError, match="mean with decoder setr"):
        Segmenter(encoder, 1, "unet", "mean")


def test_an_answer_in_one_corner_comes_from_that_corner() -> None:
    """The map of patch means keeps rows and columns apart."""
    torch.manual_seed(0)
    encoder = encoder_of(tiny_vit()).eval()
    model = Segmenter(encoder, 1, "setr", "mean", 16).eval()
    images = batch(encoder, 1).repeat(2, 1, 1, 1)
    gaussian = encoder.encode_image(images)
    moved = gaussian.mean.clone()
    moved[1, 1 + 3] += 10  # the patch at row 0, column 3
    maps = moved[:, 1:].transpose(1, 2).reshape(2, 24, 4, 4)
    change = (model.decoder([maps[1:]], [None], (32, 32)) - model.decoder([maps[:1]], [None], (32, 32))).abs()[0, 0]
    assert change[:8, 24:].mean() > 10 * change[16:, :16].mean()


def test_sampled_masks_do_not_depend_on_the_batch() -> None:
    encoder = encoder_of(tiny_vit()).eval()
    model = Segmenter(encoder, 2, "setr", "mean", 16).eval()
    images = batch(encoder, 3)
    mean, std = sampled_masks(encoder, model.decoder, images, 4, [5, 6, 7])
    alone, _ = sampled_masks(encoder, model.decoder, images[1:2], 4, [6])
    torch.testing.assert_close(mean[1:2], alone, atol=1e-5, rtol=1e-5)
    assert mean.shape == std.shape == (3, 2, 32, 32)
    assert mean.min() >= 0
    assert mean.max() <= 1
    assert std.max() > 0


def test_maps_come_from_evenly_spaced_blocks_and_end_with_the_towers_own_patches() -> None:
    tower = tiny_vit(depth=8).eval()
    images = torch.randint(0, 256, (1, 1, 32, 32), dtype=torch.uint8)
    maps, prefixes = feature_maps(tower, images)
    features = tower(images)
    torch.testing.assert_close(maps[-1].flatten(2).transpose(1, 2), features.patches)
    torch.testing.assert_close(prefixes[-1][:, 0], features.pooled)
    assert map_shapes(tower).strides == (8.0,) * 4
    assert not torch.equal(maps[0], maps[1])


@pytest.mark.parametrize("bias", [0.0, 5.0, 9.0])
def test_the_spread_of_sure_answers_is_no_rounding_noise(bias) -> None:
    """As in float64, also where the probability is near 1 and its spread a millionth."""
    encoder = encoder_of(tiny_vit()).eval()
    model = Segmenter(encoder, 1, "setr", "mean", 16).eval()
    torch.nn.init.constant_(model.decoder.logits.bias, bias)
    images, source = batch(encoder, 1), torch.Generator().manual_seed(5)
    _, std = sampled_masks(encoder, model.decoder, images, 16, [5])
    with torch.no_grad():
        patches, answers = patch_gaussians(encoder, images), []
        for _ in range(16):
            point = patches.mean + patches.std * torch.randn(patches.mean.shape[1:], generator=source)
            logits = model.decoder([point.transpose(1, 2).reshape(1, 24, 4, 4)], [None], (32, 32))
            answers.append(torch.sigmoid(logits).double())
    torch.testing.assert_close(std.double(), torch.stack(answers).std(0, unbiased=False), atol=1e-8, rtol=1e-3)


@pytest.mark.parametrize("tower", ["vit", "vit without class token"])
def test_maps_are_those_of_timm(tower) -> None:
    made = TOWERS[tower]().eval()
    images = torch.randint(0, 256, (2, 1, made.image_size, made.image_size), dtype=torch.uint8)
    depth = len(made.model.blocks)
    wanted = [max(0, round((level + 1) * depth / 4) - 1) for level in range(4)]
    with torch.no_grad():
        maps, prefixes = feature_maps(made, images)
        each = made.model.forward_intermediates(
            made.normalise(images), norm=True, intermediates_only=True, return_prefix_tokens=bool(made.prefix)
        )
    for place, block in enumerate(wanted):
        expected, prefix = each[block] if made.prefix else (each[block], None)
        assert torch.equal(maps[place], expected)
        assert (prefixes[place] is None) if prefix is None else torch.equal(prefixes[place], prefix[:, :1])


@pytest.mark.parametrize("kind", [True, "selective"])
def test_maps_keep_the_towers_gradient_checkpointing(kind) -> None:
    """The same gradients from fewer kept numbers."""

    def run(checkpointing) -> tuple[int, list[torch.Tensor]]:
        torch.manual_seed(0)
        options = {"patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 2}
        made = TimmImageEncoder(
            "vit_tiny_patch16_224", False, 32, options, gradient_checkpointing=checkpointing
        ).train()
        images = torch.randint(0, 256, (4, 1, 32, 32), dtype=torch.uint8)
        kept = [0]

        def pack(value: torch.Tensor) -> torch.Tensor:
            kept[0] += value.numel()
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            maps, _ = feature_maps(made, images)
        sum(found.square().sum() for found in maps).backward()
        return kept[0], [value.grad for value in made.parameters() if value.grad is not None]

    (everything, plain), (less, again) = run(False), run(kind)
    assert less < 0.8 * everything
    torch.testing.assert_close(again, plain)


def test_options_that_cannot_work() -> None:
    encoder = encoder_of(tiny_vit())
    with pytest.raises(ConfigError, match="decoder must be one of unet, dpt, upernet, setr"):
        Segmenter(encoder, 1, "fcn")
    with pytest.raises(ConfigError, match="width of 16 or more"):
        Segmenter(encoder, 1, "unet", width=4)
    with pytest.raises(ConfigError, match=r"--data\.batch_size to 2"):
        Segmenter(encoder, 1, "upernet", width=16).train()(batch(encoder, 1))
