"""Image encoders: visible-only encoding, any timm backbone, one-channel stems, clear errors."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_vit

from dmlm._config import build
from dmlm.errors import ConfigError, PretrainedWeightsError
from dmlm.masking import MaskContext, RandomMask
from dmlm.models import ImageEncoder, TimmImageEncoder
from dmlm.models.image import visible_indices


def images(count: int = 3, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, 1, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def random_mask(encoder: ImageEncoder, batch: torch.Tensor, ratio: float) -> torch.Tensor:
    return RandomMask(ratio)(MaskContext(batch, encoder.patch_grid), torch.Generator().manual_seed(1))


@pytest.mark.parametrize("ratio", [0.3, 0.75])
def test_visible_only_equals_attention_masking(ratio: float) -> None:
    """Dropping patches gives what an attention mask over all patches gives, to 1e-5."""
    encoder = tiny_vit(patch_size=4).eval()
    batch = images()
    mask = random_mask(encoder, batch, ratio)
    model = encoder.model
    with torch.no_grad():
        dropped = encoder(batch, mask)
        tokens = model.norm_pre(model._pos_embed(model.patch_embed(encoder.normalise(batch))))
        allowed = torch.cat([torch.ones(len(batch), 1, dtype=torch.bool), ~mask], dim=1)[:, None, None, :]
        for block in model.blocks:
            tokens = block(tokens, attn_mask=allowed)
        tokens = model.norm(tokens)
    visible = torch.stack([row[~hidden] for row, hidden in zip(tokens[:, 1:], mask, strict=True)])
    torch.testing.assert_close(dropped.patches, visible, atol=1e-5, rtol=0)
    torch.testing.assert_close(dropped.pooled, tokens[:, 0], atol=1e-5, rtol=0)


def test_no_mask_equals_timm_forward() -> None:
    encoder = tiny_vit().eval()
    with torch.no_grad():
        wanted = encoder.model.forward_features(encoder.normalise(images()))
        given = encoder(images())
    torch.testing.assert_close(torch.cat([given.pooled[:, None], given.patches], 1), wanted)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("test_resnet.r160_in1k", 64),
        ("test_efficientnet", 64),
        ("test_mambaout", 64),
        ("test_vit", 160),
        ("test_vit2", 160),
    ],
)
def test_any_backbone(name: str, size: int) -> None:
    encoder = TimmImageEncoder(name, pretrained=False, image_size=size).eval()
    batch = images(2, size)
    rows, columns = encoder.patch_grid
    full = encoder(batch)
    assert full.patches.shape == (2, rows * columns, encoder.feature_dim)
    assert full.pooled.shape == (2, encoder.feature_dim)
    if encoder.num_patches >= 4:
        masked = encoder(batch, random_mask(encoder, batch, 0.5))
        assert masked.patches.shape[1] == encoder.num_patches - round(encoder.num_patches / 2)
        assert torch.isfinite(masked.patches).all()


def test_cnn_does_not_see_masked_pixels() -> None:
    encoder = TimmImageEncoder("test_resnet.r160_in1k", pretrained=False, image_size=64).eval()
    batch = images(1, 64)
    mask = torch.zeros(1, encoder.num_patches, dtype=torch.bool)
    mask[0, 0] = True
    changed = batch.clone()
    cell = 64 // encoder.patch_grid[0]
    changed[..., :cell, :cell] = 255 - changed[..., :cell, :cell]
    torch.testing.assert_close(encoder(batch, mask).pooled, encoder(changed, mask).pooled)
    assert not torch.allclose(encoder(batch).pooled, encoder(changed).pooled)


def test_one_channel_stem_equals_three_equal_channels() -> None:
    """Weights summed over channels see a grey image as the original sees it three times over (timm's loading code)."""
    import timm
    from timm.models import adapt_input_conv

    original = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0).eval()
    encoder = TimmImageEncoder("vit_tiny_patch16_224", pretrained=False, image_size=32).eval()
    state = original.state_dict()
    state["patch_embed.proj.weight"] = adapt_input_conv(1, state["patch_embed.proj.weight"])
    encoder.model.load_state_dict(state)
    grey = encoder.normalise(images())
    with torch.no_grad():
        wanted = original.forward_features(grey.expand(-1, 3, -1, -1))[:, 0]
        torch.testing.assert_close(encoder(images()).pooled, wanted, atol=1e-5, rtol=1e-5)


def test_pretrained_weights_load_from_a_local_file(tmp_path) -> None:
    """The real timm loading path, offline: a three-channel weights file made here."""
    import timm
    from safetensors.torch import save_file

    original = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=10).eval()
    path = tmp_path / "weights.safetensors"
    save_file(original.state_dict(), path)
    overlay = {"file": str(path), "num_classes": 10, "custom_load": False}
    encoder = TimmImageEncoder(
        "vit_tiny_patch16_224", pretrained=True, image_size=32, model_kwargs={"pretrained_cfg_overlay": overlay}
    )
    summed = original.patch_embed.proj.weight.sum(1, keepdim=True)
    torch.testing.assert_close(encoder.model.patch_embed.proj.weight, summed)
    assert encoder.config["init_args"]["pretrained"] is False


def test_pretrained_offline_says_what_to_pass() -> None:
    with pytest.raises(PretrainedWeightsError, match=r"vit_tiny_patch16_224.*pretrained=false") as caught:
        TimmImageEncoder("vit_tiny_patch16_224", pretrained=True)
    assert "\n" not in str(caught.value)


def test_unknown_model_gives_near_names() -> None:
    with pytest.raises(ConfigError, match="resnet9000"):
        TimmImageEncoder("resnet9000", pretrained=False)


def test_config_rebuilds_the_encoder() -> None:
    encoder = tiny_vit().eval()
    again = build(encoder.config, ImageEncoder).eval()
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again(images()).pooled, encoder(images()).pooled)


def test_wrong_images_are_refused() -> None:
    with pytest.raises(ConfigError, match="uint8"):
        tiny_vit()(torch.rand(1, 1, 32, 32))
    with pytest.raises(ConfigError, match="image_size"):
        tiny_vit()(images(1, 40))


def test_visible_indices_need_equal_counts() -> None:
    mask = torch.tensor([[True, False, False], [False, True, False]])
    assert visible_indices(mask).tolist() == [[1, 2], [0, 2]]
    with pytest.raises(ConfigError, match="same number"):
        visible_indices(torch.tensor([[True, False], [False, False]]))


def test_freeze_norm_keeps_statistics_while_training() -> None:
    """Running statistics stay through training and evaluation modes; weights, also those of the norms, still train."""
    batch = images(4, 64)
    for frozen in (True, False):
        encoder = TimmImageEncoder("test_efficientnet", pretrained=False, image_size=64, freeze_norm=frozen)
        again = build(encoder.config, ImageEncoder)
        for module in (encoder, encoder.eval().train(), again, torch.nn.Sequential(encoder).train()[0]):
            before = {name: value.clone() for name, value in module.named_buffers() if "running" in name}
            assert before
            module(batch, random_mask(module, batch, 0.5)).pooled.sum().backward()
            same = [torch.equal(before[name], value) for name, value in module.named_buffers() if name in before]
            assert all(same) if frozen else not any(same)
        assert encoder.model.bn1.weight.grad is not None
        assert encoder.model.conv_stem.training
