from collections import Counter

import numpy as np
import pytest

from dmlm.errors import ConfigError, ReportFormatError
from dmlm.reports import (
    Observation,
    StructuredReport,
    TextViews,
    from_labels,
    render,
    with_knowledge,
    zero_shot_prompts,
)
from dmlm.reports.prompts import render_statement
from dmlm.reports.render import render_triplets

REPORT = with_knowledge(
    StructuredReport(
        "s1",
        (
            Observation("Pleural Effusion", "absent", "right"),
            Observation("Pleural Effusion", "present", "left", "lower zone", "moderate"),
            Observation("Pneumonia", "uncertain"),
            *(Observation(name, "absent") for name in ("Pneumothorax", "Mass", "Edema", "Fracture", "Hernia")),
        ),
    )
)
TEXT = "Moderate left effusion, perhaps pneumonia."


def draw(views, count=400, report=REPORT, text=TEXT):
    return [views.sample(report, text, np.random.default_rng([7, number])) for number in range(count)]


def test_statement_views_are_the_zero_shot_prompts():
    views = TextViews(statement_views=1.0, modifier_dropout=1.0, context_in_statement=0.5)
    prompts = set()
    for finding, state in REPORT.verdicts.items():
        for prompt in zero_shot_prompts(finding):
            if state != "uncertain":
                prompts.add((prompt.positive if state == "present" else prompt.negative).text)
    uncertain = {render_statement(Observation("Pneumonia", "uncertain"), t).text for t in ("obs_verdict", "full")}
    texts = {text.text for text in draw(views)}
    assert texts == prompts | uncertain
    assert "Observations: Is there pneumonia? Uncertain. Verdict: Pneumonia is possible." in texts


def test_statements_agree_with_verdicts_and_name_modifiers():
    texts = draw(TextViews(statement_views=1.0, modifier_dropout=0.0, context_in_statement=0.0))
    assert {item for text in texts for item in text.statements} == set(REPORT.observations[1:])
    assert all(len(text.statements) == 1 for text in texts)
    assert all(text.statements[0].existence == REPORT.verdicts[text.statements[0].finding] for text in texts)


def test_kinds_balance_although_absent_findings_outnumber():
    for share in (0.5, 0.8):
        texts = draw(TextViews(statement_views=1.0, positive_statements=share), 2000)
        kinds = Counter(text.statements[0].existence != "absent" for text in texts)
        assert kinds[True] / 2000 == pytest.approx(share, abs=0.04)


def test_one_kind_only_is_never_empty():
    normal = from_labels("s", {"Mass": 0, "Edema": 0})
    texts = draw(TextViews(statement_views=1.0, positive_statements=1.0), 20, normal, "")
    assert {text.statements[0].existence for text in texts} == {"absent"}


def test_shares_of_views_and_sections():
    texts = draw(TextViews(), 3000)
    whole = [text for text in texts if len(text.statements) > 1]
    assert len(whole) / 3000 == pytest.approx(0.5, abs=0.03)
    sections = Counter(span.section for text in whole for span in text.spans)
    assert sections["observations"] == sections["verdict"] == len(whole)
    assert sections["definition"] / len(whole) == pytest.approx(0.7, abs=0.04)
    assert sections["appearance"] / len(whole) == pytest.approx(0.7, abs=0.04)
    assert {text.statements for text in whole} == {render(REPORT).statements}


def test_seeds():
    views = TextViews()
    assert draw(views, 50) == draw(views, 50)
    assert len({text.text for text in draw(views, 50)}) > 10


def test_full_is_deterministic_and_whole():
    assert TextViews().full(REPORT, TEXT) == render(REPORT, max_defined=3)
    assert TextViews(max_defined=1).full(REPORT, TEXT) == render(REPORT, max_defined=1)


def test_original_style_and_fallbacks():
    original = TextViews(style="original")
    assert {text.text for text in draw(original, 20)} == {TEXT}
    assert original.full(REPORT, TEXT).statements == REPORT.observations
    assert original.full(REPORT, " ") == render(REPORT, max_defined=3)
    empty = StructuredReport("s9", ())
    assert TextViews().full(empty, TEXT).text == TEXT
    assert TextViews().sample(empty, TEXT, np.random.default_rng(0)).spans[0].section == "text"
    for views in (TextViews(), original):
        with pytest.raises(ReportFormatError, match="study 's9' has neither observations nor text"):
            views.full(empty, " ")


