"""Losses, positives, teacher, monitors: values, gradients, and the collapse of the paper's letter."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import example_views, tiny_bert, tiny_encoder, tiny_predictor, tiny_vit
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from dmlm.distributions import Gaussian, kl_divergence, wasserstein2
from dmlm.errors import CollapseError, ConfigError
from dmlm.models import ProbabilisticEncoder
from dmlm.models.tokens import TokenBatch
from dmlm.objectives import (
    AlignmentLoss,
    CollapseMonitor,
    MaskedPredictionLoss,
    ObjectiveConfig,
    PretrainingObjective,
    Statements,
    Teacher,
    pair_relations,
)
from dmlm.objectives.monitors import effective_rank, spread
from dmlm.objectives.pretraining import positions_of
from dmlm.reports import Observation, encode_facts, relation


def gaussian(*shape: int, seed: int = 0) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(torch.randn(*shape, generator=generator), torch.rand(*shape, generator=generator) * 2 - 3)


@pytest.mark.parametrize("direction", ["pred_target", "target_pred", "symmetric", "mse"])
def test_masked_prediction_is_the_mean_over_valid_elements(direction: str) -> None:
    p, q = gaussian(3, 4, 8, seed=1), gaussian(3, 4, 8, seed=2)
    valid = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=torch.bool)
    each = {
        "pred_target": kl_divergence(p, q),
        "target_pred": kl_divergence(q, p),
        "symmetric": 0.5 * (kl_divergence(p, q) + kl_divergence(q, p)),
        "mse": (p.mean - q.mean).square().mean(-1),
    }[direction]
    loss = MaskedPredictionLoss(direction)(p, q, valid)
    torch.testing.assert_close(loss, each[valid].mean())
    torch.testing.assert_close(MaskedPredictionLoss(direction, "sum")(p, q, valid), 8 * loss)


def test_beta_nll_weighs_each_dimension_by_the_target_variance() -> None:
    p, q = gaussian(2, 3, 4, seed=1), gaussian(2, 3, 4, seed=2)
    valid = torch.ones(2, 3, dtype=torch.bool)
    singles = [Gaussian(g.mean.unsqueeze(-1), g.logvar.unsqueeze(-1)) for g in (p, q)]
    wanted = (torch.exp(0.5 * q.logvar) * kl_divergence(*singles)).mean()
    torch.testing.assert_close(MaskedPredictionLoss(beta_nll=0.5)(p, q, valid), wanted)


def test_nothing_masked_gives_zero_and_finite_gradient() -> None:
    p = Gaussian(torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4))
    for part in (p, p.at(slice(0, 0))):
        loss = MaskedPredictionLoss()(part, part.detach(), torch.zeros(part.mean.shape[:2], dtype=torch.bool))
        loss.backward()
        assert float(loss) == 0
    assert torch.isfinite(p.mean.grad).all()


def test_predicted_variance_copies_or_measures() -> None:
    """KL(pred || target) cannot learn the error; KL(target || pred) does (method, ruling 5)."""
    torch.manual_seed(0)
    truth = torch.randn(4000, 1, 1) * 0.7
    target = Gaussian(truth, torch.full_like(truth, math.log(0.3**2)))
    learned = {}
    for direction in ("pred_target", "target_pred"):
        logvar = torch.zeros(1, requires_grad=True)
        optimizer = torch.optim.Adam([logvar], 0.05)
        for _ in range(300):
            optimizer.zero_grad()
            predicted = Gaussian(torch.zeros_like(truth), logvar.expand_as(truth))
            MaskedPredictionLoss(direction)(predicted, target, torch.ones(4000, 1, dtype=torch.bool)).backward()
            optimizer.step()
        learned[direction] = float(torch.exp(0.5 * logvar.detach()))
    assert learned["pred_target"] == pytest.approx(0.3, abs=0.01)
    assert learned["target_pred"] == pytest.approx(math.hypot(0.3, 0.7), abs=0.03)


def random_statements(rng: np.random.Generator, count: int) -> list[Observation]:
    names = ("Edema", "Pneumothorax", "Pleural Effusion", "Nodule")
    chosen = rng.choice(names, size=count, replace=False)
    return [
        Observation(
            str(name),
            rng.choice(["present", "absent", "uncertain"]),
            laterality=rng.choice([None, "left", "right", "bilateral"]),
            severity=rng.choice([None, "mild", "severe"]),
        )
        for name in chosen
    ]


def test_pair_relations_equal_the_slow_reference() -> None:
    rng = np.random.default_rng(0)
    reports = [random_statements(rng, int(rng.integers(0, 5))) for _ in range(40)]
    texts = [random_statements(rng, int(rng.integers(0, 3))) for _ in range(40)]
    facts = [np.stack([encode_facts(item) for item in side]) for side in (reports, texts)]
    given = pair_relations(*(torch.from_numpy(side) for side in facts))
    seen = set()
    for i in range(40):
        for j in range(40):
            wanted = "positive" if i == j else relation(facts[0][i], facts[1][j])
            if not texts[j] and i != j:
                wanted = "ignored"
            seen.add(wanted)
            assert (bool(given.positive[i, j]), bool(given.negative[i, j])) == (
                wanted == "positive",
                wanted == "negative",
            )
    assert seen == {"positive", "negative", "ignored"}


def test_contrastive_equals_cross_entropy_with_identity_positives() -> None:
    loss = AlignmentLoss("contrastive", "identity")
    image, text = gaussian(6, 8, seed=1), gaussian(6, 8, seed=2)
    logits = -7.14 * torch.stack([wasserstein2(Gaussian(image.mean[i], image.logvar[i]), text) for i in range(6)])
    own = torch.arange(6)
    wanted = 0.5 * (F.cross_entropy(logits, own) + F.cross_entropy(logits.t(), own))
    nothing = torch.zeros(6, 2, 4, dtype=torch.long)
    torch.testing.assert_close(loss(image, text, nothing, nothing, own), wanted, atol=1e-4, rtol=1e-4)


def test_equal_texts_change_nothing_under_a_softmax() -> None:
    """Identity and same-text positives agree where texts, and so their distributions, are equal."""
    image, text = gaussian(6, 8, seed=1), gaussian(3, 8, seed=2)
    text = Gaussian(text.mean.repeat(2, 1), text.logvar.repeat(2, 1))
    nothing, keys = torch.zeros(6, 2, 4, dtype=torch.long), torch.tensor([1, 2, 3, 1, 2, 3])
    values = [
        AlignmentLoss("contrastive", kind)(image, text, nothing, nothing, keys) for kind in ("identity", "same_text")
    ]
    torch.testing.assert_close(*values, atol=1e-4, rtol=1e-4)


def test_ignored_pairs_have_no_gradient_and_positives_attract() -> None:
    edema = [Observation("Edema", "present")]
    other = [Observation("Nodule", "present")]
    report = torch.from_numpy(np.stack([encode_facts(side) for side in (edema, edema, other)]))
    image = Gaussian(torch.randn(3, 8, requires_grad=True), torch.zeros(3, 8))
    text = Gaussian(torch.randn(3, 8, requires_grad=True), torch.zeros(3, 8))
    loss = AlignmentLoss("contrastive", "findings")
    relations = loss.relations(report, report, torch.arange(3), torch.arange(3))
    assert relations.positive.tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert not relations.negative.any()
    loss(image, text, report, report, torch.arange(3)).backward()
    assert float(image.mean.grad[2].abs().max()) < 1e-6, "the third pair has nothing to be told from"


@pytest.mark.parametrize("positives", ["findings", "same_text", "identity"])
def test_relations_of_several_texts_an_image(positives: str) -> None:
    """Texts repeated for their own images relate as the first ones do, and an image's further text is its own."""
    views = example_views(tiny_encoder(), 6)
    loss = AlignmentLoss("contrastive", positives)
    once = loss.relations(views.report_facts, views.text_facts, views.text_keys, torch.arange(6))
    twice = loss.relations(
        views.report_facts, views.text_facts.repeat(2, 1, 1), views.text_keys.repeat(2), torch.arange(6).repeat(2)
    )
    for side in ("positive", "negative"):
        assert torch.equal(getattr(twice, side), getattr(once, side).repeat(1, 2))
    shifted = loss.relations(views.report_facts, views.text_facts, views.text_keys, torch.arange(6).roll(1))
    assert shifted.positive[torch.arange(6).roll(1), torch.arange(6)].all()


