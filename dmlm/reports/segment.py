"""Sentences of a report, as places in its text, and markup blanked out without moving anything.

Nothing here changes the length of a text, so every place found later is a place in the text as it was written.
"""

from __future__ import annotations

import re

from dmlm.reports.terms import word_list

MAX_SENTENCE = 1000
"""Longest sentence in characters; longer ones are cut at white space, so that reading takes linear time on any text."""

_TAG = re.compile(
    r"<(?P<code>script|style)\b[^<>]{0,300}>[^<]{0,5000}</(?P=code)>"  # what stands in them is no report
    r"|<[/!?]?[A-Za-z][^<>]{0,300}>|<!--[^<>]{0,300}-->|&#?[A-Za-z0-9]{1,8};",
    re.IGNORECASE,
)
_BLOCK = re.compile(r"</?(?:br|p|div|li|tr|td|h[1-6]|table|section|abstracttext)\b", re.IGNORECASE)
_BREAK = re.compile(
    r"(?P<stop>[.!?]+)(?:(?=[\s)\]\"'<]|$)|(?=[A-Z][a-z]))"
    r"|\n[ \t\r]*\n"
    r"|\n(?=[ \t]*(?:[-*\u2022]|\d{1,2}[.)])[ \t])"
)
_LAST_WORD = re.compile(r"[A-Za-z.]{1,12}$")
_TITLES = word_list("titles")
_CLOCK = word_list("times")


def blank_markup(text: str) -> str:
    """Replace tags and entities of HTML or XML by as much white space; tags of blocks break sentences."""
    if "<" not in text and "&" not in text:
        return text

    def blank(match: re.Match[str]) -> str:
        size = len(match[0])
        return f"\n{' ' * (size - 2)}\n" if size > 2 and _BLOCK.match(match[0]) else " " * size

    return _TAG.sub(blank, text)


def sentences(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """Split a part of a text into sentences.

    Ends are full stops, question and exclamation marks before white space, blank lines and list items. Titles, times of
    day and other abbreviations, decimals and the tokens of de-identification (``___``, ``XXXX``) do not end a sentence.

    Args:
        text: The text.
        start: First character of the part.
        end: End of the part (exclusive); the end of the text by default.

    Returns:
        ``(start, end)`` per sentence, in order, without surrounding white space. Pieces without a letter (such as
        the numbers of a list) are left out; no piece is longer than :data:`MAX_SENTENCE`.
    """
    end = len(text) if end is None else end
    found: list[tuple[int, int]] = []
    first = start
    for match in _BREAK.finditer(text, start, end):
        if match["stop"] == "?" and _is_prefix(text, start, match.start()):
            continue
        if match["stop"] == "." and _is_abbreviation(text, first, match.start(), match.end(), end):
            continue
        _add(found, text, first, match.end())
        first = match.end()
    _add(found, text, first, end)
    return found


def _is_prefix(text: str, start: int, stop: int) -> bool:
    """Whether a question mark stands before what it doubts: "?pneumonia", "opacity ? pneumonia"."""
    return stop == start or text[stop - 1] in " \t\n("


def _is_abbreviation(text: str, first: int, stop: int, after: int, end: int) -> bool:
    word = _LAST_WORD.search(text, max(first, stop - 12), stop)
    if word is None:
        return False
    name = word[0].lower().lstrip(".")
    if name in _TITLES:
        following = text[after : min(after + 2, end)].strip()
        # "No." is a number only before one; "No. 3" against a sentence that ends in "no."
        return name != "no" or following[:1].isdigit()
    return name in _CLOCK and text[after : min(after + 3, end)].strip()[:1].islower()


def _add(found: list[tuple[int, int]], text: str, first: int, last: int) -> None:
    while last - first > MAX_SENTENCE:
        cut = max(text.rfind(" ", first + 1, first + MAX_SENTENCE), text.rfind("\n", first + 1, first + MAX_SENTENCE))
        cut = cut if cut > first else first + MAX_SENTENCE
        _trim(found, text, first, cut)
        first = cut
    _trim(found, text, first, last)


def _trim(found: list[tuple[int, int]], text: str, first: int, last: int) -> None:
    piece = text[first:last]
    body = piece.strip()
    if any(letter.isalpha() for letter in body):
        first += len(piece) - len(piece.lstrip())
        found.append((first, first + len(body)))
