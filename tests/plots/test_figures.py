import subprocess
import sys

import numpy as np
import pytest

from dmlm.errors import ConfigError, MismatchError
from dmlm.evaluation import aurc, auroc, average_precision, expected_calibration_error
from dmlm.plots.figures import pr_figure, reliability_figure, risk_coverage_figure, roc_figure, save_figure


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    labels = (rng.random((300, 7)) < 0.3).astype(float)
    scores = rng.normal(size=(300, 7)) + labels
    labels[:, 5], labels[:, 6] = 0, np.nan
    return scores, labels, [f"finding {c}" for c in range(7)]


def texts(figure):
    return [[text.get_text() for text in axes.texts] for axes in figure.axes]


def test_roc_panels_show_the_auc(case, tmp_path):
    scores, labels, names = case
    figure = roc_figure(*case)
    assert [axes.get_title() for axes in figure.axes] == names
    assert texts(figure)[:5] == [[f"AUC {auroc(scores[:, c], labels[:, c]):.3f}"] for c in range(5)]
    assert texts(figure)[5] == texts(figure)[6] == ["needs present\nand absent cases"]
    curve = figure.axes[0].lines[1].get_xydata()
    np.testing.assert_array_equal(curve[[0, -1]], [[0, 0], [1, 1]])
    integral = getattr(np, "trapezoid", None) or np.trapz  # the name before numpy 2
    assert integral(curve[:, 1], curve[:, 0]) == pytest.approx(auroc(scores[:, 0], labels[:, 0]), abs=1e-12)
    target = save_figure(figure, tmp_path / "new" / "roc.png")
    assert target.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in target.parent.iterdir()] == ["roc.png"]


def test_pr_area_under_the_steps_is_the_auprc(case):
    scores, labels, _ = case
    figure = pr_figure(*case)
    for c in range(5):
        area = average_precision(scores[:, c], labels[:, c])
        recall, precision = figure.axes[c].lines[1].get_data()
        assert (np.diff(recall) * precision[1:]).sum() == pytest.approx(area, abs=1e-12)
        assert texts(figure)[c] == [f"AUPRC {area:.3f}\nprevalence {labels[:, c].mean():.3f}"]


def test_reliability_shows_the_calibration_error(case):
    scores, labels, names = case
    probs = 1 / (1 + np.exp(-scores))
    figure = reliability_figure(probs, labels, names)
    assert texts(figure)[0] == [f"ECE {expected_calibration_error(probs[:, 0], labels[:, 0]):.3f}"]
    assert texts(figure)[6] == ["no labels"]
    with pytest.raises(MismatchError, match=r"0\.\.1"):
        reliability_figure(scores, labels, names)


def test_risk_coverage_names_each_uncertainty(tmp_path):
    rng = np.random.default_rng(1)
    errors = (rng.random(100) < 0.3).astype(float)
    kinds = {"embedding": rng.random(100), "predictive": rng.random(100) + errors}
    figure = risk_coverage_figure(kinds, errors)
    entries = [entry.get_text() for entry in figure.legends[0].get_texts()]
    assert entries[:2] == [f"{name} (AURC {aurc(value, errors):.3f})" for name, value in kinds.items()]
    assert len(entries) == 4
    assert save_figure(figure, tmp_path / "risk.svg").read_text().startswith("<?xml")
    with pytest.raises(MismatchError, match="at least one case"):
        risk_coverage_figure({}, errors)


def test_wrong_input_is_named(case, tmp_path):
    scores, labels, names = case
    with pytest.raises(MismatchError, match="one column per name"):
        roc_figure(scores, labels, names[:2])
    figure = roc_figure(scores[:, :1], labels[:, :1], names[:1])
    with pytest.raises(ConfigError, match=r"use \.png"):
        save_figure(figure, tmp_path / "roc.txt")
    assert not list(tmp_path.iterdir())


def test_import_is_light_and_pyplot_stays_away():
    code = (
        "import sys, dmlm.plots, dmlm.plots.figures as f; "
        "assert not {'matplotlib', 'torch', 'sklearn', 'scipy', 'lightning'} & set(sys.modules), 'import is heavy'; "
        "f.roc_figure([[0.1], [0.9]], [[0], [1]], ['Edema']); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