def test_repeated_texts_do_not_change_the_contrast_of_texts_with_images() -> None:
    """With every text twice, each softmax over texts loses exactly log 2 and those over images stay."""
    image, text = gaussian(5, 8, seed=1), gaussian(5, 8, seed=2)
    nothing, keys = torch.zeros(5, 2, 4, dtype=torch.long), torch.arange(5)
    loss = AlignmentLoss("contrastive", "identity")
    twice = Gaussian(text.mean.repeat(2, 1), text.logvar.repeat(2, 1))
    once_value = loss(image, text, nothing, nothing, keys)
    twice_value = loss(image, twice, nothing, nothing.repeat(2, 1, 1), keys.repeat(2))
    torch.testing.assert_close(twice_value, once_value + 0.5 * math.log(2), atol=1e-5, rtol=1e-5)


def test_a_statement_that_is_encoded_once_counts_as_often_as_it_was_drawn() -> None:
    encoder, predictor = tiny_encoder().eval(), tiny_predictor().eval()
    views = example_views(encoder, 6, statements=3)
    objective = PretrainingObjective(ObjectiveConfig(), encoder).eval()
    given = views.statements
    assert len(given.tokens) < len(given.rows)
    tokens = given.tokens
    spread_out = Statements(
        TokenBatch(
            *(getattr(tokens, name)[given.rows] for name in ("input_ids", "valid", "words", "sections")),
            lengths=tuple(tokens.lengths[row] for row in given.rows),
        ),
        torch.arange(len(given.rows)),
        given.facts,
        given.keys,
    )
    results = [objective(encoder, predictor, views._replace(statements=s)).loss for s in (given, spread_out)]
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-5)
    assert abs(float(objective(encoder, predictor, views._replace(statements=None)).loss - results[0])) > 1e-3


