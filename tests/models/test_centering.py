"""Centring the statements: what starts as one vector starts apart."""

from __future__ import annotations

import pytest
import torch

from dmlm.models import HFTextEncoder, ProbabilisticEncoder, TimmImageEncoder
from dmlm.models.centering import center_statements
from dmlm.objectives.monitors import spread
from dmlm.reports.knowledge import load_knowledge
from dmlm.reports.prompts import render_statement
from dmlm.reports.schema import Observation


@pytest.mark.parametrize("head", ["mlp", "attn"])
def test_statements_start_apart(head):
    torch.manual_seed(0)
    bert = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = HFTextEncoder("small", False, {**bert, "intermediate_size": 64}, "library", max_length=64, pooling="mean")
    encoder = ProbabilisticEncoder(TimmImageEncoder("test_resnet", False, 32), text, 32, head, 4)
    known = load_knowledge(None)
    texts = [
        render_statement(Observation(finding, state), "obs_verdict", modifiers=False, knowledge=known)
        for finding in known
        for state in ("present", "absent")
    ]
    with torch.no_grad():
        encoder.eval()
        before = float(spread(encoder.encode_text(texts).mean[:, 0]))
        encoder.train()
        center_statements(encoder)
        assert encoder.training, "the mode is given back"
        encoder.eval()
        after = float(spread(encoder.encode_text(texts).mean[:, 0]))
    assert before < 0.5 < 0.8 < after
