"""A file of structured reports for a data set: opened, and checked to be about its studies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

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
