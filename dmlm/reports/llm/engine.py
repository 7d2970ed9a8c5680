"""Reports read by a language model; what it cannot read, the rules read, and the record says so."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dmlm import __version__
from dmlm.errors import DMLMError
from dmlm.reports.builder import with_knowledge
from dmlm.reports.knowledge import FindingKnowledge, as_knowledge
from dmlm.reports.llm.answer import Answer, read_answer
from dmlm.reports.llm.cache import AnswerCache, answer_key
from dmlm.reports.llm.chat import Chat, Message
from dmlm.reports.llm.errors import AnswerError, EndpointError, GateError
from dmlm.reports.llm.gate import ReportGate
from dmlm.reports.llm.prompts import ObservationPrompt, repair_message
from dmlm.reports.provenance import Provenance, ReportRecord, today
from dmlm.reports.rules import RuleEngine
from dmlm.reports.rules_result import flags_of
from dmlm.reports.schema import StructuredReport
from dmlm.reports.sections import choose_sections
from dmlm.reports.segment import blank_markup

_UNREADABLE = frozenset({"empty", "binary", "no_image_section"})
"""Flags of texts that are not worth asking about."""


@dataclass
class Usage:
    """What a run cost so far.

    Args:
        asked: Requests that were answered.
        cached: Reports whose answer was there already.
        fallbacks: Reports that the rules had to read.
        tokens_in: Tokens read, as far as the model says.
        tokens_out: Tokens written, as far as the model says.
    """

    asked: int = 0
    cached: int = 0
    fallbacks: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class LLMEngine:
    """Reads reports with a language model; an :class:`dmlm.reports.engine.Engine`.

    Only findings, impression and addenda are sent, never the identifier of the study. Besides the flags of the rules,
    a record may have ``answer_mended`` (observations that could not be used were dropped, or the answer lost its end),
    ``text_cut`` (the report was too long to be sent whole) and ``llm_failed_REASON`` with ``read_by_rules``.

    Args:
        chat: The model.
        gate: Decides whether a report may be sent.
        cache: Where answers are kept; in memory by default.
        knowledge: Findings that may be named; the library's by default.
        attempts: How often the model is asked until its answer can be used.
        max_tokens: Longest answer; doubled once for an answer that was cut.
        max_characters: Longest text that is sent.
        patience: Reports in a row that may fail for the endpoint's fault before the run stops; for others' faults,
            four times as many.
    """

    def __init__(
        self,
        chat: Chat,
        gate: ReportGate,
        cache: AnswerCache | None = None,
        knowledge: Mapping[str, FindingKnowledge] | None = None,
        attempts: int = 3,
        max_tokens: int = 2048,
        max_characters: int = 12_000,
        patience: int = 5,
    ) -> None:
        self.knowledge = as_knowledge(knowledge)
        self.prompt = ObservationPrompt(self.knowledge)
        self.provenance = Provenance(chat.kind, __version__, chat.model, self.prompt.hash)
        self.usage = Usage()
        self._chat, self._gate = chat, gate
        self._cache = AnswerCache(None) if cache is None else cache
        self._rules = RuleEngine(self.knowledge)
        self._attempts, self._max_tokens, self._max_characters = attempts, max_tokens, max_characters
        self._patience, self._failed_in_a_row, self._unanswered_in_a_row = patience, 0, 0
        self._stopped_by: DMLMError | None = None
        self._lock = threading.Lock()

    def build(self, study_id: str, text: str) -> ReportRecord:
        """Read one report into a record; see :meth:`dmlm.reports.engine.Engine.build`.

        Raises:
            GateError: If the report may not be sent.
            EndpointError: If the model cannot be reached, or failed for several reports in a row.
        """
        if self._stopped_by is not None:
            raise self._stopped_by
        by_rules = self._rules.structure(text, study_id)
        if _UNREADABLE & set(by_rules.flags):
            return self._record(by_rules, text)
        parts = self.parts(text)
        shown = shown_text(text, parts)
        flags = ["text_cut"] if parts != _parts(text) else []
        try:
            answer = self._answer(text, parts, shown, expects_some=bool(by_rules.observations))
        except AnswerError as error:
            self._note_failure(error)
            flags += [f"llm_failed_{error.reason}", "read_by_rules"]
            return self._record(replace(by_rules, flags=(*by_rules.flags, *flags)), text)
        except (EndpointError, GateError) as error:
            raise self._stop(error) from None
        if answer.dropped or answer.is_cut:
            flags.append("answer_mended")
        names = [name for name, _, _ in choose_sections(blank_markup(text))]
        flags = [*flags_of(text, blank_markup(text), names, answer.observations), *flags]
        report = StructuredReport(study_id, answer.observations, flags=tuple(flags))
        return self._record(with_knowledge(report, self.knowledge) if answer.observations else report, text)

    def parts(self, text: str) -> list[tuple[int, int]]:
        """Return the places of a report that are sent, at most ``max_characters`` in all, cut after a word."""
        left, kept = self._max_characters, list[tuple[int, int]]()
        for start, end in _parts(text):
            if end - start > left:
                end = max(start, text.rfind(" ", start, start + left))
            if end > start:
                kept.append((start, end))
            left -= end - start
        return kept

    def is_cached(self, text: str) -> bool:
        """Whether the answer to a report is there already."""
        return self._cache.get(self._key(shown_text(text, self.parts(text)))) is not None

    def close(self) -> None:
        """Let go of the model and the cache."""
        self._chat.close()
        self._cache.close()

    def _record(self, report: StructuredReport, text: str) -> ReportRecord:
        return ReportRecord.of(report, replace(self.provenance, date=today()), text)

    def _key(self, shown: str) -> bytes:
        return answer_key(self.prompt.hash, self._chat.model, shown)

    def _answer(self, text: str, parts: Sequence[tuple[int, int]], shown: str, expects_some: bool) -> Answer:
        key = self._key(shown)
        cached = self._cache.get(key)
        if cached is not None:
            answer = read_answer(cached, text, parts, self.knowledge)
            with self._lock:
                self.usage.cached += 1
            return answer
        self._gate.check_report(text)
        written, answer = self._ask(text, parts, shown, expects_some)
        self._cache.put(key, written)
        with self._lock:
            self._failed_in_a_row = self._unanswered_in_a_row = 0
        return answer

    def _ask(self, text: str, parts: Sequence[tuple[int, int]], shown: str, expects_some: bool) -> tuple[str, Answer]:
        """Ask until an answer is without fault; otherwise take the one that says most.

        An empty answer, where the rules found something, is asked for once more and then believed.
        """
        messages = self.prompt.messages(shown)
        best: tuple[str, Answer] | None = None
        turn, limit = list(messages), self._max_tokens
        fault = "there was no attempt"
        for _ in range(self._attempts):
            reply = self._chat.complete(turn, self.prompt.schema, limit)
            with self._lock:
                self.usage.asked += 1
                self.usage.tokens_in += reply.tokens_in
                self.usage.tokens_out += reply.tokens_out
            answer = read_answer(reply.text, text, parts, self.knowledge)
            answer = replace(answer, is_cut=answer.is_cut or reply.is_cut)
            is_whole = not answer.faults and not answer.is_cut
            if is_whole and (answer.observations or not expects_some):
                return reply.text, answer
            if is_whole:
                fault, expects_some = "the list is empty, but the report says something of the image", False
                turn = [*messages, Message("assistant", reply.text), repair_message(fault)]
                continue
            if answer.observations and (best is None or len(answer.observations) > len(best[1].observations)):
                best = reply.text, answer
            if answer.is_cut:
                fault, limit = "it was cut before its end", 2 * self._max_tokens
                turn = list(messages)  # at temperature 0 only a higher limit helps
            else:
                fault = "; ".join(answer.faults[:5])
                turn = [*messages, Message("assistant", reply.text[:8000]), repair_message(fault)]
        if best is None:
            msg = f"no usable answer after {self._attempts} attempts: {fault}"
            raise AnswerError(msg)
        return best

    def _note_failure(self, error: AnswerError) -> None:
        """Count a failure; too many in a row are not the reports' fault."""
        with self._lock:
            self.usage.fallbacks += 1
            self._failed_in_a_row += 1
            self._unanswered_in_a_row = self._unanswered_in_a_row + 1 if error.is_transport else 0
            is_over = self._unanswered_in_a_row >= self._patience or self._failed_in_a_row >= 4 * self._patience
        if is_over:
            msg = f"{self._failed_in_a_row} reports in a row failed, the last because {error}; mend it, then --resume"
            raise self._stop(EndpointError(msg)) from None

    def _stop(self, error: DMLMError) -> DMLMError:
        """Stop all threads for the reason of the first that had to stop."""
        with self._lock:
            self._stopped_by = self._stopped_by or error
        self._chat.close()  # wakes those that wait
        return self._stopped_by


def shown_text(text: str, parts: Sequence[tuple[int, int]]) -> str:
    """Return what the model is shown of a report: its parts with blank lines between them.

    Args:
        text: The report.
        parts: Places of the parts.
    """
    return "\n\n".join(text[start:end].strip() for start, end in parts)


def _parts(text: str) -> list[tuple[int, int]]:
    return [(start, end) for _, start, end in choose_sections(blank_markup(text))]
