"""Synthetic chest X-rays with reports, masks and boxes, so that everything runs without a data set.

Names load when they are used, so that ``dmlm data synthesize`` starts without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dmlm.datasets.phantom.dataset import PhantomDataset
    from dmlm.datasets.phantom.drawing import generate_phantoms
    from dmlm.datasets.phantom.findings import LABEL_NAMES, UNSEEN_FINDING
    from dmlm.datasets.phantom.store import phantom_folder, plan_phantoms

_HOMES = {
    "LABEL_NAMES": "dmlm.datasets.phantom.findings",
    "UNSEEN_FINDING": "dmlm.datasets.phantom.findings",
    "PhantomDataset": "dmlm.datasets.phantom.dataset",
    "generate_phantoms": "dmlm.datasets.phantom.drawing",
    "phantom_folder": "dmlm.datasets.phantom.store",
    "plan_phantoms": "dmlm.datasets.phantom.store",
}

__all__ = ["LABEL_NAMES", "UNSEEN_FINDING", "PhantomDataset", "generate_phantoms", "phantom_folder", "plan_phantoms"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name not in _HOMES:
        msg = f"module '{__name__}' has no attribute '{name}'"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
