"""Run negspacy or medspacy over given entities, with the Python of an environment that has them.

Started by reports_rules. Reads JSON from standard input: a list of {"text", "spans": [[start, end], ...]}; writes
{"states", "seconds"}: per text a state per span (present, absent, uncertain or none), and the seconds without loading.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def negspacy(document: Any) -> list[str]:  # noqa: ANN401 - spaCy is no dependency of ours
    """States by the extension of negspacy, which knows negation only."""
    return ["absent" if entity._.negex else "present" for entity in document.ents]


def medspacy(document: Any) -> list[str]:  # noqa: ANN401 - spaCy is no dependency of ours
    """States by the extensions of medspacy's ConText."""
    states = []
    for entity in document.ents:
        mark = entity._
        past = mark.is_historical or mark.is_hypothetical or mark.is_family
        state = "absent" if mark.is_negated else "uncertain" if mark.is_uncertain else "none" if past else "present"
        states.append(state)
    return states


def main(name: str) -> None:
    """Read, judge, write."""
    import spacy

    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    if name == "negspacy":
        import negspacy.negation  # noqa: F401 - registers the factory
        from negspacy.termsets import termset

        pipe: Any = nlp.add_pipe("negex", config={"neg_termset": termset("en_clinical").get_patterns()})
        judge = globals()["negspacy"]
    else:
        import medspacy.context  # noqa: F401 - registers the factory

        pipe = nlp.add_pipe("medspacy_context")
        judge = globals()["medspacy"]
    nlp.remove_pipe(nlp.pipe_names[-1])  # entities are ours, so the component runs after they are set
    cases = json.load(sys.stdin)
    states, start = [], time.process_time()
    for case in cases:
        document = nlp(case["text"])
        spans = [
            document.char_span(first, last, label="FINDING", alignment_mode="expand") for first, last in case["spans"]
        ]
        document.ents = spacy.util.filter_spans(spans)
        if len(document.ents) != len(spans):
            sys.exit(f"entities overlap in '{case['text']}'")
        states.append(judge(pipe(document)))
    json.dump({"states": states, "seconds": time.process_time() - start}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
