"""Intervals and differences of rows, against the same thing done slowly."""

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from dmlm.evaluation.grounding import MEASURES
from dmlm.evaluation.intervals import bootstrap_auc, patient_weights
from dmlm.reproduce.paired import compare
from dmlm.reproduce.plan import Cell, Table
from dmlm.reproduce.results import gather
from dmlm.reproduce.runs import Status, folder_of, put_status
from dmlm.reproduce.write import to_markdown, write_table
from dmlm.tasks.frozen_grounding import write_places

STUDIES, PATIENTS, CLASSES, N = 40, 17, 3, 60


def write_run(out, name, columns, rows, metric):
    folder = folder_of(out, name)
    put_status(folder, Status("done", "", 1.0, 1))
    (folder / "metrics.json").write_text(json.dumps(metric))
    with (folder / "predictions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def label_run(out, name, prob, truth, patients):
    rows = []
    for i, row in enumerate(prob):
        for c, value in enumerate(row):
            score = np.log(value / (1 - value))
            rows.append([i, f"s{i}", patients[i], f"class {c}", int(truth[i] == c), score, value])
    auc = np.mean([roc_auc_score(truth == c, prob[:, c]) for c in range(CLASSES)])
    kappa = cohen_kappa_score(truth, prob.argmax(1), weights="quadratic")
    header = ["index", "study_id", "patient_id", "finding", "label", "score", "prob"]
    write_run(out, name, header, rows, {"t/auc_macro": auc, "t/kappa": kappa})


def table_of(metric, runs):
    cells = [Cell(row, "X", metric, tuple(names)) for row, names in runs.items()]
    return Table("t", "A title", tuple(runs), ("X",), tuple(cells), compare=("b", "a"))


@pytest.fixture
def labels(tmp_path):
    rng = np.random.default_rng(0)
    truth, patients = rng.integers(0, CLASSES, STUDIES), [f"p{p}" for p in rng.integers(0, PATIENTS, STUDIES)]
    probs = {}
    for name, skill in (("a-s0", 0.3), ("a-s1", 0.5), ("b-s0", 1.5), ("b-s1", 1.0)):
        logits = rng.normal(size=(STUDIES, CLASSES)) + skill * (truth[:, None] == np.arange(CLASSES))
        probs[name] = np.round(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), 2).clip(0.01, 0.99)
        label_run(tmp_path, name, probs[name], truth, patients)
    return tmp_path, truth, np.array(patients), probs


def slow(measure, labels):
    """Resample rows one by one; the patients of each resample are those that the intervals of a run draw."""
    _, truth, patients, probs = labels
    weights = patient_weights(patients, N)
    found = []
    for column in weights.T:
        rows = np.repeat(np.arange(STUDIES), column)
        value = {name: measure(prob[rows], truth[rows]) for name, prob in probs.items()}
        found.append((np.mean([value["a-s0"], value["a-s1"]]), np.mean([value["b-s0"], value["b-s1"]])))
    return np.array(found)


@pytest.mark.parametrize("metric", ["t/auc_macro", "t/kappa"])
def test_intervals_equal_resampling_row_by_row(metric, labels):
    def auc(prob, truth):
        return np.mean([roc_auc_score(truth == c, prob[:, c]) for c in range(CLASSES)])

    def kappa(prob, truth):
        return cohen_kappa_score(truth, prob.argmax(1), weights="quadratic", labels=range(CLASSES))

    out = labels[0]
    table = table_of(metric, {"a": ["a-s0", "a-s1"], "b": ["b-s0", "b-s1"]})
    (found,) = compare(table, out, N)
    expected = slow(auc if metric == "t/auc_macro" else kappa, labels)
    difference = expected[:, 1] - expected[:, 0]
    assert found.patients == len(set(labels[2]))
    np.testing.assert_allclose(found.cells["a"][1:3], np.quantile(expected[:, 0], [0.025, 0.975]), atol=1e-9)
    np.testing.assert_allclose(found.difference[1:3], np.quantile(difference, [0.025, 0.975]), atol=1e-9)
    # the values themselves are those of metrics.json
    results = gather(table, out)
    for row in ("a", "b"):
        assert found.cells[row].value == pytest.approx(results[row, "X"].spread.mean)


