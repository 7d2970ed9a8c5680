"""Sections, sentences and anatomy of free-text reports."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmlm.errors import ReportFormatError
from dmlm.reports.anatomy import find_anatomy, load_anatomy
from dmlm.reports.sections import all_sections, choose_sections
from dmlm.reports.segment import MAX_SENTENCE, blank_markup, sentences
from dmlm.reports.terms import Trie, expand


def chosen(text):
    return [(name, text[start:end].strip()) for name, start, end in choose_sections(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("Clear lungs.", [("full report", "Clear lungs.")]),
        ("FINDINGS: A.\nIMPRESSION: B.", [("findings", "A."), ("impression", "B.")]),
        (" INDICATION:  Cough.\n \n FINDINGS:\n \n A.\n", [("findings", "A.")]),
        ("Findings: A. Impression: B.", [("findings", "A."), ("impression", "B.")]),
        ("INDICATION: Q. FINDINGS: A. COMPARISON: None.", [("findings", "A.")]),
        ("FINDINGS\nA.\nIMPRESSION\nB.", [("findings", "A."), ("impression", "B.")]),
        ("WET READ: W.\n FINAL REPORT\n IMPRESSION: B.", [("impression", "B.")]),
        (" COMPARISON:  None.\n \n The lungs are clear.", [("last paragraph", "The lungs are clear.")]),
        (" CHEST, PA AND LATERAL:  A.\n HISTORY:  Q.", [("findings", "A.")]),
        ("A sentence first. COMPARISON: none.", [("preamble", "A sentence first.")]),
        ("INDICATION: Rule out pneumonia.", []),
        ("ADDENDUM: A.", [("addendum", "A.")]),
        ("ADDENDUM by Dr. ___ on ___: A.", [("addendum", "A.")]),
        ("LINES/TUBES: A.\nINDICATION: B.", [("findings", "A.")]),
        ("FINDINGS:\nHEART: Normal.\nLUNGS: Clear.", [("findings", "HEART: Normal."), ("findings", "LUNGS: Clear.")]),
        ("These findings: none.", [("full report", "These findings: none.")]),
        ("FINDINGS: \nIMPRESSION: B.", [("impression", "B.")]),
    ],
)
def test_choose_sections(text, expected):
    assert chosen(text) == expected


PIECES = ["FINDINGS:", "history:", "\n", " \n", "a.", " "]


@given(st.text(max_size=300) | st.lists(st.sampled_from(PIECES)).map("".join))
def test_sections_lie_in_the_text_in_order(text):
    last = 0
    for name, start, end in all_sections(text):
        assert name
        assert last <= start < end <= len(text)
        last = end
    assert set(choose_sections(text)) <= {*all_sections(text), *choose_sections(text)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No change. Stable.", ["No change.", "Stable."]),
        ("Seen by Dr. ___ at 10:30 a.m. by phone. Done.", ["Seen by Dr. ___ at 10:30 a.m. by phone.", "Done."]),
        ("Atelectasis vs. pneumonia, e.g. aspiration.", ["Atelectasis vs. pneumonia, e.g. aspiration."]),
        ("A 2.5 cm nodule. XXXX XXXX.", ["A 2.5 cm nodule.", "XXXX XXXX."]),
        ("1. Effusion. 2. No edema.\n3. Clear", ["Effusion.", "No edema.", "Clear"]),
        ("1) Effusion.\n2) Edema", ["1) Effusion.", "2) Edema"]),
        ("- effusion\n- edema", ["- effusion", "- edema"]),
        ("The lungs\n are clear", ["The lungs\n are clear"]),
        ("Effusion\n \nEdema", ["Effusion", "Edema"]),
        ("Effusion.No edema.", ["Effusion.", "No edema."]),
        ("At 3 p.m. The tube was moved.", ["At 3 p.m.", "The tube was moved."]),
        ("Image No. 3 shows no mass, or no. Really?", ["Image No. 3 shows no mass, or no.", "Really?"]),
        ("___ . 12. !!", []),
    ],
)
def test_sentences(text, expected):
    assert [text[start:end] for start, end in sentences(text)] == expected


@given(st.text(max_size=300), st.integers(0, 50))
def test_sentences_lie_in_the_part(text, start):
    last = min(start, len(text))
    for first, end in sentences(text, last):
        assert last <= first < end <= len(text)
        last = end


def test_long_sentences_are_cut():
    text = "effusion and " * 1000
    parts = sentences(text)
    assert all(end - start <= MAX_SENTENCE for start, end in parts)
    assert " ".join(text[start:end] for start, end in parts) == text.strip()
    assert len(sentences("x" * 5000)) == 5


def test_markup_is_blanked_in_place():
    text = "<p>No &lt;5 mm nodule.</p><br/>A < B and C > D <b>bold</b>"
    clean = blank_markup(text)
    assert len(clean) == len(text)
    assert " ".join(clean.split()) == "No 5 mm nodule. A < B and C > D bold"
    assert clean.index("bold") == text.index("bold")
    assert blank_markup("no markup") == "no markup"


def test_anatomy_has_zones_that_masking_knows():
    zones = {zone for term in load_anatomy().values() for zone in term.zones}
    known = "lung upper mid lower apex base hilum perihilar costophrenic cardiophrenic diaphragm pleura periphery"
    known += " fissure heart retrocardiac mediastinum aorta trachea carina svc spine sternum clavicle ribs abdomen"
    assert zones <= set(known.split())
    assert {"upper", "lower", "base", "apex", "costophrenic", "heart"} <= zones
    wordings = [wording for term in load_anatomy().values() for wording in term.terms]
    assert len(wordings) == len(set(wordings))


def test_find_anatomy():
    text = "Opacity in the left lower lobe, lingula and both lung bases; RUL clear."
    found = find_anatomy(text)
    assert [(term.name, term.side) for term, _, _ in found] == [
        ("lower lobe", None),
        ("lingula", "left"),
        ("bases", "bilateral"),
        ("right upper lobe", "right"),
    ]
    assert [text[start:end] for _, start, end in found] == ["lower lobe", "lingula", "lung bases", "RUL"]


def test_wordings():
    assert expand("small|tiny pleural~ effusion") == [
        ("small", "pleural", "effusion"),
        ("small", "effusion"),
        ("tiny", "pleural", "effusion"),
        ("tiny", "effusion"),
    ]
    with pytest.raises(ReportFormatError, match="stands for nothing"):
        expand("a~")
    trie = Trie()
    trie.add(("a", "b"), "x", 1)
    trie.add(("a",), "x", 2)
    assert [(entry.value, first, last) for entry, first, last in trie.find(["a", "a", "b", "c"])] == [
        (2, 0, 1),
        (1, 1, 3),
    ]
