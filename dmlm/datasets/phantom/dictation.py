"""Dictate the report of a study: what it says, in free text, and the same as records with the place in the text.

The report is a reader's account, not the truth: faint findings are doubted or missed, most absent ones go unmentioned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dmlm.datasets.phantom import phrases, wording
from dmlm.datasets.phantom.chances import Chances
from dmlm.datasets.phantom.findings import DOUBTFUL_BELOW, LABEL_NAMES, MILD_BELOW, Lesion
from dmlm.datasets.phantom.history import Visit
from dmlm.reports.schema import Existence, Laterality, Observation

_SLOT = re.compile(r"\[(\w+)\]")
_LISTED = Chances([0.45, 0.3, 0.17, 0.08])
"""How many absent findings a sentence denies."""


@dataclass
class Dictation:
    """A text that grows sentence by sentence, and what it states."""

    text: str = ""
    observations: list[Observation] = field(default_factory=list)

    def header(self, name: str) -> None:
        """Start a section."""
        self.text += f"\n{name}:" if self.text else f"{name}:"

    def say(self, sentence: str, stated: Sequence[Observation] = ()) -> None:
        """Add a sentence; what it states is recorded with its place, unless it was said before in no less detail."""
        self.text += f" {sentence}" if self.text else sentence
        span = (len(self.text) - len(sentence), len(self.text))
        for item in stated:
            if not any(_covers(old, item) for old in self.observations):
                self.observations.append(replace(item, evidence=span))


def dictate(visit: Visit, rng: np.random.Generator) -> Dictation:
    """Dictate the report of a study.

    Args:
        visit: What is there.
        rng: Draws the words, and what the reader saw.
    """
    seen = [_reading(lesion, rng) for lesion in visit.lesions]
    said = [(lesion, state) for lesion, state in zip(visit.lesions, seen, strict=True) if state is not None]
    there = {lesion.finding for lesion in visit.lesions}
    mimics = [_mimic(item.kind, item.side, rng) for item in visit.lookalikes]
    spoken_of = there | {stated.finding for _, stated in mimics}
    absent = [name for name in LABEL_NAMES if name not in spoken_of and rng.random() < 0.5]

    style = rng.random()
    has_findings, has_impression = style > 0.2, style < 0.9
    report = Dictation()
    if rng.random() < 0.6 and has_findings:
        report.header("INDICATION")
        report.say(_pick(phrases.INDICATIONS, rng))
    blocks = [_statement(lesion, state, visit.changes, rng) for lesion, state in said]
    blocks += [(sentence, [stated]) for sentence, stated in mimics]
    if has_findings:
        report.header("FINDINGS")
        sentences = [*blocks, *_negations(absent, rng)]
        sentences += [(_pick(phrases.FILLERS, rng), [])] * int(rng.random() < 0.6)
        for place in rng.permutation(len(sentences)):
            report.say(*sentences[place])
        if not sentences:
            report.say(_pick(phrases.NORMAL, rng))
    if has_impression:
        report.header("IMPRESSION")
        if has_findings:
            blocks = [_statement(lesion, state, {}, rng) for lesion, state in said if rng.random() < 0.85]
        else:
            blocks += _negations([name for name in absent if rng.random() < 0.7], rng)
        for sentence, stated in blocks:
            report.say(sentence, stated)
        if not said and not blocks:
            report.say(_pick(phrases.NORMAL, rng))
        elif not blocks or rng.random() < 0.25:
            report.say(_pick(phrases.OTHERWISE, rng))
    return report


def _covers(old: Observation, new: Observation) -> bool:
    """Whether ``old`` already says all that ``new`` says."""
    return (
        old.finding == new.finding
        and old.existence == new.existence
        and new.laterality in (None, old.laterality)
        and new.position in (None, old.position)
        and new.severity in (None, old.severity)
    )


def _reading(lesion: Lesion, rng: np.random.Generator) -> Existence | None:
    """What the reader makes of a finding; None if it is missed."""
    draw = rng.random()
    if lesion.finding == "Support Devices":
        # a lone thin line is easily taken for something outside the patient
        faint = lesion.devices == ("central venous catheter",) and lesion.strength < DOUBTFUL_BELOW
        return "uncertain" if faint and draw < 0.4 else "present"
    if lesion.strength < DOUBTFUL_BELOW:
        return None if draw < 0.06 else "uncertain" if draw < 0.48 else "present"
    return "uncertain" if lesion.strength < MILD_BELOW and draw < 0.12 else "present"


def _statement(
    lesion: Lesion, state: Existence, changes: Mapping[str, str], rng: np.random.Generator
) -> tuple[str, list[Observation]]:
    templates = wording.PRESENT if state == "present" else wording.UNCERTAIN
    # an unseen finding is never doubted in words that training could have taught
    choices = templates.get(lesion.finding, wording.PRESENT[lesion.finding])
    if lesion.finding == "Support Devices" and changes.get("Support Devices") != "unchanged":
        choices = tuple(text for text in choices if not text.startswith("Again"))
    template = _pick(choices, rng)
    severity = lesion.severity if rng.random() < 0.78 and lesion.devices == () else None
    side = lesion.side if rng.random() < 0.95 and not lesion.devices else None
    position = lesion.zone if side and rng.random() < 0.75 else None
    if lesion.finding == "Atelectasis" and side and rng.random() < 0.4:
        position = "lower zone"
    change = changes.get(lesion.finding)
    words = {
        "sev": "" if severity is None else _pick(phrases.DEGREES.get(lesion.finding, phrases.DEGREE)[severity], rng),
        "sevly": "" if severity is None else phrases.ADVERB[severity],
        "change": "" if change is None or rng.random() < 0.3 else f", {_pick(phrases.CHANGES[change], rng)}",
        **_places(side, position),
        **_devices(lesion.devices),
    }
    slots = set(_SLOT.findall(template))
    stated = Observation(
        lesion.finding,
        state if lesion.finding in wording.UNCERTAIN else "present",
        laterality=side if slots & {"side", "onside", "where"} else None,
        position=position if "where" in slots else None,
        severity=severity if slots & {"sev", "sevly"} else None,
    )
    return fill(template, words), [stated]


def _places(side: str | None, position: str | None) -> dict[str, str]:
    both = side == "bilateral"
    if side is None:
        where = "" if position is None else f"in the {position}"
    elif position is None:
        where = "in both lungs" if both else f"on the {side}"
    else:
        where = f"in both {position}s" if both else f"in the {side} {position}"
    onside = "" if side is None else "on both sides" if both else f"on the {side}"
    plural = {"s": "s" if both else "", "is": "are" if both else "is", "article": "" if both else "a"}
    return {"side": side or "", "onside": onside, "where": where, **plural}


def _devices(devices: Sequence[str]) -> dict[str, str]:
    names = [f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in devices]
    return {
        "devices": f"{_join(devices, 'and')} {'is' if len(devices) == 1 else 'are'}",
        "thedevices": _join(names, "and"),
    }


def fill(template: str, words: Mapping[str, str]) -> str:
    """Fill the slots of a template; empty ones leave neither gap nor stray article."""
    text = _SLOT.sub(lambda match: "\0" if match[1] == "a" else words[match[1]], template)
    text = re.sub(r" +", " ", text)
    article = words.get("article", "a")

    def choose(match: re.Match[str]) -> str:
        return "" if not article else f"{'an' if match[1] in 'aeiou' else 'a'} {match[1]}"

    text = re.sub(r"\0 ?(\w)", choose if article else r"\1", text)
    text = re.sub(r" +([.,;])", r"\1", re.sub(r" +", " ", text)).strip()
    return text[:1].upper() + text[1:]


def _mimic(kind: str, side: str, rng: np.random.Generator) -> tuple[str, Observation]:
    finding = "Pneumothorax" if kind == "skin fold" else "Nodule"
    doubted = rng.random() < 0.5
    certain = phrases.SKIN_FOLD if kind == "skin fold" else phrases.SUMMATION
    template = _pick(wording.UNCERTAIN[finding] if doubted else certain, rng)
    laterality: Laterality = "left" if side == "left" else "right"
    stated = Observation(finding, "uncertain", laterality) if doubted else Observation(finding, "absent")
    return fill(template, _places(side, None)), stated


def _negations(absent: Sequence[str], rng: np.random.Generator) -> list[tuple[str, list[Observation]]]:
    """Deny findings, one by one or in lists ("no pneumothorax or pleural effusion")."""
    names = [absent[place] for place in rng.permutation(len(absent))]
    result = []
    while names:
        count = 1 + _LISTED.draw(rng)
        group, names = names[:count], names[count:]
        if len(group) == 1:
            sentence = _pick(wording.ABSENT[group[0]], rng)
        else:
            listed = _join([_pick(phrases.LISTED[name], rng) for name in group], "or")
            sentence = _pick(phrases.NO_LIST, rng).format(listed)
        result.append((sentence, [Observation(name, "absent") for name in group]))
    return result


def _join(words: Sequence[str], conjunction: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {conjunction} {words[-1]}" if words else ""


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
