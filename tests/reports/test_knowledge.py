import re

import pytest

from dmlm.errors import ReportFormatError
from dmlm.reports import FindingKnowledge, canonical_name, load_knowledge
from dmlm.reports.knowledge import load_authors_knowledge
from dmlm.reports.lexicon import parents

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
    "Aspiration Pneumonia",
]
RULES_ONLY = sorted(set(load_knowledge()) - {*CHEXPERT, *OTHERS})


def test_library_covers_the_data_sets():
    assert set(load_knowledge()) >= {*CHEXPERT, *OTHERS}
    # all else is what the rules can find
    assert set(load_knowledge()) == {*parents(), "No Finding"}
    assert {known.source for known in load_knowledge().values()} == {"library"}


@pytest.mark.parametrize("name", CHEXPERT + OTHERS + RULES_ONLY)
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
        "  Bent Spine:\n    definition: |\n      A bent\n      spine.\n"
    )
    known = load_knowledge(str(path))
    assert known["Pleural Effusion"].definition == "Fluid."
    assert known["Pleural Effusion"].appearance == load_knowledge()["Pleural Effusion"].appearance
    assert known["Pleural Effusion"].source == str(path)
    assert known["Bent Spine"] == FindingKnowledge("Bent Spine", "A bent spine.", source=str(path))
    assert known["Mass"].source == "library"
    assert canonical_name("water", known) == "Pleural Effusion"
    assert canonical_name("water") == "water"
    assert canonical_name("BENT SPINE", dict(known)) == "Bent Spine"
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
        ("findings: {Mass: {definition: 3}}", r"findings\.Mass\.definition: expected text; got '3'"),
        ("findings: {Mass: {synonyms: x}}", r"findings\.Mass\.synonyms: expected a list"),
        ("findings: {Mass: {synonyms: [effusion]}}", "synonym 'effusion' already means 'Pleural Effusion'"),
        ("findings: {Mass: {codes: [1]}}", r"findings\.Mass\.codes: expected terminology: code"),
        ("findings: {Mass: {codes: {SNOMED CT: 1}}}", r"findings\.Mass\.codes: .*codes in quotes"),
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


def test_codes_have_the_form_of_their_terminology():
    for known in load_knowledge().values():
        for system, code in known.codes.items():
            assert re.fullmatch({"RadLex": r"RID\d{3,5}", "SNOMED CT": r"\d{6,18}"}[system], code), known.name
    codes = [code for known in load_knowledge().values() for code in known.codes.values()]
    assert len(codes) == len(set(codes)) >= 15
    assert all(_verhoeff(code) for code in codes if code.isdigit())


def _verhoeff(code: str) -> bool:
    """Check digit of SNOMED CT identifiers."""
    turns = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    permutations = list(turns)
    for _ in range(6):
        permutations.append([permutations[-1][turns[1][i]] for i in range(10)])
    total = 0
    for place, digit in enumerate(reversed(code)):
        total = _dihedral(total, permutations[place % 8][int(digit)])
    return total == 0


def _dihedral(a: int, b: int) -> int:
    if a < 5:
        return (a + b) % 5 if b < 5 else (a + b - 5) % 5 + 5
    return (a - 5 - b) % 5 + 5 if b < 5 else (a - b) % 5


AUTHORS = """Cardiomegaly
Definition: A large heart.

Appearance: The silhouette is wide.

Pleural Other
Definition: Pleural thickening refers to a thick pleura.

Appearance: A band along the wall.

Scoliosis of Spine
Definition: A curve.
Radiographic characteristics: Vertebrae leave the midline.
"""


def test_authors_file(tmp_path):
    path = tmp_path / "MIMIC-CXR.txt"
    path.write_text(AUTHORS)
    known = load_authors_knowledge(str(path))
    assert known["Cardiomegaly"].definition == "A large heart."
    assert known["Cardiomegaly"].appearance == "The silhouette is wide."
    assert known["Cardiomegaly"].synonyms == load_knowledge()["Cardiomegaly"].synonyms
    assert known["Pleural Other"].definition == known["Pleural Thickening"].definition
    assert known["Pleural Thickening"].source == str(path)
    assert known["Scoliosis of Spine"].appearance == "Vertebrae leave the midline."
    assert known["Edema"].source == "library"
    assert dict(load_knowledge(str(path))) == dict(known)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "no finding in the file"),
        ("Definition: x\n", ":1: a definition needs text, and a line with the name"),
        ("Mass\nDefinition:\n", ":2: a definition needs text"),
        ("Mass\nDefinition: x\nNodule\nDefinition: x\nAppearance: y\n", ":1: finding 'Mass' has no appearance"),
        ("Mass\n", ":1: finding 'Mass' has no definition and no appearance"),
        ("Mass\nDefinition: x\nAppearance: y\n" + "a sentence that goes on and on\n", ":4: expected the name"),
    ],
)
def test_authors_file_errors(tmp_path, content, complaint):
    path = tmp_path / "own.txt"
    path.write_text(content)
    with pytest.raises(ReportFormatError, match=complaint) as caught:
        load_authors_knowledge(str(path))
    assert "own.txt" in str(caught.value)


def test_the_real_authors_file(real_data):
    known = load_authors_knowledge(str(real_data / "knowledge" / "MIMIC-CXR.txt"))
    own = [name for name, finding in known.items() if finding.source != "library"]
    assert sorted(own) == sorted([*CHEXPERT, "Pleural Thickening"])
    assert all(len(known[name].appearance.split()) > 40 for name in own)
    assert "thickening" in known["Pleural Other"].definition
