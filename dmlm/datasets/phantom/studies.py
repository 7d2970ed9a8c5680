"""All studies of one patient: film, places of findings, report, labels; a function of seed, split and patient only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.phantom.dictation import dictate
from dmlm.datasets.phantom.findings import LABEL_NAMES, UNSEEN_FINDING, View
from dmlm.datasets.phantom.history import draw_history
from dmlm.datasets.phantom.render import render
from dmlm.datasets.splits import SPLITS, Split
from dmlm.reports.schema import Observation, Severity

_GRADES: Final = {"mild": 1, "moderate": 2, "severe": 3}


@dataclass(frozen=True)
class PhantomStudy:
    """One synthetic study.

    Args:
        study_id: Identifier, unique in the data set.
        patient_id: Identifier of the patient.
        split: ``train``, ``val`` or ``test``.
        view: Direction of the beam.
        image: Grey values, uint8 ``[H, W]``.
        text: The report as dictated.
        observations: What the report says (which may differ from what is there).
        labels: What is there: 1 or 0 per name of ``LABEL_NAMES``.
        unseen: Whether the unseen finding is there.
        severity: Degree of each finding that is there.
        strength: The same as a number, 0 to 1.
        edema_grade: 0 (none) to 3 (severe).
        masks: Place of each finding that is there, bool ``[H, W]``.
        boxes: Their bounding boxes, one per connected part: ``(x0, y0, x1, y1)`` as fractions of the film.
        lookalikes: Kinds of what looks like a finding and is none.
    """

    study_id: str
    patient_id: str
    split: Split
    view: View
    image: NDArray[np.uint8]
    text: str
    observations: tuple[Observation, ...]
    labels: tuple[int, ...]
    unseen: bool
    severity: dict[str, Severity]
    strength: dict[str, float]
    edema_grade: int
    masks: dict[str, NDArray[np.bool_]]
    boxes: dict[str, list[tuple[float, float, float, float]]]
    lookalikes: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """Return everything but the pixels as plain data."""
        skipped = {"image", "masks", "observations"}
        plain = {name: value for name, value in vars(self).items() if name not in skipped}
        return {**plain, "observations": [asdict(item) for item in self.observations]}


def make_patient(seed: int, split: Split, patient: int, size: int) -> list[PhantomStudy]:
    """Make all studies of a patient.

    Args:
        seed: Seed of the data set.
        split: Split of the patient.
        patient: Number of the patient in the split.
        size: Side of the films in pixels.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), patient])
    anatomy, visits = draw_history(rng, split)
    patient_id = f"{split}-{patient:06d}"
    studies = []
    for number, visit in enumerate(visits):
        image, masks = render(anatomy, visit.technique, visit.lesions, size, visit.lookalikes)
        report = dictate(visit, rng)
        found = {lesion.finding: lesion for lesion in visit.lesions}
        edema = found.get("Edema")
        studies.append(
            PhantomStudy(
                study_id=f"{patient_id}-{number + 1}",
                patient_id=patient_id,
                split=split,
                view=visit.technique.view,
                image=image,
                text=report.text,
                observations=tuple(report.observations),
                labels=tuple(int(name in found) for name in LABEL_NAMES),
                unseen=UNSEEN_FINDING in found,
                severity={name: lesion.severity for name, lesion in found.items()},
                strength={name: round(lesion.strength, 4) for name, lesion in found.items()},
                edema_grade=0 if edema is None else _GRADES[edema.severity],
                masks=masks,
                boxes={name: _boxes(mask) for name, mask in masks.items()},
                lookalikes=tuple(item.kind for item in visit.lookalikes),
            )
        )
    return studies


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
