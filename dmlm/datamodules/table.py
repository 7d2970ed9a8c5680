"""`TableDataModule`: what the data modules of all published data sets share."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np

from dmlm.datamodules.base import ChestXrayDataModule, Task
from dmlm.datasets.splits import Split
from dmlm.datasets.table import StudyTable
from dmlm.datasets.table_dataset import ReportSource, TableDataset
from dmlm.datasets.table_splits import SplitPlan, assign_splits
from dmlm.datasets.transforms import AugmentConfig, Transform
from dmlm.errors import ConfigError, DatasetNotFoundError

if TYPE_CHECKING:
    from dmlm.datasets.store_pixels import StorePixels

_LOG = logging.getLogger(__name__)


class TableDataModule(ChestXrayDataModule):
    """A data set as downloaded, with a named split.

    A subclass implements :meth:`open_table`; it opens files there and not in ``__init__``.

    Args:
        root: Folder of the data set as downloaded and unpacked.
        image_size: Height and width of the images, in pixels.
        batch_size: Samples per batch and process.
        split: Name of the split: ``official`` where the data set has one, ``ratios`` (drawn by patient, seeded), or a
            published one of this data set.
        ratios: Shares of train, val and test where splits are drawn.
        split_seed: Seed of that draw.
        split_file: Where splits are drawn, JSON file that keeps the draw: used if it exists, written if not; None
            records it in the cache. For ``file`` and published lists: what to read.
        allow_leaks: Whether a published split that leaks between its parts may be used.
        store: Folder that ``dmlm data prepare`` wrote; images come from there instead of ``root``. Images that it lacks
            are refused, or left out with ``missing_images: drop``.
        reports: JSON Lines that ``dmlm reports build`` wrote; None makes structured reports from labels.
        with_masks: Whether batches hold ``masks``.
        num_workers: Worker processes per loader.
        seed: Seed of order and augmentation.
        augment: Whether training images are varied.
        augmentation: How far; None takes the defaults.
        albumentations: Pipeline of albumentations steps to use instead, as plain data.
        fraction: Share of the training patients to use, nested.
        fraction_seed: Which patients those are.
        min_epoch_steps: Least batches of an epoch; a small training split is gone through several times.
        bucket_texts: Whether the reports of a training batch have about equally many words, so that less is computed on
            padding. Worth it where whole reports are read (``views.statement_views: 0``); the text tower groups every
            batch by length in any case.
    """

    default_split: ClassVar[str] = "ratios"

    def __init__(
        self,
        root: str,
        image_size: int = 224,
        batch_size: int = 32,
        split: str | None = None,
        ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
        split_seed: int = 0,
        split_file: str | None = None,
        allow_leaks: bool = False,
        store: str | None = None,
        reports: str | None = None,
        with_masks: bool = False,
        num_workers: int | Literal["auto"] = "auto",
        seed: int = 0,
        augment: bool = True,
        augmentation: AugmentConfig | None = None,
        albumentations: list[dict[str, Any]] | None = None,
        fraction: float = 1.0,
        fraction_seed: int = 0,
        min_epoch_steps: int = 1,
        bucket_texts: bool = False,
    ) -> None:
        super().__init__(
            image_size,
            batch_size,
            num_workers,
            seed,
            augment,
            augmentation,
            albumentations,
            fraction,
            fraction_seed,
            min_epoch_steps,
            bucket_texts,
        )
        self.root = os.fspath(root)
        self.plan = SplitPlan(
            split or self.default_split, (ratios[0], ratios[1], ratios[2]), split_seed, split_file, allow_leaks
        )
        self.store = None if store is None else os.fspath(store)
        self.reports = None if reports is None else os.fspath(reports)
        self.with_masks = with_masks
        self.options: dict[str, Any] = {}  # of this data set's own open_table; subclasses fill it
        self._table: StudyTable | None = None
        self._places: np.ndarray[Any, np.dtype[np.str_]] | None = None
        self._report_index: ReportSource | None = None

    @abstractmethod
    def open_table(self) -> StudyTable:
        """Open the data set at ``self.root``."""

    @property
    def table(self) -> StudyTable:
        """All rows of the data set; opened on first use.

        Raises:
            DatasetNotFoundError: If the folder is not the data set.
            DatasetFormatError: If its files do not hold what they should.
        """
        if self._table is None:
            self._table = self.open_table()
        return self._table

    @property
    def task(self) -> Task:
        """Kind of label."""
        return cast("Task", self.table.task)

    def prepare_data(self) -> None:
        """Read the tables and put the split on record, on one process per machine before the others."""
        self._assigned()

    def make_dataset(self, split: Split, transform: Transform | None) -> TableDataset:
        """Return a split, with the training transform or (None) without augmentation."""
        rows = np.flatnonzero(self._assigned() == split)
        if not len(rows):
            msg = f"{self.root}: the split '{self.plan.name}' puts no image into '{split}'; choose another data.split"
            raise ConfigError(msg)
        pixels = self._pixels()
        return TableDataset(
            self.table.take(rows if pixels is None else self._in_store(pixels, rows)),
            self.image_size,
            transform,
            self.seed,
            pixels=pixels,
            reports=self._reports(),
            with_masks=self.with_masks,
        )

    def _assigned(self) -> np.ndarray[Any, np.dtype[np.str_]]:
        if self._places is None:
            self._places = assign_splits(self.table, self.plan)
        return self._places

    def stored(self) -> list[str] | None:
        """Return the names of the images in the store, None without one; for tables made by looking for files."""
        if self.store is None:
            return None
        from dmlm.io.store import ImageStore

        return list(ImageStore(self.store).names())

    def _pixels(self) -> StorePixels | None:
        if self.store is None:
            return None
        from dmlm.datasets.store_pixels import StorePixels

        return StorePixels(self.store, self.table.name, self.image_size)

    def _in_store(self, pixels: StorePixels, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Any:  # noqa: ANN401
        """Return the rows whose images the store has; that it lacks some must not come out in the midst of an epoch."""
        absent = set(pixels.missing(self.table.images[row] for row in rows.tolist()))
        if not absent:
            return rows
        what = f"{self.store}: has no pixels of {len(absent):,} of {len(rows):,} images (first: '{min(absent)}')"
        kept = np.array([row for row in rows.tolist() if self.table.images[row] not in absent], dtype=np.int64)
        if self.options.get("missing_images") != "drop" or not len(kept):
            msg = f"{what}; run dmlm data prepare again, or set data.missing_images to drop"
            raise DatasetNotFoundError(msg)
        _LOG.warning("%s; they are left out", what)
        return kept

    def _reports(self) -> ReportSource | None:
        if self.reports is not None and self._report_index is None:
            from dmlm.datamodules.report_files import open_reports

            self._report_index = open_reports(self.reports, map(str, self.table.study_ids), str(self.root))
        return self._report_index

    def __getstate__(self) -> dict[str, Any]:
        """Leave the table out of copies that are sent to other processes: it is opened anew there."""
        return {**self.__dict__, "_table": None, "_report_index": None}
