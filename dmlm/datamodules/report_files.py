"""A file of structured reports for a data set: opened, and checked to be about its studies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from dmlm.datasets.manifest import report_in, report_of
from dmlm.datasets.manifest_table import Manifest
from dmlm.datasets.problems import OnError, Problems
from dmlm.errors import DatasetFormatError
from dmlm.reports.records import ReportIndex

_LOG = logging.getLogger(__name__)


def open_reports(path: str, studies: Iterable[str], source: str, other_name: Callable[[str], str] = str) -> ReportIndex:
    """Open structured reports; say how many studies have none, for these train on something else.

    Args:
        path: File that ``dmlm reports build`` wrote.
        studies: Studies of the data set.
        source: The data set, for messages.
        other_name: Gives a second name under which a study may be filed.

    Raises:
        DatasetNotFoundError: If there is no such file.
        DatasetFormatError: If it knows none of the studies.
    """
    index = ReportIndex(path)
    names = list(dict.fromkeys(studies))
    missing = index.missing(names)
    unknown = set(index.missing(map(other_name, missing)))
    missing = [name for name in missing if other_name(name) in unknown]
    if missing and len(missing) == len(names):
        msg = (
            f"{path}: has no report of any study of {source} (first: '{missing[0]}'); "
            "name the file that dmlm reports build made of its own reports (a CSV names studies in data.study_column)"
        )
        raise DatasetFormatError(msg)
    if missing:
        _LOG.warning(
            "%s: has no report of %s of %s studies of %s (first: '%s'); these use their labels, or their text",
            path,
            f"{len(missing):,}",
            f"{len(names):,}",
            source,
            missing[0],
        )
    return index


def check_reports(manifest: Manifest, reports: ReportIndex, on_error: OnError) -> Manifest:
    """Find rows of a CSV for which nothing can be read in training: no text, and neither report nor label.

    Args:
        manifest: The checked CSV.
        reports: Structured reports of its studies.
        on_error: ``raise`` refuses such rows, ``skip`` leaves them out.

    Returns:
        The CSV without the rows that are left out.

    Raises:
        DatasetFormatError: If there are such rows; all are named in one line.
    """
    problems = Problems(str(manifest.path))
    empty: list[str] = []
    for row in manifest.rows:
        if row.text:
            continue
        found = report_in(reports, row.study_id)
        if found is not None and found.observations:
            continue
        if not report_of(row, manifest.label_names).observations:
            problems.add(f"no text, no observation in {reports.path} and no label that says anything", row.line)
        elif found is not None:
            empty.append(row.study_id)
    if empty:
        _LOG.warning(
            "%s: the reports of %s rows of %s without text are empty (first: '%s'); these use their labels",
            reports.path,
            f"{len(empty):,}",
            manifest.path,
            empty[0],
        )
    problems.settle(on_error)
    bad = problems.lines
    return replace(manifest, rows=tuple(row for row in manifest.rows if row.line not in bad)) if bad else manifest
