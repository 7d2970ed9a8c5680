"""`CheXpertDataModule`: CheXpert, small or full."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Literal

from dmlm.datamodules.table import TableDataModule
from dmlm.datasets.catalog import open_table
from dmlm.datasets.chexpert import Labeler
from dmlm.datasets.image_presence import MissingImages
from dmlm.datasets.table import StudyTable


class CheXpertDataModule(TableDataModule):
    """CheXpert in any of its layouts: 14 labels in the order of the release, or the five of the competition.

    Labels are 1 present, 0 absent, -1 uncertain, nan not mentioned; what becomes of the last two is the task's choice.

    Args:
        root: Folder of the release (small, full, or the AIMI download with its batches), or the one above.
        image_size: Height and width of the images, in pixels.
        batch_size: Samples per batch and process.
        labels: ``all`` 14, or the five of the ``competition``.
        labeler: Whose training labels: ``chexpert``, ``chexbert`` or ``visualchexbert``.
        views: ``frontal`` or ``all``.
        missing_images: ``raise``, ``drop`` or ``keep``: images that are listed but not there;
            not looked for where a ``store`` is named.
        test_labels: ``groundtruth.csv``; None looks for it below ``root``.
        held_out: List of CheXpert5x200; None looks for ``chexpert_5x200.csv`` below ``root``.
        **kwargs: As of :class:`dmlm.datamodules.TableDataModule`: splits, store, structured reports, loaders,
            augmentation. The split is ``official`` (train, valid, test) unless ``chexpert_valid``, ``chexpert5x200``,
            ``paper``, ``ratios`` or ``file`` is named.
    """

    default_split: ClassVar[str] = "official"

    def __init__(
        self,
        root: str,
        image_size: int = 224,
        batch_size: int = 32,
        labels: Literal["all", "competition"] = "all",
        labeler: Labeler = "chexpert",
        views: Literal["frontal", "all"] = "frontal",
        missing_images: MissingImages = "raise",
        test_labels: str | None = None,
        held_out: str | None = None,
        **kwargs: Any,  # noqa: ANN401 - of the base class
    ) -> None:
        super().__init__(root=root, image_size=image_size, batch_size=batch_size, **kwargs)
        self.options: dict[str, Any] = {
            "labels": labels,
            "labeler": labeler,
            "views": views,
            "missing_images": missing_images,
            "test_labels": None if test_labels is None else os.fspath(test_labels),
            "held_out": None if held_out is None else os.fspath(held_out),
        }

    def open_table(self) -> StudyTable:
        """Open the data set; see :func:`dmlm.datasets.chexpert.open_table`."""
        options = dict(self.options)
        if self.store is not None:
            options["missing_images"] = "keep"  # what counts is whether the store has them: make_dataset looks
        return open_table("chexpert", Path(self.root), **options)
