"""Structured reports by language models: on this machine, or at an endpoint that was allowed by name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "AnswerCache": "dmlm.reports.llm.cache",
    "AnswerError": "dmlm.reports.llm.errors",
    "Chat": "dmlm.reports.llm.chat",
    "EndpointChat": "dmlm.reports.llm.endpoint",
    "EndpointError": "dmlm.reports.llm.errors",
    "GateError": "dmlm.reports.llm.errors",
    "LLMEngine": "dmlm.reports.llm.engine",
    "RateLimiter": "dmlm.reports.llm.limits",
    "ReportGate": "dmlm.reports.llm.gate",
    "TransformersChat": "dmlm.reports.llm.local",
    "add_llm_options": "dmlm.reports.llm.options",
    "check_destination": "dmlm.reports.llm.gate",
    "engine_from_options": "dmlm.reports.llm.options",
    "estimate": "dmlm.reports.llm.cost",
    "write_knowledge": "dmlm.reports.llm.define",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name not in _HOMES:
        msg = f"module '{__name__}' has no attribute '{name}'"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
