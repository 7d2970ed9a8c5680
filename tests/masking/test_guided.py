"""What all strategies promise: exact counts, rectangular batches, independence of neighbours, relevance followed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dmlm._config import build
from dmlm.distributions import Gaussian
from dmlm.errors import ConfigError
from dmlm.masking import (
    AppearanceMask,
    AttentionMask,
    GuidedMask,
    ImageMasker,
    MAEMask,
    MaskContext,
    MaskVLMMask,
    MeijeringMask,
    NoMask,
    RandomMask,
    text_patch_similarity,
)
from dmlm.models import TimmImageEncoder
from dmlm.models.tokens import TokenBatch
from dmlm.reports import from_labels, render
from dmlm.reports.schema import SECTIONS

LABELS = ("Edema", "Pneumothorax", "Cardiomegaly", "Pleural Effusion", "No Finding")


class Given(GuidedMask):
    """Relevance that a test hands over."""

    def __init__(self, values: torch.Tensor | None = None, **options) -> None:
        super().__init__(**options)
        self.values = values

    def relevance(self, context: MaskContext) -> torch.Tensor:
        return self.values.expand(len(context.images), -1)


def context(batch: int = 6, grid: tuple[int, int] = (7, 7), seed: int = 0, side: int = 56) -> MaskContext:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (batch, 1, side, side), dtype=torch.uint8, generator=generator)
    texts = [render(from_labels(str(i), {LABELS[i % len(LABELS)]: 1.0})) for i in range(batch)]
    similarity = torch.rand(batch, grid[0] * grid[1], generator=generator)
    return MaskContext(images, grid, texts, similarity=similarity, progress=0.5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=25)
@given(
    ratio=st.floats(0, 0.95),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    batch=st.integers(1, 5),
    kind=st.sampled_from([RandomMask, AppearanceMask, AttentionMask, MeijeringMask]),
)
def test_every_image_hides_the_exact_number(ratio: float, rows: int, columns: int, batch: int, kind) -> None:
    mask = kind(ratio=ratio)(context(batch, (rows, columns)), generator())
    assert mask.shape == (batch, rows * columns)
    assert mask.dtype == torch.bool
    assert mask.sum(1).tolist() == [min(round(ratio * rows * columns), rows * columns - 1)] * batch


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, {"ratio": 0.99}) for kind in (RandomMask, MAEMask, MaskVLMMask, AppearanceMask, AttentionMask)),
        *((kind, {"ratio": 0.99, "ratio_range": (0.98, 0.995)}) for kind in (AppearanceMask, AttentionMask)),
    ],
)
def test_a_ratio_that_rounds_to_everything_leaves_one_patch(kind, options: dict) -> None:
    """A CNN's and a class-token-free ViT's image is the mean over its visible patches: of none it would be NaN."""
    batch = context(2, (4, 4), side=64)
    mask = kind(**options)(batch, generator())
    assert mask.sum(1).tolist() == [15, 15]
    assert kind(**options)(context(2, (1, 1)), generator()).sum() == 0
    cnn = TimmImageEncoder("test_resnet", False, 64, {"output_stride": 16})
    assert cnn.patch_grid == (4, 4)
    assert torch.isfinite(cnn(batch.images, mask).pooled).all()


@pytest.mark.parametrize(("masker", "share"), [(NoMask(), 0), (MAEMask(), 147), (MaskVLMMask(), 118)])
def test_named_strategies_have_their_ratio(masker: ImageMasker, share: int) -> None:
    assert masker(context(3, (14, 14)), generator()).sum(1).tolist() == [share] * 3


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, float("nan")])
@pytest.mark.parametrize("kind", [RandomMask, AppearanceMask, AttentionMask, MeijeringMask])
def test_a_ratio_that_hides_everything_is_refused(kind, ratio: float) -> None:
    with pytest.raises(ConfigError, match="at least 0 and below 1"):
        kind(ratio=ratio)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"uniform": 1.5}, "uniform"),
        ({"temperature": 0.0}, "temperature"),
        ({"typical_area": 0.0}, "typical_area"),
        ({"ratio_range": (0.4, 0.5)}, "must hold its ratio"),
        ({"ratio_range": (0.1, 1.0)}, "ratio_range"),
    ],
)
def test_options_out_of_range_are_named(options, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Given(**options)


def test_relevant_patches_are_hidden_more_often_in_the_right_proportion() -> None:
    """With one patch hidden, the frequency of each is its weight."""
    values = torch.tensor([[0.0, 0.1, 0.2, 0.3]])
    masker = Given(values, ratio=0.25, temperature=0.15, uniform=0.1)
    batch = context(20_000, (2, 2), side=2)._replace(texts=(), similarity=None)
    expected = 0.9 * torch.softmax(values[0] / 0.15, 0) + 0.1 / 4
    torch.testing.assert_close(masker(batch, generator()).float().mean(0), expected, atol=0.015, rtol=0)


def test_unknown_relevance_is_random_masking() -> None:
    batch = context(4000, (3, 3), side=3)._replace(texts=(), similarity=None)
    shares = Given(torch.full((1, 9), 0.7), ratio=1 / 3)(batch, generator()).float().mean(0)
    torch.testing.assert_close(shares, torch.full((9,), 1 / 3), atol=0.04, rtol=0)


def test_near_temperature_zero_the_most_relevant_are_always_taken() -> None:
    values = torch.rand(1, 49, generator=generator(3))
    mask = Given(values, ratio=0.3, temperature=1e-4, uniform=0.0)(context(8), generator())
    assert (mask == (values >= values.topk(15).values.min())).all()


def test_the_adaptive_ratio_follows_the_area_and_keeps_its_bounds() -> None:
    def count(area: float) -> int:
        values = (torch.arange(100) < 100 * area).float()[None]
        batch = context(4, (10, 10))._replace(texts=())
        return int(Given(values, ratio=0.3, ratio_range=(0.1, 0.5))(batch, generator()).sum(1)[0])

    assert [count(area) for area in (0.01, 0.2, 0.3, 0.4, 0.9, 1.0)] == [10, 20, 30, 40, 50, 30]


@pytest.mark.parametrize("masker", [AppearanceMask(), AttentionMask(), MeijeringMask()])
def test_relevance_does_not_depend_on_the_neighbours_in_the_batch(masker: GuidedMask) -> None:
    batch = context(6)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    moved = batch._replace(
        images=batch.images[order], texts=[batch.texts[i] for i in order], similarity=batch.similarity[order]
    )
    torch.testing.assert_close(masker.relevance(batch)[order], masker.relevance(moved), atol=1e-5, rtol=1e-5)
    alone = batch._replace(images=batch.images[:1], texts=batch.texts[:1], similarity=batch.similarity[:1])
    torch.testing.assert_close(masker.relevance(batch)[:1], masker.relevance(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("masker", [RandomMask(), AppearanceMask(), AttentionMask(), MeijeringMask()])
def test_equal_generators_draw_equal_masks(masker: ImageMasker) -> None:
    first, again, other = (masker(context(), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", [AppearanceMask, AttentionMask, MeijeringMask, MaskVLMMask])
def test_a_strategy_is_rebuilt_from_its_record(kind) -> None:
    masker = kind(ratio=0.4)
    again = build(masker.config, ImageMasker)
    assert type(again) is kind
    assert torch.equal(masker(context(), generator()), again(context(), generator()))


def test_attention_waits_for_its_warm_up_and_counts_it() -> None:
    masker = AttentionMask(warmup=0.2)
    assert [masker.wants_similarity(progress) for progress in (0.0, 0.19, 0.2, 1.0)] == [False, False, True, True]
    batch = context(5)
    assert masker.relevance(batch) is batch.similarity
    assert (masker.relevance(batch._replace(similarity=None)) == 0).all()
    assert masker.take_counts()["no_similarity"] == 5
    assert masker.take_counts()["no_similarity"] == 0, "counted once"
    with pytest.raises(ConfigError, match="warmup"):
        AttentionMask(warmup=2)


def test_similarity_equals_the_plain_loop() -> None:
    noise = generator(4)
    batch, length, patches, width = 3, 6, 5, 8
    text = Gaussian(torch.randn(batch, length, width, generator=noise), torch.zeros(batch, length, width))
    image = Gaussian(torch.randn(batch, 1 + patches, width, generator=noise), torch.zeros(batch, 1 + patches, width))
    appearance = SECTIONS.index("appearance")
    words = torch.tensor([[-1, 0, 1, 2, -1, -1], [-1, 0, 0, 1, 2, -1], [-1] * 6])
    sections = torch.tensor([[-1, appearance, appearance, 3, -1, -1], [-1, 3, 3, 3, 2, -1], [-1] * 6])
    ids = torch.zeros(batch, length, dtype=torch.int64)
    got = text_patch_similarity(text, image, TokenBatch(ids, ids >= 0, words, sections, (6,) * 3))
    for row, chosen in enumerate(([1, 2], [1, 2, 3, 4])):
        mean = torch.zeros(patches)
        for token in chosen:
            scores = torch.stack([text.mean[row, token] @ image.mean[row, 1 + patch] for patch in range(patches)])
            mean += torch.softmax(scores / (0.1 * width**0.5), 0) / len(chosen)
        wanted = (mean - mean.min()) / (mean.max() - mean.min())
        torch.testing.assert_close(got[row], wanted, atol=1e-5, rtol=1e-5)
    assert (got[2] == 0).all(), "a text without words says nothing"
