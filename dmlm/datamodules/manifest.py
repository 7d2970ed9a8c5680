"""`ManifestDataModule`: train on any CSV of chest X-rays."""

from __future__ import annotations

import os
from typing import Any, Literal

from dmlm.datamodules.base import ChestXrayDataModule, Task
from dmlm.datamodules.report_files import check_reports, open_reports
from dmlm.datasets.manifest import ManifestDataset
from dmlm.datasets.manifest_format import ManifestFormat
from dmlm.datasets.manifest_table import LabelOrder, Manifest, read_manifest
from dmlm.datasets.splits import SPLITS, Split
from dmlm.datasets.store_pixels import StorePixels
from dmlm.datasets.transforms import AugmentConfig, Transform
from dmlm.errors import ConfigError
from dmlm.reports.records import ReportIndex
from dmlm.reports.sources import study_of


class ManifestDataModule(ChestXrayDataModule):
    """Images, reports, labels and masks from a CSV with one image a row.

    A column that keeps its default name may be absent, except the image's and, without labels or masks, the text's; a
    column that is named otherwise must exist; null means not to use one.

    Args:
        path: The CSV file (UTF-8).
        image_size: Height and width of the images, in pixels.
        batch_size: Samples per batch and process.
        root: Folder of the images; None means the folder of the CSV.
        image_column: Column with the path of the image, relative to ``root``.
        text_column: Column with the free-text report.
        split_column: Column with ``train``, ``val`` or ``test``; where absent, splits are drawn by patient.
        patient_column: Column with the patient; where absent, every study counts as a patient of its own.
        study_column: Column with the study; where absent or blank, the image's path stands for it.
        unseen_column: Column with 1 where a study shows what training never does, for
            :class:`dmlm.tasks.UncertaintyModule`; such studies may be in the test split only.
        label_columns: One column per label with 1 (present), 0 (absent), -1 (uncertain) or blank (unknown).
        label_column: One column with the names of the labels that are present, separated by ``|``; blank is unknown.
        label_names: With ``label_columns``: what to call them. With ``label_column``: which names count, in this
            order; None means all that occur: numbers and usual grades (none, mild, moderate, severe) from the lowest
            up, others by the alphabet.
        mask_columns: One column per mask with the path of its picture, relative to ``root``: 0 and 1, or 0 and 255, the
            same field as the image. Every row needs all of them; a black picture says that nothing is there.
        mask_names: What to call the masks; None means as their columns.
        task: ``multilabel``, ``binary`` (exactly one label), or ``multiclass`` (exactly one label present per row).
        where: Only rows whose column (key) has one of these values are read, e.g. ``{"view": ["PA", "AP"]}``.
        ratios: Shares of train, val and test where splits are drawn.
        split_file: JSON file that keeps drawn splits: used if it exists, written if not; None records the draw in the
            cache folder.
        split_seed: Seed of that draw (apart from ``seed``, so that another training seed keeps the test set).
        allow_outside_root: Whether image paths may lead out of ``root``.
        allow_leaks: Whether a patient may be in two splits.
        store: Folder that ``dmlm data prepare`` wrote from the CSV; images come from there instead of ``root``.
        reports: JSON Lines that ``dmlm reports build`` wrote from the CSV, by study; None makes structured reports from
            labels.
        on_error: ``raise`` refuses a file with bad rows, ``skip`` leaves these rows out and logs how many and why.
        cache_images: Whether to keep small copies of the images in the cache folder; worth it where decoding is slow.
            Not with masks.
        cache_size: Side of these copies in pixels; None means 1.15 times ``image_size``.
        num_workers: Worker processes per loader; ``auto`` leaves one core to training and takes at most four.
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

    def __init__(
        self,
        path: str,
        image_size: int = 224,
        batch_size: int = 32,
        root: str | None = None,
        image_column: str = "path",
        text_column: str | None = "text",
        split_column: str | None = "split",
        patient_column: str | None = "patient_id",
        study_column: str | None = "study_id",
        unseen_column: str | None = None,
        label_columns: list[str] | None = None,
        label_column: str | None = None,
        label_names: list[str | int] | None = None,
        mask_columns: list[str] | None = None,
        mask_names: list[str] | None = None,
        task: Task = "multilabel",
        where: dict[str, list[str]] | None = None,
        ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
        split_file: str | None = None,
        split_seed: int = 0,
        allow_outside_root: bool = False,
        allow_leaks: bool = False,
        store: str | None = None,
        reports: str | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        cache_images: bool = False,
        cache_size: int | None = None,
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
        self.path = os.fspath(path)
        self.form = ManifestFormat(
            image_column=image_column,
            text_column=text_column,
            split_column=split_column,
            patient_column=patient_column,
            study_column=study_column,
            unseen_column=unseen_column,
            label_columns=tuple(label_columns or ()),
            label_column=label_column,
            label_names=tuple(map(str, label_names or ())),
            mask_columns=tuple(mask_columns or ()),
            mask_names=tuple(mask_names or ()),
            one_label=task == "multiclass",
            where=where or {},
            root=None if root is None else os.fspath(root),
            allow_outside_root=allow_outside_root,
            ratios=ratios,
            seed=split_seed,
            split_file=split_file,
            allow_leaks=allow_leaks,
            store=None if store is None else os.fspath(store),
            on_error=on_error,
        )
        self.cache_size = (cache_size or round(1.15 * image_size)) if cache_images else None
        self.reports = None if reports is None else os.fspath(reports)
        self._task = task
        self._manifest: Manifest | None = None
        self._report_index: ReportIndex | None = None

    @property
    def task(self) -> Task:
        """Kind of label."""
        return self._task

    @property
    def manifest(self) -> Manifest:
        """The checked CSV; read on first use.

        Raises:
            DatasetFormatError: If the CSV cannot be used, or its file of reports does not fit it.
            DatasetNotFoundError: If there is no such CSV or file of reports.
            ConfigError: If ``task`` is binary and there is not exactly one label.
        """
        if self._manifest is None:
            manifest = read_manifest(self.path, self.form)
            if self._task == "binary" and len(manifest.label_names) != 1:
                found = len(manifest.label_names)
                msg = f"{self.path}: task 'binary' needs exactly one label, found {found}; set data.label_names"
                raise ConfigError(msg)
            if self.reports is not None:
                studies = (row.study_id for row in manifest.rows)
                self._report_index = open_reports(self.reports, studies, self.path, study_of)
                manifest = check_reports(manifest, self._report_index, self.form.on_error)
            self._manifest = manifest
        return self._manifest

    @property
    def label_order(self) -> LabelOrder:
        """Who ordered the labels; see :class:`dmlm.datasets.manifest_table.Manifest`."""
        return self.manifest.label_order

    def prepare_data(self) -> None:
        """Read the CSV and make the small copies of the images on one process per machine, before the others do."""
        manifest = self.manifest  # checked images and drawn splits are on record from here on
        for split in SPLITS:
            if self.cache_size is not None and manifest.split(split):
                self.make_dataset(split, None)

    def make_dataset(self, split: Split, transform: Transform | None) -> ManifestDataset:
        """Return a split, with the training transform or (None) without augmentation."""
        store, manifest = self.form.store, self.manifest  # reading it opens the reports, too
        return ManifestDataset(
            manifest,
            split,
            self.image_size,
            transform,
            self.seed,
            self.cache_size,
            None if store is None else StorePixels(store, "manifest", self.image_size),
            self._report_index,
        )

    def auto_workers(self, cores: int) -> int:
        """Return at most one worker where images come from the cache: it feeds several GPUs by itself."""
        return min(super().auto_workers(cores), 4 if self.cache_size is None else 1)
