"""Gather what is wrong with the rows of a table and say it once, in one line."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final, Literal

from dmlm.errors import DatasetFormatError

OnError = Literal["raise", "skip"]

_SHOWN: Final = 5
_LOG = logging.getLogger(__name__)


@dataclass
class Problems:
    """Problems of rows, by reason, in the order in which they were found.

    Args:
        source: Name of the file, for messages.
    """

    source: str
    found: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def add(self, reason: str, line: int, detail: str = "") -> None:
        """Note that the row at ``line`` of the file (1 is the header) cannot be used."""
        self.found.setdefault(reason, []).append((line, detail))

    @property
    def lines(self) -> set[int]:
        """Lines of all rows that cannot be used."""
        return {line for places in self.found.values() for line, _ in places}

    def summary(self) -> str:
        """Every reason with its count and its first five rows, in one line."""
        parts = []
        for reason, places in self.found.items():
            shown = [f"line {line}: {detail}" if detail else f"line {line}" for line, detail in sorted(places)[:_SHOWN]]
            rest = f", and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
            rows = "1 row" if len(places) == 1 else f"{len(places)} rows"
            parts.append(f"{reason} in {rows} ({', '.join(shown)}{rest})")
        return "; ".join(parts)

    def settle(self, on_error: OnError) -> None:
        """Raise if there are problems and ``on_error`` is ``"raise"``; with ``"skip"`` log which rows are left out.

        Raises:
            DatasetFormatError: With all reasons in one line.
        """
        if not self.found:
            return
        if on_error == "raise":
            msg = f"{self.source}: {self.summary()}; mend these rows, or leave them out with on_error: skip"
            raise DatasetFormatError(msg)
        _LOG.warning("%s: %d rows are left out: %s", self.source, len(self.lines), self.summary())


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name that is most like ``name``, or ``""``."""
    lowered = {item.lower(): item for item in known}
    close = get_close_matches(name.lower(), list(lowered), n=1)
    return f"; did you mean '{lowered[close[0]]}'?" if close else ""
