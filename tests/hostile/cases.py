"""Bad inputs as a table: what lies on disk, which command meets it, and what its one line says."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dmlm.__main__ import main


@dataclass(frozen=True)
class Bad:
    """One bad input.

    Args:
        name: What is wrong.
        command: Arguments of ``dmlm``, split at white space; the folder of the input is the current one.
        says: Part of the message.
        make: Writes the input into the current folder.
        base: Data set in the current folder before (a folder made once per session, see ``bases``); "" for none.
        leaves: Files that may be there afterwards (glob): unfinished ones that the same command goes on with.
    """

    name: str
    command: str
    says: str
    make: Callable[[], object] = lambda: None
    base: str = ""
    leaves: tuple[str, ...] = ()


def table(*cases: Bad) -> pytest.MarkDecorator:
    """Parametrise a test over bad inputs."""
    names = [case.name for case in cases]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"two cases of one name: {twice}"
    return pytest.mark.parametrize("bad", cases, ids=[re.sub(r"[^\w.-]+", "_", name) for name in names])


def refuse(bad: Bad, capsys: pytest.CaptureFixture[str], base: Path | None = None) -> str:
    """Check that a bad input gives one clear line, exit status 2, no traceback, and that nothing is half-written.

    Args:
        bad: The input.
        capsys: Fixture of pytest.
        base: Folder to copy here first.

    Returns:
        The line.
    """
    if base is not None:
        shutil.copytree(base, Path.cwd(), dirs_exist_ok=True)
    bad.make()
    before = _files()
    capsys.readouterr()
    status = main(bad.command.split())
    errors = capsys.readouterr().err
    lines = [line for line in errors.splitlines() if line.startswith("dmlm: error: ")]
    show = os.environ.get("DMLM_HOSTILE_SHOW")
    if show:  # to read the whole table's messages in one place
        with Path(show).open("a", encoding="utf-8") as file:
            file.write(f"{bad.name}\n    {bad.command[:160]}\n    {errors.strip()[-600:]}\n")
    assert status == 2, f"status {status}: {errors}"
    assert "Traceback" not in errors
    assert len(lines) == 1, errors
    assert errors.rstrip().endswith(lines[0])  # the last thing that is said
    assert bad.says in lines[0], lines[0]
    assert len(lines[0]) < 1000, len(lines[0])
    changed = {name for name, digest in _files().items() if before.get(name) != digest}
    allowed = {str(path) for pattern in bad.leaves for path in Path().glob(pattern)}
    assert changed <= allowed, f"half-written: {sorted(changed - allowed)}"
    assert set(before) <= set(_files()) | allowed, "took something away"
    return lines[0]


def _files() -> dict[str, str]:
    found = (path for path in Path().rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def text(name: str, content: str) -> Callable[[], object]:
    """Return what writes a UTF-8 file."""
    return lambda: _place(name).write_text(content, encoding="utf-8")


def data(name: str, content: bytes) -> Callable[[], object]:
    """Return what writes bytes."""
    return lambda: _place(name).write_bytes(content)


def edit(pattern: str, change: Callable[[str], str]) -> Callable[[], object]:
    """Return what changes the text of the one file that fits a glob."""

    def run() -> None:
        path = the(pattern)
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")

    return run


def edit_bytes(pattern: str, change: Callable[[bytes], bytes]) -> Callable[[], object]:
    """Return what changes the bytes of the first file that fits a glob."""

    def run() -> None:
        path = the(pattern)
        path.write_bytes(change(path.read_bytes()))

    return run


def remove(pattern: str) -> Callable[[], object]:
    """Return what takes away everything that fits a glob."""

    def run() -> None:
        the(pattern)  # there must be something
        for path in list(Path().glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return run


def line(number: int, content: str) -> Callable[[str], str]:
    """Return a change of a text: another line ``number`` (1 is the header)."""

    def change(old: str) -> str:
        lines = old.split("\n")
        lines[number - 1] = content
        return "\n".join(lines)

    return change


def swap(old: str, new: str) -> Callable[[str], str]:
    """Return a change of a text: ``old``, which must be there, becomes ``new`` once."""

    def change(content: str) -> str:
        assert old in content, f"{old!r} is not in the file"
        return content.replace(old, new, 1)

    return change


def the(pattern: str) -> Path:
    """Return the first file that fits a glob."""
    return sorted(Path().glob(pattern))[0]


def _place(name: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
