"""Labels of Open-i, derived from how its reports are indexed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

LABEL_NAMES: Final = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Fracture",
    "Granuloma",
    "Hernia",
    "Infiltration",
    "Lung Opacity",
    "Mass",
    "No Finding",
    "Nodule",
    "Pleural Effusion",
    "Pleural Thickening",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)
"""The labels, in alphabetical order."""

TERMS: Final[Mapping[str, tuple[str, ...]]] = {
    "Atelectasis": ("Pulmonary Atelectasis",),
    "Cardiomegaly": ("Cardiomegaly",),
    "Consolidation": ("Consolidation",),
    "Edema": ("Pulmonary Edema",),
    "Emphysema": ("Emphysema", "Pulmonary Emphysema", "Bullous Emphysema"),
    "Fibrosis": ("Pulmonary Fibrosis", "Fibrosis"),
    "Fracture": ("Fractures, Bone",),
    "Granuloma": ("Calcified Granuloma", "Granuloma", "Granulomatous Disease"),
    "Hernia": ("Hernia, Hiatal", "Hernia, Diaphragmatic"),
    "Infiltration": ("Infiltrate",),
    "Lung Opacity": ("Opacity", "Airspace Disease"),
    "Mass": ("Mass",),
    "No Finding": ("normal",),
    "Nodule": ("Nodule",),
    "Pleural Effusion": ("Pleural Effusion", "Hydropneumothorax", "Hemothorax", "Hemopneumothorax"),
    "Pneumonia": ("Pneumonia",),
    "Pneumothorax": ("Pneumothorax", "Hydropneumothorax", "Hemopneumothorax"),
    "Support Devices": ("Catheters, Indwelling", "Implanted Medical Device", "Medical Device", "Tube, Inserted"),
}
"""Indexing terms (the part before the first slash) that make a label present."""

_QUALIFIED: Final = {
    "Thickening": ("pleura", "Pleural Thickening"),
    "Cardiac Shadow": ("enlarged", "Cardiomegaly"),
}
"""Terms that make a label present where they have a qualifier."""

UNINDEXED: Final = "No Indexing"

_LABELS: Final[dict[str, tuple[str, ...]]] = {
    term: tuple(name for name, terms in TERMS.items() if term in terms) for terms in TERMS.values() for term in terms
}


def labels_of(major: Sequence[str]) -> NDArray[np.float32]:
    """Return the labels of a report, float32 ``[19]``: 1 where a term says so, 0 elsewhere.

    The indexers note what a report states as present; what is not indexed counts as absent. A report that was not
    indexed (no term, or ``No Indexing``) has nan throughout.

    Args:
        major: Terms indexed by hand, with qualifiers behind slashes.
    """
    if not major or UNINDEXED in major:
        return np.full(len(LABEL_NAMES), np.nan, np.float32)
    labels = np.zeros(len(LABEL_NAMES), np.float32)
    for entry in major:
        term, *qualifiers = (part.strip() for part in entry.split("/"))
        names = _LABELS.get(term, ())
        if _QUALIFIED.get(term, ("", ""))[0] in qualifiers:
            names = (_QUALIFIED[term][1],)
        for name in names:
            labels[LABEL_NAMES.index(name)] = 1.0
    return labels
