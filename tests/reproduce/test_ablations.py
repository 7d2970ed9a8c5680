"""Ablations: plans of data, shared runs, and one that runs."""

from __future__ import annotations

import json

import pytest
import yaml

from dmlm.__main__ import main
from dmlm.masking.atlas import load_atlas
from dmlm.reproduce.ablations import (
    COLUMNS,
    FURTHER,
    ablation,
    configuration,
    merged,
    predicts_variances,
    tables,
    variants,
)
from dmlm.reproduce.catalog import make_plan
from dmlm.reproduce.differences import differences
from dmlm.reproduce.plan import Cell, Run, Table
from dmlm.reproduce.results import gather
from dmlm.reproduce.runs import Status, folder_of, put_status
from dmlm.reproduce.scale import Scale
from dmlm.reproduce.write import table_figure, to_markdown

ASKED = {"table6", "table7", "lambda", "kl-direction", "targets", "heads"}
DECISIONS = {
    "objectives",
    "equal-compute",
    "alignment",
    "conditioning",
    "align-view",
    "layout",
    "section-dropout",
    "local-weight",
    "anchor",
    "positives",
    "twin",
    "atlas",
    "atlas-long",
}
REFERENCES = {"equal-compute": "contrast-quad", "atlas-long": "lambda-80-long"}


def test_every_decision_has_a_table_and_every_variant_a_row() -> None:
    assert set(tables()) == ASKED | DECISIONS
    used = {name for table in tables().values() for name in table["rows"].values()}
    assert used == set(variants())


def test_shared_rows_are_one_run(tmp_path) -> None:
    plan = make_plan(["ablations"], Scale("smoke", seeds=(0, 1)))
    assert len(plan.runs) == 2 * len(variants())
    assert len({run.name for run in plan.runs}) == len(plan.runs)
    assert all(table.get("reference", "default") in {*table["rows"].values()} for table in tables().values())


@pytest.mark.parametrize("budget", ["smoke", "trial", "paper"])
def test_variants_differ_in_what_they_say_and_in_nothing_else(budget: str, tmp_path) -> None:
    scale = Scale(budget, tmp_path, (0,))
    base = configuration("default", scale, 0)
    for name, variant in variants().items():
        config = configuration(name, scale, 0)
        assert config["data"] == base["data"]
        assert config["seed_everything"] == base["seed_everything"]
        assert config["trainer"]["max_steps"] == round(base["trainer"]["max_steps"] * variant.steps)
        if not variant.task:
            assert config["model"]["class_path"] == base["model"]["class_path"]
            changed = {
                key
                for key, value in config["model"]["init_args"].items()
                if value != base["model"]["init_args"].get(key)
            }
            assert changed <= set(variant.model)
            # every change is one: a variant that equals the base would be the base under another name
            assert changed == set(variant.model)
    assert configuration("default", scale, 1)["model"]["init_args"]["seed"] == 1


def test_paper_tests_on_nih_what_mimic_trained(tmp_path) -> None:
    plan = ablation("twin", Scale("paper", tmp_path, (0,)))
    names = [run.name for run in plan.runs]
    assert names[:2] == ["ablation-default-s0", "ablation-default-s0-nih"]
    tested = {run.name: run for run in plan.runs}["ablation-cosine-s0-nih"]
    assert tested.needs == ("ablation-cosine-s0",)
    assert tested.verb == "test"
    assert tested.config["model"]["init_args"]["zero_shot"]["distance"] == "cosine"
    assert tested.missing


def test_the_trial_says_what_it_misses(tmp_path) -> None:
    (run,) = {run.missing for run in ablation("lambda", Scale("trial", tmp_path, (0,))).runs}
    assert "prepare_ablations.py" in run
    (tmp_path / "ablations.csv").touch()
    (run,) = {run.missing for run in ablation("lambda", Scale("trial", tmp_path, (0,))).runs}
    assert "ablation_masks.csv" in run
    (tmp_path / "ablation_masks.csv").touch()
    assert not any(run.missing for run in ablation("lambda", Scale("trial", tmp_path, (0,))).runs)


def test_the_shuffled_atlas_moves_every_finding(tmp_path) -> None:
    options = configuration("mask-shuffled", Scale("smoke"), 0)["model"]["init_args"]["image_masker"]["init_args"]
    own, moved = load_atlas(), load_atlas(options["atlas"])
    assert set(own.findings) == set(moved.findings)
    for name, zones in own.findings.items():
        assert zones != moved.findings[name], name
    assert sorted(map(str, own.findings.values())) == sorted(map(str, moved.findings.values()))


