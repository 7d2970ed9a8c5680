"""Files of structured reports (JSON Lines): written by appending, resumed after a kill, read by study.

``dmlm reports build`` writes them and data sets read them. One line is one record, see :mod:`dmlm.reports.record_json`.
"""

from __future__ import annotations

import json
import mmap
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmlm.errors import ConfigError, DatasetNotFoundError
from dmlm.io.atomic import naming
from dmlm.io.lock import lock
from dmlm.reports.knowledge import FindingKnowledge, load_knowledge
from dmlm.reports.provenance import Provenance, ReportRecord
from dmlm.reports.record_json import from_json, to_json
from dmlm.reports.schema import StructuredReport

__all__ = ["Provenance", "RecordWriter", "ReportIndex", "ReportRecord", "read_records"]

_STUDY = re.compile(rb'\{"study_id": ("(?:[^"\\]|\\.)*")[,}]')


class RecordWriter:
    """Appends records to a file that appears under its name only when all are written.

    Until :meth:`finish` the records are in ``FILE.part``. A kill leaves whole lines there and at most one torn line,
    which the next ``resume`` cuts off. A ``FILE.part`` without any record is taken away at the end, and one that a kill
    left does not count.

    Args:
        path: File to write.
        resume: Keep what an earlier run wrote, in ``FILE.part`` or in the finished file; that one keeps its name until
            something is added to it.
        overwrite: Drop what an earlier run wrote; the finished file stays until the new one is.

    Raises:
        ConfigError: If the file (or its ``.part``) exists and neither is asked for.
        ReportFormatError: If what is to be kept is not a file of records.
    """

    def __init__(self, path: str | os.PathLike[str], resume: bool = False, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.part = self.path.with_name(f"{self.path.name}.part")
        existing = [file for file in (self.part, self.path) if file.exists()]
        kept = [file for file in existing if file == self.path or file.stat().st_size]
        if kept and not (resume or overwrite):
            msg = f"{kept[0]} exists; continue it with --resume, start again with --overwrite, or choose another file"
            raise ConfigError(msg)
        # before anything is cut or taken away
        busy = f"{self.part}: another process is writing it; wait for it, or choose another file"
        self._lock = lock(existing[0], busy) if existing else None
        if overwrite:
            self.part.unlink(missing_ok=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # a finished file keeps its name until something is added: whoever refuses to go on leaves it as it is
        self._file = self.path if resume and kept == [self.path] else self.part
        self._handle: FileIO | None = None
        self._began_empty = False
        self.done: set[str] = set()
        try:
            if self._file == self.part:
                self._open()
            self.done = set(_study_ids(self._file))
        except BaseException:  # nobody would end a lock of an object that was never made
            self.close()
            raise
        if self._lock is None or not os.path.samestat(os.fstat(self._lock), self._file.stat()):
            self._unlock()  # of a file that was taken away, here or by the process that had it
            self._lock = lock(self._file, busy)

    def provenance(self) -> Provenance | None:
        """Return what made the first kept record; None where there is none."""
        first = next(read_records(self._file), None)
        return None if first is None else first.provenance

    def add(self, record: ReportRecord) -> None:
        """Append one record with a single write; a study that is there already is left as it is."""
        self.add_line(record.study_id, to_json(record))

    def add_line(self, study_id: str, line: str) -> None:
        """Append a record that is a line of JSON already, as :func:`dmlm.reports.record_json.to_json` writes it."""
        if study_id not in self.done:
            handle = self._handle or self._open()
            rest = memoryview(f"{line}\n".encode("utf-8", "surrogatepass"))
            with naming(self.part):
                while rest:  # where the disk fills up, a part is written, and only the next write is refused
                    rest = rest[handle.write(rest) :]
            self.done.add(study_id)

    def finish(self) -> None:
        """Give the file its name."""
        self._began_empty = False
        self.close()
        self._file.replace(self.path)

    def close(self) -> None:
        """Leave the records in ``FILE.part`` for a later ``resume``; without any, leave no file."""
        if self._handle is not None:
            self._handle.close()
        if self._began_empty and not self.done:
            self.part.unlink(missing_ok=True)  # before the lock ends: it is nobody else's yet
        self._began_empty = False
        self._unlock()

    def _open(self) -> FileIO:
        """Open ``FILE.part`` to append to what is kept."""
        if self._file != self.part:
            self._file = self._file.replace(self.part)
        # unbuffered: a line is in the file, or not, when the process dies
        self._handle = self.part.open("ab", buffering=0)
        _cut_torn_line(self.part)
        self._began_empty = not self.part.stat().st_size
        return self._handle

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_records(
    path: str | os.PathLike[str], knowledge: Mapping[str, FindingKnowledge] | None = None
) -> Iterator[ReportRecord]:
    """Read a file of records line by line.

    Args:
        path: The file.
        knowledge: Where definitions and appearances come from; the library's by default.

    Raises:
        DatasetNotFoundError: If there is no such file.
        ReportFormatError: If a line is not a record; the message names file and line.
    """
    _check_file(Path(path))
    with Path(path).open("rb") as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                yield from_json(line, f"{path}:{number}", knowledge)


class ReportIndex:
    """Structured reports of a file by study, read when asked for; holds 16 bytes per study and no report.

    It is pickled with its index, but without its open file, so worker processes share the work of indexing and open
    the file for themselves. Where a file holds a study twice, the later line counts.

    Args:
        path: File that ``dmlm reports build`` wrote.
        knowledge: YAML file of definitions and appearances to fill in; the library's by default.

    Raises:
        DatasetNotFoundError: If there is no such file; raised at once, not when the first report is asked for.
    """

    def __init__(self, path: str | os.PathLike[str], knowledge: str | None = None) -> None:
        self.path = Path(path)
        self.knowledge = knowledge
        _check_file(self.path)
        self._keys: NDArray[np.uint64] | None = None
        self._starts: NDArray[np.int64] = np.zeros(0, np.int64)
        self._map: mmap.mmap | None = None

    def get(self, study_id: str) -> StructuredReport | None:
        """Return the report of a study; None where the file has none.

        Raises:
            ReportFormatError: If its line is not a record; the message names file and byte.
        """
        record = self.record(study_id)
        return None if record is None else record.report

    def record(self, study_id: str) -> ReportRecord | None:
        """Return the record of a study; None where the file has none."""
        keys, lines = self._index()
        key = np.uint64(_key(study_id))
        last = int(np.searchsorted(keys, key, side="right")) - 1
        while last >= 0 and keys[last] == key:
            start = int(self._starts[last])
            where = f"{self.path}: line at byte {start}"
            record = from_json(lines[start : _line_end(lines, start)], where, load_knowledge(self.knowledge))
            if record.study_id == study_id:
                return record
            last -= 1  # another study of the same key
        return None

    def missing(self, study_ids: Iterable[str]) -> list[str]:
        """Return those of some studies that the file does not have, in their order; reads no record."""
        names = list(study_ids)
        wanted = np.array([_key(name) for name in names], dtype=np.uint64)
        return [name for name, there in zip(names, np.isin(wanted, self._index()[0]), strict=True) if not there]

    def __contains__(self, study_id: object) -> bool:
        return isinstance(study_id, str) and self.record(study_id) is not None

    def __len__(self) -> int:
        """Number of lines."""
        return len(self._index()[0])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}

    def _index(self) -> tuple[NDArray[np.uint64], mmap.mmap | bytes]:
        if self._map is None and self.path.stat().st_size:
            with self.path.open("rb") as handle:
                # a map and not a handle: forked processes share a handle's place in the file
                self._map = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        lines: mmap.mmap | bytes = b"" if self._map is None else self._map
        if self._keys is None:
            keys, starts, start = array("Q"), array("q"), 0
            while start < len(lines):
                end = _line_end(lines, start)
                if lines[start:end].strip():
                    keys.append(_key(_study_id(lines[start:end], f"{self.path}: line at byte {start}")))
                    starts.append(start)
                start = end + 1
            unsorted = np.array(keys, dtype=np.uint64)
            order = np.argsort(unsorted, kind="stable")
            self._keys, self._starts = unsorted[order], np.array(starts, dtype=np.int64)[order]
        return self._keys, lines


def _study_ids(path: Path) -> Iterator[str]:
    with path.open("rb") as handle:
        for number, line in enumerate(handle, 1):
            if line.strip() and line.endswith(b"\n"):  # a torn line is cut before anything is added
                yield _study_id(line, f"{path}:{number}")


def _study_id(line: bytes, where: str) -> str:
    """Return the study of a line; the whole line is parsed only if it was not written by :func:`to_json`."""
    match = _STUDY.match(line)
    return str(json.loads(match[1])) if match else from_json(line, where).study_id


def _key(study_id: str) -> int:
    return int.from_bytes(blake2b(study_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _line_end(lines: mmap.mmap | bytes, start: int) -> int:
    end = lines.find(b"\n", start)
    return len(lines) if end < 0 else end


def _check_file(path: Path) -> None:
    if not path.is_file():
        msg = f"{path}: no such file of structured reports; make one with: dmlm reports build ROOT --out {path}"
        raise DatasetNotFoundError(msg)


def _cut_torn_line(path: Path) -> None:
    """Remove what follows the last line break: the line that was being written when the process was killed."""
    with path.open("rb+") as handle:
        size = end = handle.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 65536)
            handle.seek(start)
            place = handle.read(end - start).rfind(b"\n")
            if place >= 0:
                end = start + place + 1
                break
            end = start
        if end < size:
            handle.truncate(end)
