"""Places in free text: contrast, negation and normal structures are cut, sides belong to their terms."""

from __future__ import annotations

import pytest

from dmlm.masking import load_atlas
from dmlm.masking.guidance import TextGuide
from dmlm.masking.passages import affirmed, read_places
from dmlm.reports import Observation, ReportText, Span, StructuredReport, render
from dmlm.reports.knowledge import load_authors_knowledge

GUIDE = TextGuide(load_atlas())


def zones(text: str) -> set[tuple[str, str | None]]:
    return {(place.zone, place.side) for place in read_places(text)}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Blunting of the left costophrenic angle.", {("costophrenic", "left")}),
        ("Opacity at the right base and the left apex.", {("base", "right"), ("apex", "left")}),
        ("Dense lingula.", {("mid", "left"), ("lower", "left")}),
        ("Opacity on the left.", {("lung", "left")}),
        ("Bilateral perihilar haze.", {("perihilar", None)}),
        ("Unlike atelectasis, which pulls the mediastinum, it fills the right lower lobe.", {("lower", "right")}),
        ("A line at the apex, without shift of the mediastinum.", {("apex", None)}),
        ("No effusion, mediastinal shift or rib fracture. Opacity in the left base.", {("base", "left")}),
        ("The heart is normal but there is blunting of the left costophrenic angle.", {("costophrenic", "left")}),
        ("The diaphragm remains in its usual position.", set()),
        ("The heart is larger than normal.", {("heart", None)}),
        ("Rather than the pleura, the hilum is dense.", {("hilum", None)}),
        ("Chest radiograph, frontal.", set()),
        ("", set()),
        ("Nothing to see here; 12345 ???", set()),
    ],
)
def test_what_a_text_says(text: str, wanted: set) -> None:
    assert zones(text) == wanted


def test_a_whole_lung_weighs_half_beside_a_place_within() -> None:
    assert {place.zone: place.weight for place in read_places("Lung with dense base")} == {"lung": 0.5, "base": 1.0}
    assert [place.weight for place in read_places("Hazy lungs")] == [1.0]


def test_passages_keep_their_order() -> None:
    assert list(affirmed("Haze, not in the apex, dense base; normal heart. Wide hilum")) == ["Haze", "Wide hilum"]


def test_cutting_narrows_the_texts_of_the_papers_authors(real_data) -> None:
    known = load_authors_knowledge(str(real_data / "knowledge" / "MIMIC-CXR.txt"))
    own = [item for item in known.values() if item.source != "library" and item.name != "No Finding"]
    assert len(own) >= 13
    atlas = load_atlas()
    areas = [float(atlas.relevance(read_places(item.appearance)).mean()) for item in own]
    assert sum(areas) / len(areas) < 0.5
    pneumothorax = next(item for item in own if item.name == "Pneumothorax")
    assert not {"mediastinum", "heart"} & {place.zone for place in read_places(pneumothorax.appearance)}


def text_of(*observations: Observation) -> ReportText:
    return render(StructuredReport("s", observations))


def test_present_and_possible_findings_guide_absent_ones_do_not() -> None:
    text = text_of(Observation("Edema", "absent"), Observation("Cardiomegaly", "uncertain"))
    assert {place.zone for place in GUIDE(text).places} == {"heart", "perihilar"}
    assert GUIDE(text_of(Observation("Edema", "absent"))).fallback == "nothing_present"
    assert GUIDE(text_of(Observation("No Finding", "present"))).fallback == "nothing_present"


def test_side_and_position_restrict() -> None:
    found = GUIDE(text_of(Observation("Lung Opacity", "present", "right", "lower lobe"))).places
    assert {(place.zone, place.side, place.weight) for place in found} == {
        ("lower", "right", 1.0),
        ("lung", "right", 0.5),
    }
    sided = GUIDE(text_of(Observation("Pleural Effusion", "present", "left"))).places
    assert {place.side for place in sided} == {"left"}
    both = GUIDE(text_of(Observation("Pleural Effusion", "present", "bilateral"))).places
    assert {place.side for place in both} == {None}


def test_four_findings_at_most() -> None:
    names = ("Edema", "Pneumonia", "Fracture", "Hernia", "Tortuous Aorta")
    found = GUIDE(text_of(*(Observation(name, "present") for name in names))).places
    assert "aorta" not in {place.zone for place in found}
    assert "ribs" in {place.zone for place in found}


def test_a_finding_beyond_the_atlas_is_read_from_its_text(tmp_path) -> None:
    from dmlm.reports import load_knowledge

    own = tmp_path / "own.yaml"
    own.write_text(
        "findings:\n  Azygos Lobe:\n    appearance: A thin line in the right apex, unlike a fissure of the left base.\n"
    )
    guide = TextGuide(load_atlas(), load_knowledge(str(own)))
    found = guide(text_of(Observation("Azygos Lobe", "present")))
    assert {(place.zone, place.side) for place in found.places} == {("apex", "right")}
    named = guide(text_of(Observation("Rib Notching", "present")))
    assert {place.zone for place in named.places} == {"ribs"}
    unknown = guide(text_of(Observation("Situs Weirdness", "present")))
    assert unknown.fallback == "no_anatomy"
    assert unknown.unknown == ("Situs Weirdness",)


def test_free_text_is_searched_itself() -> None:
    written = "Opacity in the left lower lobe. No fracture of the ribs."
    found = GUIDE(ReportText(written, (Span("text", 0, len(written)),)))
    assert {(place.zone, place.side) for place in found.places} == {("lower", "left")}
    assert GUIDE(ReportText("Stable.", (Span("text", 0, 7),))).fallback == "no_anatomy"
