"""Reports as they lie on disk: a folder, an archive or a table, read one after the other.

The layouts that are understood: Open-i (one XML file per report, in a folder or ``.tgz``), MIMIC-CXR
(``files/p10/p10000032/s50414267.txt``, in a folder or ``.zip``), any folder of ``.txt`` files, and any CSV with a
column of text (several columns become the sections of one report, as in MIMIC's ``mimic_cxr_sectioned.csv``).
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

from dmlm.errors import DatasetFormatError, DatasetNotFoundError, DMLMError, some_of
from dmlm.io.bounded import MAX_REPORT_BYTES, BoundedGzip, check_member, read_at_most, read_file
from dmlm.reports.provenance import text_hash

_MIMIC = re.compile(r"s(\d{7,9})")
_SKIPPED = frozenset({"license", "readme", "records", "sha256sums", "changelog", "requirements"})
_ARCHIVES = ("mimic-cxr-reports.zip", "NLMCXR_reports.tgz")  # as downloaded
_IDS = ("study_id", "study", "StudyInstanceUID", "report_id", "uid", "id")
_TEXTS = (("report",), ("text",), ("findings", "impression", "last_paragraph"))


class RawReport(NamedTuple):
    """A report as it was written.

    Args:
        study_id: Identifier of the study; of ``s50414267.txt`` it is ``"50414267"``, as in MIMIC's tables.
        text: The report; ``""`` where it could not be read.
        flags: What went wrong in reading it, e.g. ``"damaged_file"``.
    """

    study_id: str
    text: str
    flags: tuple[str, ...] = ()


class ReportFolder:
    """Reports below a path, in a fixed order, never more than one in memory.

    Args:
        root: Folder, also one that holds the archive of MIMIC-CXR or Open-i as downloaded; ``.tgz``, ``.tar``, ``.zip``
            or ``.csv`` (also ``.csv.gz`` and ``.tsv``).
        text_columns: Columns of a CSV that hold the text; recognised by their names by default.
        id_column: Column of a CSV that names the study; recognised by its name by default.

    Raises:
        DatasetNotFoundError: If there is nothing at ``root``.
    """

    def __init__(
        self, root: str | os.PathLike[str], text_columns: Sequence[str] = (), id_column: str | None = None
    ) -> None:
        self.root = Path(root).expanduser()
        self.text_columns, self.id_column = tuple(text_columns), id_column
        if not self.root.exists():
            msg = f"{self.root}: no such file or folder of reports"
            raise DatasetNotFoundError(msg)
        # in the folder, or below it as PhysioNet's mirror lays it out (mimic-cxr/2.1.0)
        places = (f"{above}{name}" for above in ("", "*/", "*/*/") for name in _ARCHIVES)
        packed = [path for place in places for path in sorted(self.root.glob(place))] if self.root.is_dir() else []
        if packed and next(iter(_walk(self.root)), None) is None:
            self.root = packed[0]

    def __iter__(self) -> Iterator[RawReport]:
        """Yield every report once.

        Raises:
            DatasetNotFoundError: If there is none.
            DatasetFormatError: If an archive or table cannot be read, or two different reports have one study.
        """
        seen: dict[str, int] = {}
        for report in self._all():
            code = int(text_hash(report.text), 16)
            if report.study_id not in seen:
                seen[report.study_id] = code
            elif seen[report.study_id] == code:
                continue  # one row per image repeats the report of its study
            else:
                msg = (
                    f"{self.root}: study '{report.study_id}' has two different reports; name the column that tells "
                    "them apart with --id-column, or give a folder with one of them"
                )
                raise DatasetFormatError(msg)
            yield report
        if not seen:
            near = sorted(self.root.glob("*.zip")) + sorted(self.root.glob("*.t*gz")) if self.root.is_dir() else []
            hint = f"; did you mean {near[0]}?" if near else ""
            msg = f"{self.root}: no report in it (.xml of Open-i, .txt, or a .csv with a column of text){hint}"
            raise DatasetNotFoundError(msg)

    def count(self) -> int | None:
        """Return how many files there are, for a progress bar; None where counting means reading."""
        if self.root.is_dir():
            return sum(1 for _ in _walk(self.root))
        if self.root.suffix == ".zip":
            try:
                with zipfile.ZipFile(self.root) as archive:
                    return sum(_is_report(name) for name in archive.namelist())
            except (OSError, zipfile.BadZipFile):
                return None  # reading says what is wrong
        return None

    def _all(self) -> Iterator[RawReport]:
        name = self.root.name.lower()
        try:
            if self.root.is_dir():
                for path in _walk(self.root):
                    yield _read(path.relative_to(self.root).as_posix(), read_file(path, MAX_REPORT_BYTES))
            elif name.endswith(".zip"):
                with zipfile.ZipFile(self.root) as archive:
                    for member in archive.namelist():
                        check_member(self.root, member)
                        if _is_report(member):
                            with archive.open(member) as handle:
                                yield _read(member, read_at_most(handle, MAX_REPORT_BYTES, f"{self.root}:{member}"))
            elif name.endswith((".tgz", ".tar", ".tar.gz")):
                yield from self._tar()
            elif name.removesuffix(".gz").endswith((".csv", ".tsv")):
                yield from self._table()
            else:
                yield _read(self.root.name, read_file(self.root, MAX_REPORT_BYTES))
        except DMLMError:
            raise
        except Exception as error:  # damaged archives make the decompressors raise almost anything
            reason = str(error)[:200]
            msg = f"{self.root}: cannot be read ({reason}); download it again, or unpack it and give the folder"
            raise DatasetFormatError(msg) from error

    def _tar(self) -> Iterator[RawReport]:
        with tarfile.open(self.root) as archive:
            for member in archive:
                check_member(self.root, member.name)
                handle = archive.extractfile(member) if member.isfile() and _is_report(member.name) else None
                if handle is not None:
                    yield _read(member.name, read_at_most(handle, MAX_REPORT_BYTES, f"{self.root}:{member.name}"))

    def _table(self) -> Iterator[RawReport]:
        csv.field_size_limit(MAX_REPORT_BYTES)
        with (
            BoundedGzip(self.root) if self.root.suffix == ".gz" else self.root.open("rb") as raw,
            io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="") as handle,
        ):
            rows = csv.DictReader(handle, delimiter="\t" if ".tsv" in self.root.name else ",")
            columns = rows.fieldnames or []
            name, texts = self._columns(columns)
            for row in rows:
                study = (row[name] or "").strip()
                if not study:
                    msg = f"{self.root}: line {rows.line_num}: no study in column '{name}'"
                    raise DatasetFormatError(msg)
                parts = [(column, (row[column] or "").strip()) for column in texts]
                body = (
                    parts[0][1]
                    if len(parts) == 1
                    else "\n\n".join(f"{_header(column)}: {text}" for column, text in parts if text)
                )
                yield RawReport(study_of(study), body)

    def _columns(self, columns: Sequence[str]) -> tuple[str, tuple[str, ...]]:
        """Return the column of the study and those of the text."""
        name = self.id_column or next((name for name in _IDS if name in columns), "")
        known = [tuple(column for column in wanted if column in columns) for wanted in _TEXTS]
        texts = self.text_columns or next((group for group in known if group), ())
        fault = ""
        if name not in columns:
            fault = f"no column '{name}'" if name else "no column that names the study"
            fault += "; name it with --id-column"
        elif not texts or not set(texts) <= set(columns):
            wrong = ", ".join(column for column in texts if column not in columns)
            fault = f"no column '{wrong}'" if wrong else "no column of text known"
            fault += "; name it with --text-column"
        if fault:
            msg = f"{self.root}: {fault}; the columns are {some_of(columns) or 'none'}"
            raise DatasetFormatError(msg)
        return name, texts


def _header(column: str) -> str:
    # what MIMIC's section parser calls the last paragraph are findings under no header
    return "FINDINGS" if column == "last_paragraph" else column.replace("_", " ").upper()


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        yield from (Path(folder) / name for name in sorted(names) if _is_report(name))


def _is_report(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__")) for part in path.parts)
    return path.suffix.lower() in (".xml", ".txt") and not hidden and path.stem.lower() not in _SKIPPED


def study_of(name: str) -> str:
    """Return the identifier of a study as structured reports have it: ``s50414267`` is ``50414267``."""
    match = _MIMIC.fullmatch(name)
    return match[1] if match else name


def _read(name: str, data: bytes) -> RawReport:
    """Read one file: Open-i's XML, or plain text."""
    path = PurePosixPath(name)
    stem = path.with_suffix("").as_posix()
    if path.suffix.lower() == ".xml":
        return _open_i(stem, data)
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # a text editor of Windows
    text = data.decode("utf-16" if is_wide else "utf-8-sig", errors="replace")
    return RawReport(study_of(path.stem) if _MIMIC.fullmatch(path.stem) else stem, text)


def _open_i(stem: str, data: bytes) -> RawReport:
    """Read an XML file of Open-i: its labelled parts as sections; a file of another form is flagged."""
    try:
        tree = ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError, ValueError):  # also encodings that nobody knows
        return RawReport(stem, "", ("damaged_file",))
    uid = tree.find("uId")
    parts = [(node.get("Label") or "", "".join(node.itertext()).strip()) for node in tree.iter("AbstractText")]
    text = "\n\n".join(f"{label}: {body}" if label else body for label, body in parts if body)
    study = (uid.get("id") if uid is not None else None) or stem
    return RawReport(study, text, () if parts else ("no_text_in_file",))
