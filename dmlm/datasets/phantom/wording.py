"""How radiologists word it: templates per finding, for what is there, what is not, and what may be.

Slots in brackets are filled by :mod:`dmlm.datasets.phantom.dictation`; an empty one leaves no trace: ``[a]`` article,
``[sev]`` degree, ``[side]`` left/right/bilateral, ``[onside]`` on the left, ``[where]`` in the right lower zone,
``[s]`` plural of the bilateral, ``[is]`` verb, ``[change]`` ", unchanged".
"""

from __future__ import annotations

from typing import Final

from dmlm.reports.schema import Severity

PRESENT: Final[dict[str, tuple[str, ...]]] = {
    "Atelectasis": (
        "[sev] [side] basilar atelectasis[change].",
        "There is [sev] atelectasis [where][change].",
        "[sev] linear opacities [where], consistent with atelectasis[change].",
        "[sev] plate-like atelectasis [where][change].",
        "[sev] subsegmental atelectasis is seen [where][change].",
        "[sev] [side] lower lobe volume loss with atelectasis[change].",
        "Streaky [side] basal opacities reflect [sev] atelectasis[change].",
        "Low lung volume [onside] with [sev] basal atelectasis[change].",
        "[sev] discoid atelectasis [where] with slight elevation of the hemidiaphragm[change].",
    ),
    "Cardiomegaly": (
        "[sev] cardiomegaly[change].",
        "There is [sev] cardiomegaly[change].",
        "The heart is [sevly] enlarged[change].",
        "[sev] enlargement of the cardiac silhouette[change].",
        "The cardiac silhouette is [sevly] enlarged[change].",
        "Heart size is [sevly] increased[change].",
        "[sev] cardiac enlargement is present[change].",
        "The cardiothoracic ratio is increased, in keeping with [sev] cardiomegaly[change].",
        "[sev] globular enlargement of the heart[change].",
    ),
    "Consolidation": (
        "[sev] consolidation [where][change].",
        "There is [sev] airspace consolidation [where][change].",
        "[sev] airspace opacity [where], consistent with consolidation[change].",
        "Focal [sev] consolidation is present [where][change].",
        "[sev] confluent opacity with air bronchograms [where], compatible with consolidation[change].",
        "Patchy [sev] consolidation [where], concerning for pneumonia[change].",
        "[sev] parenchymal consolidation [where][change].",
        "Air space disease [where] with [sev] consolidation[change].",
        "[a] [sev] focus of consolidation projects [where][change].",
    ),
    "Edema": (
        "[sev] pulmonary edema[change].",
        "There is [sev] pulmonary edema[change].",
        "[sev] interstitial edema with perihilar haze[change].",
        "Perihilar opacities and septal lines are consistent with [sev] edema[change].",
        "[sev] pulmonary vascular congestion with edema[change].",
        "Cephalization of the vessels, in keeping with [sev] pulmonary edema[change].",
        "Findings of [sev] cardiogenic edema[change].",
        "Bilateral perihilar haziness reflects [sev] pulmonary edema[change].",
        "Indistinct pulmonary vessels suggest fluid overload with [sev] edema[change].",
    ),
    "Nodule": (
        "[a] [sev] pulmonary nodule [where][change].",
        "There is [a] [sev] nodule [where][change].",
        "[a] [sev] rounded opacity [where] is consistent with a nodule[change].",
        "[a] [sev] nodular density projects [where][change].",
        "[a] [sev] well-circumscribed nodule is seen [where][change].",
        "Solitary [sev] lung nodule [where][change].",
        "[a] [sev] soft tissue nodule [where], CT is recommended[change].",
        "[a] [sev] round lesion [where], compatible with a pulmonary nodule[change].",
    ),
    "Pleural Effusion": (
        "[a] [sev] [side] pleural effusion[s][change].",
        "There [is] [a] [sev] [side] pleural effusion[s][change].",
        "[sev] pleural fluid [onside][change].",
        "Blunting of the [side] costophrenic angle[s], in keeping with [a] [sev] effusion[s][change].",
        "[sev] layering pleural effusion[s] [onside][change].",
        "Meniscus [onside] consistent with [a] [sev] pleural effusion[s][change].",
        "The [side] costophrenic angle[s] [is] obscured by [a] [sev] effusion[s][change].",
        "[a] [sev] effusion[s] [is] present [onside][change].",
        "Opacification of the [side] base[s] due to [a] [sev] pleural effusion[s][change].",
    ),
    "Pleural Thickening": (
        "[sev] pleural thickening [where][change].",
        "There is [sev] pleural thickening [where][change].",
        "[sev] [side] pleural thickening[change].",
        "[sev] thickening of the pleura [where][change].",
        "[sev] band of pleural scarring and thickening [where][change].",
        "Chronic-appearing [sev] pleural thickening [where][change].",
        "The pleura is [sevly] thickened [where][change].",
        "[sev] pleural reaction [onside] with thickening[change].",
    ),
    "Pneumothorax": (
        "[a] [sev] [side] pneumothorax[change].",
        "There is [a] [sev] [side] pneumothorax[change].",
        "[a] [sev] pneumothorax is seen [onside][change].",
        "Visible pleural line [onside] consistent with [a] [sev] pneumothorax[change].",
        "[a] [sev] [side] apical pneumothorax[change].",
        "Lucency without lung markings [onside], in keeping with [a] [sev] pneumothorax[change].",
        "[a] [sev] apicolateral pneumothorax [onside][change].",
        "The [side] lung is partially collapsed by [a] [sev] pneumothorax[change].",
    ),
    "Support Devices": (
        "[devices] in place[change].",
        "[devices] in standard position[change].",
        "[devices] noted[change].",
        "Support devices include [thedevices][change].",
        "Again seen: [thedevices][change].",
        "Lines and tubes: [thedevices] in appropriate position[change].",
        "The patient has [thedevices][change].",
        "Satisfactory position of [thedevices][change].",
    ),
    "Hernia": (
        "Retrocardiac mass with an air-fluid level, consistent with a hiatal hernia.",
        "[sev] hiatal hernia.",
        "There is [a] [sev] hiatal hernia.",
        "Rounded retrocardiac density in keeping with [a] [sev] hiatus hernia.",
    ),
}

