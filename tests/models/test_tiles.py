"""The tile encoder: what a tile tells, what a mask hides, and what is kept."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from conftest import tiny_bert

from dmlm.errors import ConfigError
from dmlm.io.cache import cache_dir
from dmlm.models import (
    HFTextEncoder,
    ProbabilisticEncoder,
    TileEncoder,
    TimmImageEncoder,
    from_pretrained,
    save_pretrained,
    tiles,
)
from dmlm.tasks.optim import OptimConfig, parameter_groups


def trunk(side: int = 32) -> TimmImageEncoder:
    torch.manual_seed(0)
    return TimmImageEncoder("test_resnet", pretrained=False, image_size=side)


def encoder(**options) -> TileEncoder:
    made = trunk()
    torch.manual_seed(1)
    return TileEncoder(made, image_size=96, width=24, depth=1, num_heads=2, **options).eval()


def images(count: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, 1, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def test_shapes_and_what_a_mask_hides() -> None:
    model, x = encoder(), images()
    assert model.patch_grid == (3, 3)
    assert model(x).patches.shape == (3, 9, 24)
    mask = torch.zeros(3, 9, dtype=torch.bool)
    mask[:, 4] = True
    changed = x.clone()
    changed[:, :, 32:64, 32:64] = 255 - changed[:, :, 32:64, 32:64]
    seen = [model(value, mask) for value in (x, changed)]
    assert seen[0].patches.shape == (3, 8, 24)
    for first, second in zip(*seen, strict=True):
        assert torch.equal(first, second), "what is hidden leaks into what is visible"
    assert not torch.equal(model(x).pooled, model(changed).pooled)


def test_a_tile_is_described_as_the_trunk_describes_it_alone() -> None:
    model, x = encoder(), images(2)
    tile = x[:, :, 64:96, 32:64]
    torch.testing.assert_close(model._describe(x)[:, 7], trunk().eval()(tile).pooled, atol=1e-5, rtol=1e-4)


def test_the_trunk_stays_as_it_is() -> None:
    model = encoder().train()
    assert not model.trunk.training
    model(images()).pooled.sum().backward()
    assert all(parameter.grad is None for parameter in model.trunk.parameters())
    assert all(parameter.grad is not None for parameter in model.blocks.parameters())


def test_kept_descriptions_are_those_of_the_trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, keeping, x = encoder(), encoder(cache=True), images()
    monkeypatch.setattr(tiles, "_KEPT", {})
    first = keeping(x).pooled
    torch.testing.assert_close(first, plain(x).pooled, atol=2e-3, rtol=2e-3)  # kept in half precision
    assert len(list((cache_dir() / "tiles").rglob("*.npy"))) >= 3
    monkeypatch.setattr(keeping.trunk, "forward", lambda _: pytest.fail("computed again"))
    assert torch.equal(keeping(x).pooled, first)
    monkeypatch.setattr(tiles, "_KEPT", {})  # another process
    assert torch.equal(keeping(x).pooled, first)
    other = encoder(cache=True)
    with torch.no_grad():
        next(other.trunk.parameters()).mul_(2.0)
    assert not torch.equal(other(x).pooled, first), "another trunk has descriptions of its own"


def test_sizes_must_fit() -> None:
    with pytest.raises(ConfigError, match="multiple"):
        TileEncoder(trunk(), image_size=100)


def test_positions_have_no_weight_decay() -> None:
    model = ProbabilisticEncoder(encoder(), tiny_bert(), embed_dim=24, head="mlp")
    groups = parameter_groups(model, ("image.", "text."), OptimConfig())
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decay[id(model.image.position)] == 0
    assert decay[id(model.image.embed[1].weight)] == OptimConfig().weight_decay


def test_saved_and_loaded(tmp_path) -> None:
    torch.manual_seed(0)
    model = ProbabilisticEncoder(encoder(), tiny_bert(), embed_dim=24, head="mlp").eval()
    save_pretrained(model, tmp_path / "saved")
    again = from_pretrained(tmp_path / "saved")
    x = images()
    torch.testing.assert_close(again.encode_image(x).mean, model.encode_image(x).mean)


def test_frozen_layers_of_a_text_encoder() -> None:
    options = {**tiny_bert().config["init_args"], "tokenizer": "library"}
    options.pop("freeze_layers")
    model = HFTextEncoder(**options, freeze_layers=1)
    trained = {name.split(".layer.")[-1][0] for name, value in model.named_parameters() if value.requires_grad}
    assert trained == {"1"}
    with pytest.raises(ConfigError, match="freeze_layers"):
        HFTextEncoder(**options, freeze_layers=3)


def test_loaded_weights_have_descriptions_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself or inside a larger module, as a trainer loads it; a copy forgets for itself."""
    monkeypatch.setattr(tiles, "_KEPT", {})
    keeping, x = torch.nn.ModuleDict({"image": encoder(cache=True)}), images()
    first = keeping["image"](x).pooled
    weights = keeping.state_dict()
    weights = {
        name: value * 1.5 if "trunk" in name and value.is_floating_point() else value for name, value in weights.items()
    }
    copied = deepcopy(keeping)
    copied.load_state_dict(weights)
    plain = encoder()
    plain.load_state_dict({name.removeprefix("image."): value for name, value in weights.items()})
    torch.testing.assert_close(copied["image"](x).pooled, plain(x).pooled, atol=2e-3, rtol=2e-3)
    assert torch.equal(keeping["image"](x).pooled, first)
    assert copied["image"]._fingerprint != keeping["image"]._fingerprint


def test_tiles_of_another_size_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "_KEPT", {})
    x = images()
    for side in (32, 48):
        made = TileEncoder(trunk(side), image_size=96, width=24, depth=1, num_heads=2, cache=True).eval()
        torch.testing.assert_close(made._describe(x), made._compute(x), atol=2e-3, rtol=2e-3)


def test_what_is_kept_does_not_depend_on_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "_KEPT", {})
    model, x = encoder(cache=True), images()
    plain = model._compute(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model._compute(x)
        kept = model._describe(x)
    assert torch.equal(mixed, plain)
    assert torch.equal(kept, plain.half().float())
