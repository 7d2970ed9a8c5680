"""Which text stands for a report in a training step: one statement of it, or the whole report with sections dropped.

Zero-shot prompts are single statements. A model that has only read whole reports cannot place them, so half of the
texts of training are statements of the report, written as the prompts are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from dmlm.errors import ConfigError, ReportFormatError
from dmlm.reports.knowledge import load_knowledge
from dmlm.reports.prompts import PromptTemplate, render_statement
from dmlm.reports.render import STRUCTURED_SECTIONS, render, render_original, render_triplets
from dmlm.reports.schema import Observation, ReportText, Section, StructuredReport

Style = Literal["structured", "observations_verdict", "triplet", "ke_triplet", "original"]
DROPPABLE: tuple[Section, ...] = ("definition", "appearance")


def _default_dropout() -> dict[str, float]:
    return {"definition": 0.3, "appearance": 0.3}


@dataclasses.dataclass(frozen=True)
class TextViews:
    """How texts are drawn from reports.

    A study without observations is always read as written, and a study without text always as a structured report.

    Args:
        style: Form of the text, the rows of the paper's Table 6: ``"structured"`` (all four sections);
            ``"observations_verdict"`` (the last two of them); ``"triplet"`` ("pleural effusion, left lower zone,
            present."); ``"ke_triplet"`` (the same with the finding's definition for its name); ``"original"`` (the
            free text as written). Give the prompts of the zero-shot evaluation the same form.
        statement_views: Probability that the text is one statement (an observation and the verdict on its finding)
            instead of the whole report.
        positive_statements: Probability that such a statement is about a present or uncertain finding, where the
            report has both kinds. Reports name far more absent findings than present ones; drawing the kind first
            balances them. Within a kind every finding is equally likely.
        context_in_statement: Probability that a structured statement stands after definition and appearance, as in
            the zero-shot template ``"full"``; otherwise it is written as in ``"obs_verdict"``.
        modifier_dropout: Probability that a statement leaves out severity, side and position, as zero-shot prompts do.
        section_dropout: Probability per section (``definition``, ``appearance``) that a structured report goes without
            it. They are constants per finding: where they can be read, they give the verdict away.
        further_statements: How many further statements of each report take part in alignment beside its text. They
            cost little, since equal ones are encoded once, and tell each image about more of its findings per step.
        max_defined: At most this many findings of a whole report are defined and described.
        knowledge: YAML file with texts of your own for the context of statements; the library's by default. Give the
            same to the prompts.

    Raises:
        ConfigError: If a value is out of range or a section cannot be dropped.
    """

    style: Style = "structured"
    statement_views: float = 0.5
    positive_statements: float = 0.5
    context_in_statement: float = 0.25
    modifier_dropout: float = 0.5
    section_dropout: Mapping[str, float] = dataclasses.field(default_factory=_default_dropout)
    further_statements: int = 0
    max_defined: int = 3
    knowledge: str | None = None

    def __post_init__(self) -> None:
        if self.style not in get_args(Style):
            msg = f"style of the text views must be {', '.join(get_args(Style))}; got '{self.style}'"
            raise ConfigError(msg)
        for name in ("statement_views", "positive_statements", "context_in_statement", "modifier_dropout"):
            _probability(name, getattr(self, name))
        for section, value in self.section_dropout.items():
            if section not in DROPPABLE:
                msg = f"section_dropout names '{section}'; only {' and '.join(DROPPABLE)} can be dropped"
                raise ConfigError(msg)
            _probability(f"section_dropout.{section}", value)
        if self.further_statements < 0:
            msg = f"further_statements must be 0 or more, got {self.further_statements}"
            raise ConfigError(msg)
        if self.max_defined < 1:
            msg = f"max_defined must be at least 1, got {self.max_defined}; to drop definitions use section_dropout"
            raise ConfigError(msg)

    def sample(self, report: StructuredReport, text: str, rng: np.random.Generator) -> ReportText:
        """Draw one text for a study.

        Args:
            report: The report as records.
            text: The report as written, ``""`` where there is none.
            rng: Source of randomness; the same state gives the same text.

        Returns:
            A text that is not empty, and what it states.

        Raises:
            ReportFormatError: If the study has neither observations nor text.
        """
        if self._is_original(report, text):
            return self._original(report, text)
        if rng.random() < self.statement_views:
            return self._statement(report, rng)
        if self.style not in ("structured", "original"):
            return self._whole(report)
        kept = tuple(name for name in STRUCTURED_SECTIONS if rng.random() >= self.section_dropout.get(name, 0.0))
        return render(report, kept, max_defined=self.max_defined)

    def statement(self, report: StructuredReport, text: str, rng: np.random.Generator) -> ReportText:
        """Draw one statement of a study; a study that is read as written gives its text.

        Args:
            report: The report as records.
            text: The report as written, ``""`` where there is none.
            rng: Source of randomness; the same state gives the same statement.

        Raises:
            ReportFormatError: If the study has neither observations nor text.
        """
        return self._original(report, text) if self._is_original(report, text) else self._statement(report, rng)

    def full(self, report: StructuredReport, text: str) -> ReportText:
        """Return the whole report, always the same; for validation, retrieval and inspection.

        Args:
            report: The report as records.
            text: The report as written, ``""`` where there is none.

        Raises:
            ReportFormatError: If the study has neither observations nor text.
        """
        if self._is_original(report, text):
            return self._original(report, text)
        return self._whole(report)

    def _whole(self, report: StructuredReport) -> ReportText:
        if self.style == "triplet" or self.style == "ke_triplet":
            knowledge = load_knowledge(self.knowledge) if self.style == "ke_triplet" else None
            return render_triplets(report, knowledge=knowledge)
        sections = ("observations", "verdict") if self.style == "observations_verdict" else STRUCTURED_SECTIONS
        return render(report, sections, max_defined=self.max_defined)

    def _is_original(self, report: StructuredReport, text: str) -> bool:
        return not report.observations or (self.style == "original" and bool(text.strip()))

    def _original(self, report: StructuredReport, text: str) -> ReportText:
        if not text.strip():
            msg = f"study '{report.study_id}' has neither observations nor text; leave it out of the data set"
            raise ReportFormatError(msg)
        return render_original(text, report.observations)

    def _statement(self, report: StructuredReport, rng: np.random.Generator) -> ReportText:
        observation = self._draw(report, rng)
        template: PromptTemplate = "full" if rng.random() < self.context_in_statement else "obs_verdict"
        if self.style == "triplet" or self.style == "ke_triplet":
            template = self.style
        elif self.style == "observations_verdict":
            template = "obs_verdict"
        modifiers = bool(rng.random() >= self.modifier_dropout)
        return _written(dataclasses.replace(observation, evidence=None), template, modifiers, self.knowledge)

    def _draw(self, report: StructuredReport, rng: np.random.Generator) -> Observation:
        """Draw a kind, then a finding, then one of its observations that says what its verdict says."""
        kinds: dict[bool, list[str]] = {True: [], False: []}
        for name, state in report.verdicts.items():
            kinds[state != "absent"].append(name)
        positive = bool(rng.random() < self.positive_statements)
        names = kinds[positive] or kinds[not positive]
        finding = names[rng.integers(len(names))]
        state = report.verdicts[finding]
        own = [item for item in report.observations if item.finding == finding and item.existence == state]
        return own[rng.integers(len(own))]


@lru_cache(maxsize=8192)
def _written(observation: Observation, template: PromptTemplate, modifiers: bool, knowledge: str | None) -> ReportText:
    """Write a statement; reports say the same few things over and over."""
    return render_statement(observation, template, modifiers, load_knowledge(knowledge))


def _probability(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        msg = f"{name} must be a probability between 0 and 1; got {value}"
        raise ConfigError(msg)