def test_csd_bce_value() -> None:
    loss = AlignmentLoss("csd_bce", "identity")
    image, text = gaussian(4, 8, seed=1), gaussian(4, 8, seed=2)
    nothing = torch.zeros(4, 2, 4, dtype=torch.long)
    total = 0.0
    for i in range(4):
        for j in range(4):
            distance = ((image.mean[i] - text.mean[j]) ** 2 + image.variance[i] + text.variance[j]).mean()
            total -= F.logsigmoid((1 if i == j else -1) * (7.14 - 7.14 * distance))
    torch.testing.assert_close(loss(image, text, nothing, nothing, torch.arange(4)), total / 4, atol=1e-4, rtol=1e-4)
    assert loss.distance == "csd"


def test_attract_is_the_mean_distance_of_pairs() -> None:
    image, text = gaussian(4, 8, seed=1), gaussian(4, 8, seed=2)
    nothing = torch.zeros(4, 2, 4, dtype=torch.long)
    torch.testing.assert_close(
        AlignmentLoss("attract")(image, text, nothing, nothing, torch.arange(4)), wasserstein2(image, text).mean()
    )


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
    ObjectiveConfig(target="frozen", token_anchor=0.1, pixel_anchor=0.1, kl_direction="target_pred"),
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
    step = PretrainingObjective(ObjectiveConfig(), encoder)(encoder, predictor, example_views(encoder, ratio=0.0))
    assert "kl_text" not in step.parts
    assert "kl_image" not in step.parts
    assert torch.isfinite(step.loss)


