"""`NIHChestXray14DataModule`: NIH ChestX-ray14, 14 labels, official split."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from dmlm.datamodules.table import TableDataModule
from dmlm.datasets.catalog import open_table
from dmlm.datasets.image_index import MissingImages
from dmlm.datasets.table import StudyTable


class NIHChestXray14DataModule(TableDataModule):
    """NIH ChestX-ray14 with its 14 labels in the authors' order; "No Finding" is all of them 0.

    Args:
        root: Folder with ``Data_Entry_2017*.csv``, or the one above it.
        image_size: Height and width of the images, in pixels.
        batch_size: Samples per batch and process.
        rows: ``boxes`` keeps the 880 images with boxes, which then also are masks of eight findings.
        missing_images: ``raise`` refuses a folder that lacks listed images, ``drop`` leaves them out.
        **kwargs: As of :class:`dmlm.datamodules.TableDataModule`: splits, store, masks, loaders, augmentation.
            The split is ``official`` unless another is named: ``ratios``, ``paper``, with lists ``chexnet``
            (= ``mrm`` = ``benchx``); ``lovt`` leaks and needs ``allow_leaks``.
    """

    default_split: ClassVar[str] = "official"

    def __init__(
        self,
        root: str,
        image_size: int = 224,
        batch_size: int = 32,
        rows: Literal["all", "boxes"] = "all",
        missing_images: MissingImages = "raise",
        **kwargs: Any,  # noqa: ANN401 - of the base class
    ) -> None:
        super().__init__(root=root, image_size=image_size, batch_size=batch_size, **kwargs)
        self.options: dict[str, Any] = {"rows": rows, "missing_images": missing_images}

    def open_table(self) -> StudyTable:
        """Open the data set; see :func:`dmlm.datasets.nih.open_table`."""
        return open_table("nih", Path(self.root), **self.options, stored=self.stored())
