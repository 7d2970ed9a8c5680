import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from dmlm.errors import DatasetFormatError, DMLMError, MismatchError
from dmlm.evaluation.ranking import (
    auroc,
    average_precision,
    best_f1_threshold,
    best_mcc_threshold,
    precision_recall_curve,
    roc_curve,
)


@st.composite
def ranked(draw):
    """Scores with many ties, and labels of both kinds."""
    rows = draw(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=60))
    scores, labels = np.array([r[0] for r in rows]) / 3, np.array([r[1] for r in rows], dtype=float)
    labels[:2] = 0, 1
    return scores, labels


@settings(max_examples=50, deadline=None)
@given(ranked())
def test_areas_equal_sklearn_with_ties(case):
    scores, labels = case
    assert auroc(scores, labels) == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(scores, labels) == pytest.approx(
        metrics.average_precision_score(labels, scores), abs=1e-12
    )


def test_areas_equal_sklearn_on_many_distinct_scores():
    rng = np.random.default_rng(0)
    labels = (rng.random(20_000) < 0.03).astype(float)
    scores = rng.normal(size=20_000) + labels
    assert auroc(scores, labels) == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(scores, labels) == pytest.approx(
        metrics.average_precision_score(labels, scores), abs=1e-12
    )


@settings(max_examples=50, deadline=None)
@given(ranked(), st.integers(0, 2**31))
def test_measures_ignore_monotone_transforms_and_row_order(case, seed):
    scores, labels = case
    order = np.random.default_rng(seed).permutation(len(scores))
    for measure in (auroc, average_precision, lambda s, y: best_f1_threshold(s, y).value):
        expected = measure(scores, labels)
        assert measure(np.exp(scores) * 7 - 2, labels) == expected
        assert measure(scores[order], labels[order]) == expected
    assert best_f1_threshold(scores[order], labels[order]) == best_f1_threshold(scores, labels)
    assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(ranked())
def test_curves_equal_sklearn(case):
    scores, labels = case
    precision, recall, threshold = metrics.precision_recall_curve(labels, scores)
    ours = precision_recall_curve(scores, labels)
    np.testing.assert_array_equal(ours.precision, precision)
    np.testing.assert_array_equal(ours.recall, recall)
    np.testing.assert_array_equal(ours.threshold, threshold)
    fpr, tpr, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc_curve(scores, labels).false_positive_rate, fpr, atol=1e-15)
    np.testing.assert_allclose(roc_curve(scores, labels).true_positive_rate, tpr, atol=1e-15)


@settings(max_examples=50, deadline=None)
@given(ranked())
def test_best_mcc_is_the_best_of_all_thresholds(case):
    scores, labels = case
    candidates = np.unique(scores)
    values = [metrics.matthews_corrcoef(labels, scores >= t) for t in candidates]
    best = best_mcc_threshold(scores, labels)
    assert best.value == pytest.approx(max(values), abs=1e-12)
    assert metrics.matthews_corrcoef(labels, scores >= best.threshold) == pytest.approx(best.value, abs=1e-12)


@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 0, 0], [-1, np.nan, 1], [-1, -1, np.nan], []])
def test_one_kind_of_label_is_nan(labels):
    scores = np.arange(len(labels), dtype=float)
    assert np.isnan([auroc(scores, labels), average_precision(scores, labels)]).all()
    assert np.isnan(best_f1_threshold(scores, labels)).all()
    assert np.isnan(best_mcc_threshold(scores, labels)).all()
    assert roc_curve(scores, labels) is None
    assert precision_recall_curve(scores, labels) is None


def test_rows_without_label_are_left_out():
    scores, labels = np.array([0.1, 0.9, 0.4, 0.8, np.nan]), np.array([0, 1, -1, np.nan, -1])
    assert auroc(scores, labels) == 1.0
    assert auroc(np.array([0.5, 0.5, 0.5]), [0, 1, 1]) == 0.5


def test_wrong_input_is_named():
    with pytest.raises(DatasetFormatError, match="label 2 in row 1"):
        auroc([0.0, 1.0], [0, 2])
    with pytest.raises(DMLMError, match="row 2 is NaN"):
        auroc([0.0, 1.0, np.nan], [-1, 0, 1])
    with pytest.raises(MismatchError, match=r"\(2,\) and \(3,\)"):
        auroc([0.0, 1.0], [0, 1, 1])
