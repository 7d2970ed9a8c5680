"""Any CSV of chest X-rays: images with reports, labels or masks, or with several of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.base import ChestXrayDataset, RawSample
from dmlm.datasets.image_files import ImageCache
from dmlm.datasets.manifest_table import Manifest, ManifestRow
from dmlm.datasets.mask_files import read_mask, scale_masks
from dmlm.datasets.splits import SPLITS, Split
from dmlm.datasets.table import PixelSource
from dmlm.datasets.table_dataset import ReportSource
from dmlm.datasets.transforms import Transform
from dmlm.errors import ConfigError, DatasetFormatError, ImageReadError
from dmlm.io.images import read_grey
from dmlm.reports.builder import from_labels
from dmlm.reports.schema import StructuredReport
from dmlm.reports.sources import study_of


class ManifestDataset(ChestXrayDataset):
    """One split of a checked CSV.

    The structured report of a study is the one that ``reports`` holds; without it (or where that one is empty and the
    row has no text), one made from its labels; a study without a known label has an empty one (``source="text"``) and
    its text stands for itself.

    Args:
        manifest: What :func:`dmlm.datasets.read_manifest` returned.
        split: ``"train"``, ``"val"`` or ``"test"``.
        image_size: Height and width of the images that come out, in pixels.
        transform: Turns stored pixels into the model's; None resizes without augmentation.
        seed: First part of the seed of every random draw.
        cache_size: Keep a small copy of every image, its centre square at this many pixels, in the cache folder and
            read that instead of the file; None reads and decodes the file each time.
        pixels: Store to read images from, by what the CSV's column says; None reads the files.
        reports: Structured reports made beforehand (``dmlm reports build`` on the CSV), by study.

    Raises:
        ConfigError: If ``split`` is not a split, ``cache_size`` is smaller than ``image_size``, or it is given with
            masks (copies are cut to their centre, masks are not) or a store.
        DatasetFormatError: If the split has no rows, or ``reports`` knows none of its studies.
        ImageReadError: If an image cannot be read while copies are made.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: Split,
        image_size: int,
        transform: Transform | None = None,
        seed: int = 0,
        cache_size: int | None = None,
        pixels: PixelSource | None = None,
        reports: ReportSource | None = None,
    ) -> None:
        super().__init__(image_size, transform, seed)
        if split not in SPLITS:
            msg = f"split must be one of {', '.join(SPLITS)}, got '{split}'"
            raise ConfigError(msg)
        if cache_size is not None and cache_size < image_size:
            msg = f"cache_size {cache_size} is smaller than image_size {image_size}; cached copies would be enlarged"
            raise ConfigError(msg)
        if cache_size is not None and manifest.mask_names:
            msg = "cache_images keeps squares of the images and none of their masks; set data.cache_images false"
            raise ConfigError(msg)
        if cache_size is not None and pixels is not None:
            msg = "cache_images and store both keep small copies; set data.cache_images false"
            raise ConfigError(msg)
        self.label_names = manifest.label_names
        self._mask_names = manifest.mask_names
        self.source = str(manifest.path)
        self._rows = manifest.split(split)
        self.unseen = np.array([row.unseen for row in self._rows]) if manifest.marks_unseen else None
        """Which samples show what training never does, bool ``[N]``; None where the CSV does not say."""
        if not self._rows:
            msg = f"{manifest.path}: no row belongs to the split '{split}'; check the split column, or 'ratios'"
            raise DatasetFormatError(msg)
        self._stored = pixels
        self._reports = reports
        if reports is not None and all(report_in(reports, row.study_id) is None for row in self._rows):
            msg = (
                f"{manifest.path}: no study of '{split}' (first: '{self._rows[0].study_id}') has a structured report; "
                "name the file that dmlm reports build made of this CSV, and the column of studies in data.study_column"
            )
            raise DatasetFormatError(msg)
        self._cache = None if cache_size is None else ImageCache([row.image for row in self._rows], cache_size)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def labels(self) -> NDArray[np.float32]:
        """Labels of all samples, float32 ``[N, C]``: 1 present, 0 absent, -1 uncertain, nan unknown."""
        return np.array([row.labels for row in self._rows], dtype=np.float32).reshape(len(self), len(self.label_names))

    @property
    def patient_ids(self) -> list[str]:
        """Patient of each sample."""
        return [row.patient_id for row in self._rows]

    @property
    def mask_names(self) -> tuple[str, ...]:
        """Names of the masks of a sample; empty where the CSV names none."""
        return self._mask_names

    def text_lengths(self) -> NDArray[np.int64]:
        """Words of each sample's free-text report, int64 ``[N]``."""
        return np.array([len(row.text.split()) for row in self._rows], dtype=np.int64)

    def read(self, index: int) -> RawSample:
        """Read the study at ``index`` as it is stored.

        Raises:
            ImageReadError: If the image or a mask cannot be read; the message names the line of the CSV.
            DatasetFormatError: If a mask holds other values than two, or does not show the field of the image.
        """
        row = self._rows[index]
        image = self._pixels(row)
        return RawSample(
            image=image,
            report=report_of(row, self.label_names, self._reports),
            text=row.text,
            labels=np.array(row.labels, dtype=np.float32),
            study_id=row.study_id,
            patient_id=row.patient_id,
            masks=self._masks(row, image.shape) if row.masks else None,
        )

    def _masks(self, row: ManifestRow, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        where = f"{self.source}: line {row.line}"
        try:
            found = [scale_masks(read_mask(Path(path))[None], shape, path) for path in row.masks]
        except ImageReadError as error:
            msg = f"{where}: {error}"
            raise ImageReadError(msg) from error
        except DatasetFormatError as error:
            msg = f"{where}: {error}"
            raise DatasetFormatError(msg) from error
        return np.concatenate(found)

    def _pixels(self, row: ManifestRow) -> NDArray[np.uint8]:
        if self._cache is not None:
            return self._cache.read(row.image)
        if self._stored is not None:
            return self._stored.read(row.written, 2 * self.image_size)
        try:
            # twice the wanted size, so that a crop of a scaled JPEG still has a pixel for every pixel
            return read_grey(row.image, min_size=2 * self.image_size)
        except ImageReadError as error:
            msg = f"{self.source}: line {row.line}: {error}"
            raise ImageReadError(msg) from error


def report_in(reports: ReportSource | None, study: str) -> StructuredReport | None:
    """Return the report that a file of reports has of a study, under its own name or the file's; None without one."""
    return None if reports is None else reports.get(study) or reports.get(study_of(study))


def report_of(row: ManifestRow, names: Sequence[str], reports: ReportSource | None = None) -> StructuredReport:
    """Return the structured report of a row: the one in ``reports``, else one made from its labels.

    Args:
        row: The row.
        names: Names of its labels.
        reports: Structured reports made beforehand.
    """
    found = report_in(reports, row.study_id)
    if found is not None and (found.observations or row.text):  # nothing was read from nothing: the labels say more
        return found
    if all(math.isnan(value) for value in row.labels):
        return StructuredReport(row.study_id, (), source="text")
    return from_labels(row.study_id, dict(zip(names, row.labels, strict=True)))
