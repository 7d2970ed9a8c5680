"""Edema grading end to end: both losses, kappa and error, grades that are missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import tiny_encoder
from finetuning import OPTIM, evaluator, metrics, phantoms, predictions, trainer
from sklearn.metrics import cohen_kappa_score, mean_absolute_error

from dmlm.errors import ConfigError, MismatchError
from dmlm.tasks import EdemaGradingModule, TaskModule

pytestmark = pytest.mark.filterwarnings("ignore:.*(no AUC, F1 or ACC|no positive)")


def module(**arguments) -> EdemaGradingModule:
    return EdemaGradingModule(tiny_encoder(), **{"bootstrap": 5, "optim": OPTIM, **arguments})


@pytest.mark.parametrize(("loss", "rule"), [("cross_entropy", "best_f1_val"), ("ordinal", "fixed_0.5")])
def test_grading_end_to_end(loss, rule, tmp_path, tmp_path_factory) -> None:
    cache = tmp_path_factory.getbasetemp() / "finetune-phantoms"
    torch.manual_seed(0)
    running = trainer(tmp_path, "val_auroc")
    made = module(loss=loss, class_weights="balanced", mc_samples=2, threshold=rule)
    running.fit(made, phantoms(cache, target="edema"))
    path = tmp_path / "kept" / "best.ckpt"
    running.test(ckpt_path=str(path), datamodule=phantoms(cache, target="edema"), weights_only=True, verbose=False)
    found, rows = metrics(tmp_path), predictions(tmp_path)
    labels, prob = (np.array([float(row[key]) for row in rows]).reshape(-1, 4) for key in ("label", "prob"))
    truth, said = labels.argmax(1), prob.argmax(1)
    kappa = cohen_kappa_score(truth, said, weights="quadratic", labels=range(4))
    assert found["grade/kappa"] == pytest.approx(kappa, nan_ok=True)
    assert found["grade/mae"] == pytest.approx(mean_absolute_error(truth, said))
    assert {"grade/auc_macro", "grade/f1_macro@best_f1_test", "grade/auc_cut_macro"} <= found.keys()
    for key in ("f1_macro", "acc_macro"):
        assert found[f"grade/{key}"] == pytest.approx(found[f"grade/{key}@{rule}"], nan_ok=True), key
    assert found["grade/mae_low"] <= found["grade/mae_high"]
    assert {"grade/kappa_low", "grade/accuracy_high"} <= found.keys()
    assert (tmp_path / "confusion.png").is_file()
    loaded = TaskModule.load_from_checkpoint(path)
    assert isinstance(loaded, EdemaGradingModule)
    assert loaded.head.task == ("ordinal" if loss == "ordinal" else "multiclass")
    assert loaded.class_weight.max() > 1


def test_an_ordinal_loss_prefers_the_near_miss() -> None:
    made = module(loss="ordinal").eval()
    labels = torch.eye(4)[[0]]
    with torch.no_grad():
        near, far = (made._loss(torch.tensor([logits]), labels).mean() for logits in ([3.0, -3, -3], [3.0, 3, 3]))
    assert near < far


def test_data_without_grades_and_unknown_losses(tmp_path, tmp_path_factory) -> None:
    cache = tmp_path_factory.getbasetemp() / "finetune-phantoms"
    with pytest.raises(MismatchError, match="multiclass"):
        evaluator(tmp_path).test(module(), phantoms(cache))
    with pytest.raises(ConfigError, match="cross_entropy or ordinal"):
        module(loss="hinge")