def test_targets_carry_no_gradient() -> None:
    encoder, predictor = tiny_encoder(), tiny_predictor()
    for kind, expected in (("ema", False), ("online", False), ("shared", True)):
        objective = PretrainingObjective(ObjectiveConfig(target=kind), encoder)
        views = example_views(encoder)
        full, _ = objective._encode(encoder, views, True, True)
        places = torch.zeros(len(views.images), 1, dtype=torch.int64)
        assert objective._targets(views, full, places, places).text.mean.requires_grad is expected
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


def train(config: ObjectiveConfig, steps: int, lr: float = 3e-3) -> list[dict[str, float]]:
    torch.set_flush_denormal(True)  # collapsed gradients are denormal numbers, which a CPU computes very slowly
    torch.manual_seed(0)
    # averages learn at once; a class token from scratch takes some hundred steps to attend to anything
    image = tiny_vit(class_token=False, global_pool="avg", fc_norm=False)
    encoder, predictor = ProbabilisticEncoder(image, tiny_bert(pooling="mean"), 24, "mlp"), tiny_predictor()
    objective = PretrainingObjective(config, encoder)
    parameters = [p for m in (encoder, predictor, objective) for p in m.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr)
    history = []
    for number in range(steps):
        step = objective(encoder, predictor, example_views(encoder, 16, seed=number % 8))
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
        objective.teacher.update(encoder, number / steps)
        history.append({name: float(value) for name, value in step.parts.items()})
    return history


def collapsed(history: list[dict[str, float]]) -> list[str]:
    monitor = CollapseMonitor(dict.fromkeys(("image_spread", "text_spread", "target_spread"), 0.05), patience=5)
    for number, values in enumerate(history):
        monitor.update(values, number)
    return monitor.collapsed


def test_the_letter_of_equation_3_collapses() -> None:
    """Shared targets and no other force: the loss goes to 0 because everything becomes equal."""
    history = train(ObjectiveConfig(masked_weight=1.0, target="shared", vib_weight=0.0), 70)
    assert collapsed(history)
    assert history[-1]["kl_text"] < 0.05 * history[0]["kl_text"]


def test_the_letter_of_equation_4_collapses() -> None:
    history = train(ObjectiveConfig(alignment="attract", vib_weight=0.0), 70)
    assert {"image_spread", "text_spread"} & set(collapsed(history))


def test_the_default_does_not_collapse() -> None:
    history = train(ObjectiveConfig(), 70)
    assert min(history[-1][name] for name in ("image_spread", "text_spread", "target_spread")) > 0.15
    assert not collapsed(history[20:])


def test_monitor_warns_once_or_stops(caplog: pytest.LogCaptureFixture) -> None:
    monitor = CollapseMonitor({"image_spread": 0.05}, patience=2)
    with caplog.at_level(logging.WARNING):
        for step, value in enumerate((0.01, 0.2, 0.01, 0.01, 0.01)):
            monitor.update({"image_spread": value}, step)
    assert [record.getMessage()[:35] for record in caplog.records] == ["collapse of image_spread at step 3:"]
    stopper = CollapseMonitor({"image_spread": 0.05}, patience=1, action="stop")
    with pytest.raises(CollapseError, match="image_spread"):
        stopper.update({"image_spread": 0.0}, 0)
    with pytest.raises(ConfigError, match="warn, stop or off"):
        CollapseMonitor({}, action="shout")


def test_spread_and_rank() -> None:
    assert float(spread(torch.ones(8, 4))) == 0
    assert float(spread(torch.randn(4000, 4))) == pytest.approx(1.0, abs=0.05)
    assert float(effective_rank(torch.randn(4000, 6))) == pytest.approx(6.0, abs=0.1)
    assert float(effective_rank(torch.randn(100, 1) @ torch.randn(1, 6))) == pytest.approx(1.0, abs=0.05)


def test_a_step_costs_little_more_than_its_encoder_passes() -> None:
    """No hidden second forward: student full and masked (x3 with backward), teacher once, and at most 15 % beside.

    Towers of the shape of ViT-S and a 6-layer BERT; the predictor is scaled alike (half width, a third of the depth).
    """
    from dmlm.models import CrossModalPredictor, HFTextEncoder, ProbabilisticEncoder, TimmImageEncoder

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
