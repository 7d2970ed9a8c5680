"""Reports of the Indiana University collection (Open-i): one XML per study, in a folder or in the archive."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from dmlm.errors import DatasetFormatError, DatasetNotFoundError
from dmlm.io.bounded import MAX_REPORT_BYTES, check_member, read_at_most, read_file

ARCHIVE: Final = "NLMCXR_reports.tgz"
FOLDER: Final = "ecgen-radiology"
SECTIONS: Final = ("COMPARISON", "INDICATION", "FINDINGS", "IMPRESSION")

_XML: Final = re.compile(r"^(?:CXR)?(\d+)\.xml$")


@dataclass(frozen=True)
class OpenIReport:
    """One report.

    Args:
        number: Its number, 1 to 3999.
        sections: Text of each section that is not blank, by name, in the order of the report.
        major: Indexing by hand (MeSH and RadLex), such as ``"Opacity/lung/base/left"``; ``("normal",)`` where
            nothing is found.
        automatic: Terms found by machine.
        images: Identifier and caption of each image.
        license: Licence that the file names.
    """

    number: int
    sections: Mapping[str, str]
    major: tuple[str, ...]
    automatic: tuple[str, ...]
    images: tuple[tuple[str, str], ...]
    license: str

    @property
    def text(self) -> str:
        """The report as one text, a line for each section."""
        return "\n".join(f"{name}: {text}" for name, text in self.sections.items())


def find_reports(root: Path) -> Path | None:
    """Return the folder of XML files or the archive at or below ``root``; None if there is none."""
    if root.is_file():
        return root
    for folder in (root, root / "NLMCXR_reports"):
        for place in (folder / FOLDER, folder):
            if any(_XML.match(path.name) for path in place.glob("*.xml")):
                return place
        if (folder / ARCHIVE).is_file():
            return folder / ARCHIVE
    return None


def read_reports(root: Path) -> list[OpenIReport]:
    """Read all reports, by number.

    Args:
        root: Folder that holds ``ecgen-radiology``, the XML files or ``NLMCXR_reports.tgz``; or the archive itself.

    Raises:
        DatasetNotFoundError: If there are none.
        DatasetFormatError: If a file is damaged or two have one number.
    """
    place = find_reports(root)
    if place is None:
        msg = f"{root}: holds neither {FOLDER}/1.xml nor {ARCHIVE}; data.root must be the folder of the Open-i download"
        raise DatasetNotFoundError(msg)
    found: dict[int, OpenIReport] = {}
    for name, data in _files(place):
        report = parse_report(data, name)
        if report.number in found:
            msg = f"{name}: report CXR{report.number} is there already; keep one of the two files"
            raise DatasetFormatError(msg)
        found[report.number] = report
    if not found:
        msg = f"{place}: holds no report; expected {FOLDER}/1.xml in it, download it again"
        raise DatasetFormatError(msg)
    return [found[number] for number in sorted(found)]


def parse_report(data: bytes, name: str) -> OpenIReport:
    """Read one XML file.

    Args:
        data: Its bytes.
        name: Its name, for messages.

    Raises:
        DatasetFormatError: If it is no report of this collection.
    """
    try:
        tree = ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # also encodings that nobody knows
        msg = f"{name}: damaged or no XML ({error}); unpack the reports again"
        raise DatasetFormatError(msg) from error
    identifier = tree.find("uId")
    number = "" if identifier is None else identifier.get("id", "").removeprefix("CXR")
    if not re.fullmatch("[0-9]{1,9}", number):
        msg = (
            f"{name}: not a report of this collection (no uId such as CXR1); keep only the collection's XML files there"
        )
        raise DatasetFormatError(msg)
    texts = {part.get("Label", "").upper(): _text(part) for part in tree.iter("AbstractText")}
    return OpenIReport(
        number=int(number),
        sections={label: text for label, text in texts.items() if label and text},
        major=tuple(text for part in tree.findall("./MeSH/major") if (text := _text(part))),
        automatic=tuple(text for part in tree.findall("./MeSH/automatic") if (text := _text(part))),
        images=tuple((part.get("id", ""), _caption(part)) for part in tree.findall("./parentImage")),
        license=tree.findtext("licenseURL", "").strip(),
    )


def _text(part: ElementTree.Element) -> str:
    return " ".join("".join(part.itertext()).split())


def _caption(part: ElementTree.Element) -> str:
    return " ".join(part.findtext("caption", "").split())


def _files(place: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each XML file."""
    if place.is_dir():
        for path in sorted(place.glob("*.xml")):
            if _XML.match(path.name):
                yield str(path), read_file(path, MAX_REPORT_BYTES)
        return
    try:
        with tarfile.open(place, "r|*") as archive:
            for member in archive:
                check_member(place, member.name)
                inside = archive.extractfile(member) if _XML.match(Path(member.name).name) else None
                if inside is not None:
                    name = f"{place}:{member.name}"
                    yield name, read_at_most(inside, MAX_REPORT_BYTES, name)
    except DatasetFormatError:
        raise
    except Exception as error:  # damaged archives make tarfile and the decompressors raise almost anything
        msg = f"{place}: damaged, cut off or no archive ({error}); download it again"
        raise DatasetFormatError(msg) from error
