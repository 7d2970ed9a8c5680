"""The file of definitions and appearances as the paper's authors published it (``MIMIC-CXR.txt``)."""

from __future__ import annotations

import re
from typing import Any

from dmlm.errors import ReportFormatError

_PARTS = {"definition": "definition", "appearance": "appearance", "radiographic characteristics": "appearance"}
_LINE = re.compile(r"(?P<part>[A-Za-z ]{4,30}):\s*(?P<text>.*)")
_ALSO = {"pleural other": ("Pleural Thickening", "pleural thickening")}
"""The text of a finding that describes another one: that one, and how the definition then begins."""


def read_authors_file(text: str, path: str) -> dict[str, dict[str, Any]]:
    """Read the texts of the authors' file.

    Args:
        text: Content of the file.
        path: Its path, for messages.

    Returns:
        ``definition`` and ``appearance`` per finding, names as written.

    Raises:
        ReportFormatError: If there is text outside a finding, or a finding lacks one of the two; names file and line.
    """
    entries: dict[str, dict[str, Any]] = {}
    name, name_line = "", 0
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), start=1):
        stripped = line.strip()
        if not stripped:
            continue
        match = _LINE.fullmatch(stripped)
        part = _PARTS.get(match["part"].strip().lower()) if match else None
        if match is None or part is None:
            _check(entries, name, name_line, path)
            if len(stripped.split()) > 6:
                msg = (
                    f"{path}:{number}: expected the name of a finding, 'Definition: ...' or 'Appearance: ...'; "
                    f"got '{stripped[:50]}'"
                )
                raise ReportFormatError(msg)
            name, name_line = stripped.rstrip(":"), number
            entries[name] = {}
        elif not name or not match["text"]:
            msg = f"{path}:{number}: a {part} needs text, and a line with the name of its finding before it"
            raise ReportFormatError(msg)
        else:
            entries[name][part] = " ".join(match["text"].split())
    _check(entries, name, name_line, path)
    if not entries:
        msg = f"{path}: no finding in the file; expected lines 'Name', 'Definition: ...' and 'Appearance: ...'"
        raise ReportFormatError(msg)
    for written in list(entries):
        other, opening = _ALSO.get(written.lower(), ("", ""))
        if other and other not in entries and entries[written]["definition"].lower().startswith(opening):
            entries[other] = dict(entries[written])
    return entries


def _check(entries: dict[str, dict[str, Any]], name: str, line: int, path: str) -> None:
    missing = [part for part in ("definition", "appearance") if part not in entries.get(name, {})] if name else []
    if missing:
        msg = (
            f"{path}:{line}: finding '{name}' has no {' and no '.join(missing)}; add a line '{missing[0].title()}: ...'"
        )
        raise ReportFormatError(msg)
