import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy, spearmanr
from sklearn.metrics import roc_auc_score

from dmlm.errors import DMLMError, MismatchError
from dmlm.evaluation.uncertainty import (
    aurc,
    binary_entropy,
    decision_aurc,
    error_auroc,
    risk_coverage,
    spearman,
    uncertainty_metrics,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=40))
def test_spearman_equals_scipy_with_ties(rows):
    a, b = (np.array(side, dtype=float) for side in zip(*rows, strict=True))
    if len(set(a)) < 2 or len(set(b)) < 2:
        assert np.isnan(spearman(a, b))
    else:
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


def test_spearman_of_few_cases():
    assert np.isnan(spearman([], []))
    assert np.isnan(spearman([1.0], [2.0]))
    assert spearman([1, 2, 3], [10, 100, 1e9]) == pytest.approx(1.0)


def test_risk_coverage_by_hand():
    curve = risk_coverage([0.3, 0.1, 0.2, 0.4], [0, 0, 1, 1])
    np.testing.assert_allclose(curve.coverage, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(curve.risk, [0, 1 / 2, 1 / 3, 1 / 2])
    assert aurc([0.3, 0.1, 0.2, 0.4], [0, 0, 1, 1]) == pytest.approx(np.mean([0, 1 / 2, 1 / 3, 1 / 2]))
    assert np.isnan(aurc([], []))


def test_ties_have_the_expectation_over_their_orders():
    rng = np.random.default_rng(0)
    doubt, errors = rng.integers(0, 3, 30).astype(float), (rng.random(30) < 0.4).astype(float)
    shuffled = [risk_coverage(doubt + 1e-6 * rng.random(30), errors).risk for _ in range(4000)]
    np.testing.assert_allclose(risk_coverage(doubt, errors).risk, np.mean(shuffled, axis=0), atol=0.03)
    assert aurc(np.zeros(30), errors) == pytest.approx(errors.mean()), "a constant uncertainty knows nothing"
    order = rng.permutation(30)
    assert aurc(doubt[order], errors[order]) == pytest.approx(aurc(doubt, errors), abs=1e-12)


def test_the_error_itself_is_the_best_uncertainty():
    rng = np.random.default_rng(1)
    errors = rng.random(200)
    assert aurc(errors, errors) < aurc(rng.random(200), errors) < aurc(-errors, errors)


def test_error_auroc_and_metrics():
    rng = np.random.default_rng(2)
    wrong = (rng.random(300) < 0.3).astype(float)
    doubt, graded = rng.random(300) + wrong, wrong * rng.random(300)
    assert error_auroc(doubt, wrong) == pytest.approx(roc_auc_score(wrong, doubt), abs=1e-12)
    assert error_auroc(doubt, wrong.astype(bool)) == error_auroc(doubt, wrong)
    flat = uncertainty_metrics(doubt, wrong, "u", graded)
    assert flat == {
        "u/aurc": aurc(doubt, wrong),
        "u/error_auroc": error_auroc(doubt, wrong),
        "u/error_spearman": spearman(doubt, graded),
        "u/error_rate": wrong.mean(),
    }
    assert np.isnan(uncertainty_metrics(doubt, np.zeros(300), "u")["u/error_auroc"])


def test_entropy_equals_scipy():
    p = np.array([[0.0, 1e-300, 0.2], [0.5, 0.9, 1.0]])
    np.testing.assert_allclose(binary_entropy(p), entropy(np.stack([p, 1 - p])), atol=1e-12)
    assert binary_entropy([0.0, 1.0]).tolist() == [0.0, 0.0]
    assert binary_entropy(0.5) == pytest.approx(np.log(2))


def test_wrong_input_is_named():
    with pytest.raises(MismatchError, match="one length"):
        risk_coverage([1, 2], [1])
    with pytest.raises(DMLMError, match="NaN"):
        spearman([1, np.nan], [1, 2])


def test_decision_aurc_by_hand():
    """Kept in order of certainty: 0.9 right, 0.2 wrong, 0.6 wrong, 0.5 right; the second class has one label."""
    probs = np.array([[0.9, 0.3], [0.5, 0.1], [0.2, 0.1], [0.6, 0.1], [0.99, 0.1]])
    labels = np.array([[1, 0], [1, np.nan], [1, -1], [0, np.nan], [-1, np.nan]])
    first = np.mean([0, 1 / 2, 2 / 3, 2 / 4])
    assert decision_aurc(probs, labels) == pytest.approx((first + 0) / 2)
    assert decision_aurc(probs[:, :1], labels[:, :1]) == pytest.approx(first)
    assert np.isnan(decision_aurc(probs[4:], labels[4:]))
