"""The sections layout: sections see only themselves, equal ones are encoded once."""

import numpy as np
import pytest
import torch

from dmlm.errors import ConfigError
from dmlm.models.text import HFTextEncoder
from dmlm.models.text_sections import Run, section_runs
from dmlm.reports import StructuredReport, render, with_knowledge
from dmlm.reports.schema import Observation

BERT = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def text(*said):
    observations = tuple(Observation(name, state) for name, state in said)
    return render(with_knowledge(StructuredReport("s", observations)))


TEXTS = [
    text(("Pneumothorax", "present"), ("Edema", "absent")),
    text(("Pneumothorax", "present")),
    text(("Edema", "present")),
    "A plain text.",
    text(("Pneumothorax", "present"), ("Edema", "absent")),
]


@pytest.fixture(scope="module", params=["cls", "mean"])
def encoder(request):
    torch.manual_seed(0)
    made = HFTextEncoder(
        "tiny", pretrained=False, hf_config=BERT, tokenizer="library", layout="sections", pooling=request.param
    )
    return made.eval()


def test_runs():
    sections = np.array(
        [[-1, -1, 0, 0, -1, 1, -1, -1], [-1, 4, 4, -1, -1, -1, -1, -1], [-1, -1, -1, -1, -1, -1, -1, -1]]
    )
    assert section_runs(sections, [8, 4, 2]) == [Run(0, 1, 4), Run(0, 4, 7), Run(1, 1, 3), Run(2, 1, 1)]


def test_a_section_is_encoded_as_if_it_stood_alone(encoder):
    tokens = encoder.tokenize(TEXTS)
    with torch.no_grad():
        found = encoder(tokens).tokens
    runs = section_runs(tokens.sections.numpy(), tokens.lengths)
    assert [sum(run.row == row for run in runs) for row in range(5)] == [4, 4, 4, 1, 4]
    heads = {row: [] for row in range(5)}
    for row, first, last in runs:
        ends = tokens.input_ids[row, [0, tokens.lengths[row] - 1]]
        alone = torch.cat([ends[:1], tokens.input_ids[row, first:last], ends[1:]])[None]
        with torch.no_grad():
            plain = encoder.model(input_ids=alone).last_hidden_state[0]
        assert torch.allclose(found[row, first:last], plain[1:-1], atol=1e-5)
        heads[row].append(plain[0] if encoder.pooling == "cls" else plain.mean(0))
    for row, parts in heads.items():
        assert torch.allclose(found[row, 0], torch.stack(parts).mean(0), atol=1e-5)
        assert not found[row, tokens.lengths[row] :].any()


def test_equal_sections_are_encoded_once(encoder, monkeypatch):
    seen = []
    plain = encoder._encode

    def count(ids, valid, lengths):
        seen.extend(lengths)
        return plain(ids, valid, lengths)

    monkeypatch.setattr(encoder, "_encode", count)
    encoder(encoder.tokenize(TEXTS * 3))
    # two definitions, two appearances, three observations, three verdicts, one plain text
    assert len(seen) == 11


def test_gradients_reach_every_use_and_masks_count(encoder):
    tokens = encoder.tokenize([TEXTS[0], TEXTS[1]])
    mask = torch.zeros_like(tokens.valid)
    mask[0, 5] = True
    masked = encoder(tokens, mask).tokens
    assert not torch.allclose(masked[0, 4], encoder(tokens).tokens[0, 4])
    assert torch.allclose(masked[1], encoder(tokens).tokens[1], atol=1e-6)
    weights = encoder.model.embeddings.word_embeddings.weight
    (once,) = torch.autograd.grad(encoder(encoder.tokenize([TEXTS[1]])).tokens[0, 1].sum(), weights)
    double = encoder(encoder.tokenize([TEXTS[1], TEXTS[1]])).tokens
    (twice,) = torch.autograd.grad(double[0, 1].sum() + double[1, 1].sum(), weights)
    assert torch.allclose(twice, 2 * once, atol=1e-5)


def test_the_layout_is_recorded_and_checked():
    options = {"pretrained": False, "hf_config": BERT, "tokenizer": "library"}
    made = HFTextEncoder("tiny", layout="sections", **options)
    assert made.config["init_args"]["layout"] == "sections"
    with pytest.raises(ConfigError, match="joint or sections"):
        HFTextEncoder("tiny", layout="pages", **options)
