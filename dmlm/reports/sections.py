"""Sections of a free-text report, and which of them speak of the image.

A general chooser for reports of any source: MIMIC-like headers, one-line headers, headers on lines of their own, none.
(The exact parser of the MIMIC release is ``dmlm.datasets.mimic_cxr_sections``.)
"""

from __future__ import annotations

import re

_NAMES: dict[str, tuple[str, ...]] = {
    "findings": (
        "findings",
        "finding",
        "report",
        "radiographic findings",
        "observations",
        "lungs",
        "lungs and pleura",
        "pleura",
        "heart",
        "heart and mediastinum",
        "cardiomediastinum",
        "mediastinum",
        "bones",
        "lines and tubes",
        "tubes and lines",
        "lines/tubes",
        "tubes/lines",
        "support devices",
        "other",
    ),
    "impression": (
        "impression",
        "impressions",
        "conclusion",
        "conclusions",
        "findings and impression",
        "findings/impression",
        "opinion",
        "summary",
        "interpretation",
        "diagnosis",
    ),
    "addendum": ("addendum",),
    "wet read": ("wet read", "wetread", "preliminary report"),
    "indication": (
        "indication",
        "indications",
        "clinical indication",
        "reason for exam",
        "reason for examination",
        "reason for study",
        "reason for the exam",
        "reason for this examination",
        "reason",
        "clinical question",
    ),
    "history": (
        "history",
        "clinical history",
        "patient history",
        "clinical information",
        "clinical data",
        "clinical note",
        "clinical notes",
        "clinical statement",
        "medical history",
        "past medical history",
        "pfi",
        "admitting diagnosis",
        "medical condition",
        "underlying medical condition",
    ),
    "comparison": ("comparison", "comparisons", "comparison study", "comparison studies", "prior studies"),
    "technique": ("technique", "procedure", "procedure comments", "views", "procedure name"),
    "examination": (
        "examination",
        "exam",
        "type of examination",
        "exam type",
        "study",
        "final report",
        "date",
        "exam date",
    ),
    "notification": ("notification", "notifications", "recommendation", "recommendations", "signed by", "dictated by"),
}
_CANONICAL = {alias: name for name, aliases in _NAMES.items() for alias in aliases}
_READ = ("findings", "impression", "addendum")
# headers that are part of what is said: "Lungs: Clear. Heart: Normal."
_STRUCTURES = frozenset(
    {
        "lungs",
        "lungs and pleura",
        "pleura",
        "heart",
        "heart and mediastinum",
        "cardiomediastinum",
        "mediastinum",
        "bones",
    }
)
_ALIASES = "|".join(sorted((re.escape(alias).replace(r"\ ", "[ \t]+") for alias in _CANONICAL), key=len, reverse=True))
_HEADER = re.compile(
    rf"(?<![A-Za-z])(?P<name>{_ALIASES})(?:\(S\))?[ \t]*(?::|(?=[ \t\r]*\n))"
    r"|^[ \t]*(?P<view>(?:[A-Z][A-Z ,.&/()0-9-]{0,40} )?(?:CHEST|PORTABLE|RADIOGRAPHS?|X-RAYS?)\b"
    r"[A-Z ,.&/()0-9-]{0,60}):"
    r"|^[ \t]*(?P<added>ADDENDUM)\b[^\n:]{1,80}:",  # "ADDENDUM by Dr. ___ on ___:"
    re.IGNORECASE | re.MULTILINE,
)


def all_sections(text: str) -> list[tuple[str, int, int]]:
    """Split a report at its headers.

    A header is a known name before a colon, at the start of a line or sentence or in capitals, or alone on its line in
    capitals. A line such as ``"CHEST, PA AND LATERAL:"`` heads findings.

    Args:
        text: The report.

    Returns:
        ``(name, start, end)`` per section in order, blank ones left out; the places exclude the headers, but for those
        of structures ("Lungs: clear"), which are part of what is said. What stands before the first header is
        ``"preamble"``; without any header all is ``"full report"``.
    """
    heads = [
        (name, match.start(), match.start() if _says_structure(match) else match.end())
        for match in _HEADER.finditer(text)
        if (name := _name(text, match))
    ]
    if not heads:
        return [("full report", 0, len(text))] if text.strip() else []
    parts = [("preamble", 0, heads[0][1])]
    ends = [start for _, start, _ in heads[1:]] + [len(text)]
    parts += [(name, body, end) for (name, _, body), end in zip(heads, ends, strict=True)]
    return [(name, start, end) for name, start, end in parts if text[start:end].strip()]


def choose_sections(text: str) -> list[tuple[str, int, int]]:
    """Choose the sections that say what the image shows: findings, impression and addenda.

    Without any of these, the text after the first blank line of the last section is taken (many reports have headers
    for indication and comparison only), then the preamble, then a preliminary reading. Indication, history,
    comparison and technique are never taken: what stands there is a question or the past.

    Args:
        text: The report.

    Returns:
        ``(name, start, end)`` per section in the order of the text; empty where nothing speaks of the image.
    """
    sections = all_sections(text)
    chosen = [part for part in sections if part[0] in _READ]
    if chosen or not sections:
        return chosen
    if sections[0][0] == "full report":
        return sections
    _, start, end = sections[-1]
    blank = re.compile(r"\n[ \t\r]*\n").search(text, start, end)
    if blank is not None and text[blank.end() : end].strip() and sections[-1][0] != "notification":
        return [("last paragraph", blank.end(), end)]
    for fallback in ("preamble", "wet read"):
        chosen = [part for part in sections if part[0] == fallback]
        if chosen and any(letter.islower() for letter in text[chosen[0][1] : chosen[0][2]]):
            return chosen
    return []


def _says_structure(match: re.Match[str]) -> bool:
    return " ".join((match["name"] or "").lower().split()) in _STRUCTURES


def _name(text: str, match: re.Match[str]) -> str:
    """Canonical name of a header, or nothing if the match is no header."""
    if match["added"] is not None:
        return "addendum"
    if match["view"] is not None:
        return "findings" if match["view"].isupper() else ""
    raw = match["name"]
    before = text[max(0, match.start() - 3) : match.start()].rstrip(" \t")
    opens = not before or before[-1] in "\n.;!?"
    with_colon = text[match.end() - 1] == ":"
    valid = (raw.isupper() or opens) if with_colon else (raw.isupper() and (not before or before[-1] == "\n"))
    return _CANONICAL[" ".join(raw.lower().split())] if valid else ""
