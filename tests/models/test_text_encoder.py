"""Text encoders: tokens, sections, grouping by length, tokenizers that travel, clear errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import example_reports, tiny_bert
from hypothesis import given, settings
from hypothesis import strategies as st

from dmlm._config import build
from dmlm.errors import ConfigError, PretrainedWeightsError
from dmlm.models import HFTextEncoder, TextEncoder
from dmlm.models.length_groups import length_groups
from dmlm.reports import render
from dmlm.reports.prompts import render_statement
from dmlm.reports.schema import SECTIONS, Observation


def test_tokens_know_words_and_sections() -> None:
    encoder = tiny_bert(max_length=512)
    text = render(example_reports(1)[0])
    tokens = encoder.tokenize([text, "No acute disease."])
    pieces = encoder._tokenizer.encode(text.text)
    assert tokens.input_ids[0].tolist() == pieces.ids
    for place, (start, end) in enumerate(pieces.offsets):
        inside = [span for span in text.spans if span.start <= start and end <= span.end and end > start]
        spoken = any(letter.isalnum() for letter in text.text[start:end])
        assert (tokens.words[0, place] >= 0) == bool(inside and spoken)
        if inside:
            assert SECTIONS[tokens.sections[0, place]] == inside[0].section
    header = text.text.index("Observations:")
    place = next(i for i, (start, _) in enumerate(pieces.offsets) if start == header)
    assert tokens.words[0, place] == -1, "headers are never masked"
    assert tokens.lengths[1] == int(tokens.valid[1].sum()) == 6


def test_long_texts_lose_constants_first() -> None:
    text = render(example_reports(1)[0])
    whole = tiny_bert(max_length=512).tokenize([text])
    cut = tiny_bert(max_length=96).tokenize([text])
    assert whole.lengths[0] > 96 == cut.lengths[0]
    for section in ("observations", "verdict"):
        number = SECTIONS.index(section)
        assert (cut.sections == number).sum() == (whole.sections == number).sum()
    assert cut.input_ids[0, -1] == whole.input_ids[0, -1], "the end token stays"


def test_grouped_encoding_equals_padded_encoding() -> None:
    encoder = tiny_bert().eval()
    tokens = encoder.tokenize(["no", "a large effusion " * 10, "left", "right lung is clear " * 5, "x"])
    with torch.no_grad():
        grouped = encoder(tokens).tokens
        encoder.length_groups = 1
        padded = encoder(tokens).tokens
    torch.testing.assert_close(grouped, padded, atol=1e-5, rtol=1e-5)


def test_groups_of_similar_length_are_encoded_without_the_padding_of_the_longest() -> None:
    """What the transformer computes on: each group is as wide as its own longest text."""
    encoder = tiny_bert().eval()
    tokens = encoder.tokenize(["Edema.", "No edema.", "Clear.", "There is " + "mild " * 50 + "edema."])
    widths = []
    encoder.model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    encoder(tokens)
    assert sorted(widths) == sorted(
        (len(group), max(tokens.lengths[row] for row in group))
        for group in length_groups(tokens.lengths, encoder.length_groups)
    )
    assert sum(rows * width for rows, width in widths) < 0.5 * tokens.input_ids.numel()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=40), st.integers(1, 5))
def test_length_groups_are_a_permutation_and_never_worse(lengths: list[int], most: int) -> None:
    groups = length_groups(lengths, most)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    assert len(groups) <= most
    cost = sum(len(group) * max(lengths[row] for row in group) for group in groups)
    assert cost <= len(lengths) * max(lengths)


def test_two_groups_are_the_best_split() -> None:
    lengths = [3, 90, 5, 100, 4, 95]
    best = min(k * sorted(lengths)[k - 1] + (6 - k) * 100 for k in range(1, 6))
    groups = length_groups(lengths, 2)
    assert sum(len(group) * max(lengths[row] for row in group) for group in groups) == best


def test_mask_replaces_tokens() -> None:
    encoder = tiny_bert().eval()
    tokens = encoder.tokenize(["left pleural effusion"])
    mask = torch.zeros_like(tokens.valid)
    mask[0, 2] = True
    changed = tokens.input_ids.clone()
    changed[0, 2] = encoder._special["mask"]
    with torch.no_grad():
        torch.testing.assert_close(
            encoder(tokens, mask).tokens, encoder.model(input_ids=changed).last_hidden_state, atol=1e-6, rtol=1e-5
        )


def test_config_and_state_rebuild_encoder_and_tokenizer() -> None:
    encoder = tiny_bert().eval()
    again = build(encoder.config, TextEncoder)
    with pytest.raises(ConfigError, match="no tokenizer"):
        again.tokenize(["text"])
    again.load_state_dict(encoder.state_dict())
    tokens = again.eval().tokenize(["Is there a large left pleural effusion?"])
    assert torch.equal(tokens.input_ids, encoder.tokenize(["Is there a large left pleural effusion?"]).input_ids)
    with torch.no_grad():
        torch.testing.assert_close(again(tokens).tokens, encoder(tokens).tokens)


def test_from_pretrained_folder_made_here(tmp_path) -> None:
    """The real transformers loading path, offline: a tiny model and tokenizer saved by transformers itself."""
    from transformers import PreTrainedTokenizerFast

    source = tiny_bert()
    source.model.save_pretrained(tmp_path)
    PreTrainedTokenizerFast(
        tokenizer_object=source._tokenizer, pad_token="[PAD]", mask_token="[MASK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(tmp_path)
    loaded = HFTextEncoder(str(tmp_path), pretrained=True, max_length=64).eval()
    tokens = loaded.tokenize(["no pneumothorax"])
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens).tokens, source.eval()(tokens).tokens)
    assert loaded.config["init_args"]["hf_config"]["hidden_size"] == 24


def test_pretrained_offline_says_what_to_pass() -> None:
    with pytest.raises(PretrainedWeightsError, match="pretrained=false") as caught:
        HFTextEncoder("nobody/no-such-model", pretrained=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"hf_config": None}, "hf_config"),
        ({"hf_config": {"model_type": "bird"}}, "bird"),
        ({"hf_config": {"model_type": "bert"}, "tokenizer": "missing.json"}, "missing.json"),
        ({"hf_config": {"model_type": "bert", "vocab_size": 50}, "tokenizer": "library"}, "vocab_size"),
        ({"pretrained": True, "tokenizer": "library"}, "'library' does not go with pretrained=true"),
    ],
)
def test_wrong_options(arguments: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        HFTextEncoder("x", **{"pretrained": False, **arguments})


def test_an_option_that_transformers_would_ignore_is_named(caplog: pytest.LogCaptureFixture) -> None:
    shape = {"model_type": "bert", "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 48}
    HFTextEncoder("x", pretrained=False, tokenizer="library", hf_config={**shape, "num_hidden_layers": 1})
    assert not caplog.messages
    HFTextEncoder("x", pretrained=False, tokenizer="library", hf_config={**shape, "num_hiden_layers": 1})
    assert len(caplog.messages) == 1
    assert "no 'num_hiden_layers'" in caplog.text
    assert "did you mean 'num_hidden_layers'" in caplog.text


def test_texts_that_come_again_are_tokenised_as_the_first_time() -> None:
    text = tiny_bert(max_length=24)
    statement = render_statement(Observation("Pleural Effusion", "present", "left"))
    texts = [statement, "No pneumothorax.", statement.text, "a long text " * 20, statement]
    first, second, alone = text.tokenize(texts), text.tokenize(texts[::-1]), tiny_bert(max_length=24).tokenize(texts)
    for name in ("input_ids", "valid", "words", "sections"):
        assert torch.equal(getattr(first, name), getattr(alone, name)), name
        assert torch.equal(getattr(second, name).flip(0), getattr(first, name)), name
    assert not torch.equal(first.sections[0], first.sections[2])  # the same words without sections are another row
