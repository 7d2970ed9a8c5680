"""All studies of one patient: film, places of findings, report, labels; a function of seed, split and patient only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.phantom.anatomy import Anatomy
from dmlm.datasets.phantom.dictation import Dictation, dictate
from dmlm.datasets.phantom.findings import LABEL_NAMES, UNSEEN_FINDING, View
from dmlm.datasets.phantom.history import Visit, draw_history
from dmlm.datasets.phantom.render import render
from dmlm.datasets.splits import SPLITS, Split
from dmlm.reports.schema import Observation, Severity

_GRADES: Final = {"mild": 1, "moderate": 2, "severe": 3}


@dataclass(frozen=True)
class StudyFacts:
    """What is known of a synthetic study before it is drawn.

    Args:
        study_id: Identifier, unique in the data set; :func:`study_place` reads it.
        patient_id: Identifier of the patient.
        split: ``train``, ``val`` or ``test``.
        view: Direction of the beam.
        text: The report as dictated.
        observations: What the report says (which may differ from what is there).
        labels: What is there: 1 or 0 per name of ``LABEL_NAMES``.
        unseen: Whether the unseen finding is there.
        severity: Degree of each finding that is there.
        strength: The same as a number, 0 to 1.
        edema_grade: 0 (none) to 3 (severe).
        lookalikes: Kinds of what looks like a finding and is none.
    """

    study_id: str
    patient_id: str
    split: Split
    view: View
    text: str
    observations: tuple[Observation, ...]
    labels: tuple[int, ...]
    unseen: bool
    severity: dict[str, Severity]
    strength: dict[str, float]
    edema_grade: int
    lookalikes: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """Return these facts as plain data."""
        plain = {item.name: getattr(self, item.name) for item in fields(StudyFacts)}
        return {**plain, "observations": [asdict(item) for item in self.observations]}


@dataclass(frozen=True)
class PhantomStudy(StudyFacts):
    """One synthetic study.

    Args:
        image: Grey values, uint8 ``[H, W]``.
        masks: Place of each finding that is there, bool ``[H, W]``.
        boxes: Their bounding boxes, one per connected part: ``(x0, y0, x1, y1)`` as fractions of the film.
    """

    image: NDArray[np.uint8]
    masks: dict[str, NDArray[np.bool_]]
    boxes: dict[str, list[tuple[float, float, float, float]]]


def patient_facts(seed: int, split: Split, patient: int) -> list[StudyFacts]:
    """Make up all studies of a patient, reports included, without drawing them: that takes ten times as long, or more.

    Args:
        seed: Seed of the data set.
        split: Split of the patient.
        patient: Number of the patient in the split.
    """
    rng = _rng(seed, split, patient)
    _, visits = draw_history(rng, split)
    patient_id = f"{split}-{patient:06d}"
    return [_facts(patient_id, number, split, visit, dictate(visit, rng)) for number, visit in enumerate(visits)]


def study_place(study_id: str) -> tuple[Split, int, int]:
    """Return the split, the number of the patient in it, and the number of the study, each counted from 0."""
    split, patient, number = study_id.split("-")
    return cast("Split", split), int(patient), int(number) - 1


def draw_study(seed: int, study_id: str, size: int) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.bool_]]]:
    """Draw one study.

    Args:
        seed: Seed of the data set.
        study_id: Which one.
        size: Side of the film in pixels.

    Returns:
        As :func:`dmlm.datasets.phantom.render.render`.
    """
    split, patient, number = study_place(study_id)
    anatomy, visits = _history(seed, split, patient)
    visit = visits[number]
    return render(anatomy, visit.technique, visit.lesions, size, visit.lookalikes)


def make_patient(seed: int, split: Split, patient: int, size: int) -> list[PhantomStudy]:
    """Make all studies of a patient.

    Args:
        seed: Seed of the data set.
        split: Split of the patient.
        patient: Number of the patient in the split.
        size: Side of the films in pixels.
    """
    studies = []
    for facts in patient_facts(seed, split, patient):
        image, masks = draw_study(seed, facts.study_id, size)
        boxes = {name: _boxes(mask) for name, mask in masks.items()}
        studies.append(PhantomStudy(**vars(facts), image=image, masks=masks, boxes=boxes))
    return studies


def _rng(seed: int, split: Split, patient: int) -> np.random.Generator:
    return np.random.default_rng([seed, SPLITS.index(split), patient])


@lru_cache(maxsize=4)
def _history(seed: int, split: Split, patient: int) -> tuple[Anatomy, list[Visit]]:
    """Keep the last patients: their anatomy remembers outlines that their next study has again."""
    return draw_history(_rng(seed, split, patient), split)


def _facts(patient_id: str, number: int, split: Split, visit: Visit, report: Dictation) -> StudyFacts:
    found = {lesion.finding: lesion for lesion in visit.lesions}
    edema = found.get("Edema")
    return StudyFacts(
        study_id=f"{patient_id}-{number + 1}",
        patient_id=patient_id,
        split=split,
        view=visit.technique.view,
        text=report.text,
        observations=tuple(report.observations),
        labels=tuple(int(name in found) for name in LABEL_NAMES),
        unseen=UNSEEN_FINDING in found,
        severity={name: lesion.severity for name, lesion in found.items()},
        strength={name: round(lesion.strength, 4) for name, lesion in found.items()},
        edema_grade=0 if edema is None else _GRADES[edema.severity],
        lookalikes=tuple(item.kind for item in visit.lookalikes),
    )


def _boxes(mask: NDArray[np.bool_]) -> list[tuple[float, float, float, float]]:
    """Bounding box of each connected part, the largest first; specks of less than a tenth of it are left out."""
    import cv2

    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    parts = sorted(stats[1:].tolist(), key=lambda row: -row[4])
    size = mask.shape[0]
    return [
        (round(x / size, 4), round(y / size, 4), round((x + w) / size, 4), round((y + h) / size, 4))
        for x, y, w, h, area in parts
        if area * 10 >= parts[0][4]
    ]
