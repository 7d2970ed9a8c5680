"""Errors that a user can act on: one line that names the file, row or option, what was expected, and the mend."""

from __future__ import annotations


class DMLMError(Exception):
    """Base of every error that ``dmlm`` raises on purpose; the CLI prints it as one line and exits with status 2."""


class ConfigError(DMLMError, ValueError):
    """An option or a combination of options cannot work."""


class DatasetNotFoundError(DMLMError, FileNotFoundError):
    """A data set, or a file that belongs to it, is not where it was said to be."""


class DatasetFormatError(DMLMError, ValueError):
    """A file of a data set does not hold what its format promises (names file, row, column and the expectation)."""


class ImageReadError(DMLMError, OSError):
    """An image file is missing, truncated or not an image."""


class ReportFormatError(DMLMError, ValueError):
    """A structured report does not follow the schema."""


class CheckpointError(DMLMError, RuntimeError):
    """A checkpoint or an encoder folder is damaged, of another task, or written by a newer version."""


class MismatchError(DMLMError, ValueError):
    """The data module and the model disagree (classes, task, image size)."""


class PretrainedWeightsError(DMLMError, OSError):
    """Pre-trained weights were asked for and could not be had (offline, unknown name)."""


class CollapseError(DMLMError, RuntimeError):
    """Training was stopped because representations collapsed; the message names what collapsed."""


class MissingDependencyError(DMLMError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package '{package}': pip install 'dmlm[{extra}]'")
