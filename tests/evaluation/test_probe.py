import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from dmlm.errors import ConfigError, MismatchError
from dmlm.evaluation.probe import fit_logistic, linear_probe
from dmlm.evaluation.ranking import auroc


@pytest.fixture(autouse=True)
def one_thread():
    """Small products are slower on two threads of a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def data(seed, rows=300, width=12, classes=3):
    rng = np.random.default_rng(0)
    mix, truth = rng.normal(size=(width, width)), rng.normal(size=(width, classes))  # correlated features
    rng = np.random.default_rng(seed + 1)
    x = rng.normal(size=(rows, width))
    y = (rng.random((rows, classes)) < 1 / (1 + np.exp(-(x @ truth) / 4 + 1))).astype(float)
    return (x @ mix * rng.uniform(0.1, 10, width) + 5).astype(np.float32).astype(np.float64), y


@pytest.mark.parametrize("l2", [1e-4, 1e-2, 1.0])
def test_coefficients_equal_sklearn(l2):
    x, y = data(0)
    x = StandardScaler().fit_transform(x)
    y[:40, 1], y[40:60, 1] = np.nan, -1
    fit = fit_logistic(x, y, l2)
    for c in range(3):
        known = np.isin(y[:, c], (0, 1))
        reference = LogisticRegression(C=1 / (l2 * known.sum()), tol=1e-12, solver="newton-cholesky").fit(
            x[known], y[known, c]
        )
        np.testing.assert_allclose(fit.weight[:, c], reference.coef_[0], atol=2e-4)
        np.testing.assert_allclose(fit.bias[c], reference.intercept_[0], atol=2e-4)


def test_probe_equals_sklearn_with_the_same_choice():
    (train_x, train_y), (val_x, val_y), (test_x, test_y) = data(2, 200), data(3, 150), data(4, 400)
    result = linear_probe(train_x, train_y, val_x, val_y, test_x)
    scaler = StandardScaler().fit(train_x)
    for c in range(3):
        models = {
            l2: LogisticRegression(C=1 / (l2 * 200), tol=1e-12, solver="newton-cholesky").fit(
                scaler.transform(train_x), train_y[:, c]
            )
            for l2 in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
        }
        areas = {
            l2: auroc(model.decision_function(scaler.transform(val_x)), val_y[:, c]) for l2, model in models.items()
        }
        assert areas[result.l2[c]] == pytest.approx(max(areas.values()), abs=1e-3)
        assert result.val_auc[c] == pytest.approx(max(areas.values()), abs=1e-3)
        expected = models[result.l2[c]].decision_function(scaler.transform(test_x))
        np.testing.assert_allclose(result.test_scores[:, c], expected, atol=5e-3)
        assert auroc(result.test_scores[:, c], test_y[:, c]) == pytest.approx(auroc(expected, test_y[:, c]), abs=1e-3)
        assert auroc(result.val_scores[:, c], val_y[:, c]) == result.val_auc[c]


def test_deterministic_also_inside_inference_mode():
    (train_x, train_y), (val_x, val_y), (test_x, _) = data(5), data(6), data(7)
    first = linear_probe(train_x, train_y, val_x, val_y, test_x)
    with torch.inference_mode():
        tensors = [torch.from_numpy(part) for part in (train_x, train_y, val_x, val_y, test_x)]
        second = linear_probe(*tensors)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_degenerate_classes_and_features():
    (train_x, train_y), (val_x, val_y), (test_x, _) = data(8), data(9), data(10)
    plain = linear_probe(train_x, train_y, val_x, val_y, test_x)
    train_y, val_y = train_y.copy(), val_y.copy()
    train_y[:, 0] = 0
    val_y[:, 1] = np.nan
    constant = [np.concatenate([x, np.full((len(x), 1), 0.1)], axis=1) for x in (train_x, val_x, test_x)]
    result = linear_probe(constant[0], train_y, constant[1], val_y, constant[2])
    np.testing.assert_allclose(result.test_scores[:, 0], np.log((1 / 302) / (301 / 302)))
    assert np.isnan(result.val_auc[1])
    assert np.isfinite(result.test_scores).all()
    np.testing.assert_allclose(result.test_scores[:, 2], plain.test_scores[:, 2], atol=1e-4)
    nothing = fit_logistic(train_x, np.full((300, 1), np.nan), 1.0)
    assert (nothing.weight == 0).all()
    assert nothing.bias[0] == 0


def test_wrong_input_is_named():
    x, y = data(11)
    with pytest.raises(ConfigError, match="at least one strength"):
        linear_probe(x, y, x, y, x, l2_grid=())
    with pytest.raises(ConfigError, match="l2 must be positive, got 0"):
        linear_probe(x, y, x, y, x, l2_grid=(0, 1))
    with pytest.raises(MismatchError, match="disagree"):
        linear_probe(x, y, x, y, x[:, :3])
    with pytest.raises(MismatchError, match="same N"):
        linear_probe(x, y[:5], x, y, x)
    x[4, 2] = np.inf
    with pytest.raises(MismatchError, match="training features of row 4"):
        linear_probe(x, y, x, y, x)
