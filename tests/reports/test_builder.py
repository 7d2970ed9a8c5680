import math

import pytest

from dmlm.errors import ReportFormatError
from dmlm.reports import FindingKnowledge, Observation, StructuredReport, from_labels, load_knowledge, with_knowledge

NAN = math.nan


def test_states_and_names():
    report = from_labels("s1", {"Effusion": 1.0, "Mass": 0.0, "edema": -1.0, "Nodule": NAN})
    assert report.study_id == "s1"
    assert report.source == "labels"
    assert report.verdicts == {"Pleural Effusion": "present", "Mass": "absent", "Edema": "uncertain"}
    assert list(report.definition) == list(report.appearance) == ["Pleural Effusion", "Edema"]
    assert report.definition["Edema"] == load_knowledge()["Edema"].definition


def test_without_absent_findings():
    assert from_labels("s", {"Mass": 0, "Edema": 1}, include_absent=False).verdicts == {"Edema": "present"}


def test_nothing_present_is_defined_as_no_finding():
    report = from_labels("s", {"Mass": 0, "Edema": 0})
    assert list(report.definition) == ["No Finding"]
    assert "No Finding" not in report.verdicts  # other findings were not looked for


@pytest.mark.parametrize(
    ("labels", "verdicts"),
    [
        ({"No Finding": 1, "Mass": 0}, {"No Finding": "present", "Mass": "absent"}),
        ({"No Finding": 1, "Mass": NAN}, {"No Finding": "present"}),
        ({"No Finding": 0, "Mass": 1}, {"No Finding": "absent", "Mass": "present"}),
        ({"No Finding": -1, "Mass": 0}, {"Mass": "absent"}),
        ({"No Finding": 1, "Support Devices": 1}, {"No Finding": "present", "Support Devices": "present"}),
        ({"No Finding": 1, "Mass": 1}, {"Mass": "present"}),
        ({"No Finding": 1, "Mass": -1}, {"Mass": "uncertain"}),
    ],
)
def test_no_finding(labels, verdicts):
    assert from_labels("s", labels).verdicts == verdicts


def test_bad_label():
    with pytest.raises(ReportFormatError, match="study 's7': label 'Mass' must be 1, 0, -1 or nan; got 2"):
        from_labels("s7", {"Mass": 2})


def test_with_knowledge_keeps_own_texts_of_custom_findings():
    report = StructuredReport(
        "s",
        (Observation("Scoliosis", "present"), Observation("Mass", "present"), Observation("Edema", "absent")),
        definition={"Scoliosis": "A bent spine.", "Mass": "old", "Edema": "old"},
    )
    knowledge = {"Mass": FindingKnowledge("Mass", definition="A lump.")}
    filled = with_knowledge(report, knowledge)
    assert filled.definition == {"Scoliosis": "A bent spine.", "Mass": "A lump."}
    assert filled.appearance == {}
    assert filled.observations == report.observations
