"""The word-piece vocabulary of the default run, and the script that makes it from our own texts.

``python -m dmlm.reports.vocabulary [--texts FILE ...] [--out FILE]`` writes ``vocab.txt`` in BERT's form: lower case,
the special tokens first, every character of :data:`CHARACTERS` alone and as a continuation, so that plain English text
has no unknown piece. It holds no patient data: its sources are the library's findings, texts rendered from them,
phrases written for it (``knowledge/phrases.txt``) and, with ``--texts``, lines of the caller.
"""

from __future__ import annotations

import argparse
import itertools
import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from dmlm.io.atomic import write_text
from dmlm.reports.knowledge import load_knowledge
from dmlm.reports.prompts import PromptTemplate, render_statement
from dmlm.reports.schema import EXISTENCES, LATERALITIES, SEVERITIES, Observation

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CHARACTERS = string.ascii_lowercase + string.digits + string.punctuation + "°±µ×–—‘’“”•"  # noqa: RUF001 - as reports write them
_TEMPLATES: tuple[PromptTemplate, ...] = ("obs_verdict", "full", "verdict", "context")
MIN_SHARED = 4
"""Fewest different words that a shared piece must occur in."""

_WORD = re.compile(r"[a-z]+|[0-9]+")


def vocabulary_path() -> Path:
    """Return the path of the vocabulary that ships with the library (``dmlm/reports/vocab.txt``)."""
    return Path(str(files("dmlm.reports").joinpath("vocab.txt")))


def corpus() -> Iterator[str]:
    """Yield our own texts: names and texts of all findings, statements in all forms, and the phrases."""
    for finding in load_knowledge().values():
        yield from (finding.name, *finding.synonyms)
        for existence, template in itertools.product(EXISTENCES, _TEMPLATES):
            yield render_statement(Observation(finding.name, existence), template).text
        for side, severity in itertools.product(LATERALITIES, SEVERITIES):
            yield render_statement(Observation(finding.name, "present", side, "lower zone", severity)).text
    phrases = files("dmlm.reports").joinpath("knowledge").joinpath("phrases.txt").read_text(encoding="utf-8")
    yield from (line for line in phrases.splitlines() if not line.startswith("#"))


def build_vocabulary(lines: Iterable[str], size: int = 4000) -> list[str]:
    """Make a word-piece vocabulary; the same lines always give the same one.

    Whole words come first, the most frequent first. What room is left goes to beginnings and continuations that
    several words share, those that save the most pieces first, so that a word nobody foresaw falls into few pieces.
    (The trainer of ``tokenizers`` breaks ties differently from run to run; this vocabulary must not.)

    Args:
        lines: Texts; case does not matter.
        size: Most entries.

    Returns:
        Special tokens, characters, continued characters, words, shared pieces.
    """
    words = Counter(itertools.chain.from_iterable(_WORD.findall(line.lower()) for line in lines))
    shared = Counter(itertools.chain.from_iterable(map(_pieces, words)))
    ranked = sorted(
        (piece for piece, count in shared.items() if count >= MIN_SHARED),
        key=lambda piece: (-shared[piece] * (len(piece.removeprefix("##")) - 1), piece),
    )
    by_frequency = sorted(words, key=lambda word: (-words[word], word))
    continued = (f"##{character}" for character in CHARACTERS)
    return list(dict.fromkeys((*SPECIAL_TOKENS, *CHARACTERS, *continued, *by_frequency, *ranked)))[:size]


def _pieces(word: str) -> set[str]:
    """Beginnings and inner or last parts of a word, of 3 to 7 letters (2 for parts)."""
    length = len(word)
    parts = {f"##{word[i:j]}" for i in range(1, length) for j in range(i + 2, min(i + 7, length) + 1)}
    return parts | {word[:j] for j in range(3, min(7, length) + 1)}


def main(argv: Sequence[str] | None = None) -> None:
    """Write the vocabulary; see the module's first lines for the command."""
    parser = argparse.ArgumentParser(prog="python -m dmlm.reports.vocabulary", description="Make vocab.txt again.")
    parser.add_argument(
        "--texts", type=Path, nargs="*", default=[], help="files of further lines, e.g. reports of phantoms"
    )
    parser.add_argument("--out", type=Path, default=vocabulary_path(), help="file to write")
    parser.add_argument("--size", type=int, default=4000, help="most entries")
    options = parser.parse_args(argv)
    extra = itertools.chain.from_iterable(path.read_text(encoding="utf-8").splitlines() for path in options.texts)
    vocabulary = build_vocabulary(itertools.chain(corpus(), extra), options.size)
    write_text(options.out, "\n".join(vocabulary) + "\n")
    print(f"{options.out}: {len(vocabulary)} entries")


if __name__ == "__main__":
    main()
