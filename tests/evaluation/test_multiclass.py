import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from dmlm.errors import ConfigError, DatasetFormatError, DMLMError, MismatchError
from dmlm.evaluation.multiclass import confusion_matrix, multiclass_report


@st.composite
def answered(draw):
    """Truth and answers over four classes, of which some may be missing on either side."""
    rows = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60))
    return np.array(rows).T


def probabilities(answers, classes=4):
    return np.full((len(answers), classes), 0.1) + 0.6 * np.eye(classes)[answers]


@settings(max_examples=60, deadline=None)
@given(answered())
@pytest.mark.filterwarnings("ignore")
def test_measures_of_the_answers_equal_sklearn(case):
    truth, answers = case
    report = multiclass_report(probabilities(answers), truth, "abcd")
    np.testing.assert_array_equal(report.confusion, metrics.confusion_matrix(truth, answers, labels=range(4)))
    assert report.accuracy == pytest.approx(metrics.accuracy_score(truth, answers))
    assert report.accuracy == pytest.approx(metrics.f1_score(truth, answers, average="micro"))
    assert report.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(truth, answers))
    assert report.mcc == pytest.approx(metrics.matthews_corrcoef(truth, answers), abs=1e-12)
    there = np.unique(truth)
    options = {"labels": there, "average": None, "zero_division": 0}
    np.testing.assert_allclose(report.f1[there], metrics.f1_score(truth, answers, **options))
    np.testing.assert_allclose(report.precision[there], metrics.precision_score(truth, answers, **options))
    np.testing.assert_allclose(report.recall[there], metrics.recall_score(truth, answers, **options))
    assert np.isnan(report.f1[np.setdiff1d(range(4), there)]).all()


def test_one_vs_rest_auc_equals_sklearn():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 200)
    probs = rng.dirichlet(np.ones(3), 200).round(1) + 0.2 * np.eye(3)[truth]  # rounding makes ties
    probs /= probs.sum(axis=1, keepdims=True)
    report = multiclass_report(probs, truth, "abc")
    wanted = metrics.roc_auc_score(truth, probs, multi_class="ovr")
    assert report.one_vs_rest.macro("auc").value == pytest.approx(wanted)
    flat = report.flat("test")
    assert flat["test/auc_macro"] == pytest.approx(wanted)
    assert flat["test/confusion/a/b"] == report.confusion[0, 1]
    assert {"test/accuracy", "test/f1_argmax/c", "test/f1_macro@best_f1_test", "test/f1_macro@fixed_0.5"} <= set(flat)


def test_rows_without_a_class_are_left_out_and_validation_adds_rules():
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [np.nan, np.nan]])
    report = multiclass_report(probs, [0, 1, -1, np.nan], "ab", probs[:2], [0, 1])
    assert report.confusion.tolist() == [[1, 0], [0, 1]]
    assert "best_f1_val" in report.one_vs_rest.rules
    assert report.accuracy == 1


def test_a_missing_class_is_nan_and_enters_no_mean():
    report = multiclass_report(probabilities(np.array([0, 1, 1]), 3), [0, 1, 0], "abc")
    assert np.isnan(report.one_vs_rest.auc[2])
    assert report.one_vs_rest.macro("auc").classes == 2


@pytest.mark.parametrize(("labels", "said"), [([0, 4], "label 4"), ([0.5, 1], "label 0.5"), ([-2, 1], "label -2")])
def test_labels_out_of_range_are_refused(labels, said):
    with pytest.raises(DatasetFormatError, match=said):
        multiclass_report(np.eye(4)[:2], labels, "abcd")


def test_shapes_and_nan_are_refused():
    with pytest.raises(MismatchError, match="a column per class"):
        multiclass_report(np.eye(3), [0, 1, 2], "abcd")
    with pytest.raises(DMLMError, match="row 1 is NaN"):
        multiclass_report([[1, 0], [np.nan, 0]], [0, 1], "ab")
    with pytest.raises(MismatchError, match="one length"):
        confusion_matrix([0, 1], [0], 2)


def test_one_vs_rest_keys_without_a_suffix_are_those_of_the_default_rule() -> None:
    probs, truth = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.8, 0.2]]), [0, 1, 1, 0]
    report = multiclass_report(probs, truth, "ab", default_rule="fixed_0.5")
    flat = report.flat("x")
    assert flat["x/f1/b"] == flat["x/f1/b@fixed_0.5"] == 0
    assert flat["x/f1/b@best_f1_test"] == 1
    with pytest.raises(ConfigError, match="needs validation scores"):
        multiclass_report(probs, truth, "ab", default_rule="best_f1_val")
    assert multiclass_report(np.zeros((0, 2)), [], "ab", default_rule="fixed_0.5").one_vs_rest.names == ("a", "b")
