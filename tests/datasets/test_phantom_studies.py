"""What a phantom shows and what its report says."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from dmlm.datasets.phantom import LABEL_NAMES, UNSEEN_FINDING, phrases, wording
from dmlm.datasets.phantom.anatomy import Anatomy
from dmlm.datasets.phantom.canvas import Frame
from dmlm.datasets.phantom.dictation import fill
from dmlm.datasets.phantom.film import Technique
from dmlm.datasets.phantom.findings import Lesion
from dmlm.datasets.phantom.render import render
from dmlm.datasets.phantom.studies import make_patient

SIZE = 96
PATIENTS = 160
# a word of the finding's vocabulary that evidence must contain
WORDS = {
    "Atelectasis": "atelecta|volume loss",
    "Cardiomegaly": "heart|cardi",
    "Consolidation": "consolidation|opacity",
    "Edema": "edema",
    "Nodule": "nodul|round",
    "Pleural Effusion": "effusion|pleural fluid|costophrenic",
    "Pleural Thickening": "thick|pleura",
    "Pneumothorax": "pneumothorax",
    "Support Devices": "tube|catheter|pacemaker|device|line",
    "Hernia": "hernia",
}
SIDED = ("Consolidation", "Nodule", "Pleural Effusion", "Pleural Thickening", "Pneumothorax", "Atelectasis")


@pytest.fixture(scope="module")
def studies():
    return [study for patient in range(PATIENTS) for study in make_patient(3, "test", patient, SIZE)]


def lesion(name: str, strength: float = 0.7, side: str | None = "left") -> Lesion:
    devices = ("endotracheal tube", "central venous catheter") if name == "Support Devices" else ()
    side = side if name in SIDED else None
    zone = "mid zone" if name in ("Consolidation", "Nodule", "Pleural Thickening") else None
    return Lesion(name, strength, 11, side, zone, devices)


def pair(name: str, strength: float = 0.7, side: str | None = "left", patient: int = 0):
    """The same patient, frame, noise and exposure with and without a finding."""
    rng = np.random.default_rng(patient)
    anatomy = Anatomy.draw(rng)
    technique = Technique.draw(rng, anatomy.habitus, "PA")
    with_it, masks = render(anatomy, technique, [lesion(name, strength, side)], SIZE)
    without, none = render(anatomy, technique, [], SIZE)
    assert not none
    return with_it.astype(float), without.astype(float), masks[name]


def test_same_numbers_same_patient():
    first, second = make_patient(5, "train", 7, SIZE), make_patient(5, "train", 7, SIZE)
    assert [s.record() for s in first] == [s.record() for s in second]
    assert all((a.image == b.image).all() for a, b in zip(first, second, strict=True))
    other = make_patient(5, "train", 8, SIZE)[0]
    assert (other.image != first[0].image).any()
    assert (make_patient(5, "val", 7, SIZE)[0].image != first[0].image).any()


def test_images_use_the_grey_scale(studies):
    for study in studies:
        assert study.image.dtype == np.uint8
        assert study.image.shape == (SIZE, SIZE)
        assert study.image.std() > 25
        low, high = np.percentile(study.image, [5, 95])
        assert high - low > 90


def test_lungs_are_darker_than_heart_and_abdomen():
    anatomy = Anatomy.draw(np.random.default_rng(1))
    technique = Technique("PA", Frame(), 0.0, 1.55, 1.0, 0.1, 0.01, 0.0, None, 3)
    image, _ = render(anatomy, technique, [], SIZE)
    zone = lambda x0, x1, y0, y1: image[int(y0 * SIZE) : int(y1 * SIZE), int(x0 * SIZE) : int(x1 * SIZE)].mean()  # noqa: E731
    lungs = max(zone(0.22, 0.36, 0.3, 0.6), zone(0.66, 0.8, 0.3, 0.6))
    assert zone(0.5, 0.6, 0.58, 0.68) > lungs + 50  # heart
    assert zone(0.3, 0.6, 0.86, 0.95) > lungs + 50  # abdomen
    assert zone(0.38, 0.46, 0.6, 0.7) < zone(0.54, 0.62, 0.6, 0.7)  # the heart lies more on the image's right
    assert zone(0.0, 0.2, 0.0, 0.05) < 30  # air beside the neck


def test_prevalence(studies):
    labels = np.array([study.labels for study in studies])
    rates = dict(zip(LABEL_NAMES, labels.mean(axis=0), strict=True))
    assert all(0.12 < rate < 0.36 for rate in rates.values()), rates
    assert 0.1 < (labels.sum(axis=1) == 0).mean() < 0.4
    edema, heart = labels[:, LABEL_NAMES.index("Edema")], labels[:, LABEL_NAMES.index("Cardiomegaly")]
    assert edema[heart == 1].mean() > edema[heart == 0].mean()
    assert set(np.unique([study.edema_grade for study in studies])) == {0, 1, 2, 3}


def test_labels_masks_boxes_and_severity_agree(studies):
    for study in studies:
        there = {name for name, label in zip(LABEL_NAMES, study.labels, strict=True) if label}
        there |= {UNSEEN_FINDING} if study.unseen else set()
        assert set(study.masks) == there == set(study.boxes) == set(study.severity)
        assert bool(study.edema_grade) == ("Edema" in there)
        for name, mask in study.masks.items():
            ys, xs = np.nonzero(mask)
            boxes = np.array(study.boxes[name])
            assert (boxes >= 0).all()
            assert (boxes <= 1).all()
            assert (boxes[:, 2:] > boxes[:, :2]).all()
            largest = boxes[0] * SIZE
            inside = (xs >= largest[0] - 1) & (xs <= largest[2]) & (ys >= largest[1] - 1) & (ys <= largest[3])
            assert inside.any()


def test_masks_lie_within_the_thorax(studies):
    for study in studies:
        for name, mask in study.masks.items():
            assert mask.sum() >= 4, (study.study_id, name)
            if name != "Support Devices":
                ys, xs = np.nonzero(mask)
                assert xs.min() > 0.03 * SIZE
                assert xs.max() < 0.97 * SIZE
                assert ys.min() > 0.03 * SIZE
                assert ys.max() < 0.92 * SIZE


@pytest.mark.parametrize("name", SIDED)
def test_patient_left_is_image_right(name):
    for side, expected in (("left", 1.0), ("right", -1.0)):
        _, _, mask = pair(name, side=side)
        assert (np.nonzero(mask)[1].mean() / SIZE - 0.5) * expected > 0.05


@pytest.mark.parametrize("name", [*LABEL_NAMES, UNSEEN_FINDING])
def test_a_finding_changes_the_film_where_its_mask_is(name):
    changes = []
    for patient in range(4):
        image, plain, mask = pair(name, patient=patient)
        difference = image - plain
        away = np.ones_like(mask)
        ys, xs = np.nonzero(mask)
        rows = np.arange(SIZE)[:, None]
        away[max(0, ys.min() - 8) : ys.max() + 9, max(0, xs.min() - 8) : xs.max() + 9] = False
        assert np.abs(difference[mask]).mean() > 2.0 * np.abs(difference[away]).mean()
        changes.append(difference[mask].mean())
    if name == "Pneumothorax":
        assert max(changes) < -6  # air is dark
    elif name == UNSEEN_FINDING:
        middle = ys.mean()
        gas, fluid = mask & (rows < middle - 1), mask & (rows > middle + 1)
        assert difference[gas].mean() < -3 < 3 < difference[fluid].mean()
    else:
        assert min(changes) > 5


@pytest.mark.parametrize("name", [n for n in LABEL_NAMES if n not in ("Support Devices", "Cardiomegaly")])
def test_severity_increases_what_is_seen(name):
    total = []
    for strength in (0.15, 0.55, 0.95):
        image, plain, _ = pair(name, strength)
        total.append(np.abs(image - plain).sum())
    assert total[0] < total[1] < total[2]


def test_a_large_heart_grows_with_severity():
    areas = [pair("Cardiomegaly", strength)[2].sum() for strength in (0.1, 0.5, 0.9)]
    assert areas[0] < areas[1] < areas[2]


def test_lesions_stay_with_the_patient():
    found = 0
    for patient in range(60):
        visits = make_patient(9, "train", patient, 48)
        for before, after in itertools.pairwise(visits):
            for name in ("Nodule", "Pleural Thickening"):
                if name in before.masks and name in after.masks:
                    found += 1
                    centres = [np.argwhere(visit.masks[name]).mean(axis=0) for visit in (before, after)]
                    assert np.abs(centres[0] - centres[1]).max() < 9  # breathing and posture, not another lesion
    assert found > 5


def test_evidence_covers_the_text_of_its_finding(studies):
    for study in studies:
        for item in study.observations:
            start, end = item.evidence
            words = study.text[start:end]
            assert re.search(WORDS[item.finding], words, re.IGNORECASE), (item, words)
            assert words[0].isupper()
            assert words[-1] == "."
            if item.laterality in ("left", "right"):
                assert item.laterality in words.lower()
            if item.position:
                assert item.position in words


def test_reports_are_clean_text(studies):
    for study in studies:
        assert not re.search(r"[\[\]{}\0]|  | [.,;]|\bNone\b|\ba [aeiou]|\.\.|, ,", study.text), study.text
        assert "IMPRESSION:" in study.text or "FINDINGS:" in study.text


def test_reports_agree_with_what_is_there(studies):
    doubted = missed = present = stated_absent = absent = 0
    for study in studies:
        verdicts: dict[str, set[str]] = {}
        for item in study.observations:
            verdicts.setdefault(item.finding, set()).add(item.existence)
            if item.severity is not None:
                assert item.existence == "present"
                assert item.severity == study.severity[item.finding]
        assert all(len(states) == 1 for states in verdicts.values()), study.text
        for name, label in zip(LABEL_NAMES, study.labels, strict=True):
            state = next(iter(verdicts.get(name, {"unmentioned"})))
            if label:
                assert state != "absent"
                present, doubted, missed = (
                    present + 1,
                    doubted + (state == "uncertain"),
                    missed + (state == "unmentioned"),
                )
            else:
                assert state != "present"
                assert state != "uncertain" or study.lookalikes
                absent, stated_absent = absent + 1, stated_absent + (state == "absent")
    assert 0.03 < doubted / present < 0.25
    assert missed / present < 0.06
    assert 0.3 < stated_absent / absent < 0.55  # most absent findings are left unsaid


def test_lengths_and_wordings_vary(studies):
    texts = [study.text for study in studies]
    assert len(set(texts)) > 0.93 * len(texts)
    assert min(map(len, texts)) < 100
    assert max(map(len, texts)) > 500
    assert 0.08 < np.mean(["FINDINGS:" not in text for text in texts]) < 0.35
    assert any(re.search(r"[Nn]o (\w+ )*pneumothorax or|pleural effusion or", text) for text in texts)
    assert any("unchanged" in text for text in texts)


def test_there_are_enough_templates():
    for name in LABEL_NAMES:
        assert len(set(wording.PRESENT[name])) >= 8
        assert len(set(wording.ABSENT[name])) >= 5
        assert len(set(wording.UNCERTAIN[name])) >= 4
        assert phrases.LISTED[name]


def test_fill_leaves_no_trace_of_empty_slots():
    one = {"sev": "", "side": "left", "s": "", "is": "is", "article": "a", "change": ""}
    both = {"sev": "small", "side": "bilateral", "s": "s", "is": "are", "article": "", "change": ", new"}
    template = "There [is] [a] [sev] [side] effusion[s][change]."
    assert fill(template, one) == "There is a left effusion."
    assert fill(template, both) == "There are small bilateral effusions, new."
    assert fill("[a] [sev] effusion.", {**one, "sev": "extensive"}) == "An extensive effusion."
