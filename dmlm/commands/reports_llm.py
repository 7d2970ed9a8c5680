"""`dmlm reports build --engine endpoint|transformers` and `dmlm reports define`: what language models need besides."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmlm.errors import ConfigError
from dmlm.reports.knowledge import NO_FINDING, load_knowledge
from dmlm.reports.llm.cost import estimate
from dmlm.reports.llm.engine import LLMEngine
from dmlm.reports.llm.options import (
    ENGINES,
    add_llm_options,
    cache_from_options,
    chat_from_options,
    engine_from_options,
)
from dmlm.reports.llm.tokens import TokenCounter
from dmlm.reports.records import RecordWriter
from dmlm.reports.sources import ReportFolder

__all__ = ["ENGINES", "add_define_options", "define", "estimate_run", "opened_engine", "summary", "workers_of"]


def workers_of(options: argparse.Namespace) -> int:
    """Return how many reports a language model is asked about at once, unless ``--workers`` says it."""
    return int(options.workers or (1 if options.engine == "transformers" else 4))


@contextmanager
def opened_engine(options: argparse.Namespace, source: ReportFolder) -> Iterator[LLMEngine]:
    """Make the engine, behind both gates, and close it at the end.

    Args:
        options: Parsed options of the verb.
        source: The reports.
    """
    engine = engine_from_options(options, load_knowledge(options.knowledge), source.root)
    try:
        yield engine
    finally:
        engine.close()


def estimate_run(
    options: argparse.Namespace, engine: LLMEngine, source: ReportFolder, writer: RecordWriter | None = None
) -> None:
    """Print what reading the reports will cost; nothing is sent.

    Args:
        options: Parsed options of the verb.
        engine: The engine.
        source: The reports.
        writer: Where records go; those that it holds already cost nothing.
    """
    from tqdm import tqdm

    done = writer.done if writer is not None else set()
    with tqdm(desc="estimate", unit=" reports", disable=options.quiet, file=sys.stderr) as bar:
        texts = (raw.text for raw in source if raw.study_id not in done)
        count = TokenCounter(options.llm_tokenizer)
        size = estimate(engine, texts, count, options.price_in, options.price_out, bar.update)
    print(f"estimate: {size}", flush=True)


def summary(options: argparse.Namespace, engine: LLMEngine) -> str:
    """Return what a run took, in one line.

    Args:
        options: Parsed options of the verb.
        engine: The engine after the run.
    """
    use = engine.usage
    price = ""
    if options.price_in is not None or options.price_out is not None:
        paid = (use.tokens_in * (options.price_in or 0) + use.tokens_out * (options.price_out or 0)) / 1e6
        price = f", {paid:,.2f} in the currency of the prices given"
    return (
        f"{engine.provenance.model}: {use.asked} answers, {use.cached} from the cache, {use.fallbacks} reports left to "
        f"the rules; {use.tokens_in:,} tokens in, {use.tokens_out:,} out{price}"
    )


def add_define_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``dmlm reports define``."""
    parser.add_argument("findings", nargs="*", metavar="FINDING", help="findings; all of the library if none is named")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.yaml", help="file of knowledge to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the file")
    parser.add_argument("--engine", choices=ENGINES, default="endpoint", help="where the model is")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_llm_options(parser, for_reports=False)


def define(options: argparse.Namespace) -> None:
    """Run ``dmlm reports define``: definitions and appearances with the paper's two prompts.

    Raises:
        ConfigError: If the file exists, or an option is wrong.
    """
    from tqdm import tqdm

    from dmlm.reports.llm.define import write_knowledge

    if options.out.suffix not in (".yaml", ".yml"):
        msg = f"--out: '{options.out}' must end in .yaml, as --knowledge reads it"
        raise ConfigError(msg)
    if options.out.exists() and not options.overwrite:
        msg = f"{options.out} exists; replace it with --overwrite, or choose another file"
        raise ConfigError(msg)
    findings = options.findings or [name for name in load_knowledge() if name != NO_FINDING]
    chat, cache = chat_from_options(options), cache_from_options(options)
    try:
        with tqdm(total=len(findings), unit=" findings", disable=options.quiet, file=sys.stderr) as bar:
            written = write_knowledge(chat, findings, options.out, cache, progress=bar.update)
    finally:
        chat.close()
        cache.close()
    print(f"{options.out}: {written} findings by {chat.model}; read it before you use it (--knowledge {options.out})")
