"""Code blocks of the Markdown pages, and the command lines in them."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
    if "_build" not in path.parts
)
_FENCE = re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^\1\2 *$", re.DOTALL | re.MULTILINE)
_SAVED_AS = re.compile(r"as\s+`([\w./-]+\.\w+)`|`([\w./-]+\.\w+)`:\s*$")
_INLINE = re.compile(r"(?<!`)`(dmlm (?:fit|validate|test|predict) [^`]*)`(?!`)")
_OPTIONAL = re.compile(r" \[([^\]]+)\]")


class Block(NamedTuple):
    """A fenced block: its language, its text, the line it starts on, and the file that the page says it is saved as."""

    language: str
    text: str
    line: int
    saved_as: str | None


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()].rstrip().rpartition("\n\n")[2]
        names = _SAVED_AS.findall(before)
        saved = next(filter(None, names[-1])) if names else None
        body = re.sub(rf"^{match[1]}", "", match[4], flags=re.MULTILINE)
        found.append(Block(match[3].strip(), body, text[: match.start()].count("\n") + 1, saved))
    return found


def inline_commands(page: Path) -> list[str]:
    """Commands of the trainer verbs that stand inside sentences and are whole (they name a file)."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [" ".join(text.split()) for text in _INLINE.findall(prose) if "--config" in text or "--ckpt" in text]


def command_lines(text: str) -> Iterator[list[str]]:
    """Words of every command of a shell block; options of a usage line (``[--a N | --b]``) are tried in turn."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for raw in joined.splitlines():
        for line in _variants(raw.strip().removeprefix("$ ")):
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split, lexer.commenters = True, "#"
            words = list(lexer)
            for is_operator, group in itertools.groupby(words, lambda word: word in ("&&", "|", ";", ">")):
                if not is_operator:
                    yield list(group)


def _variants(line: str) -> list[str]:
    groups = _OPTIONAL.findall(line) if line.startswith(("dmlm ", "python -m ")) else []
    if not groups:
        return [line] if line else []
    plain = _OPTIONAL.sub("", line)
    return [plain, *(f"{plain} {choice.strip()}" for group in groups for choice in group.split("|"))]
