"""The parser's rules one by one, on reports written for this purpose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmlm.datasets.mimic_cxr_sections import conclusion, section_name, sectioned, split_sections
from dmlm.datasets.mimic_cxr_special import RELEASED_CASES, SpecialCases, read_special_cases
from dmlm.errors import DatasetFormatError

TITLE = "                                 FINAL REPORT\n"


def _names(text):
    return [item.name for item in split_sections(text)]


def test_a_header_needs_a_space_before_and_white_space_behind():
    assert _names(f"{TITLE} FINDINGS: Clear.\n IMPRESSION: Normal.\n") == ["preamble", "findings", "impression"]
    for other in (
        "FINDINGS: Clear.",
        "\tFINDINGS: Clear.",
        " FINDINGS:Clear.",
        " Findings: Clear.",
    ):
        assert _names(f"{TITLE}{other}\n") == ["full report"]


def test_further_spaces_around_a_name_do_not_count():
    assert _names(f"{TITLE}  CONCLUSION: Clear.\n EXAM : Chest.\n") == ["preamble", "impression", "examination"]


def test_a_header_on_the_first_line_is_none():
    assert _names(" FINDINGS: Clear.\n") == ["full report"]


def test_the_next_header_is_looked_for_behind_the_line_of_the_last():
    # the line break that belongs to the first header does not start a second one
    text = f"{TITLE} CHEST, PA AND LATERAL:\n INDICATION: Cough.\n IMPRESSION: Normal.\n"
    assert "impression" in _names(text)
    assert sectioned(text)["impression"] == "Normal."


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("COMPARISONS", "comparison"),
        ("CLINICAL HISTORY", "history"),
        ("PFI", "history"),
        ("REASON FOR EXAMINATION", "indication"),
        ("CLINICAL INDICATION", "indication"),
        ("TYPE OF EXAMINATION", "examination"),
        ("CONCLUSION", "impression"),
        ("FINDINGS AND IMPRESSION", "impression"),
        ("FINDINGS/IMPRESSION", "impression"),
        ("CHEST, TWO VIEWS", "findings"),
        ("RECOMMENDATION(S)", "recommendations"),
        ("WETREAD", "wet read"),
        ("IMPRESSON", "impression"),
        ("IMORESSION", "impression"),
        ("FINDINS", "findings"),
        ("FINDNGS", "findings"),
        ("COMPARISION", "comparison"),
        ("NDICATION", "impression"),  # quirk of the release
        ("ADDITIONAL IMPRESSION", "impression"),
        ("IMPRESSION AND FINDINGS", "impression"),
        ("FINDINGS COMPARISON", "findings"),
        ("PORTABLE SEMI-UPRIGHT", "findings"),
        ("RIBS, LEFT", "findings"),
        ("PA AND LAT", "findings"),
        ("NOTIFICATION", "notification"),
        ("SOMETHING ELSE", "something else"),
    ],
)
def test_names_are_mapped(header, name):
    assert section_name(header) == name


def test_empty_findings_are_removed_and_the_last_impression_counts():
    text = f"{TITLE} FINDINGS: \n \n IMPRESSION: First.\n \n IMPRESSION: Second.\n"
    assert _names(text) == ["preamble", "impression", "impression"]
    assert sectioned(text) == {"impression": "Second."}
    assert conclusion(text) == "Second."


def test_without_findings_the_last_section_is_cut_at_its_first_blank_line():
    text = f"{TITLE} INDICATION: Cough.\n \n COMPARISON: ___.\n \n Lungs are clear.\n \n No effusion.\n"
    assert _names(text) == ["preamble", "indication", "comparison", "last_paragraph"]
    assert sectioned(text) == {"comparison": "___.", "last_paragraph": "Lungs are clear.\n \n No effusion."}
    assert conclusion(text) == "Lungs are clear.\n \n No effusion."


def test_without_a_header_the_report_is_one_section_which_is_cut_too():
    assert conclusion(f"{TITLE} Lungs are clear.\n") == ""
    assert conclusion(f"{TITLE} \n Lungs are clear.\n") == "Lungs are clear."


def test_findings_conclude_before_comparison_and_nothing_concludes_an_indication():
    assert conclusion(f"{TITLE} COMPARISON: None.\n FINDINGS: Clear.\n") == "Clear."
    assert conclusion(f"{TITLE} COMPARISON: None, lungs clear.\n INDICATION: Cough.\n") == "None, lungs clear."
    assert conclusion(f"{TITLE} INDICATION: Cough.\n") == ""


def test_special_cases_force_a_section_or_a_range(tmp_path):
    text = f"{TITLE} INDICATION: Nodule seen.\n IMPRESSION: See above.\n"
    path = tmp_path / "special.csv"
    path.write_text("study,section,start,end\ns1,indication,,\n2,,0,0\ns3,,33,45\n")
    special = read_special_cases(path)
    assert special == SpecialCases({"1": "indication"}, {"2": (0, 0), "3": (33, 45)})
    assert [conclusion(text, study, special) for study in "1234"] == ["Nodule seen.", "", "FINAL REPORT", "See above."]
    with pytest.raises(DatasetFormatError, match="study '9': its report has no section 'findings'"):
        conclusion(text, "9", SpecialCases({"9": "findings"}, {}))


def test_the_54_studies_of_the_release_are_chosen_as_its_makers_choose_them():
    assert len(RELEASED_CASES.names) == 23
    assert len(RELEASED_CASES.ranges) == 31
    assert not set(RELEASED_CASES.names) & set(RELEASED_CASES.ranges)
    assert sum(span == (0, 0) for span in RELEASED_CASES.ranges.values()) == 8
    text = f"{TITLE} EXAMINATION: Small effusion.\n INDICATION: Cough.\n COMPARISON: None.\n"
    assert conclusion(text, "59363654", RELEASED_CASES) == "Small effusion."
    assert conclusion(text, "58235663", RELEASED_CASES) == ""
    assert conclusion("x" * 201 + "y" * 148 + "z" * 50, "50525523", RELEASED_CASES) == "y" * 148
    assert conclusion(text, "50000001", RELEASED_CASES) == "None."


@pytest.mark.parametrize("row", ["s1,,5,", "s1,findings,0,4", "s1,,9,4", "s1,,,", "s1,,a,b"])
def test_special_cases_that_say_nothing_are_refused(tmp_path, row):
    path = tmp_path / "special.csv"
    path.write_text(f"study,section,start,end\n{row}\n")
    with pytest.raises(DatasetFormatError, match="line 2: expected a section, or start and end"):
        read_special_cases(path)
    path.write_text("study,section,start,end\ns1,findings,,\n1,impression,,\n")
    with pytest.raises(DatasetFormatError, match="line 3: study '1' is listed twice"):
        read_special_cases(path)


@given(st.text(alphabet=" \nABI:FNDGSimpresonx.", max_size=200))
def test_any_text_is_split_and_sections_hold_only_what_the_text_holds(text):
    for item in split_sections(text):
        assert item.text in text
    assert conclusion(text) in text
