"""A structured report together with what made it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from hashlib import blake2b

from dmlm.reports.schema import StructuredReport


@dataclass(frozen=True)
class Provenance:
    """What made a record.

    Args:
        engine: ``"rules"``, ``"labels"`` or the name of a language-model engine.
        version: Version of the library that ran it.
        model: The language model; ``""`` for the rules.
        prompt_hash: Hash of what told the engine how to read: prompts and examples, or the word lists of the rules.
        date: Day on which the record was made, ``YYYY-MM-DD`` in UTC.
    """

    engine: str
    version: str
    model: str = ""
    prompt_hash: str = ""
    date: str = ""

    def same_reader(self, other: Provenance) -> bool:
        """Whether two records were made in the same way, on whatever day."""
        return replace(self, date="") == replace(other, date="")


@dataclass(frozen=True)
class ReportRecord:
    """A structured report and what made it.

    Args:
        report: The report; its ``flags`` say what is unusual about the text.
        provenance: What made it.
        text_hash: Hash of the text that ``evidence`` points into (:func:`text_hash`), ``""`` where there was none.
    """

    report: StructuredReport
    provenance: Provenance
    text_hash: str = ""

    @classmethod
    def of(cls, report: StructuredReport, provenance: Provenance, text: str) -> ReportRecord:
        """Make the record of a report that was read from ``text``.

        Args:
            report: What was read; its ``source`` becomes the engine's name.
            provenance: What read it; give it a ``date``.
            text: The report as written.
        """
        return cls(replace(report, source=provenance.engine), provenance, text_hash(text))

    @property
    def study_id(self) -> str:
        """Identifier of the study."""
        return self.report.study_id


def text_hash(text: str) -> str:
    """Return 16 hexadecimal digits that stand for a text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def today() -> str:
    """Return the date in UTC as ``YYYY-MM-DD``."""
    return datetime.now(timezone.utc).date().isoformat()
