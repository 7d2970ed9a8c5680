import re

import pytest

from dmlm.errors import ReportFormatError
from dmlm.reports import FindingKnowledge, canonical_name, load_knowledge

CHEXPERT = [
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
]
OTHERS = [
    "Infiltration",
    "Mass",
    "Nodule",
    "Emphysema",
    "Fibrosis",
    "Pleural Thickening",
    "Hernia",
    "COVID-19",
    "Tuberculosis",
    "Bacterial Pneumonia",
    "Viral Pneumonia",
]


def test_library_covers_the_data_sets():
    assert set(load_knowledge()) == {*CHEXPERT, *OTHERS}
    assert {known.source for known in load_knowledge().values()} == {"library"}


@pytest.mark.parametrize("name", CHEXPERT + OTHERS)
def test_library_texts_are_short_and_name_their_finding(name):
    known = load_knowledge()[name]
    assert known.name == name
    assert len(known.definition.split()) <= 25
    assert len(known.appearance.split()) <= 45
    assert len(re.findall(r"[.](?: |$)", known.definition)) == 1
    assert 1 <= len(re.findall(r"[.](?: |$)", known.appearance)) <= 2
    stem = name.lower()[:6]
    assert stem in known.definition.lower()
    assert stem in known.appearance.lower() or name == "No Finding"
    for text in (known.definition, known.appearance):
        assert text == " ".join(text.split())
        assert not re.search(r"Verdict:|Observations:|Definition:", text)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("Effusion", "Pleural Effusion"),
        ("pleural_effusion", "Pleural Effusion"),
        ("  PLEURAL   EFFUSION ", "Pleural Effusion"),
        ("Pleural_Thickening", "Pleural Thickening"),
        ("covid19", "COVID-19"),
        ("covid-19", "COVID-19"),
        ("Enlarged Heart", "Cardiomegaly"),
        ("hiatal hernia", "Hernia"),
        ("No_Finding", "No Finding"),
        ("rib_Deformity", "rib Deformity"),
    ],
)
def test_canonical_name(written, canonical):
    assert canonical_name(written) == canonical
    assert canonical_name(canonical) == canonical


def test_every_synonym_leads_to_its_finding():
    for name, known in load_knowledge().items():
        assert all(canonical_name(synonym.lower()) == name for synonym in known.synonyms)


def test_user_file_overrides_and_extends(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "findings:\n"
        "  effusion: {definition: Fluid., synonyms: [Water]}\n"
        "  Scoliosis:\n    definition: |\n      A bent\n      spine.\n"
    )
    known = load_knowledge(str(path))
    assert known["Pleural Effusion"].definition == "Fluid."
    assert known["Pleural Effusion"].appearance == load_knowledge()["Pleural Effusion"].appearance
    assert known["Pleural Effusion"].source == str(path)
    assert known["Scoliosis"] == FindingKnowledge("Scoliosis", "A bent spine.", source=str(path))
    assert known["Mass"].source == "library"
    assert canonical_name("water", known) == "Pleural Effusion"
    assert canonical_name("water") == "water"
    assert canonical_name("SCOLIOSIS", dict(known)) == "Scoliosis"
    assert load_knowledge(str(path)) is known
    assert load_knowledge() is load_knowledge()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("findings: [a]", "expected one mapping 'findings'"),
        ("Mass: {definition: x}", "expected one mapping 'findings'"),
        ("findings: {Mass: text}", r"findings\.Mass: expected a mapping"),
        ("findings: {Mass: {defnition: x}}", r"findings\.Mass\.defnition: unknown key; did you mean 'definition'\?"),
        ("findings: {Mass: {zzz: x}}", r"findings\.Mass\.zzz: unknown key; known keys: definition"),
        ("findings: {Mass: {definition: 3}}", r"findings\.Mass\.definition: expected text; got 3"),
        ("findings: {Mass: {synonyms: x}}", r"findings\.Mass\.synonyms: expected a list"),
        ("findings: {Mass: {synonyms: [effusion]}}", "synonym 'effusion' already means 'Pleural Effusion'"),
        ("findings: {1: {definition: x}}", "a name must be text, got 1"),
        ("findings: {Mass: {definition: !!python/object:os.system x}}", "not valid YAML"),
        ("findings: [", "not valid YAML"),
    ],
)
def test_errors_name_file_and_key(tmp_path, content, complaint):
    path = tmp_path / "own.yaml"
    path.write_text(content)
    with pytest.raises(ReportFormatError, match=complaint) as caught:
        load_knowledge(str(path))
    assert "own.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(ReportFormatError, match=r"none\.yaml: the file of findings cannot be read"):
        load_knowledge(str(tmp_path / "none.yaml"))
