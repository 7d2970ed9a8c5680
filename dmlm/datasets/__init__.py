"""Data sets: from files to samples. Names load when they are used, so that ``dmlm data`` starts without torch."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "ChestXrayDataset": "dmlm.datasets.base",
    "RawSample": "dmlm.datasets.base",
    "SampleKey": "dmlm.datasets.base",
    "collate": "dmlm.datasets.base",
    "AlbumentationsTransform": "dmlm.datasets.transforms",
    "AugmentConfig": "dmlm.datasets.transforms",
    "EvalTransform": "dmlm.datasets.transforms",
    "TrainTransform": "dmlm.datasets.transforms",
    "Manifest": "dmlm.datasets.manifest_table",
    "ManifestFormat": "dmlm.datasets.manifest_format",
    "read_manifest": "dmlm.datasets.manifest_table",
    "ManifestDataset": "dmlm.datasets.manifest",
    "PhantomDataset": "dmlm.datasets.phantom",
    "generate_phantoms": "dmlm.datasets.phantom",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name not in _HOMES:
        msg = f"module '{__name__}' has no attribute '{name}'"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
