import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from dmlm.errors import ConfigError, MismatchError
from dmlm.evaluation.intervals import bootstrap_auc, bootstrap_means, patient_weights, weighted_auc


def explicit(scores, labels, groups, n, seed):
    """The same bootstrap with rows copied and scikit-learn, one AUC per class and resample."""
    patients = np.unique(groups)
    result = np.full((n, scores.shape[1]), np.nan)
    for i in range(n):
        drawn = np.random.default_rng([seed, i]).integers(0, len(patients), len(patients))
        rows = np.concatenate([np.flatnonzero(groups == patients[p]) for p in drawn])
        for c in range(scores.shape[1]):
            keep = rows[np.isin(labels[rows, c], (0, 1))]
            if len(np.unique(labels[keep, c])) == 2:
                result[i, c] = roc_auc_score(labels[keep, c], scores[keep, c])
    return result


@pytest.mark.parametrize("digits", [0, 8])
def test_equals_explicit_resampling_with_sklearn(digits):
    rng = np.random.default_rng(0)
    rows, n = 160, 70  # more resamples than one chunk
    labels = (rng.random((rows, 3)) < [0.5, 0.2, 0.1]).astype(float)
    scores = np.round(rng.normal(size=(rows, 3)) + labels, digits)
    labels[rng.random((rows, 3)) < 0.1] = np.nan
    labels[rng.random((rows, 3)) < 0.1] = -1
    labels[:, 2], labels[:2, 2] = 0, 1  # a class so rare that resamples miss it
    groups = np.array([f"p{i}" for i in rng.integers(0, 60, rows)])
    reference = explicit(scores, labels, groups, n, seed=3)
    result = bootstrap_auc(scores, labels, groups, n=n, seed=3)
    assert result.groups == len(set(groups))
    for c, interval in enumerate(result.auc):
        kept = reference[~np.isnan(reference[:, c]), c]
        assert interval.skipped == n - len(kept)
        np.testing.assert_allclose(interval[1:3], np.quantile(kept, [0.025, 0.975]), atol=1e-12)
    macro = reference.mean(axis=1)
    assert result.macro.skipped == np.isnan(macro).sum() == result.auc[2].skipped > 0
    np.testing.assert_allclose(result.macro[1:3], np.nanquantile(macro, [0.025, 0.975]), atol=1e-12)
    known = np.isin(labels, (0, 1))
    point = [roc_auc_score(labels[known[:, c], c], scores[known[:, c], c]) for c in range(3)]
    np.testing.assert_allclose([interval.value for interval in result.auc], point, atol=1e-12)
    assert result.macro.value == pytest.approx(np.mean(point), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 3)), min_size=1, max_size=40))
def test_weighted_auc_equals_repeated_rows(rows):
    scores, labels, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    value = weighted_auc(scores, labels, weights.astype(np.int32)[:, None])[0]
    repeated = np.repeat(labels, weights.astype(int))
    if len(np.unique(repeated)) < 2:
        assert np.isnan(value)
    else:
        expected = roc_auc_score(repeated, np.repeat(scores, weights.astype(int)))
        assert value == pytest.approx(expected, abs=1e-12)


def test_resamples_depend_on_seed_and_index_only():
    rng = np.random.default_rng(1)
    labels = (rng.random((200, 2)) < 0.4).astype(float)
    scores = rng.normal(size=(200, 2)) + labels
    groups = np.arange(200) // 4
    first = bootstrap_auc(scores, labels, groups, n=100, seed=5)
    order = rng.permutation(200)
    assert bootstrap_auc(scores[order], labels[order], list(groups[order]), n=100, seed=5) == first
    assert bootstrap_auc(scores, labels, groups, n=100, seed=6) != first
    drawn = patient_weights(np.arange(50), 8)
    assert drawn.shape == (50, 8)
    assert (drawn.sum(0) == 50).all()
    np.testing.assert_array_equal(drawn[:, :3], patient_weights(np.arange(50), 3))


def test_interval_by_patient_is_wider_than_by_image():
    """Copies of an image add nothing: the interval must be that of the distinct images."""
    rng = np.random.default_rng(2)
    labels = (rng.random((150, 1)) < 0.4).astype(float)
    scores = rng.normal(size=(150, 1)) + labels
    single = bootstrap_auc(scores, labels, np.arange(150), n=300).macro
    copied = [np.repeat(part, 5, axis=0) for part in (scores, labels, np.arange(150))]
    np.testing.assert_allclose(bootstrap_auc(*copied, n=300).macro, single, atol=1e-12)
    by_image = bootstrap_auc(*copied[:2], np.arange(750), n=300).macro
    assert by_image.high - by_image.low < 0.6 * (single.high - single.low)


def test_means_equal_explicit_resampling():
    rng = np.random.default_rng(3)
    values = rng.random((60, 3))
    values[rng.random((60, 3)) < 0.4] = np.nan  # images without the mask
    values[:, 2] = np.nan  # a mask that no image has
    groups = rng.integers(0, 20, 60)
    found = bootstrap_means(values, groups, n=80, seed=2)
    reference = np.array(
        [np.nanmean(np.repeat(values[:, :2], times, axis=0), axis=0) for times in patient_weights(groups, 80, 2).T]
    )
    for m in range(2):
        assert found[m].value == pytest.approx(np.nanmean(values[:, m]))
        np.testing.assert_allclose(found[m][1:3], np.quantile(reference[:, m], [0.025, 0.975]), atol=1e-12)
    assert np.isnan(found[2].value)
    assert found[2].skipped == 80
    np.testing.assert_allclose(found[3][1:3], np.quantile(reference.mean(1), [0.025, 0.975]), atol=1e-12)


def test_class_without_auc_leaves_the_others_alone():
    rng = np.random.default_rng(3)
    labels = np.stack([rng.random(100) < 0.5, np.zeros(100), np.full(100, np.nan)], axis=1)
    scores = rng.normal(size=(100, 3))
    result = bootstrap_auc(scores, labels, np.arange(100), n=20)
    assert result.auc[1].skipped == result.auc[2].skipped == 20
    assert np.isnan(result.auc[1][:3]).all()
    assert result.macro == result.auc[0]
    flat = result.flat("zero_shot", ["a", "b", "c"])
    assert flat["zero_shot/auc_low/a"] == flat["zero_shot/auc_macro_low"] == result.macro.low
    assert flat["zero_shot/auc_skipped/b"] == 20.0


def test_wrong_input_is_named():
    with pytest.raises(MismatchError, match="N = 3 groups"):
        bootstrap_auc(np.zeros((2, 1)), np.zeros((2, 1)), [1, 2, 3])
    with pytest.raises(ConfigError, match="n=0"):
        bootstrap_auc(np.zeros((2, 1)), np.zeros((2, 1)), [1, 2], n=0)


def test_fast_enough():
    """1,000 resamples of 14 classes and 25,596 images (NIH) may take 20 s; this is a 26th of it."""
    rng = np.random.default_rng(4)
    labels = (rng.random((5000, 14)) < 0.1).astype(float)
    scores = rng.normal(size=(5000, 14)) + labels
    start = time.process_time()
    bootstrap_auc(scores, labels, rng.integers(0, 600, 5000), n=200)
    assert time.process_time() - start < 2.0
