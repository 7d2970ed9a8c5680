"""Every definition and appearance with its length in tokens: ours, and those of a file of your own beside them.

``python -m benchmarks.reports_knowledge --tokenizer vocab.txt [--authors MIMIC-CXR.txt] [--texts]``. The texts of the
paper's authors have no licence: their lengths are printed, never their words.
"""

from __future__ import annotations

import argparse

import numpy as np

from dmlm.commands.reports import _token_counter
from dmlm.reports.knowledge import FindingKnowledge, Knowledge, load_authors_knowledge, load_knowledge
from dmlm.reports.prompts import render_statement
from dmlm.reports.schema import Observation


def lengths(known: FindingKnowledge, tokenizer: str) -> list[int]:
    """Tokens of the definition, the appearance and the text of one statement with both."""
    whole = render_statement(Observation(known.name, "present"), "full", knowledge={known.name: known}).text
    counts = _token_counter(tokenizer)([known.definition, known.appearance, whole])
    return [counts[0] - 2, counts[1] - 2, counts[2]]  # [CLS] and [SEP] count once, in the whole


def table(knowledge: Knowledge, tokenizer: str, with_texts: bool) -> None:
    """Print a row per finding and the least, middle and most of each column."""
    rows = {known.name: lengths(known, tokenizer) for known in knowledge.values() if known.definition}
    print("| finding | definition | appearance | statement with both |\n| --- | --- | --- | --- |")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(map(str, row))} |")
    values = np.array(list(rows.values()))
    for what, numbers in (("min", values.min(0)), ("median", np.median(values, 0)), ("max", values.max(0))):
        print(f"| **{what}** | {' | '.join(f'{number:.0f}' for number in numbers)} |")
    if with_texts:
        for known in knowledge.values():
            print(f"\n**{known.name}** {known.definition}\n\n{known.appearance}")


def main() -> None:
    """Print the library's table, then that of the authors' file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--tokenizer", default="library", help="library, a tokenizer.json or a vocab.txt")
    parser.add_argument("--authors", help="the authors' MIMIC-CXR.txt")
    parser.add_argument("--texts", action="store_true", help="print our texts too")
    options = parser.parse_args()
    table(load_knowledge(), options.tokenizer, options.texts)
    if options.authors:
        known = load_authors_knowledge(options.authors)
        print("\nthe authors' texts\n")
        theirs = {name: item for name, item in known.items() if item.source != "library"}
        table(Knowledge(theirs), options.tokenizer, with_texts=False)


if __name__ == "__main__":
    main()