def test_own_knowledge_reaches_statements(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("findings: {Mass: {definition: A lump., appearance: White.}}")
    views = TextViews(statement_views=1.0, context_in_statement=1.0, knowledge=str(path))
    text = views.sample(from_labels("s", {"Mass": 1}), "", np.random.default_rng(0)).text
    assert text.startswith("Definition: A lump. Radiographic characteristics: White. Observations: Is there mass? Yes.")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"style": "free"}, "ke_triplet, original; got 'free'"),
        ({"statement_views": 1.5}, "statement_views must be a probability"),
        ({"positive_statements": -0.1}, "positive_statements must be a probability"),
        ({"section_dropout": {"verdict": 0.1}}, "only definition and appearance can be dropped"),
        ({"section_dropout": {"definition": 2}}, r"section_dropout\.definition must be a probability"),
        ({"max_defined": 0}, "max_defined must be at least 1"),
    ],
)
def test_validation(arguments, complaint):
    with pytest.raises(ConfigError, match=complaint):
        TextViews(**arguments)


STYLES = {
    "observations_verdict": "Observations: Is there a moderate pleural effusion on the left in the lower zone? Yes. ",
    "triplet": "pleural effusion, left lower zone, present. pneumonia, possible. pleural effusion, right, absent. ",
    "ke_triplet": "Pleural effusion is ",
    "original": "Moderate left effusion, perhaps pneumonia.",
    "structured": "Definition: Pleural effusion is ",
}


@pytest.mark.parametrize("style", STYLES)
def test_styles_of_table_6(style):
    views = TextViews(style=style, statement_views=0.0, section_dropout={})
    text = views.full(REPORT, TEXT)
    assert text.text.startswith(STYLES[style])
    assert views.sample(REPORT, TEXT, np.random.default_rng(0)) == text
    assert {item.finding for item in text.statements} == set(REPORT.verdicts)
    for span in text.spans:
        assert text.text[span.start : span.end].strip()
    assert ("Radiographic characteristics:" in text.text) == (style == "structured")


@pytest.mark.parametrize(("style", "template"), [("triplet", "triplet"), ("ke_triplet", "ke_triplet")])
def test_statements_of_triplets_are_the_prompts(style, template):
    texts = draw(TextViews(style=style, statement_views=1.0, modifier_dropout=1.0))
    prompts = {
        (prompt.positive if state == "present" else prompt.negative).text
        for finding, state in REPORT.verdicts.items()
        if state != "uncertain"
        for prompt in zero_shot_prompts(finding, (template,))
    }
    assert prompts < {text.text for text in texts}
    assert len({text.text for text in texts} - prompts) == 1  # the uncertain one
    assert all(item.severity is None for text in texts for item in text.statements)


def test_knowledge_enhanced_triplets_use_the_first_sentence_of_a_users_definition(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("findings: {Pleural Effusion: {definition: Water in the chest. It is common.}}")
    text = TextViews(style="ke_triplet", knowledge=str(path)).full(REPORT, TEXT).text
    assert text.startswith("Water in the chest, left lower zone, present. ")


def test_a_triplet_needs_an_observation():
    with pytest.raises(ReportFormatError, match="no observation"):
        render_triplets(StructuredReport("s", ()))


def test_statement_is_always_a_statement_and_text_stays_text() -> None:
    views = TextViews(statement_views=0.0)
    report = StructuredReport("s", (Observation("Edema", "present"), Observation("Nodule", "absent")))
    drawn = {views.statement(report, "", np.random.default_rng(seed)).text for seed in range(20)}
    assert drawn == {
        TextViews(statement_views=1.0).sample(report, "", np.random.default_rng(seed)).text for seed in range(20)
    }
    assert (
        views.statement(StructuredReport("s", (), source="text"), "Clear lungs.", np.random.default_rng(0)).text
        == "Clear lungs."
    )


def test_further_statements_must_not_be_negative() -> None:
    with pytest.raises(ConfigError, match="further_statements"):
        TextViews(further_statements=-1)
