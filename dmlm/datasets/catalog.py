"""Data sets by short name, and which one a folder holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from dmlm.datasets.problems import nearest
from dmlm.datasets.table import StudyTable
from dmlm.errors import ConfigError, DatasetNotFoundError

DATASETS: Final = {
    "mimic": "dmlm.datasets.mimic_cxr",
    "chexpert": "dmlm.datasets.chexpert",
    "openi": "dmlm.datasets.open_i",
    "edema": "dmlm.datasets.edema_severity",
    "rsna": "dmlm.datasets.rsna",
    "siim": "dmlm.datasets.siim",
    "nih": "dmlm.datasets.nih",
    "covidx": "dmlm.datasets.covidx",
    "covid_rural": "dmlm.datasets.covid_rural",
}
"""Short name of each data set -> the module with its ``open_table`` and ``recognise``."""


def open_table(name: str, root: str | os.PathLike[str], **options: Any) -> StudyTable:  # noqa: ANN401 - of the data set
    """Open a data set as it lies on disk.

    Args:
        name: A key of :data:`DATASETS`, or ``"auto"`` to recognise it.
        root: Its folder.
        **options: Options of this data set's own ``open_table``.

    Raises:
        ConfigError: If there is no such data set.
        DatasetNotFoundError: If the folder is missing or holds no data set that is known.
        DatasetFormatError: If its files do not hold what they should.
    """
    folder = Path(root).expanduser()
    if not folder.exists():
        msg = f"{folder}: no such folder; give the folder as it was downloaded and unpacked"
        raise DatasetNotFoundError(msg)
    opener: Callable[..., StudyTable] = _home(recognise(folder) if name == "auto" else name).open_table
    return opener(folder, **options)


def recognise(root: str | os.PathLike[str]) -> str:
    """Return the short name of the data set in a folder.

    Raises:
        DatasetNotFoundError: If none is recognised, or more than one.
    """
    folder = Path(root).expanduser()
    found = [name for name in DATASETS if _home(name).recognise(folder)]
    if len(found) != 1:
        what = f"looks like {' and '.join(found)}" if found else "holds no data set that dmlm knows"
        msg = f"{folder}: {what}; name the one you mean: {', '.join(DATASETS)}"
        raise DatasetNotFoundError(msg)
    return found[0]


def _home(name: str) -> Any:  # noqa: ANN401 - a module
    if name not in DATASETS:
        msg = f"unknown data set '{name}'{nearest(name, list(DATASETS)) or '; known are ' + ', '.join(DATASETS)}"
        raise ConfigError(msg)
    return import_module(DATASETS[name])
