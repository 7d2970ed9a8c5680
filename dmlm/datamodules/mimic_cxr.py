"""`MIMICCXRDataModule`: MIMIC-CXR v2, images paired with their reports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Literal

from dmlm.datamodules.table import TableDataModule
from dmlm.datasets.catalog import open_table
from dmlm.datasets.image_presence import MissingImages
from dmlm.datasets.mimic_cxr import EmptyReports
from dmlm.datasets.mimic_cxr_reports import TextPolicy
from dmlm.datasets.mimic_cxr_tables import LabelSource
from dmlm.datasets.table import StudyTable


class MIMICCXRDataModule(TableDataModule):
    """MIMIC-CXR v2, JPG or DICOM tree, reports beside the images or elsewhere; each image is paired with its report.

    The labels are the 14 of the release in its (alphabetical) order: 1 present, 0 absent, -1 uncertain, nan not
    mentioned. What becomes of uncertain and unmentioned labels is the task's choice.

    Args:
        root: Folder that holds ``files/p10/...``, or one above it.
        image_size: Height and width of the images, in pixels.
        batch_size: Samples per batch and process.
        reports_root: Where the reports are, unpacked or as ``mimic-cxr-reports.zip``; None looks below ``root``.
        tables: Folder of the ``.csv`` or ``.csv.gz`` tables, where they are not beside ``files``.
        labels: ``chexpert``, ``negbio``, ``radiologist`` (test studies of 2.1.0) or ``none``.
        views: ``frontal`` (PA and AP) or ``all``.
        text: ``report`` as written, its ``conclusion``, or ``impression_findings``.
        empty_reports: ``keep``, ``drop`` or ``raise``: studies without text.
        missing_images: ``raise``, ``drop`` or ``keep``: images that are listed but not there;
            not looked for where a ``store`` is named.
        special_cases: CSV of the studies whose conclusion is chosen by hand; None takes the 54 of the release.
        **kwargs: As of :class:`dmlm.datamodules.TableDataModule`: splits, store, structured reports, loaders,
            augmentation. The split is ``official`` unless another is named.
    """

    default_split: ClassVar[str] = "official"

    def __init__(
        self,
        root: str,
        image_size: int = 224,
        batch_size: int = 32,
        reports_root: str | None = None,
        tables: str | None = None,
        labels: LabelSource = "chexpert",
        views: Literal["frontal", "all"] = "frontal",
        text: TextPolicy = "report",
        empty_reports: EmptyReports = "keep",
        missing_images: MissingImages = "raise",
        special_cases: str | None = None,
        **kwargs: Any,  # noqa: ANN401 - of the base class
    ) -> None:
        super().__init__(root=root, image_size=image_size, batch_size=batch_size, **kwargs)
        self.options: dict[str, Any] = {
            "reports_root": None if reports_root is None else os.fspath(reports_root),
            "tables": None if tables is None else os.fspath(tables),
            "labels": labels,
            "views": views,
            "text": text,
            "empty_reports": empty_reports,
            "missing_images": missing_images,
            "special_cases": None if special_cases is None else os.fspath(special_cases),
        }

    def open_table(self) -> StudyTable:
        """Open the data set; see :func:`dmlm.datasets.mimic_cxr.open_table`."""
        options = dict(self.options)
        if self.store is not None:
            options["missing_images"] = "keep"  # what counts is whether the store has them: make_dataset looks
        return open_table("mimic", Path(self.root), **options)
