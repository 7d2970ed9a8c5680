"""Data modules: splits, transforms and loaders for Lightning. Names load when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "COVIDRuralDataModule": "dmlm.datamodules.covid_rural",
    "COVIDxDataModule": "dmlm.datamodules.covidx",
    "CheXpertDataModule": "dmlm.datamodules.chexpert",
    "ChestXrayDataModule": "dmlm.datamodules.base",
    "EdemaSeverityDataModule": "dmlm.datamodules.edema_severity",
    "EpochSampler": "dmlm.datamodules.samplers",
    "MIMICCXRDataModule": "dmlm.datamodules.mimic_cxr",
    "ManifestDataModule": "dmlm.datamodules.manifest",
    "NIHChestXray14DataModule": "dmlm.datamodules.nih",
    "OpenIDataModule": "dmlm.datamodules.open_i",
    "PhantomDataModule": "dmlm.datamodules.phantom",
    "RSNAPneumoniaDataModule": "dmlm.datamodules.rsna",
    "SIIMPneumothoraxDataModule": "dmlm.datamodules.siim",
    "TableDataModule": "dmlm.datamodules.table",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name not in _HOMES:
        msg = f"module '{__name__}' has no attribute '{name}'"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
