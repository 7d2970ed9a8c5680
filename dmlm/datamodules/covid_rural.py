"""`COVIDRuralDataModule`: COVID-Rural, masks of opacities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dmlm.datamodules.table import TableDataModule
from dmlm.datasets.catalog import open_table
from dmlm.datasets.image_index import MissingImages
from dmlm.datasets.table import StudyTable


class COVIDRuralDataModule(TableDataModule):
    """COVID-Rural: 221 radiographs of COVID-19 whose opacities are outlined; set ``with_masks``.

    Args:
        root: The repository's folder, ``covid_rural_annot``, or one above.
        image_size: Height and width of the images, in pixels.
        batch_size: Samples per batch and process.
        missing_images: ``raise`` refuses a folder that lacks listed images, ``drop`` leaves them out.
        **kwargs: As of :class:`dmlm.datamodules.TableDataModule`: splits, store, masks, loaders, augmentation.
            Splits by patient: ``ratios``, ``paper``, with lists ``lovt``.
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
        """Open the data set; see :func:`dmlm.datasets.covid_rural.open_table`."""
        return open_table("covid_rural", Path(self.root), **self.options)
