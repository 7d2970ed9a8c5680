import numpy as np
import pytest
from sklearn import metrics

from dmlm.errors import ConfigError, DMLMError, MismatchError
from dmlm.evaluation.classification import RULE_NOTES, classification_report
from dmlm.evaluation.intervals import bootstrap_auc
from dmlm.evaluation.tables import format_table, to_markdown

NAMES = ["Atelectasis", "Pleural Effusion", "Hernia"]


def data(seed, rows=400, digits=1):
    """Scores with ties (rounded), and labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((rows, 3)) < [0.3, 0.5, 0.04]).astype(np.float32)
    scores = np.round(rng.normal(size=(rows, 3)) + 1.2 * labels - 1, digits)
    return scores, 1 / (1 + np.exp(-scores)), labels


def medklip(gt, pred):
    """The recipe of MedKLIP's zero-shot test script, with scikit-learn."""
    f1s, accuracies, areas = [], [], []
    for i in range(gt.shape[1]):
        precision, recall, thresholds = metrics.precision_recall_curve(gt[:, i], pred[:, i])
        numerator, denominator = 2 * recall * precision, recall + precision
        f1 = np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator != 0)
        f1s.append(np.max(f1))
        accuracies.append(metrics.accuracy_score(gt[:, i], pred[:, i] > thresholds[np.argmax(f1)]))
        areas.append(metrics.roc_auc_score(gt[:, i], pred[:, i]))
    return np.array(f1s), np.array(accuracies), np.array(areas)


@pytest.mark.parametrize("digits", [0, 1, 8])
@pytest.mark.parametrize("seed", range(5))
def test_best_f1_test_is_medklips_recipe(seed, digits):
    scores, probs, labels = data(seed, digits=digits)
    report = classification_report(scores, probs, labels, NAMES)
    f1, accuracy, area = medklip(labels, scores)
    np.testing.assert_array_equal(report.rules["best_f1_test"].f1, f1)
    np.testing.assert_array_equal(report.rules["best_f1_test"].acc, accuracy)
    np.testing.assert_allclose(report.auc, area, atol=1e-12)
    flat = report.flat("zero_shot")
    assert flat["zero_shot/f1_macro"] == flat["zero_shot/f1_macro@best_f1_test"] == pytest.approx(f1.mean(), abs=1e-12)
    assert flat["zero_shot/acc_macro"] == pytest.approx(accuracy.mean(), abs=1e-12)
    assert flat["zero_shot/auc_macro"] == pytest.approx(area.mean(), abs=1e-12)


def test_accuracy_is_strict_as_medklips():
    # the best threshold is 2 (both present cases); strictly above it nothing is left, so both are counted as missed
    scores = np.array([[0.0], [1.0], [2.0], [2.0]])
    report = classification_report(scores, None, np.array([[0], [0], [1], [1]]), ["Edema"])
    rule = report.rules["best_f1_test"]
    assert (rule.threshold[0], rule.f1[0], rule.acc[0], rule.mcc[0]) == (2.0, 1.0, 0.5, 1.0)


@pytest.mark.parametrize("rule", ["best_f1_val", "best_mcc_val", "fixed_0.5"])
def test_other_rules_equal_sklearn_at_their_threshold(rule):
    scores, probs, labels = data(0)
    val_scores, _, val_labels = data(1)
    report = classification_report(scores, probs, labels, NAMES, val_scores, val_labels, rule)
    result = report.rules[rule]
    for c in range(3):
        answer = (probs if rule == "fixed_0.5" else scores)[:, c] >= result.threshold[c]
        assert result.f1[c] == pytest.approx(metrics.f1_score(labels[:, c], answer), abs=1e-12)
        assert result.acc[c] == pytest.approx(metrics.accuracy_score(labels[:, c], answer), abs=1e-12)
        assert result.mcc[c] == pytest.approx(metrics.matthews_corrcoef(labels[:, c], answer), abs=1e-12)
        if rule == "best_f1_val":
            candidates = [
                metrics.f1_score(val_labels[:, c], val_scores[:, c] >= t) for t in np.unique(val_scores[:, c])
            ]
            chosen = metrics.f1_score(val_labels[:, c], val_scores[:, c] >= result.threshold[c])
            assert chosen == pytest.approx(max(candidates), abs=1e-12)
    assert report.flat("t")["t/mcc_macro"] == report.macro("mcc", rule).value


