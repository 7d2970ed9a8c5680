"""Reports of MIMIC-CXR where they are: an unpacked tree, or ``mimic-cxr-reports.zip`` read in place."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.mimic_cxr_sections import conclusion, sectioned
from dmlm.datasets.mimic_cxr_special import RELEASED_CASES, SpecialCases
from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError
from dmlm.io.bounded import MAX_REPORT_BYTES, check_member, inflate

TextPolicy = Literal["report", "conclusion", "impression_findings"]
"""``report``: as written. ``conclusion``: impression, else findings, last paragraph or comparison.
``impression_findings``: impression, then findings, and nothing else (what most published pre-training reads)."""

ARCHIVE: Final = "mimic-cxr-reports.zip"
_MEMBER: Final = re.compile(r"(?:^|/)s(\d+)\.txt$")
_LOCAL: Final = struct.Struct("<4s22xHH")


class Reports(Protocol):
    """A place that holds reports; pickled to worker processes."""

    place: Path

    def read(self, subject: int, study: int) -> str | None:
        """Return the report of a study as written, None where there is none."""


class ReportTree:
    """Reports as files: ``p10/p10000032/s50414267.txt`` below a folder.

    Args:
        folder: The folder that holds ``p10`` to ``p19``.
    """

    def __init__(self, folder: Path) -> None:
        self.place = folder

    def read(self, subject: int, study: int) -> str | None:
        """Return the report of a study as written, None where there is none."""
        name = str(subject)
        try:
            data = (self.place / f"p{name[:2]}" / f"p{name}" / f"s{study}.txt").read_bytes()
        except FileNotFoundError:
            return None
        return _decoded(data)


class ReportArchive:
    """Reports inside the archive as it was downloaded; some 30 bytes a report are kept, nothing is unpacked.

    Args:
        path: The zip file; its members may lie under any folder.

    Raises:
        DatasetFormatError: If it is no zip file, cut off, or holds no report.
    """

    def __init__(self, path: Path) -> None:
        self.place = path
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
                entries = [
                    (int(found[1]), item.header_offset, item.compress_size, item.CRC, item.compress_type)
                    for item in members
                    if (found := _MEMBER.search(item.filename))
                ]
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            msg = f"{path}: cannot be read as a zip file ({error}); download it again"
            raise DatasetFormatError(msg) from error
        for item in members:
            check_member(path, item.filename)
        if not entries:
            msg = f"{path}: holds no report named like p10/p10000032/s50414267.txt; expected {ARCHIVE}"
            raise DatasetFormatError(msg)
        try:
            table = np.array(entries, dtype=np.int64)
        except OverflowError as error:
            msg = f"{path}: its directory names places that no file has; download it again"
            raise DatasetFormatError(msg) from error
        self._entries: NDArray[np.int64] = table[np.argsort(table[:, 0], kind="stable")]

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, subject: int, study: int) -> str | None:  # noqa: ARG002 - studies are unique
        """Return the report of a study as written, None where there is none.

        Raises:
            DatasetFormatError: If this part of the archive is damaged.
        """
        place = int(np.searchsorted(self._entries[:, 0], study))
        if place == len(self._entries) or self._entries[place, 0] != study:
            return None
        _, offset, size, checksum, method = self._entries[place].tolist()
        # opened for each read: a handle shared with forked workers would share its position with them
        with self.place.open("rb") as file:
            file.seek(offset)
            head = file.read(30)
            if len(head) == 30 and head[:4] == b"PK\x03\x04":
                _, name, extra = _LOCAL.unpack(head)
                file.seek(name + extra, 1)
                data = file.read(size)
                try:
                    name = f"{self.place}: the report of study {study}"
                    plain = inflate(data, MAX_REPORT_BYTES, name) if method == zipfile.ZIP_DEFLATED else data
                except zlib.error:
                    plain = b""
                if zlib.crc32(plain) == checksum:
                    return _decoded(plain)
        msg = f"{self.place}: the report of study {study} is damaged; download the archive again"
        raise DatasetFormatError(msg)


class ReportText:
    """Function from a row of a table to its text.

    Args:
        reports: Where the reports are.
        subjects: Subject of each row, int64 ``[N]``.
        studies: Study of each row, int64 ``[N]``.
        policy: Which part of a report counts.
        special: Studies whose conclusion is chosen by hand.

    Raises:
        ConfigError: If there is no such policy.
    """

    def __init__(
        self,
        reports: Reports,
        subjects: NDArray[np.int64],
        studies: NDArray[np.int64],
        policy: TextPolicy = "report",
        special: SpecialCases = RELEASED_CASES,
    ) -> None:
        if policy not in get_args(TextPolicy):
            msg = f"data.text must be {', '.join(get_args(TextPolicy))}; got '{policy}'"
            raise ConfigError(msg)
        self.reports, self.subjects, self.studies = reports, subjects, studies
        self.policy, self.special = policy, special

    def __call__(self, row: int) -> str:
        """Return the text of a row, ``""`` where there is none."""
        study = int(self.studies[row])
        text = self.reports.read(int(self.subjects[row]), study)
        if text is None:
            return ""
        if self.policy == "report":
            return text
        if self.policy == "conclusion":
            return conclusion(text, str(study), self.special)
        parts = sectioned(text)
        return "\n".join(parts[name] for name in ("impression", "findings") if name in parts)


def find_reports(folders: list[Path]) -> Reports | None:
    """Return the reports in the first of the folders (or zip files) that holds some; None if none does."""
    for folder in folders:
        if folder.is_file():
            return ReportArchive(folder)
        for inner in (folder, folder / "mimic-cxr-reports"):
            for tree in (inner / "files", inner):
                if _has_reports(tree):
                    return ReportTree(tree)
            if (inner / ARCHIVE).is_file():
                return ReportArchive(inner / ARCHIVE)
    return None


def check_reports(reports: Reports, subjects: NDArray[np.int64], studies: NDArray[np.int64], where: str) -> None:
    """Refuse reports of which none belongs to the table.

    Raises:
        DatasetNotFoundError: If none of 64 studies spread over the table has a report.
    """
    probes = sorted({round(place) for place in np.linspace(0, len(studies) - 1, 64)}) if len(studies) else []
    if probes and all(reports.read(int(subjects[row]), int(studies[row])) is None for row in probes):
        msg = f"{where}: none of {len(probes)} studies looked up has a report there; check data.reports_root"
        raise DatasetNotFoundError(msg)


def _decoded(data: bytes) -> str:
    """Line ends become line feeds, as in the makers' own reading: sections and ranges of characters count on it."""
    return data.decode("utf-8", errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def _has_reports(tree: Path) -> bool:
    """Whether a patient among the first few of a tree has a report beside the study folders."""
    for group in sorted(tree.glob("p1[0-9]")):
        for number, patient in enumerate(group.glob("p[0-9]*")):
            if any(patient.glob("s*.txt")):
                return True
            if number == 20:
                break
    return False
