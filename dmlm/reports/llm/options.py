"""Options of the language-model engines for a console verb, and the engine that they describe."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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
    ("timeout", "--timeout"),
)
_OTHERS = ("model", "device", "llm_cache", "llm_tokenizer", "accept_physionet_terms", "price_in", "price_out")
_SECONDS = 180.0


def add_llm_options(parser: argparse.ArgumentParser, for_reports: bool = True) -> None:
    """Add the options to a parser, as a group of their own.

    Args:
        parser: Parser of the verb; its ``--engine`` must offer :data:`ENGINES`.
        for_reports: Whether the verb reads reports; otherwise it only asks about findings.
    """
    group = parser.add_argument_group(
        "language models", "for --engine endpoint (vLLM, Ollama, a cloud) and --engine transformers (on this machine)"
    )

    def add(name: str, **settings: Any) -> None:  # noqa: ANN401 - what argparse takes
        group.add_argument(name, dest=name[2:].replace("-", "_"), **settings)

    add("--model", metavar="NAME", help="model: its name at the endpoint, or the folder of a transformers model")
    add("--endpoint", metavar="URL", help="OpenAI-compatible address, e.g. http://127.0.0.1:8000/v1")
    add(
        "--allow-remote",
        action="append",
        metavar="HOST",
        help="this host may be sent text; nothing leaves the machine otherwise (may be repeated)",
    )
    add("--api-key-env", metavar="VARIABLE", help=f"environment variable that holds the key ({DEFAULT_VARIABLE})")
    add("--proxy", metavar="URL", help="proxy; those of the environment are never used")
    add("--timeout", type=float, metavar="S", help="seconds that one answer of the endpoint may take (180)")
    add("--requests-per-minute", type=float, metavar="N", help="limit of the endpoint")
    add("--tokens-per-minute", type=float, metavar="N", help="limit of the endpoint, in and out together")
    add("--device", metavar="D", help="transformers: cpu, cuda:0 ... (cpu)")
    add("--llm-cache", type=Path, metavar="FILE", help="answers are kept there (reports_llm.sqlite, cache folder)")
    add("--llm-tokenizer", metavar="FILE", help="tokenizer.json that counts tokens (a quarter of the characters)")
    if for_reports:
        add("--accept-physionet-terms", metavar="NAME", help=f"accept the terms that are shown, by writing {DATA_SET}")
        add("--price-in", type=float, metavar="P", help="price of a million tokens read, for the estimate")
        add("--price-out", type=float, metavar="P", help="price of a million tokens written, for the estimate")


def refuse_llm_options(options: argparse.Namespace) -> None:
    """Refuse options of language models where the rules read.

    Raises:
        ConfigError: If one is set.
    """
    names = [*(name for name, _ in _ONLY_ENDPOINT), *_OTHERS]
    wrong = [name for name in names if getattr(options, name, None) is not None]
    if wrong:
        msg = f"--{wrong[0].replace('_', '-')} is for language models; choose one with --engine {' or '.join(ENGINES)}"
        raise ConfigError(msg)


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
    return LLMEngine(chat, gate, cache_from_options(options), knowledge)


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
    client = JsonClient(destination, read_api_key(options.api_key_env), options.timeout or _SECONDS)
    limiter = RateLimiter(options.requests_per_minute, options.tokens_per_minute)
    return EndpointChat(client, options.model, destination.name, limiter, TokenCounter(options.llm_tokenizer))


def cache_from_options(options: argparse.Namespace) -> AnswerCache:
    """Open the cache of answers that the options name, or the one in the cache folder.

    Args:
        options: Parsed options of :func:`add_llm_options`.
    """
    path: Path = options.llm_cache if options.llm_cache is not None else cache_dir() / "reports_llm.sqlite"
    return AnswerCache(path.expanduser())


def _checked_destination(options: argparse.Namespace) -> Destination | None:
    """Where the endpoint is, after the first gate; ``None`` for a model in this process."""
    for name in ("requests_per_minute", "tokens_per_minute", "timeout"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            msg = f"--{name.replace('_', '-')} must be above 0, got {value}"
            raise ConfigError(msg)
    for name in ("price_in", "price_out"):
        value = getattr(options, name, None)
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