def test_patients_are_those_of_the_interval_of_a_single_run(labels):
    out, truth, patients, probs = labels
    (found,) = compare(table_of("t/auc_macro", {"a": ["a-s0"], "b": ["b-s0"]}), out, N)
    onehot = (truth[:, None] == np.arange(CLASSES)).astype(float)
    own = bootstrap_auc(probs["b-s0"], onehot, patients, n=N).macro
    np.testing.assert_allclose(found.cells["b"][:3], own[:3])


def test_dice_counts_only_images_that_have_the_mask(tmp_path):
    rng = np.random.default_rng(1)
    dice, true = rng.uniform(size=(2, 12)), rng.integers(0, 2, 12) * 9
    header = ["index", "study_id", "patient_id", "mask", "true", "predicted", "both", "dice"]
    for name, values in zip(("a", "b"), dice, strict=True):
        rows = [[i, f"s{i}", f"p{i}", "Lung", true[i], 1, 1, values[i]] for i in range(12)]
        write_run(tmp_path, name, header, rows, {"t/dice_positive": values[true > 0].mean()})
    (found,) = compare(table_of("t/dice_positive", {"a": ["a"], "b": ["b"]}), tmp_path, N)
    expected = [values[true > 0].mean() for values in dice]
    assert found.difference.value == pytest.approx(expected[1] - expected[0])
    assert found.difference.low <= found.difference.value <= found.difference.high


def test_gaps_and_strangers_are_said(labels):
    out = labels[0]
    missing = compare(table_of("t/auc_macro", {"a": ["a-s0"], "b": ["lost"]}), out, N)[0]
    assert missing.difference is None
    assert set(missing.cells) == {"a"}
    label_run(out, "other", np.full((STUDIES, CLASSES), 0.3), labels[1], ["x"] * STUDIES)
    stranger = compare(table_of("t/auc_macro", {"a": ["a-s0"], "b": ["other"]}), out, N)[0]
    assert "other test studies" in stranger.note
    unknown = compare(table_of("t/f1", {"a": ["a-s0"], "b": ["b-s0"]}), out, N)[0]
    assert "no interval of 't/f1'" in unknown.note
    (folder_of(out, "a-s0") / "predictions.csv").write_text("")
    assert "cannot be read" in compare(table_of("t/auc_macro", {"a": ["a-s0"], "b": ["b-s0"]}), out, N)[0].note


def test_tables_show_intervals_and_the_difference(labels):
    out = labels[0]
    table = table_of("t/auc_macro", {"a": ["a-s0", "a-s1"], "b": ["b-s0", "b-s1"]})
    results, found = gather(table, out), compare(table, out, N)
    text = to_markdown(table, results, found)
    assert "| | patients | a | b | b - a |" in text
    assert f"+{100 * found[0].difference.value:.1f} [" in text
    write_table(table, results, out, found)
    records = json.loads((out / "t.json").read_text())["intervals"]
    assert [record["row"] for record in records] == ["a", "b", "b - a"]
    assert records[2]["low"] == pytest.approx(100 * found[0].difference.low)


def test_measures_of_places_and_probes_have_files_of_their_own(tmp_path):
    """Mean over findings of the mean over images that show them; a finding that no image shows is left out."""
    rng = np.random.default_rng(2)
    values = rng.uniform(size=(2, 12, 3))
    values[:, :, 2] = np.nan
    values[:, ::3, 1] = np.nan
    patients = [f"p{i // 2}" for i in range(12)]
    for name, table in zip(("a", "b"), values, strict=True):
        folder = folder_of(tmp_path, name)
        put_status(folder, Status("done", "", 1.0, 1))
        write_places(
            folder / "grounding.csv",
            ["A", "B", "C"],
            [(f"s{i}", patients[i]) for i in range(12)],
            np.stack([table] * len(MEASURES), axis=-1),
        )
    weights = patient_weights(patients, N)
    slowly = []
    for column in weights.T:
        rows = np.repeat(np.arange(12), column)
        means = [np.mean([np.nanmean(table[rows, c]) for c in (0, 1)]) for table in values]
        slowly.append(means[1] - means[0])
    for measure in MEASURES:
        (found,) = compare(table_of(f"grounding/{measure}", {"a": ["a"], "b": ["b"]}), tmp_path, N)
        assert found.note == ""
        np.testing.assert_allclose(found.difference[1:3], np.quantile(slowly, [0.025, 0.975]), atol=1e-5)
    missing = compare(table_of("probe/auc_macro", {"a": ["a"], "b": ["b"]}), tmp_path, N)[0]
    assert "probe.csv" in missing.note