@pytest.mark.parametrize("budget", ["smoke", "trial"])
def test_masks_are_read_apart_from_training(budget: str, tmp_path) -> None:
    config = configuration("default", Scale(budget, tmp_path, (0,)), 0)
    (callback,) = config["trainer"]["callbacks"]
    own, masks = config["data"]["init_args"], callback["init_args"]["masks"]["init_args"]
    assert not {"with_masks", "mask_columns"} & set(own)
    assert {"with_masks", "mask_columns"} & set(masks)
    assert masks["image_size"] == own["image_size"]


def test_paper_says_that_it_has_no_masks(tmp_path) -> None:
    main, more = ablation("twin", Scale("paper", tmp_path, (0,))).tables
    assert {cell.note for cell in more.cells if cell.metric.startswith("grounding/")} == {"no masks in this test data"}
    assert main.referred
    assert not more.referred


def test_every_table_compares_with_the_default_or_what_it_names() -> None:
    for key, table in tables().items():
        for made in ablation(key, Scale("smoke")).tables:
            assert table["rows"][made.reference] == REFERENCES.get(key, "default")
            assert set(made.referred) <= set(made.columns)


def test_merged_keeps_both_sides() -> None:
    base = {"a": {"b": 1, "c": [1]}, "d": 2}
    assert merged(base, {"a": {"b": 3}, "e": {"f": 1}}) == {"a": {"b": 3, "c": [1]}, "d": 2, "e": {"f": 1}}
    assert base == {"a": {"b": 1, "c": [1]}, "d": 2}


def test_which_variants_predict_variances() -> None:
    without = {name for name in variants() if not predicts_variances(name)}
    assert {"contrast", "clip", "twin", "kl-mse", "maskvlm", "mae", "simclr", "moco", "untrained"} <= without
    assert not {"default", "kl-pred-target", "letter", "lambda-100", "cosine"} & without


def test_columns_of_other_units(tmp_path) -> None:
    """Seconds and correlations are no percentages, and are not drawn beside them."""
    cells = (Cell("r", "AUC", "auc", ("a",)), Cell("r", "seconds", "time", ("a",), scale=1.0))
    table = Table("t", "", ("r",), ("AUC", "seconds"), cells)
    put_status(folder_of(tmp_path, "a"), Status("done", "", 1.0, 1))
    (folder_of(tmp_path, "a") / "metrics.json").write_text(json.dumps({"auc": 0.5, "time": 42.0}))
    results = gather(table, tmp_path)
    assert "[50.00](runs/a) | [42.00](runs/a)" in to_markdown(table, results)
    axes = table_figure(table, results).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["AUC"]


def test_an_ablation_runs(tmp_path, monkeypatch, capsys) -> None:
    """Two rows of a table, cut to four steps, through the command line."""
    monkeypatch.setattr("dmlm.reproduce.ablation_base._STEPS", {"smoke": 2})
    small = {"num_train": 8, "num_val": 4, "num_test": 6, "image_size": 64, "num_workers": 0, "batch_size": 4}
    data = {"class_path": "PhantomDataModule", "init_args": small}
    monkeypatch.setattr("dmlm.reproduce.ablation_base._data", lambda scale: json.loads(json.dumps(data)))
    monkeypatch.setattr(
        "dmlm.reproduce.ablations.tables",
        lambda: {"kl-direction": {"title": "t", "rows": {"base": "default", "mse": "kl-mse"}}},
    )
    # in this process, which sees the changes
    plan = ablation("kl-direction", Scale("smoke"))
    from dmlm.reproduce.runs import perform, write_plan_of

    for run in plan.runs:
        write_plan_of(run, tmp_path)
        assert perform(run, tmp_path).state == "done"
    results = gather(plan.tables[0], tmp_path)
    for column in COLUMNS:
        assert results["base", column].spread.runs == 1, (column, results["base", column].reason)
    assert results["mse", "Variance rho"].reason == "no predicted variance"
    more = gather(plan.tables[1], tmp_path)
    for column in FURTHER:
        assert more["base", column].spread.runs == 1, (column, more["base", column].reason)
    for table in plan.tables:  # what the runs wrote gives the same values as their metrics.json
        shown = gather(table, tmp_path)
        for item in differences(table, tmp_path, 20):
            assert item.note == ""
            own, base = (shown[row, item.column].spread.mean for row in ("mse", "base"))
            assert item.interval.value == pytest.approx(own - base, abs=1e-5)
    record = yaml.safe_load((folder_of(tmp_path, "ablation-default-s0") / "resolved.yaml").read_text())
    assert record["trainer"]["max_steps"] == 2
    assert isinstance(plan.runs[0], Run)


def test_unknown_names_are_refused(capsys) -> None:
    assert main(["reproduce", "lamda"]) == 2
    assert "ablations" in capsys.readouterr().err
