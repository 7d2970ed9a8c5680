"""Structured reports from free text, offline: sections, sentences, findings, existence, side, position, degree.

Deterministic and linear in the length of the text. The words are in ``knowledge/*.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b

from dmlm import __version__
from dmlm.reports.builder import with_knowledge
from dmlm.reports.clauses import Sentence
from dmlm.reports.knowledge import FindingKnowledge, as_knowledge
from dmlm.reports.lexicon import Lexicon
from dmlm.reports.modifiers import places
from dmlm.reports.negation import judge
from dmlm.reports.provenance import Provenance, ReportRecord, today
from dmlm.reports.rules_result import DEVICES, Found, flags_of, is_not_english, settled
from dmlm.reports.schema import Observation, StructuredReport
from dmlm.reports.sections import choose_sections
from dmlm.reports.segment import blank_markup, sentences
from dmlm.reports.states import find_states
from dmlm.reports.terms import read_text

_WORDS = ("lexicon.yaml", "anatomy.yaml", "states.yaml", "cues.yaml", "words.yaml")


class RuleEngine:
    """Reads reports by rules; an :class:`dmlm.reports.engine.Engine`.

    Args:
        knowledge: Findings with their texts; names and synonyms that the lexicon lacks are read too. The library's
            by default.
    """

    def __init__(self, knowledge: Mapping[str, FindingKnowledge] | None = None) -> None:
        self.knowledge = as_knowledge(knowledge)
        self.lexicon = Lexicon(self.knowledge)
        names = [(known.name, *known.synonyms) for known in self.knowledge.values()]
        digest = blake2b("".join([*map(read_text, _WORDS), repr(names)]).encode(), digest_size=8).hexdigest()
        self.provenance = Provenance("rules", __version__, prompt_hash=digest)

    def build(self, study_id: str, text: str) -> ReportRecord:
        """Read one report into a record; see :meth:`dmlm.reports.engine.Engine.build`."""
        return ReportRecord.of(self.structure(text, study_id), replace(self.provenance, date=today()), text)

    def structure(self, text: str, study_id: str) -> StructuredReport:
        """Read one report.

        Args:
            text: The report as written; any string.
            study_id: Identifier of the study.

        Returns:
            Report with ``source="rules"``; ``evidence`` points into ``text``. ``flags`` say what is unusual: ``empty``,
            ``binary``, ``markup``, ``not_english`` (then nothing is read), ``no_image_section`` (nothing but indication
            and the like), ``addendum_only``, ``no_observations``, ``conflicting`` (a finding said present and absent at
            one place).
        """
        clean = blank_markup(text)
        chosen = choose_sections(clean)
        is_foreign = is_not_english(clean)
        said = [
            statement
            for _, start, end in ([] if is_foreign else chosen)
            for first, last in sentences(clean, start, end)
            for statement in self._read(clean, first, last)
        ]
        kept = settled(said)
        flags = flags_of(text, clean, [name for name, _, _ in chosen], kept)
        report = StructuredReport(study_id, tuple(kept), source="rules", flags=flags)
        return with_knowledge(report, self.knowledge) if kept else report

    def read_sentence(self, text: str, start: int, end: int) -> list[Observation]:
        """Read one sentence.

        Args:
            text: The text.
            start: First character of the sentence.
            end: End of the sentence (exclusive).
        """
        return [observation for observation, _ in self._read(text, start, end)]

    def _read(self, text: str, start: int, end: int) -> list[tuple[Observation, bool]]:
        tokens, items = self.lexicon.scan(text, start, end)
        if not any(item.kind in ("finding", "state") for item in items):
            return []
        sentence = Sentence(tokens, items)
        states = {mention.item: mention for mention in find_states(sentence, self.lexicon.states)}
        mentions = [item for item in items if item.kind == "finding" or item in states]
        if not mentions:
            return []
        devices = frozenset(
            index for index, item in enumerate(mentions) if item.kind == "finding" and item.value.rule.name == DEVICES
        )
        judgements = judge(sentence, mentions, devices)
        located = places(sentence, mentions)
        found = Found(sentence, self.lexicon.rules)
        for item, judgement, where in zip(mentions, judgements, located, strict=True):
            if judgement.existence is None:
                continue
            if item.kind == "finding":
                found.add_term(item, item.value, judgement, where)
            else:
                found.add_state(states[item], judgement, where)
        return found.observations()


def structure(text: str, study_id: str, knowledge: Mapping[str, FindingKnowledge] | None = None) -> StructuredReport:
    """Read one report with the rules; see :meth:`RuleEngine.structure`.

    Args:
        text: The report as written.
        study_id: Identifier of the study.
        knowledge: Findings with their texts; the library's by default. To read many reports with others, make one
            :class:`RuleEngine`: compiling the words takes longer than reading a report.
    """
    engine = _library_engine() if knowledge is None else RuleEngine(knowledge)
    return engine.structure(text, study_id)


@lru_cache(maxsize=1)
def _library_engine() -> RuleEngine:
    return RuleEngine()
