"""`RSNAPneumoniaDataModule`: RSNA Pneumonia, a binary label or three classes, boxes as masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from dmlm.datamodules.table import TableDataModule
from dmlm.datasets.catalog import open_table
from dmlm.datasets.image_index import MissingImages
from dmlm.datasets.table import StudyTable


class RSNAPneumoniaDataModule(TableDataModule):
    """RSNA Pneumonia Detection Challenge, DICOM as downloaded or converted images of the same names.

    ``with_masks`` gives the filled boxes. An id is an image: the true patients (of NIH ChestX-ray14) are hidden.

    Args:
        root: Folder with ``stage_2_train_labels.csv``.
        image_size: Height and width of the images, in pixels.
        batch_size: Samples per batch and process.
        labels: ``target`` (one label, Pneumonia) or ``class`` (Normal, No Lung Opacity / Not Normal, Lung Opacity).
        missing_images: ``raise`` refuses a folder that lacks listed images, ``drop`` leaves them out.
        **kwargs: As of :class:`dmlm.datamodules.TableDataModule`: splits, store, masks, loaders, augmentation.
            Splits: ``ratios``, ``paper``, ``mgca``, ``mgca_segment``, ``benchx``, and with lists ``lovt``, ``mrm``.
    """

    def __init__(
        self,
        root: str,
        image_size: int = 224,
        batch_size: int = 32,
        labels: Literal["target", "class"] = "target",
        missing_images: MissingImages = "raise",
        **kwargs: Any,  # noqa: ANN401 - of the base class
    ) -> None:
        super().__init__(root=root, image_size=image_size, batch_size=batch_size, **kwargs)
        self.options: dict[str, Any] = {"labels": labels, "missing_images": missing_images}

    def open_table(self) -> StudyTable:
        """Open the data set; see :func:`dmlm.datasets.rsna.open_table`."""
        return open_table("rsna", Path(self.root), **self.options, stored=self.stored())
