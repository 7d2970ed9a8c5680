"""`COVIDxDataModule`: COVIDx CXR, versions 4 to 9 and CXR-4."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from dmlm.datamodules.table import TableDataModule
from dmlm.datasets.catalog import open_table
from dmlm.datasets.image_index import MissingImages
from dmlm.datasets.table import StudyTable


class COVIDxDataModule(TableDataModule):
    """COVIDx CXR: one label (COVID-19) or three classes (Normal, Pneumonia, COVID-19), as the lists have them.

    Args:
        root: Folder with ``train.txt``, ``train``, ...
        image_size: Height and width of the images, in pixels.
        batch_size: Samples per batch and process.
        version: Which lists to take where several versions lie side by side, such as ``9B``.
        missing_images: ``raise`` refuses a folder that lacks listed images, ``drop`` leaves them out.
        **kwargs: As of :class:`dmlm.datamodules.TableDataModule`: splits, store, masks, loaders, augmentation.
            The split is ``official`` unless another is named: ``ratios``, ``paper``.
    """

    default_split: ClassVar[str] = "official"

    def __init__(
        self,
        root: str,
        image_size: int = 224,
        batch_size: int = 32,
        version: str | None = None,
        missing_images: MissingImages = "raise",
        **kwargs: Any,  # noqa: ANN401 - of the base class
    ) -> None:
        super().__init__(root=root, image_size=image_size, batch_size=batch_size, **kwargs)
        self.options: dict[str, Any] = {"version": version, "missing_images": missing_images}

    def open_table(self) -> StudyTable:
        """Open the data set; see :func:`dmlm.datasets.covidx.open_table`."""
        return open_table("covidx", Path(self.root), **self.options)
