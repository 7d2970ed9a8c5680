"""Options of the language-model engines for a console verb, and the engine that they describe."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from dmlm.errors import ConfigError
from dmlm.io.cache import cache_dir
from dmlm.reports.knowledge import FindingKnowledge
from dmlm.reports.llm.cache import AnswerCache
from dmlm.reports.llm.chat import Chat
from dmlm.reports.llm.engine import LLMEngine
from dmlm.reports.llm.gate import DATA_SET, Destination, ReportGate, check_destination
from dmlm.reports.llm.key import DEFAULT_VARIABLE, read_api_key
from dmlm.reports.llm.limits import RateLimiter
from dmlm.reports.llm.tokens import TokenCounter

ENGINES = ("endpoint", "transformers")
"""Values of ``--engine`` that this package answers for."""

_ONLY_ENDPOINT = (
    ("endpoint", "--endpoint"),
    ("allow_remote", "--allow-remote"),
    ("proxy", "--proxy"),
    ("api_key_env", "--api-key-env"),
    ("requests_per_minute", "--requests-per-minute"),
    ("tokens_per_minute", "--tokens-per-minute"),
)


def add_llm_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser, as a group of their own.

    Args:
        parser: Parser of the verb; its ``--engine`` must offer :data:`ENGINES`.
    """
    group = parser.add_argument_group(
        "language models", "for --engine endpoint (vLLM, Ollama, a cloud) and --engine transformers (on this machine)"
    )
    add = group.add_argument
    add("--model", metavar="NAME", help="model: its name at the endpoint, or the folder of a transformers model")
    add("--endpoint", metavar="URL", help="OpenAI-compatible address, e.g. http://127.0.0.1:8000/v1")
    add(
        "--allow-remote",
        action="append",
        metavar="HOST",
        help="this host may receive reports; nothing leaves the machine otherwise (may be repeated)",
    )
    add("--accept-physionet-terms", metavar="NAME", help=f"accept the terms that are shown, by writing {DATA_SET}")
    add("--api-key-env", metavar="VARIABLE", help=f"environment variable that holds the key ({DEFAULT_VARIABLE})")
    add("--proxy", metavar="URL", help="proxy; those of the environment are never used")
    add("--concurrency", type=int, metavar="N", help="reports that are asked about at once (4; transformers: 1)")
    add("--requests-per-minute", type=float, metavar="N", help="limit of the endpoint")
    add("--tokens-per-minute", type=float, metavar="N", help="limit of the endpoint, in and out together")
    add("--timeout", type=float, default=180.0, metavar="S", help="seconds that one answer may take")
    add("--llm-cache", type=Path, metavar="FILE", help="answers are kept there (below the cache folder)")
    add("--llm-tokenizer", metavar="FILE", help="tokenizer.json, to count tokens (a quarter of the characters)")
    add("--price-in", type=float, metavar="P", help="price of a million tokens read, for the estimate")
    add("--price-out", type=float, metavar="P", help="price of a million tokens written, for the estimate")
    add("--estimate-only", action="store_true", help="print what it would cost and stop")
    add("--device", metavar="D", help="transformers: cpu, cuda:0 ... (cpu)")


def engine_from_options(
    options: argparse.Namespace,
    knowledge: Mapping[str, FindingKnowledge] | None = None,
    root: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> LLMEngine:
    """Make the engine that the options describe. Nothing is sent, and both gates have been passed.

    Args:
        options: Parsed options of :func:`add_llm_options`, with ``engine``.
        knowledge: Findings that may be named; the library's by default.
        root: Where the reports come from, for the second gate.
        say: Where warnings and PhysioNet's terms go; standard error by default.

    Raises:
        ConfigError: If an option is missing, wrong, or of another engine.
        GateError: If reports may not be sent.
    """
    say = say or _to_stderr
    destination = _checked_destination(options)
    is_local = destination is None or destination.is_local
    gate = ReportGate(is_local, destination.host if destination else "", options.accept_physionet_terms, say)
    if root is not None:
        gate.check_root(root)
    chat = chat_from_options(options, say)
    path = options.llm_cache if options.llm_cache is not None else cache_dir() / "reports_llm.sqlite"
    return LLMEngine(chat, gate, AnswerCache(path.expanduser()), knowledge)


def chat_from_options(options: argparse.Namespace, say: Callable[[str], None] | None = None) -> Chat:
    """Make the model that the options describe, behind the first gate; see :func:`engine_from_options`.

    Args:
        options: Parsed options of :func:`add_llm_options`, with ``engine``.
        say: Where warnings go; standard error by default.
    """
    destination = _checked_destination(options)
    if destination is None:
        from dmlm.reports.llm.local import TransformersChat

        return TransformersChat(options.model, options.device or "cpu")
    from dmlm.reports.llm.endpoint import EndpointChat
    from dmlm.reports.llm.json_client import JsonClient

    say = say or _to_stderr
    for warning in destination.warnings:
        say(f"dmlm: warning: {warning}")
    if not destination.is_local:
        say(f"dmlm: text goes to {destination.host}, as --allow-remote says")
    client = JsonClient(destination, read_api_key(options.api_key_env), options.timeout)
    limiter = RateLimiter(options.requests_per_minute, options.tokens_per_minute)
    return EndpointChat(client, options.model, destination.name, limiter, TokenCounter(options.llm_tokenizer))


def concurrency_of(options: argparse.Namespace) -> int:
    """Return how many reports are asked about at once; threads share the engine.

    Args:
        options: Parsed options of :func:`add_llm_options`, with ``engine``.
    """
    return int(options.concurrency or (1 if options.engine == "transformers" else 4))


def _checked_destination(options: argparse.Namespace) -> Destination | None:
    """Where the endpoint is, after the first gate; ``None`` for a model in this process."""
    positive = ("concurrency", "requests_per_minute", "tokens_per_minute", "timeout")
    for name in positive:
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            msg = f"--{name.replace('_', '-')} must be above 0, got {value}"
            raise ConfigError(msg)
    for name in ("price_in", "price_out"):
        value = getattr(options, name)
        if value is not None and not 0 <= value < float("inf"):
            msg = f"--{name.replace('_', '-')} must be 0 or above, got {value}"
            raise ConfigError(msg)
    if not options.model:
        msg = f"--engine {options.engine} needs --model: its name at the endpoint, or the folder of the model"
        raise ConfigError(msg)
    if options.engine == "transformers":
        wrong = [option for name, option in _ONLY_ENDPOINT if getattr(options, name) is not None]
        if wrong:
            msg = f"{wrong[0]} belongs to --engine endpoint; --engine transformers runs on this machine"
            raise ConfigError(msg)
        return None
    if options.device is not None:
        msg = "--device belongs to --engine transformers; an endpoint chooses its own"
        raise ConfigError(msg)
    if not options.endpoint:
        msg = "--engine endpoint needs --endpoint, e.g. http://127.0.0.1:8000/v1 (vLLM) or http://127.0.0.1:11434/v1"
        raise ConfigError(msg)
    return check_destination(options.endpoint, options.model, options.allow_remote or (), options.proxy)


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)
