"""`OpenIDataModule`: the Indiana University chest X-rays with their reports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from dmlm.datamodules.table import TableDataModule
from dmlm.datasets.catalog import open_table
from dmlm.datasets.image_presence import MissingImages
from dmlm.datasets.table import StudyTable


class OpenIDataModule(TableDataModule):
    """Open-i: reports as XML with their images; labels come from the indexing by hand.

    Args:
        root: Folder of the download: reports (folder or archive) and images.
        image_size: Height and width of the images, in pixels.
        batch_size: Samples per batch and process.
        views: ``all``, or ``frontal`` (needs ``indiana_projections.csv``).
        missing_images: ``raise``, ``drop`` or ``keep``: images that a report names but that are not there;
            not looked for where a ``store`` is named.
        images_root: Folder of the images, where they are elsewhere.
        **kwargs: As of :class:`dmlm.datamodules.TableDataModule`: splits, store, structured reports, loaders,
            augmentation. The split is drawn by report (``ratios``): the source does not tell patients apart.
    """

    def __init__(
        self,
        root: str,
        image_size: int = 224,
        batch_size: int = 32,
        views: Literal["frontal", "all"] = "all",
        missing_images: MissingImages = "raise",
        images_root: str | None = None,
        **kwargs: Any,  # noqa: ANN401 - of the base class
    ) -> None:
        super().__init__(root=root, image_size=image_size, batch_size=batch_size, **kwargs)
        self.options: dict[str, Any] = {
            "views": views,
            "missing_images": missing_images,
            "images_root": None if images_root is None else os.fspath(images_root),
        }

    def open_table(self) -> StudyTable:
        """Open the data set; see :func:`dmlm.datasets.open_i.open_table`."""
        options = dict(self.options)
        if self.store is not None:
            options["missing_images"] = "keep"  # what counts is whether the store has them: make_dataset looks
        return open_table("openi", Path(self.root), **options)
