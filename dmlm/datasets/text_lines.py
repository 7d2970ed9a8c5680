"""Lines of a text file of a data set; a file that is no text is one line of error."""

from __future__ import annotations

from pathlib import Path

from dmlm.errors import DatasetFormatError


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text, without a byte order mark and line ends.

    Raises:
        DatasetFormatError: If it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else f"not UTF-8: {error.reason}"
        msg = f"{path}: cannot be read as a text ({why}); download it again"
        raise DatasetFormatError(msg) from error
