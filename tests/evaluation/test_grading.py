import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from dmlm.evaluation.grading import bootstrap_grades, grading_report, quadratic_kappa
from dmlm.evaluation.intervals import patient_weights


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=50))
@pytest.mark.filterwarnings("ignore")
def test_kappa_and_mae_equal_sklearn(rows):
    truth, answers = np.array(rows).T
    report = grading_report(0.1 + 0.6 * np.eye(4)[answers], truth, "0123")
    wanted = metrics.cohen_kappa_score(truth, answers, weights="quadratic", labels=range(4))
    assert report.kappa == pytest.approx(wanted, nan_ok=True)
    assert report.mae == pytest.approx(metrics.mean_absolute_error(truth, answers))


def test_cuts_are_the_aucs_of_the_probability_above():
    rng = np.random.default_rng(1)
    truth, probs = rng.integers(0, 4, 300), rng.dirichlet(np.ones(4), 300)
    report = grading_report(probs, truth, "0123")
    for k in range(1, 4):
        wanted = metrics.roc_auc_score(truth >= k, probs[:, k:].sum(axis=1))
        assert report.cuts[k - 1] == pytest.approx(wanted, abs=1e-9)
    assert report.mae_expected == pytest.approx(np.abs(probs @ np.arange(4) - truth).mean())
    flat = report.flat("test")
    assert flat["test/auc_cut/above_0"] == report.cuts[0]
    assert {"test/kappa", "test/mae", "test/accuracy", "test/auc_macro", "test/auc_cut_macro"} <= set(flat)


def test_a_far_miss_costs_more_than_a_near_one():
    near, far = np.diag([5, 5, 5, 5]), np.diag([5, 5, 5, 5])
    near[0, 1], far[0, 3] = 1, 1
    assert 1 > quadratic_kappa(near) > quadratic_kappa(far)
    assert np.isnan(quadratic_kappa(np.diag([0, 7])))


def test_unknown_grades_are_left_out():
    probs = np.eye(4)[[0, 1, 2, 3]]
    assert grading_report(probs, [0, 1, np.nan, -1], "0123").mae == 0
    assert np.isnan(grading_report(probs, [np.nan] * 4, "0123").mae)


def test_intervals_equal_explicit_resampling():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 50)
    said, groups = np.clip(truth + rng.integers(-1, 2, 50), 0, 3), [f"p{p}" for p in rng.integers(0, 15, 50)]
    unknown = np.append(truth, -1), np.append(said, 2), [*groups, "p0"]  # a row without a grade changes nothing
    found = bootstrap_grades(unknown[1], unknown[0], 4, unknown[2], n=60, seed=1)
    drawn = []
    for times in patient_weights(groups, 60, 1).T:
        real, answer = np.repeat(truth, times), np.repeat(said, times)
        kappa = metrics.cohen_kappa_score(real, answer, weights="quadratic", labels=range(4))
        drawn.append((kappa, metrics.mean_absolute_error(real, answer), (real == answer).mean()))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    for place, name in enumerate(("kappa", "mae", "accuracy")):
        np.testing.assert_allclose(found[name][1:3], (low[place], high[place]), atol=1e-12)
    assert found["kappa"].value == pytest.approx(metrics.cohen_kappa_score(truth, said, weights="quadratic"))
