"""What an engine is: anything that reads a report as written and returns a record of it."""

from __future__ import annotations

from typing import Protocol

from dmlm.reports.provenance import Provenance, ReportRecord


class Engine(Protocol):
    """Reads reports; ``dmlm reports build`` needs no more than this of the rules or of a language model.

    A report that cannot be read well never raises and never comes back silently empty: it gives a record without
    observations whose report has ``flags`` that say why. An engine raises (a :class:`dmlm.errors.DMLMError`) only where
    no further report could be read either: an endpoint that is gone, a model that is missing.

    ``build`` may be called from several threads at once.
    """

    @property
    def provenance(self) -> Provenance:
        """Who reads, with what; the date is left blank. Two runs of equal provenance may be joined in one file."""

    def build(self, study_id: str, text: str) -> ReportRecord:
        """Read one report.

        Args:
            study_id: Identifier of the study.
            text: The report as written; any string.

        Returns:
            Its record, made with :meth:`dmlm.reports.provenance.ReportRecord.of`.
        """
