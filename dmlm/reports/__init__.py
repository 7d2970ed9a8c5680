"""Structured reports: records, knowledge of findings, rendering, views for training, facts and zero-shot prompts."""

from typing import TYPE_CHECKING, Any

from dmlm.reports.builder import from_labels, with_knowledge
from dmlm.reports.facts import encode_facts, finding_key, relation
from dmlm.reports.knowledge import FindingKnowledge, Knowledge, canonical_name, load_knowledge
from dmlm.reports.prompts import (
    ClozePrompt,
    ClozeText,
    ZeroShotPrompt,
    cloze_prompt,
    render_statement,
    zero_shot_prompts,
)
from dmlm.reports.render import render, render_original
from dmlm.reports.schema import Observation, ReportText, Span, StructuredReport
from dmlm.reports.sentences import parse
from dmlm.reports.views import TextViews

if TYPE_CHECKING:
    from dmlm.reports.vocabulary import vocabulary_path

__all__ = [
    "ClozePrompt",
    "ClozeText",
    "FindingKnowledge",
    "Knowledge",
    "Observation",
    "ReportText",
    "Span",
    "StructuredReport",
    "TextViews",
    "ZeroShotPrompt",
    "canonical_name",
    "cloze_prompt",
    "encode_facts",
    "finding_key",
    "from_labels",
    "load_knowledge",
    "parse",
    "relation",
    "render",
    "render_original",
    "render_statement",
    "vocabulary_path",
    "with_knowledge",
    "zero_shot_prompts",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    # imported on demand, because `python -m dmlm.reports.vocabulary` warns if the package imported the module before
    if name == "vocabulary_path":
        from dmlm.reports.vocabulary import vocabulary_path

        return vocabulary_path
    msg = f"module 'dmlm.reports' has no attribute '{name}'"
    raise AttributeError(msg)
