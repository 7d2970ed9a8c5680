"""Relations of images and texts, and the losses of alignment over them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import example_views, gaussian, tiny_encoder, tiny_predictor
from torch.nn import functional as F

from dmlm.distributions import Gaussian, pairwise_cosine, wasserstein2
from dmlm.models.tokens import TokenBatch
from dmlm.models.zero_shot import distances
from dmlm.objectives import (
    AlignmentLoss,
    ObjectiveConfig,
    PretrainingObjective,
    Statements,
    pair_relations,
)
from dmlm.reports import Observation, encode_facts, relation


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


@pytest.mark.parametrize("further", [0, 1, 4])
def test_csd_bce_does_not_grow_with_the_texts_of_an_image(further: int) -> None:
    """The same texts several times make as many times more pairs, and the same loss."""
    loss = AlignmentLoss("csd_bce", "identity")
    image, text = gaussian(4, 8, seed=1), gaussian(4, 8, seed=2)
    nothing = torch.zeros(4, 2, 4, dtype=torch.long)
    once = loss(image, text, nothing, nothing, torch.arange(4))
    times = 1 + further
    repeated = Gaussian(text.mean.repeat(times, 1), text.logvar.repeat(times, 1))
    again = loss(image, repeated, nothing, nothing.repeat(times, 1, 1), torch.arange(4).repeat(times))
    torch.testing.assert_close(again, once)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["contrastive", "cosine", "csd_bce"])
def test_autocast_changes_no_digit(kind: str, dtype: torch.dtype) -> None:
    """A scale of 50 makes the rounding of a cosine in half precision an error of the logit of 0.4."""
    loss = AlignmentLoss(kind, "identity", scale_init=50.0)
    common, nothing = gaussian(1, 64).mean, torch.zeros(16, 2, 4, dtype=torch.long)
    results = []
    for enabled in (False, True):
        mean = (common + 0.3 * gaussian(16, 64, seed=1).mean).requires_grad_()
        image, text = Gaussian(mean, gaussian(16, 64).logvar), gaussian(16, 64, seed=2)
        text = Gaussian(common + 0.3 * text.mean, text.logvar)
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            value = loss(image, text, nothing, nothing, torch.arange(16))
        value.backward()
        results.append((value.detach(), mean.grad))
    for plain, cast in zip(*results, strict=True):
        assert torch.equal(plain, cast)


def test_training_and_zero_shot_have_one_cosine() -> None:
    image, text = gaussian(5, 8, seed=1), gaussian(3, 8, seed=2)
    wanted = 2 - 2 * F.cosine_similarity(image.mean[:, None], text.mean[None], dim=-1)
    torch.testing.assert_close(pairwise_cosine(image, text), wanted)
    assert torch.equal(distances(image, text, "cosine"), pairwise_cosine(image, text))


def test_attract_is_the_mean_distance_of_pairs() -> None:
    image, text = gaussian(4, 8, seed=1), gaussian(4, 8, seed=2)
    nothing = torch.zeros(4, 2, 4, dtype=torch.long)
    torch.testing.assert_close(
        AlignmentLoss("attract")(image, text, nothing, nothing, torch.arange(4)), wasserstein2(image, text).mean()
    )
