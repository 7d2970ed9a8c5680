"""`EdemaSeverityDataModule`: grades of pulmonary edema with the images of MIMIC-CXR."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from dmlm.datamodules.table import TableDataModule
from dmlm.datasets.catalog import open_table
from dmlm.datasets.edema_grades import Source
from dmlm.datasets.image_presence import MissingImages
from dmlm.datasets.mimic_cxr_reports import TextPolicy
from dmlm.datasets.table import StudyTable


class EdemaSeverityDataModule(TableDataModule):
    """Edema severity, four grades: none, vascular congestion, interstitial edema, alveolar edema.

    The studies are drawn from MIMIC-CXR itself: an encoder that was pre-trained on all of MIMIC-CXR has seen them.

    Args:
        root: Folder of the tables.
        image_size: Height and width of the images, in pixels.
        batch_size: Samples per batch and process.
        source: Whose grades: ``regex``, ``expert``, ``consensus``, ``best`` of these, or ``joint_chestxray``.
        mimic: Folder of MIMIC-CXR; None looks in ``mimic`` below ``root``, then in ``root``.
        tables: Folder of MIMIC-CXR's tables, where they are not beside its images.
        reports_root: Reports of MIMIC-CXR, where they are not below its folder.
        text: ``report`` as written, its ``conclusion``, or ``impression_findings``.
        views: ``frontal`` (PA and AP) or ``all``.
        missing_images: ``raise``, ``drop`` or ``keep``: images that are listed but not there;
            not looked for where a ``store`` is named.
        **kwargs: As of :class:`dmlm.datamodules.TableDataModule`: splits, store, structured reports, loaders,
            augmentation. The split is ``ratios`` (by patient) unless ``paper`` (60/20/20 by patient),
            ``joint_chestxray`` (validates on fold 1), ``joint_chestxray_fold1`` to ``_fold5``, ``expert_test`` or
            ``file`` is named.
    """

    def __init__(
        self,
        root: str,
        image_size: int = 224,
        batch_size: int = 32,
        source: Source = "regex",
        mimic: str | None = None,
        tables: str | None = None,
        reports_root: str | None = None,
        text: TextPolicy = "report",
        views: Literal["frontal", "all"] = "frontal",
        missing_images: MissingImages = "raise",
        **kwargs: Any,  # noqa: ANN401 - of the base class
    ) -> None:
        super().__init__(root=root, image_size=image_size, batch_size=batch_size, **kwargs)
        self.options: dict[str, Any] = {
            "source": source,
            "mimic": None if mimic is None else os.fspath(mimic),
            "tables": None if tables is None else os.fspath(tables),
            "reports_root": None if reports_root is None else os.fspath(reports_root),
            "text": text,
            "views": views,
            "missing_images": missing_images,
        }

    def open_table(self) -> StudyTable:
        """Open the data set; see :func:`dmlm.datasets.edema_severity.open_table`."""
        options = dict(self.options)
        if self.store is not None:
            options["missing_images"] = "keep"  # what counts is whether the store has them: make_dataset looks
        return open_table("edema", Path(self.root), **options)
