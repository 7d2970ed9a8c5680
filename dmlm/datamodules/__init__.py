"""Data modules: splits, transforms and loaders for Lightning. Names load when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "RSNAPneumoniaDataModule": "dmlm.datamodules.rsna",
    "SIIMPneumothoraxDataModule": "dmlm.datamodules.siim",
    "NIHChestXray14DataModule": "dmlm.datamodules.nih",
    "COVIDxDataModule": "dmlm.datamodules.covidx",
    "COVIDRuralDataModule": "dmlm.datamodules.covid_rural",
    "ChestXrayDataModule": "dmlm.datamodules.base",
    "EpochSampler": "dmlm.datamodules.samplers",
    "ManifestDataModule": "dmlm.datamodules.manifest",
    "PhantomDataModule": "dmlm.datamodules.phantom",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name not in _HOMES:
        msg = f"module '{__name__}' has no attribute '{name}'"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
