import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from dmlm.errors import ConfigError
from dmlm.evaluation.classification import classification_report
from dmlm.evaluation.operating import micro_metrics, operating_metrics, sensitivity_at_specificity, warn_unmeasured


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40),
    st.sampled_from([0.0, 0.3, 0.5, 0.9, 0.95, 1.0]),
)
def test_sensitivity_equals_the_best_point_of_the_roc_curve(rows, wanted):
    scores, labels = np.array([r[0] for r in rows]) / 3, np.array([r[1] for r in rows], dtype=float)
    labels[:2] = 0, 1
    false, hit, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    point = sensitivity_at_specificity(scores, labels, wanted)
    assert point.sensitivity == pytest.approx(hit[1 - false >= wanted - 1e-9].max())
    assert point.specificity >= wanted - 1e-9
    answered = scores >= point.threshold
    assert point.sensitivity == pytest.approx(answered[labels == 1].mean())
    assert point.specificity == pytest.approx(1 - answered[labels == 0].mean())


def test_one_kind_of_label_has_no_operating_point():
    assert np.isnan(sensitivity_at_specificity([0.1, 0.2], [1, 1], 0.9)).all()
    flat = operating_metrics([[0.1, 1], [0.2, 2]], [[1, 0], [1, 1]], ["a", "b"], "t", (0.9,))
    assert np.isnan(flat["t/sens_at_spec90/a"])
    assert flat["t/sens_at_spec90_macro"] == 1
    with pytest.raises(ConfigError, match=r"0\.\.1"):
        sensitivity_at_specificity([0.1], [1], 90)


def test_micro_averages_equal_sklearn_and_leave_unknown_cells_out():
    rng = np.random.default_rng(0)
    probs, labels = rng.random((80, 3)).round(1), (rng.random((80, 3)) < 0.3).astype(float)
    flat = micro_metrics(probs, labels, "t")
    assert flat["t/auc_micro"] == pytest.approx(metrics.roc_auc_score(labels, probs, average="micro"))
    assert flat["t/auprc_micro"] == pytest.approx(metrics.average_precision_score(labels, probs, average="micro"))
    assert flat["t/f1_micro@fixed_0.5"] == pytest.approx(metrics.f1_score(labels, probs >= 0.5, average="micro"))
    labels[:40, 0] = np.nan
    labels[40:, 0] = -1
    assert micro_metrics(probs, labels, "t") == micro_metrics(probs[:, 1:], labels[:, 1:], "t")


def test_classes_without_both_labels_are_named():
    labels = np.array([[1, 1, np.nan], [0, 1, 0]])
    report = classification_report(np.ones((2, 3)), None, labels, ["ok", "always", "never"])
    with pytest.warns(UserWarning, match=r"test: .*always \(no absent row\), never \(no present row\)"):
        assert warn_unmeasured(report, "test") == ("always", "never")