def test_unknown_labels_and_one_sided_classes_stay_out():
    scores, probs, labels = data(2)
    labels[:50, 0] = np.nan
    labels[50:90, 0] = -1
    labels[:, 2] = 0
    val_labels = labels.copy()
    val_labels[:, 1] = 1
    report = classification_report(scores, probs, labels, NAMES, scores, val_labels)
    assert report.auc[0] == pytest.approx(metrics.roc_auc_score(labels[90:, 0], scores[90:, 0]), abs=1e-12)
    assert np.isnan(report.auc[2])
    assert (report.n_positive[2], report.n_negative[2], report.prevalence[2]) == (0, 400, 0.0)
    assert report.n_positive[0] + report.n_negative[0] == 310
    flat = report.flat("t")
    assert flat["t/auc_macro"] == pytest.approx(np.mean(report.auc[:2]), abs=1e-12)
    assert (flat["t/classes_in_macro"], flat["t/classes_in_macro@fixed_0.5"]) == (2, 2)
    assert flat["t/classes_in_macro@best_f1_val"] == 1, "Pleural Effusion has one kind of label in validation"
    assert flat["t/f1_macro@best_f1_val"] == flat["t/f1/Atelectasis@best_f1_val"]
    assert np.isnan(flat["t/acc/Hernia"])
    labels[:] = np.nan
    empty = classification_report(scores, probs, labels, NAMES)
    assert np.isnan(empty.macro("auc").value)
    assert empty.macro("auc").classes == 0
    assert np.isnan(empty.prevalence).all()


def test_flat_is_complete_and_plain():
    scores, probs, labels = data(3)
    flat = classification_report(scores, probs, labels, NAMES, scores, labels).flat("zero_shot")
    assert all(type(value) is float for value in flat.values())
    assert {
        "zero_shot/auc/Pleural Effusion",
        "zero_shot/threshold/Hernia@best_mcc_val",
        "zero_shot/auprc_macro",
    } <= set(flat)
    assert {key.split("@")[1] for key in flat if "@" in key} == set(RULE_NOTES)


def test_row_order_does_not_matter():
    scores, probs, labels = data(4)
    order = np.random.default_rng(0).permutation(len(scores))
    first = classification_report(scores, probs, labels, NAMES).flat("t")
    assert classification_report(scores[order], probs[order], labels[order], NAMES).flat("t") == first


def test_wrong_input_is_named():
    scores, probs, labels = data(5)
    with pytest.raises(MismatchError, match="column per class"):
        classification_report(scores, probs, labels, NAMES[:2])
    with pytest.raises(MismatchError, match="must differ"):
        classification_report(scores, probs, labels, ["a", "b", "a"])
    with pytest.raises(MismatchError, match="both val_scores and val_labels"):
        classification_report(scores, probs, labels, NAMES, val_scores=scores)
    with pytest.raises(ConfigError, match="'best_f1_val' needs validation scores"):
        classification_report(scores, probs, labels, NAMES, default_rule="best_f1_val")
    with pytest.raises(ConfigError, match="needs probabilities"):
        classification_report(scores, None, labels, NAMES, default_rule="fixed_0.5")
    with pytest.raises(ConfigError, match="unknown threshold rule 'best'"):
        classification_report(scores, probs, labels, NAMES, default_rule="best")
    scores[7, 1] = np.nan
    with pytest.raises(DMLMError, match="class 'Pleural Effusion': score in row 7 is NaN"):
        classification_report(scores, probs, labels, NAMES)


def test_table_is_aligned_and_complete():
    scores, probs, labels = data(6)
    labels[:, 2] = 0
    report = classification_report(scores, probs, labels, NAMES)
    intervals = bootstrap_auc(scores, labels, np.arange(400) // 2, n=50)
    lines = format_table(report, intervals, "Zero-shot, phantom").split("\n")
    assert lines[0] == "Zero-shot, phantom"
    assert "best_f1_test" in lines[1]
    assert "optimistic" in lines[1]
    assert "50 bootstrap resamples of 200 patients" in lines[2]
    header, body = lines[4], lines[6:9]
    assert header.split() == ["finding", "n+", "n-", "AUC", "[95", "%", "CI]", "AUPRC", "F1", "ACC"]
    assert [row.split("  ")[0] for row in body] == NAMES
    assert {len(line) for line in [header, lines[5], *body, lines[9], lines[10]]} == {len(header)}
    assert lines[-1].startswith("macro of 2 (of 3)")
    macro = f"{report.macro('auc').value:.3f} [{intervals.macro.low:.3f}, {intervals.macro.high:.3f}]"
    assert macro in lines[-1]
    assert "nan" not in "\n".join(lines)
    assert body[2].split()[1:] == ["0", "400", "-", "-", "-", "-"]


def test_markdown_has_a_cell_per_column():
    scores, probs, labels = data(7)
    report = classification_report(scores, probs, labels, ["a|b", "c", "d"], default_rule="fixed_0.5")
    lines = to_markdown(report, title="T").split("\n")
    assert lines[0] == "### T"
    assert "probability 0.5" in lines[2]
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 6
    assert {line.replace("\\|", "").count("|") for line in table} == {8}
    assert table[-1].startswith("| **macro of 3** |  |  | **0.")
    with pytest.raises(MismatchError, match="1 classes do not fit"):
        to_markdown(report, bootstrap_auc(scores[:, :1], labels[:, :1], range(400), n=2))
