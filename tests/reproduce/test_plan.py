from pathlib import Path

import pytest
import yaml

from dmlm.errors import ConfigError
from dmlm.reproduce.catalog import PLANS, make_plan
from dmlm.reproduce.paper_tables import published
from dmlm.reproduce.plan import Cell, Plan, Run, Table, join
from dmlm.reproduce.scale import PRETRAIN, Scale


@pytest.fixture(scope="module")
def smoke():
    return make_plan(["all"], Scale("smoke", seeds=(0, 1)))


def test_every_cell_of_the_five_tables_has_its_runs(smoke):
    assert [table.key for table in smoke.tables] == ["table1", "table2", "table3", "table4", "table5"]
    for table in smoke.tables:
        filled = {(cell.row, cell.column) for cell in table.cells}
        assert filled == {(row, column) for row in table.rows for column in table.columns}
        assert all(cell.runs for cell in table.cells)
        seeds = 1 if table.key in ("table2", "table3") else 2
        assert {len(cell.runs) for cell in table.cells} == {seeds}


def test_pretraining_is_shared_and_comes_first(smoke):
    assert [run.name for run in smoke.stages()[0]].count(PRETRAIN) == 1
    assert smoke.runs[0].name == PRETRAIN
    ours = [run for run in smoke.runs if "D-MLM" in run.name]
    assert ours
    assert all(run.needs == (PRETRAIN,) for run in ours)
    assert len(smoke.stages()) == 2


def test_configurations_are_plain_data_and_differ_by_seed(smoke):
    for run in smoke.runs:
        assert yaml.safe_load(yaml.safe_dump(run.config)) == run.config
    first, second = (next(run for run in smoke.runs if run.name == f"edema-Scratch-s{seed}") for seed in (0, 1))
    assert first.config["seed_everything"] == 0
    assert second.config["data"]["init_args"]["fraction_seed"] == 1


def test_published_values_stand_in_columns_that_exist(smoke):
    for table in smoke.tables:
        for values in table.published.values():
            assert set(values) <= set(table.columns)
    assert published("table1")["D-MLM (paper)"]["SIIM 100 %"] == 95.18


def test_real_budgets_need_data_and_say_what_is_missing(tmp_path):
    with pytest.raises(ConfigError, match="--data ROOT"):
        Scale("paper")
    (tmp_path / "rsna").mkdir()
    plan = make_plan(["table1"], Scale("paper", tmp_path))
    by_name = {run.name: run for run in plan.runs}
    assert by_name["cls-RSNA-1pc-Scratch-s0"].missing == ""
    assert "siim is not there" in by_name["cls-SIIM-1pc-Scratch-s0"].missing
    assert "mimic-cxr is not there" in by_name["cls-RSNA-1pc-D-MLM-s0"].missing
    config = by_name["cls-RSNA-1pc-Scratch-s0"].config
    assert config["data"]["init_args"]["root"] == str(tmp_path / "rsna")
    assert config["data"]["init_args"]["fraction"] == 0.01


def test_unknown_tables_and_broken_plans_are_refused():
    with pytest.raises(ConfigError, match="table1, table2"):
        make_plan(["table9"], Scale("smoke"))
    assert "table1" in PLANS
    with pytest.raises(ConfigError, match="comes before b"):
        Plan((Run("a", {}, needs=("b",)), Run("b", {})), ())
    with pytest.raises(ConfigError, match="becomes a folder"):
        Run("a/b", {})
    with pytest.raises(ConfigError, match="two different runs"):
        join([Plan((Run("a", {}),), ()), Plan((Run("a", {"x": 1}),), ())])
    table = Table("t", "", ("r",), ("c",), (Cell("r", "c", "m", ("lost",)),))
    with pytest.raises(ConfigError, match="'lost', which is not planned"):
        Plan((), (table,))


def test_radiographs_fill_every_cell_and_grow_by_seed(tmp_path):
    for name in ("pretrain", "kermany", "nih", "rsna", "geographic", "opacity", "lung"):
        (tmp_path / f"{name}.csv").touch()
    plan = make_plan(["radiographs"], Scale("trial", tmp_path, (0, 1, 2)))
    main, more = plan.tables
    assert {(cell.row, cell.column) for cell in main.cells} == {(r, c) for r in main.rows for c in main.columns}
    assert {(cell.row, cell.column) for cell in more.cells} == {(r, c) for r in more.rows for c in more.columns}
    assert len(plan.runs) == 1 + 81
    fewer = make_plan(["radiographs"], Scale("trial", tmp_path, (0,)))
    assert {run.name: run for run in fewer.runs}.items() <= {run.name: run for run in plan.runs}.items()
    by_name = {run.name: run for run in plan.runs}
    ours = by_name["radiographs-kermany1-D-MLM-s2"]
    assert ours.needs == (plan.runs[0].name,)
    assert ours.config["data"]["init_args"]["fraction"] == 0.01
    assert "ground_glass.csv is not there" in by_name["radiographs-ground_glass-Scratch-s0"].missing


def test_rows_of_radiographs_differ_in_the_encoder_and_its_rate_only(tmp_path):
    plan = make_plan(["radiographs"], Scale("trial", tmp_path, (0,)))
    configs = {}
    for run in plan.runs[1:]:
        model = run.config["model"]["init_args"]
        shared = {key: value for key, value in model.items() if key not in ("encoder", "optim")}
        configs.setdefault(run.name.rsplit("-", 2 if "D-MLM" not in run.name else 3)[0], []).append(
            (run.config["data"], run.config["trainer"], shared)
        )
        assert model["optim"]["lr"] == 2e-3
    assert len(configs) == 9
    assert all(len(found) == 3 and found[0] == found[1] == found[2] for found in configs.values())


def test_radiographs_at_smoke_are_phantoms_and_have_no_paper_size(tmp_path):
    smoke = make_plan(["radiographs"], Scale("smoke"))
    assert {run.config["data"]["class_path"] for run in smoke.runs} == {"PhantomDataModule"}
    assert smoke.runs[0].name == PRETRAIN  # shared with the paper's tables
    assert len(join([smoke, make_plan(["all"], Scale("smoke"))]).tables) == 7
    for table in smoke.tables:
        filled = {(cell.row, cell.column) for cell in table.cells}
        assert filled == {(row, column) for row in table.rows for column in table.columns}
    with pytest.raises(ConfigError, match="no table of the paper"):
        make_plan(["radiographs"], Scale("paper", tmp_path))


def test_uncertainty_asks_every_doubt_of_every_seed():
    plan = make_plan(["uncertainty"], Scale("smoke", seeds=(0, 1)))
    classifier, zero_shot = plan.tables
    assert len(classifier.rows) == 4
    assert len(zero_shot.rows) == 3  # no dropout there
    asked = {cell.metric for cell in classifier.cells if cell.runs}
    assert {f"uncertainty/mc_dropout/corruption_auroc@{level}" for level in range(1, 6)} <= asked
    assert all(len(cell.runs) == 2 for cell in classifier.cells if cell.runs)
    tests = [run for run in plan.runs if run.verb == "test"]
    assert {run.needs for run in tests} == {("pretrain",), ("uncertainty-train-s0",), ("uncertainty-train-s1",)}
    with pytest.raises(ConfigError, match="no table of the paper"):
        make_plan(["uncertainty"], Scale("paper", Path("data")))
