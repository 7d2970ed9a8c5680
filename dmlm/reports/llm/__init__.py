"""Structured reports by language models: on this machine, or at an endpoint that was allowed by name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "AnswerError": "dmlm.reports.llm.errors",
    "EndpointError": "dmlm.reports.llm.errors",
    "GateError": "dmlm.reports.llm.errors",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name not in _HOMES:
        msg = f"module '{__name__}' has no attribute '{name}'"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
