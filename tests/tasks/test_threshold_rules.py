"""One threshold rule for test, prediction and predictor; findings and thresholds that a run brings along."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import tiny_encoder
from finetuning import evaluator, predictions

from dmlm.errors import ConfigError
from dmlm.evaluation import best_f1_threshold, best_mcc_threshold, classification_report
from dmlm.io.atomic import write_json
from dmlm.tasks import ClassificationModule, EdemaGradingModule, ZeroShotModule
from dmlm.tasks.inference import LabelPredictor, load_predictor

CHOICES = {"best_f1_test": best_f1_threshold, "best_f1_val": best_f1_threshold, "best_mcc_val": best_mcc_threshold}


@pytest.mark.parametrize("rule", [*CHOICES, "fixed_0.5"])
def test_predictions_obey_the_rule(rule, tmp_path, monkeypatch) -> None:
    made = ClassificationModule(tiny_encoder(), 2, threshold=rule, bootstrap=0)
    made.class_names = ("a", "b")
    rng = np.random.default_rng(3)
    labels = (rng.random((60, 2)) < 0.2).astype(float)
    rows = {"score": rng.normal(size=(60, 2)) + labels, "labels": labels}
    assert best_f1_threshold(rows["score"][:, 0], labels[:, 0]) != best_mcc_threshold(rows["score"][:, 0], labels[:, 0])
    made.threshold.fill_(9.0)  # of an epoch before
    made.validation_metrics(rows)
    wanted = [CHOICES[rule](rows["score"][:, c], labels[:, c])[0] if rule in CHOICES else 0.0 for c in range(2)]
    assert made.threshold.tolist() == wanted
    named = "best_f1_val" if rule == "best_f1_test" else rule
    predictor = LabelPredictor(made)
    assert predictor.rules == [named] * 2
    np.testing.assert_allclose(predictor.threshold, 1 / (1 + np.exp(-np.array(wanted))))

    monkeypatch.setattr(ClassificationModule, "run_dir", tmp_path)
    empty = {name: np.full((60, 2), np.nan) for name in ("mc_std", "mutual_information")}
    who = {"index": np.arange(60), "study_id": ["s"] * 60, "patient_id": ["p"] * 60, "variance": np.full(60, np.nan)}
    made.write_predictions({**rows, **empty, **who, "prob": 1 / (1 + np.exp(-rows["score"]))})
    written = predictions(tmp_path)
    assert {row["rule"] for row in written} == {named}
    answers = np.array([int(row["pred"]) for row in written]).reshape(60, 2)
    np.testing.assert_array_equal(answers, rows["score"] >= np.array(wanted))


@pytest.mark.parametrize("kind", [ClassificationModule, EdemaGradingModule])
def test_an_unknown_rule_is_refused(kind) -> None:
    with pytest.raises(ConfigError, match=r"threshold must be one of best_f1_test, .*, got 'best_f1'"):
        kind(tiny_encoder(), num_classes=4, threshold="best_f1")


def test_a_threshold_is_found_under_any_name_of_its_finding() -> None:
    predictor = LabelPredictor(ZeroShotModule(tiny_encoder()), ("Effusion", "edema"), {"Pleural Effusion": 0.416})
    assert predictor.names == ("Effusion", "edema")
    assert predictor.threshold.tolist() == [0.416, 0.5]
    assert predictor.rules == ["best_f1_val", "fixed_0.5"]


@pytest.mark.parametrize("validated", [True, False])
def test_findings_without_a_threshold_are_predicted(validated, tmp_path) -> None:
    """A finding that validation has no case of, and a run without a validation split."""
    names = ("Edema", "Pneumothorax", "Fracture")
    labels, scores = np.array([[1, 0, 1], [0, 1, 0]] * 2), np.array([[1.0, -1, 0], [-1, 0, 1]] * 2)
    seen = labels.copy()
    seen[:, 1] = 0
    validation = {"val_scores": scores, "val_labels": seen} if validated else {}
    write_json(
        tmp_path / "metrics.json", classification_report(scores, None, labels, names, **validation).flat("zero_shot")
    )
    path, trainer = tmp_path / "checkpoints" / "best.ckpt", evaluator(tmp_path)
    trainer.strategy.connect(ZeroShotModule(tiny_encoder()))
    trainer.save_checkpoint(path)
    found = load_predictor(str(path))
    assert found.names == names
    chosen = "best_f1_val" if validated else "fixed_0.5"
    assert found.rules == [chosen, "fixed_0.5", chosen]
    assert found.threshold[1] == 0.5
