"""Rows minus one of them, over the seeds that both have, against resampling row by row."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dmlm.evaluation.intervals import patient_weights
from dmlm.reproduce.differences import difference_records, differences
from dmlm.reproduce.plan import Cell, Table
from dmlm.reproduce.results import gather
from dmlm.reproduce.runs import Status, folder_of, put_status
from dmlm.reproduce.write import to_markdown, write_table

STUDIES, N = 50, 80
HEADER = ("study_id", "patient_id", "finding", "label", "score")


@pytest.fixture
def runs(tmp_path):
    rng = np.random.default_rng(0)
    labels, patients = rng.integers(0, 2, STUDIES), [f"p{p}" for p in rng.integers(0, 20, STUDIES)]
    scores = {}
    for name, skill in (("base-s0", 1.0), ("base-s1", 0.2), ("base-s2", 0.6), ("good-s0", 1.2), ("good-s1", 2.0)):
        scores[name] = rng.normal(size=STUDIES) + skill * labels
        folder = folder_of(tmp_path, name)
        put_status(folder, Status("done", "", 1.0, 1))
        (folder / "metrics.json").write_text(json.dumps({"t/auc_macro": roc_auc_score(labels, scores[name])}))
        with (folder / "predictions.csv").open("w", newline="") as file:
            rows = [(f"s{i}", patients[i], "X", labels[i], scores[name][i]) for i in range(STUDIES)]
            csv.writer(file).writerows([HEADER, *rows])
    return tmp_path, labels, patients, scores


def table():
    seeds = range(3)
    cells = [
        Cell("base", "AUC", "t/auc_macro", tuple(f"base-s{seed}" for seed in seeds)),
        Cell("good", "AUC", "t/auc_macro", tuple(f"good-s{seed}" for seed in seeds)),
        Cell("lost", "AUC", "t/auc_macro", tuple(f"lost-s{seed}" for seed in seeds)),
        Cell("none", "AUC", "t/auc_macro", note="no masks here"),
    ]
    rows = ("base", "good", "lost", "none")
    return Table("t", "A title", rows, ("AUC",), tuple(cells), reference="base", referred=("AUC",))


def test_only_seeds_that_both_rows_have_count(runs) -> None:
    """The third seed of the base has no partner, and must not shift the mean."""
    out, labels, patients, scores = runs
    good, lost, none = differences(table(), out, N)
    each = [roc_auc_score(labels, scores[f"good-s{s}"]) - roc_auc_score(labels, scores[f"base-s{s}"]) for s in (0, 1)]
    assert good.interval.value == pytest.approx(np.mean(each))
    assert good.seeds == 2
    assert good.agreeing == sum(np.sign(value) == np.sign(np.mean(each)) for value in each)
    slowly = []
    for column in patient_weights(patients, N).T:
        rows = np.repeat(np.arange(STUDIES), column)
        area = {name: roc_auc_score(labels[rows], values[rows]) for name, values in scores.items()}
        slowly.append(np.mean([area[f"good-s{s}"] - area[f"base-s{s}"] for s in (0, 1)]))
    np.testing.assert_allclose(good.interval[1:3], np.quantile(slowly, [0.025, 0.975]), atol=1e-9)
    assert lost.interval is None
    assert lost.note == "no seed is done in both rows"
    assert none.note == "no masks here"


def test_seeds_that_disagree_are_counted(runs) -> None:
    out, labels, patients, scores = runs
    folder = folder_of(out, "good-s1")
    rows = [(f"s{i}", patients[i], "X", labels[i], -10.0 * labels[i]) for i in range(STUDIES)]
    with (folder / "predictions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    good = differences(table(), out, N)[0]
    before = roc_auc_score(labels, scores["good-s0"]) > roc_auc_score(labels, scores["base-s0"])
    assert good.interval.value < 0
    assert (good.agreeing, good.seeds) == (1 if before else 2, 2)


def test_they_stand_below_the_table_and_in_its_json(runs) -> None:
    out = runs[0]
    made = table()
    results, found = gather(made, out), differences(made, out, N)
    text = to_markdown(made, results, (), found)
    low, high = (f"{100 * end:+.1f}" for end in found[0].interval[1:3])
    assert f"| good | {100 * found[0].interval.value:+.1f} [{low}, {high}], {found[0].agreeing}/2 |" in text
    assert "| lost | - |" in text
    assert "- AUC: no seed is done in both rows." in text
    write_table(made, results, out, (), found)
    records = json.loads((out / "t.json").read_text())["differences"]
    assert records == json.loads(json.dumps(difference_records(made, found)))
    assert records[0]["minus"] == "base"
    assert records[0]["low"] == pytest.approx(100 * found[0].interval.low)


def test_other_test_studies_are_refused_and_no_reference_is_nothing(runs) -> None:
    out = runs[0]
    folder = folder_of(out, "good-s1")
    with (folder / "predictions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, ("other", "p", "X", 1, 0.5)])
    assert "other test studies" in differences(table(), out, N)[0].note
    assert differences(replace(table(), referred=()), out, N) == []
