import pytest

from dmlm.errors import ReportFormatError
from dmlm.reports import Observation, cloze_prompt, load_knowledge, zero_shot_prompts
from dmlm.reports.prompts import PROMPT_TEMPLATES

CONTEXT = "Definition: {0.definition} Radiographic characteristics: {0.appearance}"


def test_templates():
    known = load_knowledge()["Pneumothorax"]
    own, none = CONTEXT.format(known), CONTEXT.format(load_knowledge()["No Finding"])
    yes = "Observations: Is there pneumothorax? Yes. Verdict: Pneumothorax is present."
    no = "Observations: Is there pneumothorax? No. Verdict: Pneumothorax is absent."
    first = known.definition.split(".")[0]
    prompts = zero_shot_prompts("pneumothorax", PROMPT_TEMPLATES)
    assert [(name, positive.text, negative.text) for name, positive, negative in prompts] == [
        ("obs_verdict", yes, no),
        ("full", f"{own} {yes}", f"{none} {no}"),
        ("verdict", "Verdict: Pneumothorax is present.", "Verdict: Pneumothorax is absent."),
        ("context", own, none),
        ("triplet", "pneumothorax, present.", "pneumothorax, absent."),
        ("ke_triplet", f"{first}, present.", f"{first}, absent."),
    ]
    assert prompts[0].positive.statements == (Observation("Pneumothorax", "present"),)
    assert prompts[1].negative.statements == (Observation("Pneumothorax", "absent"),)
    assert prompts[3].positive.statements == ()


@pytest.mark.parametrize("finding", sorted(load_knowledge()))
def test_default_prompts_of_every_finding_tell_the_states_apart(finding):
    prompts = zero_shot_prompts(finding)
    assert [prompt.template for prompt in prompts] == ["obs_verdict", "full"]
    assert all(prompt.positive.text != prompt.negative.text for prompt in prompts)


def test_custom_findings_need_knowledge_for_context(tmp_path):
    with pytest.raises(ReportFormatError, match="needs definition and appearance of 'Bent Spine'"):
        zero_shot_prompts("Bent Spine")
    assert zero_shot_prompts("Bent Spine", ["obs_verdict"])[0].positive.text == (
        "Observations: Is there bent spine? Yes. Verdict: Bent Spine is present."
    )
    path = tmp_path / "own.yaml"
    path.write_text("findings: {Bent Spine: {definition: A bent spine., appearance: A curve.}}")
    full = zero_shot_prompts("bent spine", ["full"], load_knowledge(str(path)))[0]
    assert full.positive.text.startswith("Definition: A bent spine. Radiographic characteristics: A curve. Obs")


def test_template_errors():
    with pytest.raises(ReportFormatError, match="did you mean 'verdict'"):
        zero_shot_prompts("Mass", ["verdit"])
    with pytest.raises(ReportFormatError, match="says the same of 'No Finding'"):
        zero_shot_prompts("No Finding", ["context"])


@pytest.mark.parametrize("finding", ["Mass", "effusion", "Scoliosis", "COVID-19", "No Finding"])
def test_cloze_prompts_differ_in_the_verdict_word_only(finding):
    (present, a), (absent, b) = cloze_prompt(finding)
    assert present.text[slice(*a)] == "present"
    assert absent.text[slice(*b)] == "absent"
    assert present.text[: a[0]] == absent.text[: b[0]]
    assert present.text[a[1] :] == absent.text[b[1] :] == "."
