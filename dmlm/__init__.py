"""D-MLM: distribution-based masked medical vision-language pre-training with structured reports.

Importing this package is cheap; what it offers lives in :mod:`dmlm.models`, :mod:`dmlm.tasks` and
:mod:`dmlm.datamodules`, which load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_SUBPACKAGES = (
    "datamodules",
    "datasets",
    "distributions",
    "evaluation",
    "masking",
    "models",
    "objectives",
    "reports",
    "tasks",
)


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _SUBPACKAGES:
        return import_module(f"dmlm.{name}")
    msg = f"module 'dmlm' has no attribute '{name}'"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted([*globals(), *_SUBPACKAGES])
