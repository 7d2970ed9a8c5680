"""Words and sentences of a report that are not about one finding alone: lists, degrees, changes, normal statements."""

from __future__ import annotations

from typing import Final

from dmlm.reports.schema import Severity

LISTED: Final[dict[str, tuple[str, ...]]] = {
    "Atelectasis": ("atelectasis",),
    "Cardiomegaly": ("cardiomegaly", "cardiac enlargement"),
    "Consolidation": ("consolidation", "focal consolidation", "airspace consolidation"),
    "Edema": ("pulmonary edema", "edema"),
    "Nodule": ("nodule", "pulmonary nodule"),
    "Pleural Effusion": ("pleural effusion", "effusion"),
    "Pleural Thickening": ("pleural thickening",),
    "Pneumothorax": ("pneumothorax",),
    "Support Devices": ("support device", "indwelling line or tube"),
}
"""What a finding is called in a list: "no effusion or pneumothorax"."""

NO_LIST: Final = ("No {}.", "There is no {}.", "No evidence of {}.", "Negative for {}.", "There is no evidence of {}.")

SKIN_FOLD: Final = (
    "A linear edge over the [side] lung is a skin fold; there is no pneumothorax.",
    "Skin fold projects over the [side] chest, no pneumothorax.",
)
SUMMATION: Final = (
    "A density over the [side] lung is due to crossing of vessels and ribs, no nodule.",
    "Superimposed shadows [onside] imitate a nodule; no true nodule.",
)

_SIZE: Final[dict[Severity, tuple[str, ...]]] = {
    "mild": ("small", "minimal"),
    "moderate": ("moderate", "moderate-sized"),
    "severe": ("large", "extensive"),
}
DEGREE: Final[dict[Severity, tuple[str, ...]]] = {
    "mild": ("mild", "slight"),
    "moderate": ("moderate",),
    "severe": ("severe", "marked"),
}
DEGREES: Final[dict[str, dict[Severity, tuple[str, ...]]]] = {
    "Pleural Effusion": _SIZE,
    "Pneumothorax": _SIZE,
    "Hernia": {"mild": ("small",), "moderate": ("moderate",), "severe": ("large",)},
    "Nodule": {"mild": ("small",), "moderate": ("medium-sized",), "severe": ("large",)},
    "Consolidation": {"mild": ("mild", "faint"), "moderate": ("moderate",), "severe": ("severe", "dense")},
    "Atelectasis": {"mild": ("mild", "minimal"), "moderate": ("moderate",), "severe": ("severe", "marked")},
}
"""Words for a degree per finding; findings that are not here take the words of ``DEGREE``."""
ADVERB: Final[dict[Severity, str]] = {"mild": "mildly", "moderate": "moderately", "severe": "severely"}

CHANGES: Final[dict[str, tuple[str, ...]]] = {
    "new": ("new since the prior study", "new from prior"),
    "unchanged": ("unchanged", "stable", "similar to the prior study"),
    "increased": ("increased since the prior study", "worse than before", "progressed"),
    "decreased": ("decreased since the prior study", "improved", "smaller than before"),
}

INDICATIONS: Final = (
    "Shortness of breath.",
    "Cough and fever.",
    "Chest pain.",
    "Evaluate for acute process.",
    "Preoperative evaluation.",
    "Dyspnea on exertion.",
    "Hypoxia.",
    "Follow-up.",
    "Weight loss.",
    "Fall.",
    "Evaluate for interval change.",
    "Routine examination.",
)
FILLERS: Final = (
    "The mediastinal contours are unremarkable.",
    "Osseous structures are intact.",
    "No acute bony abnormality.",
    "The hila are normal.",
    "The trachea is midline.",
    "Visualized upper abdomen is unremarkable.",
    "Degenerative changes of the spine.",
)
NORMAL: Final = (
    "No acute cardiopulmonary abnormality.",
    "Normal chest radiograph.",
    "No acute cardiopulmonary process.",
    "Unremarkable examination of the chest.",
    "No radiographic evidence of acute disease.",
)
OTHERWISE: Final = ("Otherwise unremarkable.", "No other acute abnormality.", "Remainder of the examination is normal.")
