"""`TableDataset`: rows of a :class:`StudyTable` as samples."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.base import ChestXrayDataset, RawSample
from dmlm.datasets.mask_files import scale_masks
from dmlm.datasets.table import PixelSource, StudyTable
from dmlm.datasets.transforms import Transform
from dmlm.errors import ConfigError, DatasetFormatError
from dmlm.io.images import read_grey
from dmlm.reports.builder import from_labels
from dmlm.reports.located import with_boxes
from dmlm.reports.schema import StructuredReport


class ReportSource(Protocol):
    """Structured reports by study, such as :class:`dmlm.reports.records.ReportIndex`; pickled to workers."""

    def get(self, study_id: str) -> StructuredReport | None:
        """Return the report of a study, None where there is none."""


class FolderPixels:
    """Images read from the files as they were downloaded.

    Args:
        root: Folder that the paths are relative to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, image: str, min_size: int) -> NDArray[np.uint8]:
        """Decode one image; see :class:`dmlm.datasets.table.PixelSource`."""
        return read_grey(self.root / image, min_size=min_size)


class TableDataset(ChestXrayDataset):
    """Rows of a data set's table.

    The structured report of a study is the one that ``reports`` holds; without it (or where that one is empty and the
    study has no text), one made from the row's known labels and boxes (which say side and zone); a study with neither
    has an empty one (``source="text"``) and its text stands for itself.

    Args:
        table: The rows, all of them samples.
        image_size: Height and width of the images that come out, in pixels.
        transform: Turns stored pixels into the model's; None resizes without augmentation.
        seed: First part of the seed of every random draw.
        pixels: Where images come from; None reads the files below the table's root.
        reports: Structured reports made beforehand (``dmlm reports build``).
        with_masks: Whether samples hold ``masks`` uint8 ``[M, S, S]``.

    Raises:
        ConfigError: If masks are asked for and the data set has none.
        DatasetFormatError: If the table has no rows.
    """

    def __init__(
        self,
        table: StudyTable,
        image_size: int,
        transform: Transform | None = None,
        seed: int = 0,
        pixels: PixelSource | None = None,
        reports: ReportSource | None = None,
        with_masks: bool = False,
    ) -> None:
        super().__init__(image_size, transform, seed)
        if not len(table):
            msg = f"{table.root}: no row of '{table.name}' is in this split; choose another split scheme"
            raise DatasetFormatError(msg)
        if with_masks and table.masks is None:
            msg = f"'{table.name}' has no masks or boxes; leave with_masks out"
            raise ConfigError(msg)
        self.table = table
        self.label_names = table.label_names
        self.pixels: PixelSource = FolderPixels(table.root) if pixels is None else pixels
        self.reports = reports
        self.with_masks = with_masks

    def __len__(self) -> int:
        return len(self.table)

    @property
    def labels(self) -> NDArray[np.float32]:
        """Labels of all samples, float32 ``[N, C]``: 1 present, 0 absent, -1 uncertain, nan unknown."""
        return self.table.labels

    @property
    def mask_names(self) -> tuple[str, ...]:
        """Names of the masks of a sample; empty where none were asked for."""
        return self.table.mask_names if self.with_masks else ()

    @property
    def patient_ids(self) -> list[str]:
        """Patient of each sample."""
        return [str(name) for name in self.table.patient_ids]

    def text_lengths(self) -> NDArray[np.int64]:
        """Words of each sample's free-text report, int64 ``[N]``; reads all reports once.

        Raises:
            ConfigError: If the data set has no texts.
        """
        text = self.table.text
        if text is None:
            return super().text_lengths()
        return np.array([len(text(index).split()) for index in range(len(self))], dtype=np.int64)

    def read(self, index: int) -> RawSample:
        """Read the study at ``index`` as it is stored.

        Raises:
            ImageReadError: If the image cannot be read.
            DatasetFormatError: If its mask has another shape.
        """
        table = self.table
        # twice the wanted size, so that a crop of a scaled JPEG still has a pixel for every pixel
        image = self.pixels.read(table.images[index], 2 * self.image_size)
        return RawSample(
            image=image,
            report=self._report(index),
            text="" if table.text is None else table.text(index),
            labels=table.labels[index],
            study_id=str(table.study_ids[index]),
            patient_id=str(table.patient_ids[index]),
            masks=self._masks(index, image.shape) if self.with_masks else None,
            view=str(table.extra["view"][index]) if "view" in table.extra else "",
        )

    def _report(self, index: int) -> StructuredReport:
        study = str(self.table.study_ids[index])
        found = None if self.reports is None else self.reports.get(study)
        text = self.table.text
        # an empty report of a study without text says less than its labels
        if found is not None and (found.observations or (text is not None and text(index).strip())):
            return found
        labels = self.table.labels[index]
        if np.isnan(labels).all():
            return StructuredReport(study, (), source="text")
        report = from_labels(study, dict(zip(self.table.label_names, labels.tolist(), strict=True)))
        return with_boxes(report, self.table.extra["boxes"][index]) if "boxes" in self.table.extra else report

    def _masks(self, index: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return the masks on the grid of the image: a store or a scaled JPEG has fewer pixels than the mask."""
        if self.table.masks is None:  # checked in the constructor
            return np.zeros((0, *shape), np.uint8)
        return scale_masks(self.table.masks(index), shape, str(self.table.path(index)))
