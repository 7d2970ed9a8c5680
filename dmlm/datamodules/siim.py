"""`SIIMPneumothoraxDataModule`: SIIM-ACR Pneumothorax in any of its five layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dmlm.datamodules.table import TableDataModule
from dmlm.datasets.catalog import open_table
from dmlm.datasets.image_index import MissingImages
from dmlm.datasets.table import StudyTable


class SIIMPneumothoraxDataModule(TableDataModule):
    """SIIM-ACR Pneumothorax with one label and its mask, in any of the five layouts in circulation.

    An id is an image: the data set hides its patients.

    Args:
        root: Folder of the data set, or the one above it.
        image_size: Height and width of the images, in pixels.
        batch_size: Samples per batch and process.
        missing_images: ``raise`` refuses a folder that lacks listed images, ``drop`` leaves them out.
        **kwargs: As of :class:`dmlm.datamodules.TableDataModule`: splits, store, masks, loaders, augmentation.
            Splits: ``ratios``, ``paper``, ``official`` and ``benchx`` (test set of stage 1, where the layout tells
            it), with lists ``lovt``; ``gloria``, ``mgca``, ``ecamp`` and ``mrm`` leak and need ``allow_leaks``.
    """

    def __init__(
        self,
        root: str,
        image_size: int = 224,
        batch_size: int = 32,
        missing_images: MissingImages = "raise",
        **kwargs: Any,  # noqa: ANN401 - of the base class
    ) -> None:
        super().__init__(root=root, image_size=image_size, batch_size=batch_size, **kwargs)
        self.options: dict[str, Any] = {"missing_images": missing_images}

    def open_table(self) -> StudyTable:
        """Open the data set; see :func:`dmlm.datasets.siim.open_table`."""
        return open_table("siim", Path(self.root), **self.options)
