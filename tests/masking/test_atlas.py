"""The atlas: complete, symmetric, the patient's right on the image's left; own files; faults named in one line."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dmlm.errors import ConfigError
from dmlm.masking import load_atlas
from dmlm.masking.atlas import Place
from dmlm.reports import load_knowledge
from dmlm.reports.anatomy import load_anatomy

ATLAS = load_atlas()
PAIRED = [name for name, sides in ATLAS.zones.items() if "right" in sides]


def mass(guidance) -> tuple[float, float]:
    """Share of a map's mass on the image's left and right half."""
    values = ATLAS.relevance(guidance)
    return float(values[:, :32].sum() / values.sum()), float(values[:, 32:].sum() / values.sum())


def test_every_place_that_terms_name_is_a_zone() -> None:
    assert {zone for term in load_anatomy().values() for zone in term.zones} <= set(ATLAS.zones)


def test_every_finding_of_the_library_has_zones_but_no_finding() -> None:
    assert set(load_knowledge()) - set(ATLAS.findings) == {"No Finding"}


@pytest.mark.parametrize("zone", sorted(ATLAS.zones))
def test_zones_lie_inside_the_film(zone: str) -> None:
    for boxes in ATLAS.zones[zone].values():
        assert boxes
        for x0, y0, x1, y1 in boxes:
            assert 0 <= x0 < x1 <= 1
            assert 0 <= y0 < y1 <= 1


@pytest.mark.parametrize("zone", PAIRED)
def test_the_patients_right_is_on_the_images_left(zone: str) -> None:
    left_half, _ = mass((Place(zone, "right"),))
    _, right_half = mass((Place(zone, "left"),))
    assert left_half > 0.9
    assert right_half > 0.9


@settings(max_examples=30)
@given(finding=st.sampled_from(sorted(ATLAS.findings)))
def test_both_sides_together_are_the_unsided_map(finding: str) -> None:
    right, left, both = (ATLAS.places(finding, side) for side in ("right", "left", None))
    joined = torch.maximum(ATLAS.relevance(right), ATLAS.relevance(left))
    whole = ATLAS.relevance(both)
    assert (whole >= joined - 1e-5).all()  # blurring after the maximum
    assert (whole - joined).max() < 0.35
    assert ((whole >= 0) & (whole <= 1 + 1e-5)).all()


def test_names_are_resolved_and_unknown_ones_have_no_place() -> None:
    assert ATLAS.places("pleural_effusion") == ATLAS.places("Effusion")
    assert ATLAS.places("Pleural Effusion")
    assert ATLAS.places("Dermatitis") == ()
    assert float(ATLAS.relevance(()).abs().max()) == 0


def test_secondary_zones_weigh_half() -> None:
    assert {place.zone: place.weight for place in ATLAS.places("Cardiomegaly")} == {"heart": 1.0, "perihilar": 0.5}


def test_the_order_of_places_does_not_matter_and_an_atlas_can_be_pickled() -> None:
    places = ATLAS.places("Edema")
    again = pickle.loads(pickle.dumps(ATLAS))
    assert torch.equal(ATLAS.relevance(places), again.relevance(places[::-1]))


def test_own_files_replace_and_add(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "zones:\n  pocket: {left: [[0.7, 0.1, 0.9, 0.3]]}\n"
        "findings:\n  Edema: {primary: [pocket]}\n  Lead Fracture: {primary: [pocket], secondary: [svc]}\n"
    )
    atlas = load_atlas(str(own))
    assert {place.zone for place in atlas.places("Edema")} == {"pocket"}
    assert {place.zone: place.weight for place in atlas.places("lead fracture")} == {"pocket": 1.0, "svc": 0.5}
    assert atlas.places("Pneumonia") == ATLAS.places("Pneumonia")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("zones: {a: {left: [[0, 0, 2, 1]]}}", r"zones\.a\.left: expected a box"),
        ("zones: {a: {up: [[0, 0, 1, 1]]}}", r"zones\.a: expected boxes under right and left"),
        ("findings: {Edema: {primary: [lungs]}}", r"findings\.Edema\.primary: unknown zone 'lungs'"),
        ("findings: {Edema: [lung]}", r"findings\.Edema: expected lists"),
        ("findings: [Edema]", "findings: expected a mapping, got list"),
        ("other: 1", "expected mappings 'zones' and 'findings'"),
        ("a: [", "not valid YAML"),
    ],
)
def test_faults_are_named_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(text)
    with pytest.raises(ConfigError, match=said) as error:
        load_atlas(str(own))
    assert "\n" not in str(error.value)
    assert "own.yaml" in str(error.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: the atlas cannot be read"):
        load_atlas("nowhere.yaml")
