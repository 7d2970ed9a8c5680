"""What a run will cost, before it starts."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dmlm.reports.llm.engine import LLMEngine, shown_text
from dmlm.reports.llm.tokens import TokenCounter
from dmlm.reports.rules import RuleEngine
from dmlm.reports.schema import StructuredReport

_SAMPLE = 200
_TOKENS_PER_MESSAGE = 4
"""About what a chat format adds to each turn."""


@dataclass(frozen=True)
class Estimate:
    """Size and price of a run, without repeated questions.

    Args:
        reports: Reports in all.
        cached: Those whose answer is there already.
        tokens_in: Tokens that will be read.
        tokens_out: Tokens that will be written.
        is_exact: Whether a tokenizer counted ``tokens_in``.
        price: Price of both, in the currency of the prices given; ``None`` where none were.
    """

    reports: int
    cached: int
    tokens_in: int
    tokens_out: int
    is_exact: bool = False
    price: float | None = None

    def __str__(self) -> str:
        about = "" if self.is_exact else "about "
        cached = f" ({self.cached} of them answered before)" if self.cached else ""
        price = "" if self.price is None else f"; about {self.price:,.2f} in the currency of the prices given"
        return (
            f"{self.reports:,} reports{cached}: {about}{self.tokens_in:,} tokens in, about {self.tokens_out:,} tokens "
            f"out{price}; repeated questions come on top"
        )


def estimate(
    engine: LLMEngine,
    texts: Iterable[str],
    count: TokenCounter | None = None,
    price_in: float | None = None,
    price_out: float | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Estimate:
    """Estimate the size of a run from all its reports, without sending any.

    Tokens in are counted for every report that has no answer yet. Tokens out are those of the answer that would hold
    what the rules read, averaged over up to 200 reports drawn at random.

    Args:
        engine: The engine that will run.
        texts: The reports; read once and not kept.
        count: Counts tokens; a quarter of the characters by default.
        price_in: Price of a million tokens read.
        price_out: Price of a million tokens written.
        progress: Called with 1 for each report.
    """
    count = count or TokenCounter()
    head = engine.prompt.messages("")
    overhead = sum(count(message.content) + _TOKENS_PER_MESSAGE for message in head)
    draw, sample = random.Random(0), list[str]()
    reports = cached = open_reports = tokens_in = 0
    for text in texts:
        reports += 1
        progress(1)
        if engine.is_cached(text):
            cached += 1
            continue
        tokens_in += overhead + count(shown_text(text, engine.parts(text)))
        place = open_reports if open_reports < _SAMPLE else draw.randrange(open_reports + 1)
        if place < _SAMPLE:
            sample[place : place + 1] = [text]
        open_reports += 1
    rules = RuleEngine(engine.knowledge)
    written = [count(answer_of(rules.structure(text, "estimate"), text)) for text in sample]
    tokens_out = round(open_reports * sum(written) / len(written)) if written else 0
    has_price = price_in is not None or price_out is not None
    price = (tokens_in * (price_in or 0) + tokens_out * (price_out or 0)) / 1e6 if has_price else None
    return Estimate(reports, cached, tokens_in, tokens_out, count.is_exact, price)


def answer_of(report: StructuredReport, text: str) -> str:
    """Write the answer that a model would give, if it read a report as it was read.

    Args:
        report: What was read.
        text: The report as written.
    """
    items = [
        {
            "evidence": text[slice(*item.evidence)] if item.evidence else "",
            "finding": item.finding,
            "existence": item.existence,
            "laterality": item.laterality,
            "position": item.position,
            "severity": item.severity,
        }
        for item in report.observations
    ]
    return json.dumps({"observations": items}, ensure_ascii=False)
