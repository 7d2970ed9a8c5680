"""Start the text side with its origin in the middle of what statements can say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from dmlm.errors import ConfigError
from dmlm.reports.knowledge import load_knowledge
from dmlm.reports.prompts import render_statement
from dmlm.reports.schema import EXISTENCES, Observation

if TYPE_CHECKING:
    from dmlm.models.encoder import ProbabilisticEncoder


def can_tokenize(encoder: ProbabilisticEncoder) -> bool:
    """Whether the encoder has a tokenizer; one that waits for the weights of a checkpoint has none yet."""
    try:
        encoder.tokenize(["a"])
    except ConfigError:
        return False
    return True


@torch.no_grad()
def center_statements(encoder: ProbabilisticEncoder, knowledge: str | None = None) -> None:
    """Centre the text head on every statement (finding x present, absent, uncertain) that the knowledge can make.

    Statements share most of their words, so that an encoder from scratch starts with them in a narrow cone, and the
    contrastive loss first shrinks what differs between them. Depends on the weights and the knowledge only, so all
    processes do the same.

    Args:
        encoder: Changed in place; only the bias of the text head's last layer.
        knowledge: YAML file with findings; the library's by default.
    """
    known = load_knowledge(knowledge)
    texts = [
        render_statement(Observation(finding, existence), "obs_verdict", modifiers=False, knowledge=known)
        for finding in known
        for existence in EXISTENCES
    ]
    mode = encoder.training
    encoder.eval()
    tokens = encoder.tokenize(texts).to(encoder.device)
    encoder.text_head.center(encoder.text(tokens).tokens, tokens.valid)
    encoder.train(mode)
