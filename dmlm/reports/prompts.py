"""Texts of one statement: zero-shot prompts, cloze prompts, and the statement views of training, by one function.

The paper gives no prompts; these are ours. Everything is written by :func:`dmlm.reports.render.render`, so that a
prompt looks exactly like a text of training.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from dmlm.errors import ReportFormatError
from dmlm.reports.knowledge import NO_FINDING, FindingKnowledge, as_knowledge
from dmlm.reports.render import render, render_triplets
from dmlm.reports.schema import Observation, ReportText, Section, StructuredReport

PromptTemplate = Literal["obs_verdict", "full", "verdict", "context", "triplet", "ke_triplet"]
PROMPT_TEMPLATES: tuple[PromptTemplate, ...] = get_args(PromptTemplate)

_SECTIONS: dict[PromptTemplate, tuple[Section, ...]] = {
    "obs_verdict": ("observations", "verdict"),
    "full": ("definition", "appearance", "observations", "verdict"),
    "verdict": ("verdict",),
    "context": ("definition", "appearance"),
}


class ZeroShotPrompt(NamedTuple):
    """A pair of texts: ``positive`` says that a finding is present, ``negative`` that it is absent."""

    template: PromptTemplate
    positive: ReportText
    negative: ReportText


class ClozeText(NamedTuple):
    """A text and the characters ``(start, end)`` of the word to hide in it."""

    text: ReportText
    span: tuple[int, int]


class ClozePrompt(NamedTuple):
    """Two texts that differ in one word only, "present" or "absent"."""

    present: ClozeText
    absent: ClozeText


def render_statement(
    observation: Observation,
    template: PromptTemplate = "obs_verdict",
    modifiers: bool = True,
    knowledge: Mapping[str, FindingKnowledge] | None = None,
) -> ReportText:
    """Write one statement with its verdict.

    Args:
        observation: The statement.
        template: ``"obs_verdict"``: observation and verdict; ``"full"``: definition and appearance before them, those
            of the finding, or of "No Finding" if it is absent; ``"verdict"``: the verdict alone; ``"context"``:
            definition and appearance alone (such a text states nothing); ``"triplet"`` and ``"ke_triplet"``: as
            :func:`dmlm.reports.render.render_triplets` writes it, without and with the definition for the name.
        modifiers: Whether severity, side and position are named.
        knowledge: Where definitions come from; the library's by default. A finding without any gets none.

    Raises:
        ReportFormatError: If nothing is left to write (``"context"`` of a finding without definition).
    """
    known = as_knowledge(knowledge)
    if template in ("triplet", "ke_triplet"):
        alone = StructuredReport(f"statement on {observation.finding}", (observation,))
        return render_triplets(alone, modifiers, known if template == "ke_triplet" else None)
    context = known.get(NO_FINDING if observation.existence == "absent" else observation.finding)
    report = StructuredReport(
        study_id=f"statement on {observation.finding}",
        observations=(observation,),
        definition={context.name: context.definition} if context else {},
        appearance={context.name: context.appearance} if context else {},
    )
    return render(report, sections=_SECTIONS[template], modifiers=modifiers)


_CONTEXTUAL = ("full", "context")
"""Templates with definition and appearance."""


def zero_shot_prompts(
    finding: str,
    templates: Sequence[str] = ("obs_verdict", "full"),
    knowledge: Mapping[str, FindingKnowledge] | None = None,
) -> list[ZeroShotPrompt]:
    """Write the pairs of prompts that ask whether a finding is present.

    Args:
        finding: Any name of the finding; an unknown one is a custom finding.
        templates: See :func:`render_statement`; one pair for each. Scores are averaged over them, not vectors.
        knowledge: Where definitions come from; the library's by default.

    Returns:
        One :class:`ZeroShotPrompt` per template, in their order.

    Raises:
        ReportFormatError: If a template is unknown, needs a definition that nobody wrote, or cannot tell the two states
            apart (``"context"`` of "No Finding").
    """
    known = as_knowledge(knowledge)
    name = known.canonical(finding)
    prompts: list[ZeroShotPrompt] = []
    for raw in templates:
        template = _checked(raw, name, known)
        positive = render_statement(Observation(name, "present"), template, knowledge=known)
        negative = render_statement(Observation(name, "absent"), template, knowledge=known)
        prompts.append(ZeroShotPrompt(template, positive, negative))
    return prompts


def askable(
    finding: str, templates: Sequence[str], knowledge: Mapping[str, FindingKnowledge] | None = None
) -> tuple[str, ...]:
    """Return the templates that a finding can be asked with: those whose texts are known.

    Args:
        finding: Any name of the finding.
        templates: See :func:`zero_shot_prompts`.
        knowledge: Where definitions come from; the library's by default.

    Returns:
        ``templates`` without those that need a definition and an appearance which nobody wrote.
    """
    known = as_knowledge(knowledge)
    if _is_described(known.canonical(finding), known):
        return tuple(templates)
    return tuple(name for name in templates if name not in _CONTEXTUAL)


def cloze_prompt(finding: str, knowledge: Mapping[str, FindingKnowledge] | None = None) -> ClozePrompt:
    """Write the verdict on a finding twice, present and absent, with the place of the word that differs.

    The verdict stands alone: a definition or an answered question beside it would give the word away.

    Args:
        finding: Any name of the finding.
        knowledge: Findings to look the name up in; the library's by default.
    """
    (prompt,) = zero_shot_prompts(finding, ("verdict",), knowledge)
    return ClozePrompt(_cloze(prompt.positive), _cloze(prompt.negative))


def _cloze(text: ReportText) -> ClozeText:
    end = len(text.text) - 1  # before the full stop
    return ClozeText(text, (text.text.rindex(" ", 0, end) + 1, end))


def _is_described(name: str, known: Mapping[str, FindingKnowledge]) -> bool:
    return name in known and bool(known[name].definition and known[name].appearance)


def _checked(raw: str, name: str, known: Mapping[str, FindingKnowledge]) -> PromptTemplate:
    template = next((item for item in PROMPT_TEMPLATES if item == raw), None)
    if template is None:
        near = difflib.get_close_matches(raw, PROMPT_TEMPLATES, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(PROMPT_TEMPLATES)}"
        msg = f"unknown prompt template '{raw}'; {hint}"
        raise ReportFormatError(msg)
    if template == "context" and name == NO_FINDING:
        msg = f"prompt template 'context' says the same of '{NO_FINDING}' present and absent; use 'verdict' or 'full'"
        raise ReportFormatError(msg)
    if template in _CONTEXTUAL and not _is_described(name, known):
        msg = (
            f"prompt template '{template}' needs definition and appearance of '{name}', which are not known; add them "
            "in a knowledge file, or use the templates 'obs_verdict' or 'verdict'"
        )
        raise ReportFormatError(msg)
    return template
