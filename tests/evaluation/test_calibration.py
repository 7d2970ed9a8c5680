import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn import metrics
from sklearn.calibration import calibration_curve

from dmlm.errors import ConfigError, MismatchError
from dmlm.evaluation.calibration import (
    brier_score,
    calibration_metrics,
    expected_calibration_error,
    fit_platt,
    reliability_curve,
    sigmoid,
)
from dmlm.evaluation.ranking import auroc


def data(seed, rows=2000):
    rng = np.random.default_rng(seed)
    probs = rng.beta(0.7, 2, rows)
    return probs, (rng.random(rows) < probs**2).astype(float)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_reliability_equals_sklearn(bins):
    probs, labels = data(0)
    curve = reliability_curve(probs, labels, bins)
    frequency, probability = calibration_curve(labels, probs, n_bins=bins)
    np.testing.assert_allclose(curve.probability, probability, atol=1e-12)
    np.testing.assert_allclose(curve.frequency, frequency, atol=1e-12)
    assert curve.rows.sum() == len(probs)


def test_ece_by_hand():
    # bins (0, .5] and (.5, 1]: |.3 - .5| * 2/4 + |.8 - 1| * 2/4; .5 belongs to the left bin
    assert expected_calibration_error([0.1, 0.5, 0.7, 0.9], [0, 1, 1, 1], bins=2) == pytest.approx(0.2)
    assert expected_calibration_error([0.0, 1.0, 1.0], [0, 1, 1]) == 0.0
    assert np.isnan(expected_calibration_error([0.5], [-1]))


def test_adaptive_bins_hold_equal_counts_and_keep_ties_together():
    probs, labels = data(1, 1500)
    curve = reliability_curve(probs, labels, 15, adaptive=True)
    assert curve.rows.tolist() == [100] * 15
    tied = reliability_curve([0.2] * 50 + [0.7] * 50, [0] * 40 + [1] * 60, 15, adaptive=True)
    np.testing.assert_allclose(tied.probability, [0.2, 0.7])
    np.testing.assert_allclose(tied.frequency, [0.2, 1.0])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_row_order_does_not_matter(seed, adaptive):
    rng = np.random.default_rng(seed)
    probs, labels = np.round(rng.random(40), 1), (rng.random(40) < 0.5).astype(float)
    order = rng.permutation(40)
    ece = expected_calibration_error(probs, labels, adaptive=adaptive)
    assert expected_calibration_error(probs[order], labels[order], adaptive=adaptive) == pytest.approx(ece, abs=1e-12)
    assert 0 <= ece <= 1


def test_brier_equals_sklearn_and_ignores_unknown():
    probs, labels = data(2)
    assert brier_score(probs, labels) == pytest.approx(metrics.brier_score_loss(labels, probs), abs=1e-12)
    assert brier_score([0.2, 0.9, 0.4], [0, -1, np.nan]) == pytest.approx(0.04)
    assert np.isnan(brier_score([], []))


def test_class_means():
    probs, labels = (np.stack(columns, axis=1) for columns in zip(data(3), data(4), strict=True))
    labels[:, 1] = np.nan
    flat = calibration_metrics(probs, labels, "zero_shot")
    assert flat["zero_shot/ece_macro"] == expected_calibration_error(probs[:, 0], labels[:, 0])
    assert flat["zero_shot/brier_macro"] == brier_score(probs[:, 0], labels[:, 0])
    assert flat["zero_shot/ece_adaptive_macro"] == expected_calibration_error(probs[:, 0], labels[:, 0], adaptive=True)


def platt_loss(theta, scores, labels):
    positive, negative = labels.sum(), (1 - labels).sum()
    target = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    logits = theta[0] * scores + theta[1]
    return (np.logaddexp(0, logits) - target * logits).mean()


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.01, 3.0), (200.0, -5000.0)])
def test_platt_is_the_minimum(scale, offset):
    rng = np.random.default_rng(5)
    labels = (rng.random(500) < 0.2).astype(float)
    raw = rng.normal(size=500) + labels
    platt = fit_platt((raw * scale + offset)[:, None], labels[:, None])
    reference = minimize(platt_loss, [1.0, 0.0], args=(raw, labels), method="BFGS", options={"gtol": 1e-10}).x
    np.testing.assert_allclose(platt.scale[0] * scale, reference[0], rtol=1e-5)
    np.testing.assert_allclose(platt.bias[0] + platt.scale[0] * offset, reference[1], rtol=1e-5, atol=1e-5)
    assert platt.fitted[0]


def test_platt_mends_calibration_and_keeps_the_ranking():
    rng = np.random.default_rng(6)
    logits = rng.normal(-2, 1.5, size=(4000, 1))
    labels = (rng.random((4000, 1)) < sigmoid(logits)).astype(float)
    scores = 0.05 * logits + 1.0  # the right ranking on a useless scale
    platt = fit_platt(scores[:2000], labels[:2000])
    probs = platt(scores[2000:])
    before = expected_calibration_error(sigmoid(scores[2000:, 0]), labels[2000:, 0])
    assert before > 0.4
    assert expected_calibration_error(probs[:, 0], labels[2000:, 0]) < 0.03
    assert auroc(probs[:, 0], labels[2000:, 0]) == auroc(scores[2000:, 0], labels[2000:, 0])


def test_platt_stays_finite_and_never_turns_a_ranking():
    separated, reverse, constant, one_sided, unknown = range(5)
    labels = np.tile(np.array([0.0, 0, 0, 1, 1, 1])[:, None], (1, 5))
    scores = np.tile(np.array([-3.0, -2, -1, 1, 2, 3])[:, None], (1, 5))
    scores[:, reverse] *= -1
    scores[:, constant] = 4.2
    labels[:, one_sided] = 0
    labels[:, unknown] = np.nan
    platt = fit_platt(scores, labels)
    assert np.isfinite([*platt.scale, *platt.bias]).all()
    assert 0.3 < platt.scale[separated] < 10
    assert platt.scale[reverse] == platt.scale[constant] == 0
    np.testing.assert_allclose(platt(scores)[:, [reverse, constant]], 0.5, atol=1e-12)
    assert platt.fitted.tolist() == [True, True, True, False, False]
    np.testing.assert_allclose(platt(scores)[:, [one_sided, unknown]], sigmoid(scores[:, [one_sided, unknown]]))
    assert sigmoid([-1e4, 1e4]).tolist() == [0.0, 1.0]


def test_wrong_input_is_named():
    with pytest.raises(MismatchError, match=r"0\.\.1, got -2\.\.3"):
        reliability_curve([-2.0, 3.0], [0, 1])
    with pytest.raises(ConfigError, match="bins"):
        reliability_curve([0.5], [1], bins=0)
    with pytest.raises(MismatchError, match=r"\(M, C\)"):
        fit_platt([1.0], [1])
    with pytest.raises(MismatchError, match="class 0 are infinite"):
        fit_platt([[np.inf], [0.0]], [[1], [0]])
