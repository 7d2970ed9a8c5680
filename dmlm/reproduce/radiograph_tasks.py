"""The columns of the table of public radiographs: which data, which task, which measure, and the phantoms instead."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dmlm.reproduce.scale import Scale
from dmlm.reproduce.sources import Source

SIZE = 96
"""Height and width of all images of this table, in pixels."""


@dataclass(frozen=True)
class CsvSource(Source):
    """A CSV file of ROOT for :class:`dmlm.datamodules.ManifestDataModule`; ``folder`` is its name."""

    def data(self, scale: Scale, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - of the data module
        """Configuration of the data module; see :meth:`Source.data`."""
        if scale.budget == "smoke" or scale.root is None:
            return super().data(scale, **options)
        # in the process itself: films of this size are read and warped in a hundredth of a step
        shared = {"image_size": SIZE, "allow_outside_root": True, "num_workers": 0}
        path = str((scale.root / self.folder).resolve())
        return {"class_path": self.module, "init_args": {"path": path, **shared, **self.options, **options}}

    def missing(self, scale: Scale) -> str:
        """Why the data cannot be read here, or ``""``."""
        if scale.budget == "smoke" or scale.root is None or (scale.root / self.folder).is_file():
            return ""
        return f"no data: {scale.root / self.folder} is not there; examples/python/prepare_radiographs.py writes it"


@dataclass(frozen=True)
class Task:
    """One column of the table.

    Args:
        key: Short name, for names of runs.
        column: Name of the column.
        source: Data.
        module: Class of the task.
        options: Its options.
        metric: What is shown: a key of ``metrics.json``.
        further: Columns of the second table and their metrics.
        fraction: Share of the training patients.
        smoke: Options and share at ``smoke``, where they differ.
    """

    key: str
    column: str
    source: CsvSource
    module: str
    options: dict[str, Any]
    metric: str
    further: dict[str, str]
    fraction: float = 1.0
    smoke: dict[str, Any] = field(default_factory=dict)

    @property
    def segments(self) -> bool:
        """Whether this is a segmentation."""
        return self.module == "SegmentationModule"


def _csv(name: str, options: dict[str, Any], phantom: dict[str, Any], stand_in: str) -> CsvSource:
    cached = {} if "mask_columns" in options else {"cache_images": True}
    return CsvSource(f"{name}.csv", "ManifestDataModule", {**cached, **options}, phantom, stand_in)


_EDEMA = ({"target": "edema"}, "phantom: four grades of edema")
_NIH = (
    "Atelectasis Cardiomegaly Effusion Infiltration Mass Nodule Pneumonia Pneumothorax Consolidation Edema Emphysema "
    "Fibrosis Pleural_Thickening Hernia"
)
_REPORTED = ("Lung Opacity", "COVID-19", "Infiltration", "Atelectasis", "Edema", "Pleural Effusion", "Consolidation")

UNSEEN = _csv(
    "unseen",
    {"label_columns": ["Pneumonia"], "task": "binary", "unseen_column": "unseen"},
    {"target": "findings"},
    "phantom: all findings",
)
"""Normal films and bacterial pneumonia of Kermany; viral pneumonia is in the test split alone, marked as unseen."""

PRETRAIN = _csv("pretrain", {"label_columns": list(_REPORTED)}, {}, "phantoms with reports")
"""Images with reports for pre-training; none of Kermany's."""

_KERMANY = _csv(
    "kermany",
    {
        "label_column": "class",
        "label_names": ["Normal", "Bacterial pneumonia", "Viral pneumonia"],
        "task": "multiclass",
    },
    *_EDEMA,
)


def _kermany(percent: int, smoke: float) -> Task:
    return Task(
        f"kermany{percent}",
        f"Kermany {percent} % AUC",
        _KERMANY,
        "ClassificationModule",
        {"num_classes": 3, "task": "multiclass"},
        "classify/auc_macro",
        {f"Kermany {percent} % accuracy": "classify/accuracy"},
        percent / 100,
        {"num_classes": 4, "fraction": smoke},
    )


def _severity(key: str) -> Task:
    grades = {"label_column": "grade", "label_names": [f"grade {number}" for number in range(4)], "task": "multiclass"}
    name = key.capitalize()
    return Task(
        key,
        f"{name} kappa",
        _csv(key, grades, *_EDEMA),
        "EdemaGradingModule",
        {"num_classes": 4},
        "grade/kappa",
        {f"{name} AUC": "grade/auc_macro", f"{name} MAE": "grade/mae"},
    )


def _mask(key: str, name: str, stand_in: str) -> Task:
    columns = {"text_column": None, "mask_columns": ["mask"], "mask_names": [name]}
    return Task(
        key,
        f"{name} Dice",
        _csv(key, columns, {"with_masks": True, "mask_of": [stand_in]}, f"phantom: {stand_in}"),
        "SegmentationModule",
        {"num_masks": 1, "decoder": "unet", "width": 32},
        "segment/dice_positive",
        {f"{name} IoU": "segment/iou_positive", f"{name} Dice of all": "segment/dice_all"},
    )


TASKS = (
    _kermany(1, 0.05),
    _kermany(10, 0.2),
    _kermany(100, 1.0),
    Task(
        "nih",
        "NIH AUC",
        _csv(
            "nih",
            {"label_column": "labels", "label_names": _NIH.split()},
            {"target": "findings"},
            "phantom: all findings",
        ),
        "ClassificationModule",
        {"num_classes": 14, "task": "multilabel"},
        "classify/auc_macro",
        {f"NIH {name} AUC": f"classify/auc/{name}" for name in ("Pneumonia", "Atelectasis", "Effusion")},
        smoke={"num_classes": 9},
    ),
    Task(
        "rsna",
        "RSNA AUC",
        _csv(
            "rsna",
            {"label_columns": ["Lung Opacity"], "task": "binary"},
            {"target": "Consolidation"},
            "phantom: Consolidation",
        ),
        "ClassificationModule",
        {"num_classes": 1, "task": "binary"},
        "classify/auc_macro",
        {"RSNA AUPRC": "classify/auprc_macro"},
    ),
    _severity("geographic"),
    _severity("opacity"),
    _mask("lung", "Lung", "Cardiomegaly"),
    _mask("ground_glass", "Ground glass", "Consolidation"),
)
"""Columns of the table."""
