"""The objective as a whole: teacher, every configuration, cost of a step, options."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from conftest import example_views, tiny_encoder, tiny_predictor
from torch.utils.flop_counter import FlopCounterMode

from dmlm.errors import ConfigError
from dmlm.models import ProbabilisticEncoder
from dmlm.objectives import (
    ImageObjectiveConfig,
    ObjectiveConfig,
    PretrainingObjective,
    Teacher,
)
from dmlm.objectives.pretraining import positions_of


def test_teacher_follows_and_never_learns() -> None:
    encoder = tiny_encoder()
    teacher = Teacher(encoder, "ema", (0.9, 1.0))
    assert teacher.train().encoder.training is False
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    before = [parameter.clone() for parameter in teacher.encoder.parameters()]
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1.0)
    teacher.update(encoder, 0.0)
    for old, new, student in zip(before, teacher.encoder.parameters(), encoder.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * student)
    assert teacher.momentum(0.0) == pytest.approx(0.9)
    assert teacher.momentum(0.5) == pytest.approx(0.95)
    assert teacher.momentum(1.0) == pytest.approx(1.0)
    frozen = Teacher(encoder, "frozen")
    kept = frozen.encoder.image_head.mean_out.weight.clone()
    frozen.update(encoder, 0.5)
    assert torch.equal(frozen.encoder.image_head.mean_out.weight, kept)
    assert Teacher(encoder, "online").encoder is None


def test_positions_of_pads_to_the_longest_row() -> None:
    query, valid = positions_of(torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0]], dtype=torch.bool))
    assert query.tolist() == [[1, 3], [0, 1]]
    assert valid.tolist() == [[True, True], [True, False]]


CONFIGS = [
    ObjectiveConfig(),
    ObjectiveConfig(conditioning="joint", align_view="masked"),
    ObjectiveConfig(target="online", alignment="csd_bce"),
    ObjectiveConfig(target="frozen", token_anchor=0.1, pixel_anchor=0.1, kl_direction="pred_target"),
    ObjectiveConfig(masked_weight=0.0),
    ObjectiveConfig(masked_weight=1.0),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_every_objective_steps_and_reaches_every_weight(config: ObjectiveConfig) -> None:
    encoder, predictor = tiny_encoder(), tiny_predictor()
    objective = PretrainingObjective(config, encoder)
    step = objective(encoder, predictor, example_views(encoder))
    assert torch.isfinite(step.loss)
    step.loss.backward()
    modules = (encoder, objective) if config.masked_weight == 0 else (encoder, predictor, objective)
    unused = [n for m in modules for n, p in m.named_parameters() if p.requires_grad and p.grad is None]
    allowed = {"image.pooled"} if config.masked_weight < 1 else set()
    assert set(unused) <= allowed, "DDP would wait for these forever"


def test_total_is_the_weighted_sum() -> None:
    encoder, predictor = tiny_encoder().eval(), tiny_predictor().eval()
    config = ObjectiveConfig(masked_weight=0.3, text_weight=2.0, image_weight=0.5, vib_weight=0.0)
    parts = PretrainingObjective(config, encoder)(encoder, predictor, example_views(encoder)).parts
    wanted = 0.3 * (2.0 * parts["kl_text"] + 0.5 * parts["kl_image"]) + 0.7 * parts["align"]
    torch.testing.assert_close(parts["loss"], wanted)


def test_no_mask_leaves_alignment_only() -> None:
    encoder, predictor = tiny_encoder(), tiny_predictor()
    objective = PretrainingObjective(ObjectiveConfig(masked_weight=0.3, vib_weight=0.0), encoder)
    parts = objective(encoder, predictor, example_views(encoder, ratio=0.0)).parts
    assert parts["kl_text"] == parts["kl_image"] == 0
    assert parts["target_spread"].isnan(), "nothing was hidden, so no target can have collapsed"
    torch.testing.assert_close(parts["loss"], 0.7 * parts["align"])


def test_targets_carry_no_gradient() -> None:
    encoder, predictor = tiny_encoder(), tiny_predictor()
    for kind, expected in (("ema", False), ("online", False), ("shared", True)):
        objective = PretrainingObjective(ObjectiveConfig(target=kind), encoder)
        views = example_views(encoder)
        full, _ = objective._encode(encoder, views, True, True)
        places = torch.zeros(len(views.images), 1, dtype=torch.int64)
        assert objective._targets(encoder, views, full, places, places).text.mean.requires_grad is expected
    assert predictor is not None


@pytest.mark.parametrize(
    "arguments",
    [
        {"masked_weight": 1.5},
        {"target": "online", "masked_weight": 1.0},
        {"target": "online", "alignment": "attract"},
        {"conditioning": "none"},
        {"align_view": "half"},
    ],
)
def test_wrong_objectives_are_refused(arguments: dict) -> None:
    with pytest.raises(ConfigError):
        ObjectiveConfig(**arguments)


@pytest.mark.parametrize(
    "name", ["text_weight", "image_weight", "local_weight", "vib_weight", "token_anchor", "pixel_anchor"]
)
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_weights_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is a weight and must be finite and at least 0, got {value}$"):
        ObjectiveConfig(**{name: value})


@pytest.mark.parametrize("name", ["token_anchor", "pixel_anchor"])
def test_anchors_without_masked_prediction_are_refused(name: str) -> None:
    """They would have parameters and no gradient."""
    with pytest.raises(ConfigError, match=r"^token_anchor and pixel_anchor .* must be 0 with masked_weight 0, got "):
        ObjectiveConfig(masked_weight=0.0, **{name: 0.1})


@pytest.mark.parametrize("momentum", [(2.0, 3.0), (-0.1, 1.0), (0.9, 1.1), (math.nan, 1.0), (0.9,)])
def test_momentum_out_of_range(momentum: tuple[float, ...]) -> None:
    for made in (ObjectiveConfig, ImageObjectiveConfig, partial(Teacher, tiny_encoder())):
        with pytest.raises(ConfigError, match=r"^momentum must be two numbers in 0..1, .* got \["):
            made(momentum=momentum)


def test_a_step_costs_little_more_than_its_encoder_passes() -> None:
    """No hidden second forward: student full and masked (x3 with backward), teacher once, and at most 15 % beside.

    Towers of the shape of ViT-S and a 6-layer BERT; the predictor is scaled alike (half width, a third of the depth).
    """
    from dmlm.models import CrossModalPredictor, HFTextEncoder, TimmImageEncoder

    image = TimmImageEncoder("vit_small_patch16_224", pretrained=False, image_size=112)
    text = HFTextEncoder(
        "bert",
        False,
        {
            "model_type": "bert",
            "hidden_size": 384,
            "num_hidden_layers": 12,
            "num_attention_heads": 6,
            "intermediate_size": 1536,
        },
        "library",
    )
    encoder = ProbabilisticEncoder(image, text, embed_dim=384)
    predictor = CrossModalPredictor(384, width=192, depth=4, num_heads=6)
    objective = PretrainingObjective(ObjectiveConfig(), encoder)
    views = example_views(encoder, 2)

    def flops(run) -> int:
        with FlopCounterMode(display=False) as counter:
            run()
        return counter.get_total_flops()

    with torch.no_grad():
        full = flops(lambda: (encoder.encode_image(views.images), encoder.encode_text(views.tokens)))
        masked = flops(
            lambda: (
                encoder.encode_image(views.images, views.image_mask),
                encoder.encode_text(views.tokens, views.text_mask),
            )
        )
    step = flops(lambda: objective(encoder, predictor, views).loss.backward())
    assert step <= 1.15 * (3 * (full + masked) + full)


def test_config_is_frozen_and_replaceable() -> None:
    assert replace(ObjectiveConfig(), target="frozen").target == "frozen"


def test_masked_prediction_joins_at_its_start() -> None:
    """Before it, alignment is alone with the weight that it keeps, and every parameter still has a gradient for DDP."""
    encoder, predictor = tiny_encoder(), tiny_predictor()
    views = example_views(encoder, 6)
    objective = PretrainingObjective(ObjectiveConfig(masked_start=0.5, vib_weight=0.0), encoder)
    before = objective(encoder, predictor, views, progress=0.49)
    assert not any(name.startswith("kl") for name in before.parts)
    torch.testing.assert_close(before.loss.detach(), 0.8 * before.parts["align"])
    before.loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in predictor.parameters())
    after = objective(encoder, predictor, views, progress=0.5)
    assert {"kl_text", "kl_image"} <= after.parts.keys()
    assert float(after.loss) > float(before.loss)


@pytest.mark.parametrize(
    "options", [{"masked_start": 1.0}, {"masked_start": -0.1}, {"masked_start": 0.5, "masked_weight": 1}]
)
def test_masked_start_out_of_range(options: dict) -> None:
    with pytest.raises(ConfigError, match="masked_start"):
        ObjectiveConfig(**options)
