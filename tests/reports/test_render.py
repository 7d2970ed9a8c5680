import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmlm.errors import ReportFormatError
from dmlm.reports import (
    Observation,
    StructuredReport,
    load_knowledge,
    parse,
    render,
    render_original,
    with_knowledge,
)
from dmlm.reports.render import STRUCTURED_SECTIONS
from dmlm.reports.schema import EXISTENCES, LATERALITIES, SEVERITIES

REPORT = with_knowledge(
    StructuredReport(
        "s1",
        (
            Observation("Pneumothorax", "absent", evidence=(0, 5)),
            Observation("Pleural Effusion", "absent", "right"),
            Observation("Pleural Effusion", "present", "left", "lower zone", "moderate", evidence=(7, 9)),
            Observation("COVID-19", "uncertain", severity="mild"),
        ),
    )
)
HEADERS = ("Definition:", "Radiographic characteristics:", "Observations:", "Verdict:")

words = st.text(string.ascii_letters, min_size=1, max_size=8).filter(
    lambda word: word.lower() not in {"a", "is", "in", "on", "the", "present", "absent", "possible", *SEVERITIES}
)
custom = st.lists(words, min_size=1, max_size=3).map(" ".join)
findings = st.one_of(st.sampled_from(sorted(load_knowledge())), custom)
observations = st.builds(
    Observation,
    finding=findings,
    existence=st.sampled_from(EXISTENCES),
    laterality=st.sampled_from((None, *LATERALITIES)),
    position=st.sampled_from((None, "lower zone", "upper zone", "left costophrenic angle", "base")),
    severity=st.sampled_from((None, *SEVERITIES)),
)


def _distinct(items):
    return len({item.finding.lower() for item in items}) == len({item.finding for item in items})


reports = (
    st.lists(observations, min_size=1, max_size=8).filter(_distinct).map(lambda o: StructuredReport("s", tuple(o)))
)


def test_form_of_the_paper():
    knowledge = load_knowledge()
    effusion, covid = knowledge["Pleural Effusion"], knowledge["COVID-19"]
    assert render(REPORT).text == (
        f"Definition: {effusion.definition} {covid.definition} "
        f"Radiographic characteristics: {effusion.appearance} {covid.appearance} "
        "Observations: Is there a moderate pleural effusion on the left in the lower zone? Yes. "
        "Is there pleural effusion on the right? No. Is there mild COVID-19? Uncertain. Is there pneumothorax? No. "
        "Verdict: Pleural Effusion is present. COVID-19 is possible. Pneumothorax is absent."
    )


def test_without_modifiers_each_finding_is_said_once():
    text = render(REPORT, ("observations", "verdict"), modifiers=False)
    assert text.text == (
        "Observations: Is there pleural effusion? Yes. Is there COVID-19? Uncertain. Is there pneumothorax? No. "
        "Verdict: Pleural Effusion is present. COVID-19 is possible. Pneumothorax is absent."
    )
    assert text.statements == (
        Observation("Pleural Effusion", "present"),
        Observation("COVID-19", "uncertain"),
        Observation("Pneumothorax", "absent"),
    )


def test_statements_follow_the_text():
    assert [item.finding for item in render(REPORT).statements] == [
        "Pleural Effusion",
        "Pleural Effusion",
        "COVID-19",
        "Pneumothorax",
    ]
    assert all(item.evidence is None for item in render(REPORT).statements)
    assert render(REPORT, ("verdict",)).statements == render(REPORT, ("verdict",), modifiers=False).statements
    assert render(REPORT, ("definition",)).statements == ()


def test_selection_and_limits():
    only = render(REPORT, findings={"effusion"})
    assert {item.finding for item in only.statements} == {"Pleural Effusion"}
    assert "COVID-19" not in only.text
    assert render(REPORT, ("verdict",), max_findings=2).text == (
        "Verdict: Pleural Effusion is present. COVID-19 is possible."
    )
    limited = render(REPORT, max_defined=1)
    assert load_knowledge()["COVID-19"].definition not in limited.text
    assert limited.statements == render(REPORT).statements


def test_no_finding_is_a_verdict_without_a_question():
    report = StructuredReport("s", (Observation("Mass", "absent"), Observation("No Finding", "present")))
    text = render(report)
    assert text.text == "Observations: Is there a mass? No. Verdict: No Finding is present. Mass is absent.".replace(
        "a mass", "mass"
    )
    assert [span.section for span in text.spans] == ["observations", "verdict"]
    assert parse(text.text) == list(text.statements)
    assert [item.finding for item in render(report, ("observations",)).statements] == ["Mass"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"sections": ("verdicts",)}, "sections must be some of definition.*got 'verdicts'"),
        ({"sections": ()}, "got none"),
        ({"findings": ("Hernia",)}, "study 's1': nothing to write"),
    ],
)
def test_errors(arguments, complaint):
    with pytest.raises(ReportFormatError, match=complaint):
        render(REPORT, **arguments)


def test_original_text():
    text = render_original("  FINDINGS:\n  clear lungs. ", REPORT.observations)
    assert text.text == "FINDINGS: clear lungs."
    assert [tuple(span) for span in text.spans] == [("text", 0, len(text.text))]
    assert text.statements == REPORT.observations
    with pytest.raises(ReportFormatError, match="blank"):
        render_original(" \n")


@settings(max_examples=150, deadline=None)
@given(reports, st.booleans())
def test_round_trip(report, modifiers):
    text = render(with_knowledge(report), modifiers=modifiers)
    assert parse(text.text) == list(text.statements)
    assert {item.finding for item in text.statements} == set(report.verdicts)


@settings(max_examples=60, deadline=None)
@given(reports)
def test_round_trip_of_single_sections(report):
    verdict = render(report, ("verdict",))
    assert parse(verdict.text) == list(verdict.statements)
    known = StructuredReport("s", tuple(o for o in report.observations if o.finding in load_knowledge()))
    if set(known.verdicts) - {"No Finding"}:
        asked = render(known, ("observations",))
        assert parse(asked.text) == list(asked.statements)


@settings(max_examples=80, deadline=None)
@given(reports, st.sets(st.sampled_from(STRUCTURED_SECTIONS), min_size=1), st.booleans())
def test_spans_are_the_bodies_without_headers(report, sections, modifiers):
    report = with_knowledge(report)
    if not set(report.verdicts) - {"No Finding"} or not report.definition:
        sections = {*sections, "verdict"}
    text = render(report, sections, modifiers=modifiers)
    rest, end = [], 0
    for span in text.spans:
        body = text.text[span.start : span.end]
        assert body == body.strip() != ""
        assert not any(header in body for header in HEADERS)
        assert span.section in sections
        rest.append(text.text[end : span.start].strip())
        end = span.end
    assert end == len(text.text)
    assert rest == [header for header in HEADERS if header in rest]
    order = [span.section for span in text.spans]
    assert order == [name for name in STRUCTURED_SECTIONS if name in order]


@settings(max_examples=60, deadline=None)
@given(reports)
def test_present_before_uncertain_before_absent(report):
    states = list(report.verdicts.values())
    rendered = [item.existence for item in render(report, ("verdict",)).statements]
    assert rendered == sorted(states, key=("present", "uncertain", "absent").index)


def test_known_names_are_read_back_before_modifiers():
    report = StructuredReport(
        "s", (Observation("Mild Opacity in the Lung", "present", "left"), Observation("Opacity", "absent"))
    )
    text = render(report)
    assert parse(text.text) == list(text.statements)
