"""Masks: exact counts, whole words, nothing that must stay visible, reproducible."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import example_reports, tiny_bert

from dmlm.errors import ConfigError
from dmlm.masking import MAEMask, MaskContext, NoMask, RandomMask, TextMasker
from dmlm.reports import render
from dmlm.reports.schema import SECTIONS


@pytest.fixture(scope="module")
def tokens():
    return tiny_bert(max_length=512).tokenize([render(report) for report in example_reports(12)])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.6])
def test_text_mask_hides_whole_words_in_exact_number(tokens, ratio: float) -> None:
    mask = TextMasker(ratio)(tokens, generator())
    for row in range(len(tokens)):
        words = tokens.words[row]
        total = len(words[words >= 0].unique())
        hidden = words[mask[row]].unique()
        assert len(hidden) == max(1, round(ratio * total))
        for word in hidden:
            assert mask[row][words == word].all(), "all pieces of a word go together"
    assert not mask[tokens.words < 0].any(), "special tokens, headers, punctuation and padding stay"


def test_text_mask_is_uniform_over_words(tokens) -> None:
    counts = torch.zeros_like(tokens.words, dtype=torch.float)
    for seed in range(300):
        counts += TextMasker(0.3)(tokens, generator(seed))
    rates = counts[tokens.words >= 0] / 300
    assert abs(float(rates.mean()) - 0.3) < 0.02
    assert float(rates.std()) < 0.05


def test_section_weights(tokens) -> None:
    spare = TextMasker(0.3, {"definition": 0.0, "appearance": 0.0})(tokens, generator())
    hidden = tokens.sections[spare]
    answers = {SECTIONS.index("observations"), SECTIONS.index("verdict")}
    words = [  # of the sections that may be hidden
        {int(w) for w, s in zip(tokens.words[row], tokens.sections[row], strict=True) if int(s) in answers and w >= 0}
        for row in range(len(tokens))
    ]
    enough = [row for row in range(len(tokens)) if len(words[row]) >= 0.3 * len(tokens.words[row].unique())]
    assert enough
    for row in enough:
        assert set(tokens.sections[row][spare[row]].tolist()) <= answers
    assert len(hidden)


@pytest.mark.parametrize("weight", [-0.5, float("nan"), float("inf")])
def test_section_weights_out_of_range_are_refused(weight: float) -> None:
    with pytest.raises(ConfigError, match=f"^section_weight of 'definition' must be finite .*, got {weight}$"):
        TextMasker(0.3, {"definition": weight})


def test_text_mask_of_an_unmaskable_text_is_empty() -> None:
    tokens = tiny_bert().tokenize(["...", "no effusion"])
    mask = TextMasker()(tokens, generator())
    assert mask.sum(1).tolist() == [0, 1]
    assert not TextMasker(0.0)(tokens, generator()).any()


def test_equal_seeds_give_equal_masks(tokens) -> None:
    assert torch.equal(TextMasker()(tokens, generator(3)), TextMasker()(tokens, generator(3)))
    assert not torch.equal(TextMasker()(tokens, generator(3)), TextMasker()(tokens, generator(4)))


@pytest.mark.parametrize(
    ("masker", "count"), [(NoMask(), 0), (RandomMask(), 59), (RandomMask(0.5), 98), (MAEMask(), 147)]
)
def test_image_masks_have_exact_counts(masker, count: int) -> None:
    context = MaskContext(torch.zeros(5, 1, 224, 224, dtype=torch.uint8), (14, 14))
    mask = masker(context, generator())
    assert mask.shape == (5, 196)
    assert mask.sum(1).tolist() == [count] * 5
    assert torch.equal(mask, masker(context, generator()))


def test_random_mask_is_uniform_over_patches() -> None:
    context = MaskContext(torch.zeros(4000, 1, 8, 8, dtype=torch.uint8), (4, 4))
    rates = RandomMask(0.25)(context, generator()).float().mean(0)
    torch.testing.assert_close(rates, torch.full((16,), 0.25), atol=0.03, rtol=0)


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 2.0])
def test_wrong_ratios(ratio: float) -> None:
    for masker in (RandomMask, TextMasker, MAEMask):
        with pytest.raises(ConfigError, match="ratio"):
            masker(ratio)
    with pytest.raises(ConfigError, match="findings"):
        TextMasker(0.3, {"findings": 1.0})


def test_what_is_drawn_for_a_pair_does_not_depend_on_its_batch(tokens) -> None:
    """Neither on its neighbours nor on the longest text of the batch."""
    count = len(tokens)
    context = MaskContext(torch.zeros(count, 1, 32, 32, dtype=torch.uint8), (4, 4))
    images = RandomMask(0.5)(context, [generator(row) for row in range(count)])
    texts = TextMasker(0.5)(tokens, [generator(row) for row in range(count)])
    assert len(set(tokens.lengths)) > 1
    for row, length in enumerate(tokens.lengths):
        part = tokens.rows(slice(row, row + 1))
        cut = {name: getattr(part, name)[:, :length] for name in ("input_ids", "valid", "words", "sections")}
        assert torch.equal(TextMasker(0.5)(replace(part, **cut), [generator(row)])[0], texts[row, :length])
        alone = RandomMask(0.5)(context._replace(images=context.images[:1]), [generator(row)])
        assert torch.equal(alone[0], images[row])
    assert len({tuple(row.tolist()) for row in images}) == count
