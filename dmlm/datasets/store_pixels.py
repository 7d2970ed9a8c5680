"""A prepared store in the place of the image files of a data set."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dmlm.errors import ConfigError
from dmlm.io.store import ImageStore


class StorePixels:
    """Images read from what ``dmlm data prepare`` wrote; a :class:`dmlm.datasets.table.PixelSource`.

    Args:
        folder: The store.
        dataset: Short name of the data set that is wanted from it.
        image_size: Side that images are wanted at, in pixels.

    Raises:
        ConfigError: If the store was made from another data set, or its images would have to be enlarged.
        DatasetNotFoundError, DatasetFormatError: If it is not there, not finished, or damaged.
    """

    def __init__(self, folder: str | os.PathLike[str], dataset: str, image_size: int = 1) -> None:
        self.store = ImageStore(folder)
        found = str(self.store.header.get("provenance", {}).get("dataset"))
        if found != dataset:
            msg = (
                f"{self.store.folder} was prepared from '{found}', the data set is '{dataset}'; name the store of that"
            )
            raise ConfigError(msg)
        if self.store.size < image_size:
            msg = (
                f"{self.store.folder} holds images of {self.store.size} pixels, data.image_size is {image_size}; "
                f"prepare another store with --size {image_size} or more"
            )
            raise ConfigError(msg)

    def missing(self, images: Iterable[str]) -> list[str]:
        """Return which of these images the store cannot give."""
        return self.store.missing(images)

    def read(self, image: str, min_size: int) -> NDArray[np.uint8]:  # noqa: ARG002 - a store has one size
        """Return uint8 ``[H, W]`` as stored, whatever ``min_size`` is.

        Raises:
            ImageReadError: If the store does not have the image.
        """
        return self.store.read(image)
