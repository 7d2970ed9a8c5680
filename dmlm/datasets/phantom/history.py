"""What happens to a patient: which findings they have, how these evolve, and how each study is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from dmlm.datasets.phantom.anatomy import Anatomy
from dmlm.datasets.phantom.chances import Chances
from dmlm.datasets.phantom.film import Technique
from dmlm.datasets.phantom.findings import LABEL_NAMES, UNSEEN_FINDING, ZONES, Lesion, Lookalike
from dmlm.reports.schema import Laterality

Change = Literal["new", "unchanged", "increased", "decreased"]

UNSEEN_SHARE: Final = 0.12
"""Share of test patients with the unseen finding."""

_HEALTHY: Final = 0.06
_STUDIES: Final = Chances([0.5, 0.28, 0.14, 0.08])
_ZONE: Final = Chances([0.3, 0.3, 0.4])
_SIDED: Final = {"Atelectasis": 0.25, "Consolidation": 0.15, "Pleural Effusion": 0.3, "Pleural Thickening": 0.15}
_PERSISTS: Final = {"Cardiomegaly": 0.97, "Nodule": 0.93, "Pleural Thickening": 0.95, "Support Devices": 0.75}


@dataclass(frozen=True)
class Visit:
    """One study of a patient before it is drawn.

    Args:
        lesions: What is there.
        lookalikes: What looks like a finding.
        changes: Per finding how it changed since the last study; empty for the first.
        technique: How the film was taken.
    """

    lesions: tuple[Lesion, ...]
    lookalikes: tuple[Lookalike, ...]
    changes: dict[str, Change]
    technique: Technique


def draw_history(rng: np.random.Generator, split: str) -> tuple[Anatomy, list[Visit]]:
    """Draw a patient with one to four studies; ``split`` decides whether the unseen finding may occur."""
    anatomy = Anatomy.draw(rng)
    lesions = _onset(rng, rng.random() < _HEALTHY)
    has_unseen = rng.random() < UNSEEN_SHARE
    hidden = Lesion(UNSEEN_FINDING, float(rng.uniform(0.1, 1.0)), _seed(rng))
    usually_portable = rng.random() < 0.3
    visits: list[Visit] = []
    for number in range(1 + _STUDIES.draw(rng)):
        changes: dict[str, Change] = {}
        if number:
            lesions, changes = _evolve(lesions, rng)
        ill = usually_portable or any("tube" in device for item in lesions for device in item.devices)
        technique = Technique.draw(rng, anatomy.habitus, "AP" if rng.random() < (0.8 if ill else 0.15) else "PA")
        drawn = (*lesions, hidden) if has_unseen and split == "test" else lesions
        visits.append(Visit(tuple(drawn), _lookalikes(lesions, rng), changes, technique))
    return anatomy, visits


def _onset(rng: np.random.Generator, healthy: bool) -> tuple[Lesion, ...]:
    """Draw the findings of a first study; heart failure brings edema and effusion, pneumothorax a chest tube."""
    chance = rng.random(len(LABEL_NAMES))
    if healthy:
        return ()
    draws = dict(zip(LABEL_NAMES, chance, strict=True))
    has: dict[str, bool] = {"Cardiomegaly": draws["Cardiomegaly"] < 0.30}
    has["Edema"] = draws["Edema"] < (0.36 if has["Cardiomegaly"] else 0.24)
    has["Pleural Effusion"] = draws["Pleural Effusion"] < (0.36 if has["Edema"] else 0.26)
    has["Atelectasis"] = draws["Atelectasis"] < (0.32 if has["Pleural Effusion"] else 0.26)
    has["Pneumothorax"] = draws["Pneumothorax"] < 0.27
    has["Support Devices"] = draws["Support Devices"] < (0.40 if has["Pneumothorax"] else 0.24)
    for name in ("Consolidation", "Nodule", "Pleural Thickening"):
        has[name] = draws[name] < 0.28
    sides: dict[str, Laterality | None] = {}
    lesions = []
    for name in LABEL_NAMES:
        if has[name]:
            lesion = _lesion(name, rng, sides)
            sides[name] = lesion.side
            lesions.append(lesion)
    return tuple(lesions)


def _lesion(name: str, rng: np.random.Generator, sides: dict[str, Laterality | None]) -> Lesion:
    side: Laterality | None = None
    if name in (*_SIDED, "Nodule", "Pneumothorax"):
        side = "right" if rng.random() < 0.5 else "left"
        if rng.random() < _SIDED.get(name, 0.0):
            side = "bilateral"
    zone = None
    if name in ("Consolidation", "Nodule", "Pleural Thickening"):
        zone = ZONES[_ZONE.draw(rng)]
    strength = float(rng.beta(2.2, 1.2))
    devices: tuple[str, ...] = ()
    if name == "Support Devices":
        devices, side = _devices(rng, sides.get("Pneumothorax"), "Pneumothorax" in sides)
    return Lesion(name, strength, _seed(rng), side, zone, devices)


def _devices(
    rng: np.random.Generator, air_side: Laterality | None, has_air: bool
) -> tuple[tuple[str, ...], Laterality | None]:
    draw = rng.random(4)
    chosen = []
    if has_air and draw[0] < 0.7:
        chosen.append("chest tube")
    if draw[1] < 0.35:
        chosen += ["endotracheal tube"] if draw[2] < 0.35 else ["endotracheal tube", "enteric tube"]
    if draw[3] < 0.45:
        chosen.append("central venous catheter")
    elif draw[3] < 0.75 or not chosen:
        chosen.append("pacemaker")
    return tuple(chosen), air_side if "chest tube" in chosen else None


def _evolve(lesions: Sequence[Lesion], rng: np.random.Generator) -> tuple[tuple[Lesion, ...], dict[str, Change]]:
    """Let findings grow, shrink, vanish or appear."""
    kept: list[Lesion] = []
    changes: dict[str, Change] = {}
    sides: dict[str, Laterality | None] = {}
    for lesion in lesions:
        if rng.random() > _PERSISTS.get(lesion.finding, 0.72):
            continue
        step = 0.0 if rng.random() < 0.4 else float(rng.normal(0.0, 0.28))
        if lesion.finding in ("Support Devices", "Cardiomegaly", "Pleural Thickening"):
            step *= 0.2
        new = replace(lesion, strength=float(np.clip(lesion.strength + step, 0.02, 1.0)))
        grown = new.strength - lesion.strength
        changes[lesion.finding] = "unchanged" if abs(grown) < 0.08 else "increased" if grown > 0 else "decreased"
        kept.append(new)
        sides[new.finding] = new.side
    for name in LABEL_NAMES:
        if name not in {item.finding for item in lesions} and rng.random() < 0.045:
            lesion = _lesion(name, rng, sides)
            sides[name] = lesion.side
            kept.append(lesion)
            changes[name] = "new"
    return tuple(sorted(kept, key=lambda item: LABEL_NAMES.index(item.finding))), changes


def _lookalikes(lesions: Sequence[Lesion], rng: np.random.Generator) -> tuple[Lookalike, ...]:
    found = {item.finding for item in lesions}
    result = []
    if rng.random() < 0.07 and "Pneumothorax" not in found:
        result.append(Lookalike("skin fold", "right" if rng.random() < 0.5 else "left", _seed(rng)))
    if rng.random() < 0.07 and "Nodule" not in found:
        result.append(Lookalike("summation", "right" if rng.random() < 0.5 else "left", _seed(rng)))
    return tuple(result)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**62))
