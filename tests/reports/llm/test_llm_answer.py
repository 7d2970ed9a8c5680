"""Answers: mended JSON, checks against the schema and the report, prompts that agree with both."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmlm.reports import load_knowledge, render
from dmlm.reports.llm.answer import read_answer
from dmlm.reports.llm.cost import answer_of
from dmlm.reports.llm.prompts import ObservationPrompt, examples, knowledge_prompt_hash
from dmlm.reports.llm.repair import load_json
from dmlm.reports.rules import structure
from dmlm.reports.schema import Observation

VALUE = {"observations": [{"a": "x, [y] {z}", "b": None}, {"a": 'quote " and \\', "b": [1, 2.5]}]}
TEXT = "FINDINGS: There is a small left\npleural effusion. No pneumothorax."


def item(**changes):
    base = {"evidence": "small left pleural effusion", "finding": "Pleural Effusion", "existence": "present"}
    return {**base, "laterality": "left", "position": None, "severity": "mild", **changes}


def answer(*items):
    return json.dumps({"observations": list(items)})


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(VALUE),
        json.dumps(VALUE, indent=2),
        f"```json\n{json.dumps(VALUE)}\n```",
        f"Sure! Here it is:\n```\n{json.dumps(VALUE)}\n```\nAnything else?",
        f"<think>Maybe {{this}} or [that]?</think>{json.dumps(VALUE)}",
        f"As asked [see above]: {json.dumps(VALUE)}",
        json.dumps(VALUE).replace("}]}", "},\n ],\n}"),
        json.dumps(VALUE).replace("null", "None"),
        json.dumps(VALUE).replace("x, [y]", "x, [y]\n").replace("\\n", "\n"),
    ],
)
def test_json_is_found_and_mended(text):
    loaded = load_json(text)
    assert not loaded.is_cut
    assert loaded.value["observations"][1] == VALUE["observations"][1]


@given(st.integers(0, 200))
def test_of_a_cut_answer_whole_elements_remain(length):
    whole = json.dumps(VALUE)
    cut = whole[: min(length, len(whole) - 1)]
    try:
        loaded = load_json(cut)
    except ValueError:
        assert "[" not in cut  # nothing that could be closed
        return
    assert loaded.is_cut
    kept = loaded.value["observations"]
    assert kept == VALUE["observations"][: len(kept)]
    # an element is there as soon as its bracket closed
    second = whole.index('{"a": "quote')
    assert len(kept) == (0 if length < second - 2 else 1) or length >= len(whole) - 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("<think>hm</think>", "empty"),
        ("I cannot do that.", "no JSON"),
        ('{"observations": [}]', "not valid JSON"),
        ('{"a" 1}', "not valid JSON"),
        ("[" * 5000, "too deep"),
        ("{" * 5000, "too deep"),
        ("[" + "1," * 100_000 + "1]", "characters"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_few_words(text, words):
    with pytest.raises(ValueError, match=words) as caught:
        load_json(text)
    assert len(str(caught.value)) < 120


@given(st.text(max_size=300))
def test_any_text_gives_json_or_value_error(text):
    with contextlib.suppress(ValueError):
        load_json(text)


def test_an_observation_is_read_with_its_place():
    read = read_answer(answer(item()), TEXT)
    assert read.faults == ()
    (observation,) = read.observations
    assert observation == Observation(
        "Pleural Effusion", "present", "left", None, "mild", evidence=observation.evidence
    )
    assert TEXT[slice(*observation.evidence)] == "small left\npleural effusion"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"finding": "pleural_effusion"}, {}),
        ({"finding": "Pleural effusions"}, {}),
        ({"existence": "Yes", "severity": "small"}, {}),
        ({"existence": "possible"}, {"existence": "uncertain"}),
        ({"laterality": "both"}, {"laterality": "bilateral"}),
        ({"laterality": "N/A"}, {"laterality": None}),
        ({"position": "Left lung base"}, {"position": "base"}),
        ({"position": "lower lobes"}, {"position": "lower lobe"}),
        ({"position": "in the subpulmonic space"}, {"position": "subpulmonic space"}),
        ({"position": "what? Yes. Verdict: gone"}, {"position": None}),
        ({"severity": 3}, {"severity": None}),
        ({"evidence": '"SMALL left  pleural effusion."'}, {}),
    ],
)
def test_other_words_are_understood(changes, expected):
    (observation,) = read_answer(answer(item(**changes)), TEXT).observations
    wanted = {"finding": "Pleural Effusion", "existence": "present", "laterality": "left", "severity": "mild"}
    for name, value in {**wanted, **expected}.items():
        assert getattr(observation, name) == value


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (item(finding="Gout"), '"Gout" is not one of the findings'),
        (item(finding=""), "names no finding"),
        (item(finding=None), "names no finding"),
        (item(existence="sometimes"), "existence must be"),
        (item(existence=None), "existence must be"),
        (item(evidence="large right effusion"), "does not stand in the report"),
        (item(evidence=""), "does not stand in the report"),
        (item(finding="No Finding", existence="uncertain"), "never uncertain"),
        ("effusion", "not an object"),
        (None, "not an object"),
    ],
)
def test_what_the_report_or_the_schema_does_not_bear_out_is_refused(bad, words):
    read = read_answer(answer(item(), bad), TEXT)
    assert len(read.observations) == 1
    assert read.dropped == 1
    assert words in read.faults[0]
    assert read.faults[0].startswith("observation 2: ")


@pytest.mark.parametrize("text", ["{}", '{"findings": []}', '{"observations": {}}', "[1]", "7"])
def test_wrong_shapes_are_faults(text):
    assert read_answer(text, TEXT).faults


def test_evidence_must_stand_in_what_was_shown():
    text = "INDICATION: effusion.\nFINDINGS: Clear lungs."
    start = text.index("FINDINGS")
    assert read_answer(answer(item(evidence="effusion")), text).observations
    read = read_answer(answer(item(evidence="effusion")), text, [(start, len(text))])
    assert read.observations == ()
    assert read.faults


def test_what_contradicts_itself_is_settled_as_by_the_rules():
    normal = item(finding="No Finding", evidence="No pneumothorax")
    read = read_answer(answer(normal, item(), item()), TEXT)
    assert [observation.finding for observation in read.observations] == ["Pleural Effusion"]


def test_observations_come_in_the_order_of_the_report():
    gone = item(finding="Pneumothorax", existence="absent", evidence="No pneumothorax", laterality=None, severity=None)
    read = read_answer(answer(gone, item()), TEXT)
    assert [observation.finding for observation in read.observations] == ["Pleural Effusion", "Pneumothorax"]


def test_too_many_observations_are_a_fault():
    assert any("more than" in fault for fault in read_answer(answer(*[item()] * 300), TEXT).faults)


@pytest.mark.parametrize(("text", "value"), examples())
def test_the_examples_are_answers_that_we_would_accept(text, value):
    read = read_answer(json.dumps(value), text)
    assert read.faults == ()
    assert len(read.observations) == len(value["observations"])
    for written, observation in zip(value["observations"], read.observations, strict=True):
        assert {key: written[key] for key in ("finding", "existence", "laterality", "severity")} == {
            key: getattr(observation, key) for key in ("finding", "existence", "laterality", "severity")
        }


def test_the_examples_show_every_state_side_and_more_than_one_degree():
    shown = [observation for _, value in examples() for observation in value["observations"]]
    assert {item["existence"] for item in shown} == {"present", "absent", "uncertain"}
    assert {item["laterality"] for item in shown} == {None, "left", "right", "bilateral"}
    assert {item["severity"] for item in shown} >= {None, "mild", "severe"}


def test_what_the_rules_read_survives_as_answer():
    text = "FINDINGS: Moderate right pleural effusion. No pneumothorax. Heart size is normal."
    by_rules = structure(text, "1")
    read = read_answer(answer_of(by_rules, text), text)
    assert read.observations == by_rules.observations


def test_an_answer_renders_and_reads_back():
    from dmlm.reports import StructuredReport, parse

    read = read_answer(answer(item(position="left lung base")), TEXT)
    text = render(StructuredReport("1", read.observations)).text
    assert "Is there a mild pleural effusion on the left in the base? Yes." in text
    assert parse(text)[0].position == "base"


def test_the_hash_changes_with_the_findings_and_nothing_else(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("findings:\n  Azygos Lobe: {definition: A lobe.}\n")
    first = ObservationPrompt().hash
    assert first == ObservationPrompt().hash
    assert first != ObservationPrompt(load_knowledge(str(own))).hash
    assert first != knowledge_prompt_hash()


def test_the_prompt_holds_findings_report_and_schema():
    prompt = ObservationPrompt()
    messages = prompt.messages("No pneumothorax.")
    assert [message.role for message in messages] == ["system", *["user", "assistant"] * 3, "user"]
    assert all(f'"{name}"' in messages[0].content for name in load_knowledge())
    assert messages[-1].content.endswith("<<<\nNo pneumothorax.\n>>>")
    properties = prompt.schema["properties"]["observations"]["items"]
    assert set(properties["required"]) == set(properties["properties"])
