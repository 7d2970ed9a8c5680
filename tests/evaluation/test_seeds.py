import numpy as np
import pytest

from dmlm.evaluation.seeds import over_seeds, spread


def test_mean_and_sample_deviation_of_the_runs_that_have_a_metric():
    found = over_seeds([{"auc": 0.8, "f1": np.nan}, {"auc": 0.9, "f1": 0.5}, {"auc": 0.7, "new": 1.0}])
    assert found["auc"].mean == pytest.approx(0.8)
    assert found["auc"].std == pytest.approx(np.std([0.8, 0.9, 0.7], ddof=1))
    assert found["f1"].runs == found["new"].runs == 1
    assert np.isnan(found["f1"].std)


def test_text():
    assert spread([0.914, 0.924]).text() == "91.9 ± 0.7"
    assert spread([0.5]).text(2, 1) == "0.50"
    assert spread([np.nan]).text() == "-"
