"""The study against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dmlm.errors import MismatchError
from dmlm.evaluation.uncertainty_study import Doubt, uncertainty_study, wrong_answers

VERSIONS = [("none", 0), ("noise", 1), ("blur", 1), ("noise", 2), ("blur", 2)]


def example(seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = rng.choice([0.0, 1.0, -1.0, np.nan], (60, 3), p=[0.5, 0.3, 0.1, 0.1])
    prob, value = rng.random((60, 5, 3)), rng.random((60, 5, 3)).round(1)  # ties, too
    return prob, value, labels, rng.random(60) < 0.2


def test_every_number_is_the_one_it_says() -> None:
    prob, value, labels, unseen = example()
    doubts = {"a": Doubt(value), "b": Doubt(value**2, prob)}
    thresholds = np.array([0.5, 0.3, 0.6])
    found = uncertainty_study(prob, doubts, labels, VERSIONS, thresholds, unseen, "u")
    own = ~unseen
    truth, known = labels[own], np.isin(labels[own], (0, 1))
    wrong = ((prob[own, 0] >= thresholds) != (truth == 1))[known]
    assert found["u/error_rate@0"] == pytest.approx(wrong.mean())
    assert found["u/a/error_auroc"] == pytest.approx(roc_auc_score(wrong, value[own, 0][known]))
    image = value[own].mean(2)
    areas = {
        kind: roc_auc_score(np.r_[np.ones(own.sum()), np.zeros(own.sum())], np.r_[image[:, v], image[:, 0]])
        for v, (kind, level) in enumerate(VERSIONS)
        if level == 2
    }
    assert found["u/a/corruption_auroc/noise@2"] == pytest.approx(areas["noise"])
    assert found["u/a/corruption_auroc@2"] == pytest.approx(np.mean(list(areas.values())))
    assert found["u/a/unseen_auroc"] == pytest.approx(roc_auc_score(unseen, value[:, 0].mean(1)))
    by_class = [roc_auc_score(truth[known[:, c], c], prob[own, 0][known[:, c], c]) for c in range(3)]
    assert found["u/auc_macro@0"] == pytest.approx(np.mean(by_class))
    assert found["u/b/ece_macro"] == pytest.approx(found["u/ece_macro@0"])
    assert "u/a/ece_macro" not in found


def test_a_perfect_doubt_and_a_useless_one() -> None:
    prob, _, labels, _ = example(1)
    labels = np.nan_to_num(labels, nan=0.0).clip(0)
    thresholds = np.full(3, 0.5)
    wrong = np.stack([wrong_answers(prob[:, v], labels, thresholds) for v in range(5)], axis=1)
    found = uncertainty_study(
        prob, {"oracle": Doubt(wrong), "flat": Doubt(np.ones_like(wrong))}, labels, VERSIONS, thresholds
    )
    assert found["uncertainty/oracle/error_auroc"] == 1
    assert found["uncertainty/flat/error_auroc"] == 0.5
    assert found["uncertainty/flat/aurc"] == pytest.approx(found["uncertainty/error_rate@0"])
    assert found["uncertainty/flat/corruption_auroc@1"] == 0.5
    assert "uncertainty/flat/unseen_auroc" not in found


def test_exclusive_classes_are_wrong_together() -> None:
    labels = np.array([[1.0, 0, 0], [0, 1, 0], [np.nan] * 3])
    wrong = wrong_answers(np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]), labels, None)
    assert wrong[:2].tolist() == [[0, 0, 0], [1, 1, 1]]
    assert np.isnan(wrong[2]).all()


def test_shapes_and_a_clean_first_version_are_needed() -> None:
    prob, value, labels, _ = example()
    with pytest.raises(MismatchError, match="versions"):
        uncertainty_study(prob, {"a": Doubt(value[:, :2])}, labels, VERSIONS, None)
    with pytest.raises(MismatchError, match="clean first version"):
        uncertainty_study(prob, {"a": Doubt(value)}, labels, VERSIONS[1:] + VERSIONS[:1], None)
