"""`StudyTable`: what every opened data set is, whatever its layout on disk: one checked row per image, no pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dmlm.errors import DatasetFormatError


class PixelSource(Protocol):
    """Where the grey values of a row come from: the files as they were downloaded, or a prepared store.

    It is pickled to worker processes, so that it opens its files there and carries no pixels.
    """

    def read(self, image: str, min_size: int) -> NDArray[np.uint8]:
        """Return uint8 ``[H, W]`` of the image with this relative path; the shorter side keeps ``min_size`` pixels.

        Raises:
            ImageReadError: If the image is missing or damaged; the message names the file.
        """


@dataclass(frozen=True, eq=False)
class StudyTable:
    """Rows of one data set as columns; a few bytes a row, so that 377,110 rows cost little.

    Args:
        name: Short name of the data set, such as ``"rsna"``.
        root: Folder that ``images`` are relative to.
        label_names: Names of the labels, in their documented order.
        images: Path of each image relative to ``root`` (posix), ``[N]``.
        study_ids: Study of each row, ``[N]``.
        patient_ids: Patient of each row, ``[N]``; the image's own id where the source hides the patient.
        labels: float32 ``[N, C]``: 1 present, 0 absent, -1 uncertain, nan unknown.
        splits: Official split of each row: ``"train"``, ``"val"``, ``"test"`` or ``""`` (in none); None where the data
            set has none.
        task: Kind of label: ``"multilabel"``, ``"binary"`` or ``"multiclass"``.
        text: Picklable function from row to the report as written (``""`` where there is none), read when asked for;
            None where the data set has no reports.
        masks: Picklable function from row to uint8 ``[M, h, w]`` of 0 and 1 over the whole image, in any resolution;
            None where the data set has none.
        mask_names: Names of the ``M`` masks.
        extra: Further columns by name, each ``[N]``: ``view``, ``age``, ``sex``, ``boxes``, ``edema_grade``, ...

    Raises:
        DatasetFormatError: If the columns have different lengths, or an image is listed twice.
    """

    name: str
    root: Path
    label_names: tuple[str, ...]
    images: Sequence[str]
    study_ids: Sequence[str]
    patient_ids: Sequence[str]
    labels: NDArray[np.float32]
    splits: Sequence[str] | None = None
    task: str = "multilabel"
    text: Callable[[int], str] | None = None
    masks: Callable[[int], NDArray[np.uint8]] | None = None
    mask_names: tuple[str, ...] = ()
    extra: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {"study_ids": self.study_ids, "patient_ids": self.patient_ids, **self.extra}
        if self.splits is not None:
            columns["splits"] = self.splits
        rows = len(self.images)
        uneven = [f"{key} has {len(column)}" for key, column in columns.items() if len(column) != rows]
        if self.labels.shape != (rows, len(self.label_names)):
            uneven.append(f"labels have shape {list(self.labels.shape)} for {len(self.label_names)} names")
        if uneven:
            msg = f"{self.root}: {rows} images, but {', '.join(uneven)}"
            raise DatasetFormatError(msg)
        if len(set(self.images)) != rows:
            seen: set[str] = set()
            twice = next(image for image in self.images if image in seen or seen.add(image))  # type: ignore[func-returns-value]
            msg = f"{self.root}: image '{twice}' is listed twice; a table has one row per image"
            raise DatasetFormatError(msg)

    def __len__(self) -> int:
        return len(self.images)

    def path(self, row: int) -> Path:
        """Return the file of a row's image."""
        return self.root / self.images[row]

    def take(self, rows: NDArray[np.int64]) -> StudyTable:
        """Return a table of these rows, in this order; texts and masks keep pointing at their own."""
        return StudyTable(
            name=self.name,
            root=self.root,
            label_names=self.label_names,
            images=_taken(self.images, rows),
            study_ids=_taken(self.study_ids, rows),
            patient_ids=_taken(self.patient_ids, rows),
            labels=self.labels[rows],
            splits=None if self.splits is None else _taken(self.splits, rows),
            task=self.task,
            text=None if self.text is None else _Taken(self.text, rows),
            masks=None if self.masks is None else _Taken(self.masks, rows),
            mask_names=self.mask_names,
            extra={key: _taken(column, rows) for key, column in self.extra.items()},
        )


class _Taken:
    """A row function of a table, asked through the numbers that rows have in a part of it."""

    def __init__(self, function: Callable[[int], Any], rows: NDArray[np.int64]) -> None:
        self.function, self.rows = function, rows

    def __call__(self, row: int) -> Any:  # noqa: ANN401 - whatever the function returns
        return self.function(int(self.rows[row]))


def _taken(column: Sequence[Any], rows: NDArray[np.int64]) -> Sequence[Any]:
    if isinstance(column, np.ndarray):
        return column[rows]  # type: ignore[no-any-return]
    return [column[row] for row in rows]
