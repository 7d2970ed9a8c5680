"""Errors that a user can act on: one line that names the file, row or option, what was expected, and the mend."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Final

_MENDS: Final = {
    errno.ENOSPC: "make room and run the same command again",
    errno.EDQUOT: "make room and run the same command again",
    errno.EFBIG: "the disk or a limit (ulimit -f) forbids so large a file; choose another place",
    errno.EACCES: "check the permissions, or choose another place",
    errno.EPERM: "check the permissions, or choose another place",
    errno.EROFS: "the disk is read-only; choose another place",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another place",
    errno.EISDIR: "it is a folder; name a file",
    errno.EEXIST: "it is a file, a folder was expected; choose another place",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ELOOP: "a symbolic link leads back to itself; mend the link",
    errno.EIO: "the disk gives errors; copy the file again, or use another disk",
    errno.ESTALE: "the network disk lost the file; run the same command again",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n) or use fewer workers",
}


def system_error(error: OSError) -> str | None:
    """Return what the operating system refused as one line that names the file and the mend; None for other errors."""
    if error.errno not in _MENDS:
        return None
    names = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    return f"{names or 'a file'}: {error.strerror}; {_MENDS[error.errno]}"


class DMLMError(Exception):
    """Base of every error that ``dmlm`` raises on purpose; the CLI prints it as one line and exits with status 2."""

    def __str__(self) -> str:
        """Return the message as one line that can be printed: names in it may hold line breaks or escape codes."""
        line = " ".join(super().__str__().splitlines())
        return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)


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


def some_of(names: Iterable[str], most: int = 20) -> str:
    """Names for a message: the first ones, each cut, so that a damaged header does not fill the screen."""
    listed = list(names)
    return ", ".join([name[:40] for name in listed[:most]] + ["..."] * (len(listed) > most))
