"""Sections of a MIMIC-CXR report by the rules of the release: its section parser's behaviour, rule by rule.

(A chooser for reports of any source is :mod:`dmlm.reports.sections`.)

The makers of MIMIC-CXR publish a parser of their own, with which the field makes ``mimic_cxr_sectioned.csv``. This
module gives the same sections from the reports themselves, so that nobody has to hunt for that file. Rules, in order:

1. A header is a line break, a space, capitals (spaces around them do not count), a colon and white space. What stands
   before the first header is ``preamble``; a report without any header is one section, ``full report``.
2. The next header is looked for behind the first line break after a header.
3. Names are lower-cased and mapped (:func:`section_name`).
4. Empty ``impression`` and ``findings`` are removed; if neither is left, the last section is cut at its first blank
   line (a line of one space) and the rest becomes ``last_paragraph``.
5. Of several sections with one name the **last** counts. The conclusion is the first there is of impression,
   findings, last_paragraph and comparison.
6. 54 studies are special: the makers force the name of a section, or a range of characters, for them
   (:mod:`dmlm.datasets.mimic_cxr_special`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from dmlm.datasets.mimic_cxr_special import NO_SPECIAL_CASES, SpecialCases
from dmlm.errors import DatasetFormatError

CONCLUSIONS: Final = ("impression", "findings", "last_paragraph", "comparison")
"""Sections that a conclusion may be taken from, in order of preference; the columns of the sectioned table."""

_HEADER: Final = re.compile(r"\n ([A-Z ()/,-]+):\s")
_BLANK_LINE: Final = "\n \n"
_MAIN: Final = ("impression", "findings", "history", "comparison", "addendum")
_VIEWS: Final = re.compile(
    "chest|portable|pa and lateral|lateral and pa|ap and lateral|lateral and ap|frontal and|two views|frontal view|"
    "pa view|ap view|one view|lateral view|bone window|frontal upright|frontal semi-upright|ribs|pa and lat"
)
# right name -> the spellings that the release's parser lists; 'ndication' under impression is a quirk of that list
_SPELLINGS: Final[dict[str, tuple[str, ...]]] = {
    "preamble": ("preamble",),
    "technique": ("technique",),
    "notification": ("notification",),
    "addendum": ("addendum",),
    "date": ("date",),
    "comment": ("comment",),
    "wet read": ("wet read", "wetread"),
    "recommendations": ("recommendations", "recommendation", "recommendation(s)"),
    "examination": ("examination", "exam", "type of examination"),
    "indication": (
        "indication",
        "reason for examination",
        "reason for exam",
        "clinical indication",
        "idication",
    ),
    "history": ("history", "clinical history", "patient history", "clinical information", "pfi"),
    "comparison": (
        "comparison",
        "comparisons",
        "comparison exam",
        "comparison film",
        "reference exam",
        "comparision",
        "comparisions",
        "comparsion",
        "comparrison",
    ),
    "findings": (
        "findings",
        "finding",
        "chest, two views",
        "reference findings",
        "findins",
        "findindgs",
        "findgings",
        "findngs",
        "findnings",
        "finidngs",
    ),
    "impression": (
        "impression",
        "conclusion",
        "findings and impression",
        "findings/impression",
        "findings/ impression",
        "ndication",
        "impresson",
        "imprression",
        "imoression",
        "impressoin",
        "imprssion",
        "impresion",
        "imperssion",
        "mpression",
        "impession",
    ),
}
_KNOWN: Final = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings}


@dataclass(frozen=True)
class Section:
    """One section of a report.

    Args:
        name: Its mapped name.
        text: What it says, as written (not stripped).
    """

    name: str
    text: str


def section_name(header: str) -> str:
    """Return the name that a header (any case) is mapped to."""
    name = header.lower().strip()
    if name in _KNOWN:
        return _KNOWN[name]
    for main in _MAIN:
        if main in name:
            return main
    return "findings" if _VIEWS.search(name) else name


def split_sections(text: str) -> list[Section]:
    """Split a report into its sections, in the order of the text (rules 1 to 4)."""
    found = _HEADER.search(text)
    sections = [Section("preamble", text[: found.start(1)]) if found else Section("full report", text)]
    while found is not None:
        start, name = found.end(), section_name(found[1])
        line_end = text.find("\n", start)
        found = _HEADER.search(text, max(start, line_end))
        sections.append(Section(name, text[start : len(text) if found is None else found.start()]))
    sections = [item for item in sections if item.name not in ("impression", "findings") or item.text.strip()]
    if sections and not any(item.name in ("impression", "findings") for item in sections):
        last = sections[-1]
        head, blank, rest = last.text.partition(_BLANK_LINE)
        if blank:
            sections[-1:] = [Section(last.name, head), Section("last_paragraph", rest)]
    return sections


def sectioned(text: str) -> dict[str, str]:
    """Return the last section of each name in :data:`CONCLUSIONS`, stripped; names that do not occur are left out."""
    return {item.name: item.text.strip() for item in split_sections(text) if item.name in CONCLUSIONS}


def conclusion(text: str, study_id: str = "", special: SpecialCases = NO_SPECIAL_CASES) -> str:
    """Return the text that concludes a report (rules 5 and 6), stripped; ``""`` where nothing does.

    Args:
        text: The report.
        study_id: Its study, looked up in ``special``.
        special: Studies whose text is chosen by hand.

    Raises:
        DatasetFormatError: If a forced section is not in the report.
    """
    if study_id in special.ranges:
        start, end = special.ranges[study_id]
        return text[start:end].strip()
    if study_id in special.names:
        wanted = special.names[study_id]
        texts = [item.text for item in split_sections(text) if item.name == wanted]
        if not texts:
            msg = (
                f"study '{study_id}': its report has no section '{wanted}', which special cases name: it is not the "
                "report of the release; restore it, or set data.special_cases"
            )
            raise DatasetFormatError(msg)
        return texts[-1].strip()
    parts = sectioned(text)
    return next((parts[name] for name in CONCLUSIONS if name in parts), "")
