"""The zero-shot map and the patch probe of a frozen encoder, and what is written of them."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from conftest import tiny_encoder
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader

from dmlm.datamodules import PhantomDataModule
from dmlm.distributions import Gaussian
from dmlm.evaluation.grounding import MEASURES
from dmlm.models.zero_shot import encode_prompts, zero_shot_scores
from dmlm.tasks import ZeroShotModule
from dmlm.tasks.frozen_grounding import (
    Places,
    encode_places,
    macro,
    measure_places,
    references,
    write_places,
)

GRID = 4  # of the tiny tower: 32 pixels in patches of 8


def places(rng, count: int, findings: int = 2, width: int = 5, told: float = 2.0) -> Places:
    """Random images whose patches tell of the first finding; the second is on every other image."""
    pixels = np.zeros((count, findings, GRID**2))
    for image in range(count):
        for finding in range(findings):
            if finding == 0 or image % 2:
                pixels[image, finding, rng.choice(GRID**2, 5, replace=False)] = 64
    inside = pixels > 0
    mean = rng.normal(size=(count, GRID**2, width))
    mean[..., 0] += told * inside[:, 0]
    points = np.stack([inside] * 4)
    studies = [(f"s{n}", f"p{n}") for n in range(count)]
    scores = rng.normal(size=(count, GRID**2, findings))
    return Places(mean, scores, pixels, inside, points, np.full(GRID**2, 64.0), studies)


def test_the_map_is_that_of_single_patches() -> None:
    torch.manual_seed(0)
    task = ZeroShotModule(tiny_encoder()).eval()
    data = PhantomDataModule(num_train=4, num_val=2, num_test=6, image_size=32, num_workers=0, with_masks=True)
    data.prepare_data()
    split = data.make_dataset("test", None)
    prompts = encode_prompts(task.encoder, split.mask_names, ("obs_verdict",))
    found = encode_places(task, prompts, DataLoader(split, 3, collate_fn=data.collate), lambda images: images, 100)
    samples = [split[n] for n in range(len(split)) if split[n]["masks"].any()]
    assert [study for study, _ in found.studies] == [sample["study_id"] for sample in samples]
    for row, sample in enumerate(samples):
        with torch.no_grad():
            elements = task.encoder.encode_image(sample["image"][None])
        for patch in (0, 7, 15):
            one = Gaussian(elements.mean[:, 1 + patch], elements.logvar[:, 1 + patch])
            np.testing.assert_allclose(
                found.scores[row, patch], zero_shot_scores(one, prompts)[0], rtol=1e-3, atol=1e-5
            )
            np.testing.assert_allclose(found.mean[row, patch], one.mean[0], atol=1e-5)
            top, left = 8 * (patch // GRID), 8 * (patch % GRID)
            mask = sample["masks"][:, top : top + 8, left : left + 8]
            np.testing.assert_array_equal(found.inside[row, :, patch], mask.sum((1, 2)))
            np.testing.assert_array_equal(found.centre[row, :, patch], mask[:, 4, 4] > 0)
            corners = torch.stack([mask[:, y, x] for y in (2, 6) for x in (2, 6)])
            np.testing.assert_array_equal(found.points[:, row, :, patch], corners > 0)
    few = encode_places(task, prompts, DataLoader(split, 3, collate_fn=data.collate), lambda images: images, 2)
    assert few.studies == found.studies[:2]


def test_the_probe_equals_a_logistic_regression_on_patches() -> None:
    rng = np.random.default_rng(0)
    train, test = places(rng, 12), places(rng, 8)
    found = measure_places(train, test)
    assert found.shape == (8, 2, len(MEASURES))
    x, y = train.mean.reshape(-1, 5), train.points[0, :, 0].reshape(-1)
    centre, spread = x.mean(0), x.std(0)
    model = LogisticRegression(C=1 / (0.01 * len(x)), tol=1e-10, max_iter=1000).fit((x - centre) / spread, y)
    for image in range(8):
        logits = model.decision_function((test.mean[image] - centre) / spread)
        truth = test.inside[image, 0] > 0
        assert found[image, 0, 2] == pytest.approx(roc_auc_score(truth, logits))
        both = (truth & (logits > 0)).sum()
        assert found[image, 0, 3] == pytest.approx(2 * both / (truth.sum() + (logits > 0).sum()))
        assert found[image, 0, 1] == pytest.approx(roc_auc_score(truth, test.scores[image, :, 0]))
        assert found[image, 0, 0] == truth[test.scores[image, :, 0].argmax()]
    assert macro(found[..., 2]) < np.nanmean(found[:, 0, 2]), "the second finding cannot be told"
    assert np.isnan(found[::2, 1]).all(), "no mask, no measure"


def test_more_points_than_are_fitted_are_drawn(monkeypatch) -> None:
    rng = np.random.default_rng(1)
    train, test = places(rng, 12, told=6.0), places(rng, 8, told=6.0)
    monkeypatch.setattr("dmlm.tasks.frozen_grounding._MOST_POINTS", 100)
    assert np.nanmean(measure_places(train, test)[:, 0, 2]) > 0.95


def test_what_is_not_there_is_not_measured() -> None:
    rng = np.random.default_rng(2)
    test = places(rng, 4)
    alone = measure_places(None, test)
    assert np.isfinite(alone[:, 0, :2]).all()
    assert np.isnan(alone[..., 2:]).all()
    train = places(rng, 4)
    train.inside[:, 1] = 0
    assert np.isnan(measure_places(train, test)[:, 1, 2:]).all()
    assert np.isnan(macro(np.full((3, 2), np.nan)))


def test_references_and_the_mean_over_findings() -> None:
    rng = np.random.default_rng(3)
    train, test = places(rng, 6), places(rng, 5)
    found = references(train, test)
    assert found["grounding/chance"] == pytest.approx(5 / 16)
    prior = [
        np.mean([roc_auc_score(test.inside[n, m] > 0, train.inside[:, m].mean(0)) for n in images])
        for m, images in ((0, range(5)), (1, (1, 3)))
    ]
    assert found["grounding/prior_auc"] == pytest.approx(np.mean(prior))
    assert macro(np.array([[1.0, np.nan], [0.0, 1.0]])) == 0.75


def test_rows_are_written_with_blanks(tmp_path) -> None:
    measures = np.array([[[1, 0.75, 0.5, 0.25], [np.nan] * 4]])
    write_places(tmp_path / "g.csv", ["A", "B"], [("s", "p")], measures)
    with (tmp_path / "g.csv").open() as file:
        first, second = csv.DictReader(file)
    assert first == {
        "study_id": "s",
        "patient_id": "p",
        "finding": "A",
        "pointing": "1",
        "mask_auc": "0.75",
        "probe_auc": "0.5",
        "probe_dice": "0.25",
    }
    assert {second[name] for name in MEASURES} == {""}
