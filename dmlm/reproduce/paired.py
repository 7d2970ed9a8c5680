"""Intervals over patients of a table's cells, and of the difference of two rows, from the runs' ``predictions.csv``.

A cell is the mean over its seeds. Patients are drawn anew, the same ones for every run of a column, and the mean over
the seeds is measured in each resample: two rows are compared on the same patients. Left out is the spread over seeds,
which the cells show: of three there is little to resample.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dmlm.errors import DatasetFormatError, MismatchError
from dmlm.evaluation.grading import weighted_kappas
from dmlm.evaluation.grounding import MEASURES
from dmlm.evaluation.intervals import Interval, patient_weights, percentiles, weighted_auc, weighted_means
from dmlm.reproduce.plan import Cell, Table
from dmlm.reproduce.runs import folder_of, read_status

RESAMPLES = 1000
FloatArray = npt.NDArray[np.float64]
Weights = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Comparison:
    """Intervals of one column.

    Args:
        column: The column.
        cells: Interval of the mean over the seeds, by row; rows without a finished run are missing.
        difference: Interval of the first row of ``Table.compare`` minus the second; None if one is missing.
        patients: Patients of the test split.
        note: Why there is nothing to compare; ``""`` otherwise.
    """

    column: str
    cells: dict[str, Interval]
    difference: Interval | None
    patients: int
    note: str = ""


def compare(table: Table, out: Path, resamples: int = RESAMPLES) -> list[Comparison]:
    """Compare two rows of a table in every column; nothing for a table that names none.

    Args:
        table: The table.
        out: Folder of the reproduction.
        resamples: Resamples of patients.
    """
    if table.compare is None:
        return []
    found = []
    for column in table.columns:
        cells = [cell for cell in table.cells if cell.column == column]
        try:
            found.append(_column(column, cells, table.compare, out, resamples))
        except (DatasetFormatError, MismatchError) as error:
            found.append(Comparison(column, {}, None, 0, str(error)))
    return found


def _column(column: str, cells: Sequence[Cell], pair: tuple[str, str], out: Path, resamples: int) -> Comparison:
    intervals: dict[str, Interval] = {}
    drawn: dict[str, FloatArray] = {}
    runs = Resampled(column, out, resamples)
    for cell in cells:
        values = [value for name in cell.runs if (value := runs.of(name, cell.metric)) is not None]
        if values:
            mean = np.mean(values, axis=0)
            drawn[cell.row] = mean
            intervals[cell.row] = percentiles(mean[0], mean[1:])
    difference = drawn[pair[0]] - drawn[pair[1]] if set(pair) <= set(drawn) else None
    return Comparison(
        column,
        intervals,
        None if difference is None else percentiles(difference[0], difference[1:]),
        runs.patients,
    )


class Resampled:
    """The runs of a column, measured on the test patients and on the same resamples of them.

    Args:
        column: The column, for messages.
        out: Folder of the reproduction.
        resamples: Resamples of patients.
    """

    def __init__(self, column: str, out: Path, resamples: int) -> None:
        self.column, self.out, self.resamples = column, out, resamples
        self._studies: list[tuple[str, str]] = []
        self._weights: Weights | None = None

    @property
    def patients(self) -> int:
        """Patients of the test split; 0 before the first finished run."""
        return len({patient for _, patient in self._studies})

    def of(self, name: str, metric: str) -> FloatArray | None:
        """Measure a run: value on the patients as they are, then on each resample, ``(1 + resamples,)``.

        Args:
            name: Name of the run.
            metric: Key of its ``metrics.json``.

        Returns:
            The values; None if the run is not finished.

        Raises:
            DatasetFormatError: If what the run wrote cannot be read.
            MismatchError: If it was tested on other studies than the runs before, or nothing is known of the metric.
        """
        folder = folder_of(self.out, name)
        if read_status(folder).state != "done":
            return None
        measure = _MEASURES[_measure(metric)]
        path = folder / _FILES.get(metric.partition("/")[0], "predictions.csv")
        table = _read(path)
        if self._weights is None:
            self._studies = table.studies
            weights = patient_weights([patient for _, patient in table.studies], self.resamples)
            self._weights = np.concatenate([np.ones((len(table.studies), 1), np.int32), weights], axis=1)
        if table.studies != self._studies:
            msg = f"{path}: other test studies than in the other runs of '{self.column}'"
            raise MismatchError(msg)
        return np.asarray(measure(table, self._weights))


_FILES = {"probe": "probe.csv", "grounding": "grounding.csv"}
"""What :class:`dmlm.tasks.FrozenEvaluation` writes beside ``predictions.csv``, by the first part of its metrics."""
_COLUMNS = ("label", "score", "prob", "true", "predicted", "both", "dice", *MEASURES)


@dataclass(frozen=True)
class _Predictions:
    """``predictions.csv`` as arrays ``(studies, classes)`` by column."""

    studies: list[tuple[str, str]]
    columns: dict[str, FloatArray]


def _read(path: Path) -> _Predictions:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        per = len({row.get("finding") or row["mask"] for row in rows})
        first = rows[::per]
        names = [name for name in _COLUMNS if name in rows[0]]
        columns = {
            name: np.array([float(row[name] or "nan") for row in rows]).reshape(len(first), per) for name in names
        }
        return _Predictions([(row["study_id"], row["patient_id"]) for row in first], columns)
    except (OSError, ValueError, KeyError, IndexError, ZeroDivisionError) as error:
        msg = f"{path}: cannot be read ({error}); delete its folder to run it again"
        raise DatasetFormatError(msg) from error


def _macro_auc(table: _Predictions, weights: Weights) -> FloatArray:
    """Mean over the classes that have an AUC; NaN in a resample that lacks one of them."""
    score, label = table.columns["score"], table.columns["label"]
    areas = np.array([weighted_auc(score[:, c], label[:, c], weights) for c in range(score.shape[1])])
    exists = np.isfinite(areas[:, 0])
    mean: FloatArray = areas[exists].mean(axis=0) if exists.any() else np.full(weights.shape[1], np.nan)
    return mean


def _kappa(table: _Predictions, weights: Weights) -> FloatArray:
    label = table.columns["label"]
    truth = np.where((label == 1).any(1), (label == 1).argmax(1), -1)
    return weighted_kappas(table.columns["prob"].argmax(1), truth, label.shape[1], weights)


def _dice_positive(table: _Predictions, weights: Weights) -> FloatArray:
    """Mean over the masks of the mean over the images that have the mask."""
    dice = np.where(table.columns["true"] > 0, table.columns["dice"], np.nan)
    mean: FloatArray = weighted_means(dice, weights).mean(axis=0)
    return mean


def _place(name: str, table: _Predictions, weights: Weights) -> FloatArray:
    """Mean over the findings that any image shows of the mean over these images."""
    values = table.columns[name]
    mean: FloatArray = weighted_means(values[:, np.isfinite(values).any(axis=0)], weights).mean(axis=0)
    return mean


_MEASURES: dict[str, Callable[[_Predictions, Weights], Any]] = {
    "auc_macro": _macro_auc,
    "kappa": _kappa,
    "dice_positive": _dice_positive,
    **{name: partial(_place, name) for name in MEASURES},
}


def _measure(metric: str) -> str:
    name = metric.rpartition("/")[2]
    if name not in _MEASURES:
        msg = f"no interval of '{metric}' can be made from what runs write; known are {', '.join(_MEASURES)}"
        raise MismatchError(msg)
    return name
