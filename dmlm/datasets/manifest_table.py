"""Read a CSV of images, texts and labels into checked rows; every problem is found before the first image is used."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from dmlm.datasets.image_files import find_unreadable
from dmlm.datasets.manifest_csv import other_separator, read_rows
from dmlm.datasets.manifest_format import ManifestFormat
from dmlm.datasets.manifest_labels import ascending, read_labels
from dmlm.datasets.problems import Problems, nearest
from dmlm.datasets.splits import SPLITS, Split, check_leaks, draw_splits, read_splits, splits_hash, write_splits
from dmlm.datasets.store_pixels import StorePixels
from dmlm.errors import DatasetFormatError, some_of
from dmlm.io.cache import cache_dir

LabelOrder = Literal["given", "read", "alphabet"]

_LOG = logging.getLogger(__name__)
_SPLIT_NAMES: Final[dict[str, Split]] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

_PATIENTS: Final = frozenset({"patient", "patientid", "patientnumber", "subject", "subjectid", "pid", "mrn"})
"""Names of columns of patients, in small letters without what joins words."""


class ManifestRow(NamedTuple):
    """One usable row: ``line`` in the file, paths of image and masks, values as :class:`ManifestFormat` says.

    ``written`` is the image as the file names it, which is its name in a store.
    """

    line: int
    image: str
    text: str
    split: str
    patient_id: str
    study_id: str
    labels: tuple[float, ...]
    masks: tuple[str, ...] = ()
    unseen: bool = False
    written: str = ""


@dataclass(frozen=True)
class Manifest:
    """A checked CSV.

    Args:
        path: The file.
        label_names: Names of the labels, in the order of each row's ``labels``.
        rows: Usable rows, in the order of the file.
        mask_names: Names of the masks, in the order of each row's ``masks``.
        marks_unseen: Whether the file says which studies show what training never does.
        label_order: Who ordered the labels: ``given`` (options), ``read`` (numbers or usual grades in the file, from
            the lowest up), or ``alphabet``, which is no order of grades.
    """

    path: Path
    label_names: tuple[str, ...]
    rows: tuple[ManifestRow, ...]
    mask_names: tuple[str, ...] = ()
    marks_unseen: bool = False
    label_order: LabelOrder = "given"

    def split(self, name: Split) -> list[ManifestRow]:
        """Return the rows of one split, in the order of the file."""
        return [row for row in self.rows if row.split == name]


def read_manifest(path: str | os.PathLike[str], form: ManifestFormat | None = None) -> Manifest:
    """Read and check a CSV (UTF-8, with or without byte order mark).

    Raises:
        DatasetNotFoundError: If there is no such file.
        DatasetFormatError: If a column is missing, rows cannot be used (all reasons in one line, with line numbers),
            no row is left, or a patient or an image is in two splits.
    """
    form = ManifestFormat() if form is None else form
    path = Path(path)
    records = read_rows(path)
    _, header = next(records)
    columns = _columns(path, header, form)
    problems = Problems(str(path))
    # absolute, so that '..' cannot hide behind a relative root and a later change of folder does not matter
    root = os.path.normpath((path.parent if form.root is None else Path(form.root).expanduser()).absolute())
    rows: list[ManifestRow] = []
    label_cells: list[list[str]] = []
    for line, values in records:
        if len(values) != len(header):
            problems.add(f"not {len(header)} columns as in the header", line, f"{len(values)}")
            continue
        cells = {name: value.strip() for name, value in zip(header, values, strict=True)}
        if all(cells[column] in wanted for column, wanted in form.where.items()):
            rows.append(_row(line, cells, columns, form, root, problems))
            label_cells.append([cells[column] for column in form.all_label_columns])
    names, labels = read_labels(form, label_cells, [row.line for row in rows], problems)
    rows = [row._replace(labels=values) for row, values in zip(rows, labels, strict=True)]
    _check_rows(rows, form, problems)
    problems.settle(form.on_error)
    bad = problems.lines
    rows = [row for row in rows if row.line not in bad]
    if not rows:
        why = problems.summary() if bad else "it has no rows, or 'where' fits none"
        msg = f"{path}: no row can be used: {why}"
        raise DatasetFormatError(msg)
    if columns["split_column"] is None:
        if columns["patient_column"] is None and form.patient_column is not None:
            what = "image" if columns["study_column"] is None else "study"
            _LOG.warning(
                "%s: no column of patients: splits are drawn as if every %s were a patient's only one", path, what
            )
        rows = _with_drawn_splits(path, rows, form)
    elif not form.allow_leaks:
        check_leaks(str(path), ((row.patient_id, row.split, row.line) for row in rows))
    if not form.allow_leaks:  # one file under two patients; without a column of patients every row has its own
        check_leaks(str(path), ((row.image, row.split, row.line) for row in rows), "image")
    mask_names = tuple(form.mask_names or form.mask_columns)
    order: LabelOrder = "given"
    if form.label_column and not form.label_names:
        order = "read" if ascending(names) else "alphabet"
    return Manifest(path, names, tuple(rows), mask_names, columns["unseen_column"] is not None, order)


def _columns(path: Path, header: list[str], form: ManifestFormat) -> dict[str, str | None]:
    """Return the name of each special column, None where it may be absent and is."""
    default = ManifestFormat()
    columns: dict[str, str | None] = {}
    labels = "label_column" if form.label_column else "label_columns"
    required = [(labels, name) for name in form.all_label_columns] + [("where", name) for name in form.where]
    required += [("mask_columns", name) for name in form.mask_columns]
    for option in ("image_column", "text_column", "split_column", "patient_column", "study_column", "unseen_column"):
        name = getattr(form, option)
        needed = option == "image_column" or (option == "text_column" and not (form.has_labels or form.mask_columns))
        columns[option] = name if name in header else None
        if name is not None and (needed or name != getattr(default, option)):
            required.append((option, name))
    missing = [(option, name) for option, name in required if name not in header]
    if missing:
        found = some_of(header)
        if separator := other_separator(header):
            msg = f"{path}: the columns are separated by {separator} ({found}); save the file with commas between them"
            raise DatasetFormatError(msg)
        faults = "; ".join(f"no column '{name}' (option {option}){nearest(name, header)}" for option, name in missing)
        msg = f"{path}: {faults}{'' if faults.endswith('?') else '.'} It has {found}"
        raise DatasetFormatError(msg)
    likely = [name for name in header if re.sub(r"[\W_]", "", name).lower() in _PATIENTS]
    if columns["patient_column"] is None and form.patient_column is not None and likely:
        msg = (
            f"{path}: no column '{form.patient_column}', but '{likely[0]}'; set data.patient_column to it, or to null "
            "if it names none: every study is then a patient of its own"
        )
        raise DatasetFormatError(msg)
    return columns


def _row(
    line: int,
    cells: dict[str, str],
    columns: dict[str, str | None],
    form: ManifestFormat,
    root: str,
    problems: Problems,
) -> ManifestRow:
    def cell(option: str) -> str:
        column = columns[option]
        return "" if column is None else cells[column]

    def place(kind: str, column: str) -> str:
        written = cells[column]
        path = os.path.normpath(Path(root, written))
        if not written:
            hint = "; a black picture says that nothing is there" if kind == "mask" else ""
            problems.add(f"empty {kind} path (column '{column}'{hint})", line)
        elif not form.allow_outside_root and not path.startswith(root.rstrip(os.sep) + os.sep):
            problems.add(f"{kind} path outside of root {root} (allow_outside_root permits that)", line, f"'{written}'")
        elif not (kind == "image" and form.store is not None) and not Path(path).is_file():
            problems.add(f"{kind} file not found under root {root}", line, f"'{written}'")
        return path

    written = cell("image_column")
    image = place("image", form.image_column)
    masks = tuple(place("mask", column) for column in form.mask_columns)
    split = _SPLIT_NAMES.get(cell("split_column").lower())
    study = cell("study_column") or written
    patient = cell("patient_column") if columns["patient_column"] else study
    if columns["split_column"] and split is None:
        problems.add(f"unknown split (expected {', '.join(SPLITS)})", line, f"'{cell('split_column')}'")
    if not patient:
        problems.add(f"empty patient (column '{columns['patient_column']}')", line)
    unseen = cell("unseen_column")
    if unseen not in ("", "0", "1"):
        problems.add(f"column '{form.unseen_column}' must hold 1, 0 or blank", line, f"'{unseen}'")
    elif unseen == "1" and split != "test":
        problems.add(f"column '{form.unseen_column}' marks a study outside the test split", line, f"'{split}'")
    return ManifestRow(line, image, cell("text_column"), split or "", patient, study, (), masks, unseen == "1", written)


def _check_rows(rows: Sequence[ManifestRow], form: ManifestFormat, problems: Problems) -> None:
    """Note rows that say nothing, and images of otherwise good rows that cannot be read."""
    for row in rows:
        if not row.text and not row.masks and all(math.isnan(value) for value in row.labels):
            problems.add("neither text nor label" if form.has_labels else "empty text", row.line)
    bad = problems.lines
    good = [row for row in rows if row.line not in bad]
    if form.store is not None:
        absent = set(StorePixels(form.store, "manifest").missing(row.written for row in good))
        for row in good:
            if row.written in absent:
                problems.add(f"image not in {form.store} (run dmlm data prepare again)", row.line, f"'{row.written}'")
        return
    unreadable = find_unreadable([row.image for row in good])
    for row in good:
        if row.image in unreadable:
            problems.add("unreadable image", row.line, unreadable[row.image])


def _with_drawn_splits(path: Path, rows: Sequence[ManifestRow], form: ManifestFormat) -> list[ManifestRow]:
    """Give each patient a split: the one in ``form.split_file`` if that exists, else a drawn one, which is recorded."""
    if form.split_file is not None and Path(form.split_file).is_file():
        assignment = read_splits(form.split_file)
        new = [row for row in rows if row.patient_id not in assignment]
        if new:
            msg = (
                f"{path}: line {new[0].line}: patient '{new[0].patient_id}' is in no split of {form.split_file} "
                f"({len(new)} such rows); add a split column, or draw anew with another split_file"
            )
            raise DatasetFormatError(msg)
    else:
        assignment = draw_splits((row.patient_id for row in rows), form.ratios, form.seed)
        name = f"{path.stem}-{splits_hash(assignment)[:12]}.json"
        target = cache_dir() / "splits" / name if form.split_file is None else Path(form.split_file)
        if not target.is_file():
            write_splits(target, assignment, source=path.name, ratios=list(form.ratios), seed=form.seed)
    return [row._replace(split=assignment[row.patient_id]) for row in rows]