UNCERTAIN: Final[dict[str, tuple[str, ...]]] = {
    "Atelectasis": (
        "Possible [side] basilar atelectasis.",
        "Faint opacity [where] may represent atelectasis.",
        "Minimal atelectasis [where] cannot be excluded.",
        "Questionable atelectasis [where].",
    ),
    "Cardiomegaly": (
        "Heart size is borderline; mild cardiomegaly cannot be excluded.",
        "Possible cardiomegaly, accentuated by projection.",
        "The cardiac silhouette is at the upper limit of normal and may be enlarged.",
        "Questionable cardiac enlargement.",
    ),
    "Consolidation": (
        "Possible early consolidation [where].",
        "Ill-defined opacity [where] may represent consolidation.",
        "Developing consolidation [where] cannot be excluded.",
        "Questionable consolidation [where]; clinical correlation is suggested.",
    ),
    "Edema": (
        "Possible mild pulmonary edema.",
        "Mild edema cannot be excluded.",
        "Slight vascular prominence may reflect early edema.",
        "Questionable interstitial edema.",
    ),
    "Nodule": (
        "Possible nodule [where].",
        "A nodular density [where] may represent a nodule or superimposed structures.",
        "A small nodule [where] cannot be excluded.",
        "Questionable nodule [where]; follow-up is suggested.",
    ),
    "Pleural Effusion": (
        "Possible small [side] pleural effusion[s].",
        "Slight blunting of the [side] costophrenic angle[s] may represent a trace effusion.",
        "A trace [side] effusion cannot be excluded.",
        "Questionable pleural fluid [onside].",
    ),
    "Pleural Thickening": (
        "Possible pleural thickening [where].",
        "Subtle density along the pleura [onside] may represent thickening.",
        "Mild pleural thickening [where] cannot be excluded.",
        "Questionable [side] pleural thickening.",
    ),
    "Pneumothorax": (
        "Possible tiny [side] pneumothorax.",
        "A small [side] pneumothorax cannot be excluded.",
        "A thin line [onside] may represent a pneumothorax or a skin fold.",
        "Questionable pneumothorax [onside]; an expiratory film may help.",
    ),
    "Support Devices": (
        "Possible line projecting over the chest, which may lie outside the patient.",
        "A catheter may be present, incompletely seen.",
        "A device overlying the chest cannot be excluded.",
        "Questionable catheter fragment.",
    ),
}

ABSENT: Final[dict[str, tuple[str, ...]]] = {
    "Atelectasis": (
        "No atelectasis.",
        "There is no evidence of atelectasis.",
        "Lung volumes are normal without atelectasis.",
        "No volume loss or atelectasis.",
        "The lungs are well expanded, with no atelectasis.",
    ),
    "Cardiomegaly": (
        "The heart size is normal.",
        "Heart is not enlarged.",
        "Cardiac silhouette is within normal limits.",
        "No cardiomegaly.",
        "Normal cardiac size.",
        "The heart is normal in size and contour.",
    ),
    "Consolidation": (
        "No consolidation.",
        "No focal consolidation.",
        "There is no focal airspace consolidation.",
        "The lungs are free of consolidation.",
        "No evidence of consolidation.",
    ),
    "Edema": (
        "No pulmonary edema.",
        "There is no evidence of edema.",
        "Pulmonary vascularity is normal, without edema.",
        "No overt edema or vascular congestion.",
        "No interstitial edema.",
    ),
    "Nodule": (
        "No pulmonary nodule.",
        "No suspicious nodule.",
        "There is no evidence of a lung nodule.",
        "No nodule or mass is identified.",
        "No discrete nodule.",
    ),
    "Pleural Effusion": (
        "No pleural effusion.",
        "There is no pleural effusion.",
        "Costophrenic angles are sharp.",
        "No evidence of pleural fluid.",
        "The costophrenic angles are clear, without effusion.",
    ),
    "Pleural Thickening": (
        "No pleural thickening.",
        "There is no pleural thickening.",
        "The pleura is thin and smooth.",
        "No evidence of pleural thickening.",
        "Pleural surfaces are normal, without thickening.",
    ),
    "Pneumothorax": (
        "No pneumothorax.",
        "There is no pneumothorax.",
        "No evidence of pneumothorax.",
        "No pneumothorax is seen.",
        "Both lungs reach the chest wall, with no pneumothorax.",
    ),
    "Support Devices": (
        "No support devices.",
        "No lines or tubes are present.",
        "There are no indwelling devices.",
        "No catheter, tube or implant is seen.",
        "No monitoring or support devices.",
    ),
}

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
_DEGREE: Final[dict[Severity, tuple[str, ...]]] = {
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
"""Words for a degree per finding; findings that are not here take the words of :data:`DEGREE`."""
DEGREE: Final = _DEGREE
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
