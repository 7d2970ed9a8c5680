"""Which data a column of a table stands for: the published data set under ROOT, or its stand-in among phantoms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dmlm.reproduce.scale import Scale

_PHANTOMS = {"num_train": 400, "num_val": 60, "num_test": 160, "data_seed": 1}
"""One set of phantom patients for all downstream tasks, apart from those of pre-training."""


@dataclass(frozen=True)
class Source:
    """A data set in a role.

    Args:
        folder: Its folder under ROOT.
        module: Its data module.
        options: Options of the data module.
        phantom: Options of the phantom data module that stand in at ``smoke``.
        stand_in: What the stand-in is, for the reader.
    """

    folder: str
    module: str
    options: dict[str, Any]
    phantom: dict[str, Any]
    stand_in: str

    def data(self, scale: Scale, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - of the data module
        """Configuration of the data module.

        Args:
            scale: Size of the reproduction.
            **options: Further options, such as ``fraction``.
        """
        shared = {"image_size": scale.image_size, **options}
        if scale.budget == "smoke":
            phantom = {**_PHANTOMS, "num_workers": 0, **self.phantom, **shared}
            return {"class_path": "PhantomDataModule", "init_args": phantom}
        root = str((scale.root / self.folder).resolve()) if scale.root is not None else self.folder
        return {"class_path": self.module, "init_args": {"root": root, **self.options, **shared}}

    def missing(self, scale: Scale) -> str:
        """Why the data cannot be read here, or ``""``; cheap: whether the folder is there."""
        if scale.budget == "smoke" or scale.root is None or (scale.root / self.folder).is_dir():
            return ""
        return f"no data: {scale.root / self.folder} is not there"


_SHARES = [0.6, 0.2, 0.2]  # the paper's 60/20/20

PRETRAINING = Source(
    "mimic-cxr",
    "MIMICCXRDataModule",
    {},
    {"num_train": 600, "num_val": 60, "num_test": 10, "data_seed": 0},
    "phantoms with reports",
)

CLASSIFY = {
    "RSNA": Source(
        "rsna", "RSNAPneumoniaDataModule", {"split": "paper"}, {"target": "Consolidation"}, "phantom: Consolidation"
    ),
    "SIIM": Source(
        "siim", "SIIMPneumothoraxDataModule", {"split": "paper"}, {"target": "Pneumothorax"}, "phantom: Pneumothorax"
    ),
    "CheXpert": Source(
        "chexpert",
        "CheXpertDataModule",
        {"labels": "competition", "split": "chexpert_valid", "ratios": [0.8, 0.2, 0.0]},
        {"target": "findings"},
        "phantom: all findings",
    ),
}
"""Data sets of Table 1."""

ZERO_SHOT = {
    "RSNA": CLASSIFY["RSNA"],
    "SIIM": CLASSIFY["SIIM"],
    "NIH": Source(
        "nih", "NIHChestXray14DataModule", {"split": "official"}, {"target": "findings"}, "phantom: all findings"
    ),
}
"""Data sets of Table 2."""

COVIDX = Source("covidx", "COVIDxDataModule", {"split": "paper"}, {"target": "Edema"}, "phantom: Edema")
"""Data set of Table 3."""

EDEMA = Source(
    "edema", "EdemaSeverityDataModule", {"ratios": _SHARES}, {"target": "edema"}, "phantom: four grades of edema"
)
"""Data set of Table 4."""

SEGMENT = {
    "RSNA": Source(
        "rsna",
        "RSNAPneumoniaDataModule",
        {"split": "lovt", "with_masks": True},
        {"with_masks": True, "mask_of": ["Consolidation"]},
        "phantom: Consolidation",
    ),
    "SIIM": Source(
        "siim",
        "SIIMPneumothoraxDataModule",
        {"split": "paper", "with_masks": True},
        {"with_masks": True, "mask_of": ["Pleural Effusion"]},
        "phantom: Pleural Effusion",
    ),
    "COVID": Source(
        "covid-rural",
        "COVIDRuralDataModule",
        {"split": "paper", "with_masks": True},
        {"with_masks": True, "mask_of": ["Cardiomegaly"]},
        "phantom: Cardiomegaly",
    ),
}
"""Data sets of Table 5."""
