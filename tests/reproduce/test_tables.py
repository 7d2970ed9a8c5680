import csv
import json
import math

import pytest

from dmlm.errors import ConfigError
from dmlm.reproduce.plan import Cell, Plan, Run, Table
from dmlm.reproduce.results import gather
from dmlm.reproduce.runs import Status, folder_of, put_status
from dmlm.reproduce.slurm import slurm_script
from dmlm.reproduce.write import table_figure, to_markdown, write_table


@pytest.fixture
def out(tmp_path):
    """Three runs: two done, one failed; and one that was never started."""
    for name, state, auc in (("a-s0", "done", 0.8), ("a-s1", "done", 0.9), ("b-s0", "failed", None)):
        folder = folder_of(tmp_path, name)
        put_status(folder, Status(state, "no weights" if auc is None else "", 1.0, 1))
        (folder / "metrics.json").write_text(json.dumps({"t/auc": auc, "t/none": None}))
    return tmp_path


@pytest.fixture
def table():
    cells = (
        Cell("ours", "AUC", "t/auc", ("a-s0", "a-s1")),
        Cell("ours", "F1", "t/none", ("a-s0",)),
        Cell("other", "AUC", "t/auc", ("b-s0",)),
        Cell("other", "F1", "t/auc", ("c-s0",)),
    )
    return Table("t1", "A title", ("ours", "other"), ("AUC", "F1"), cells, {"paper": {"AUC": 79.54}}, notes=("so",))


def test_cells_are_means_over_seeds_or_say_why_not(table, out):
    results = gather(table, out)
    assert results["ours", "AUC"].spread.mean == pytest.approx(0.85)
    assert results["ours", "AUC"].spread.std == pytest.approx(math.sqrt(0.005))
    assert results["ours", "AUC"].reason == ""
    assert "does not exist" in results["ours", "F1"].reason
    assert results["other", "AUC"].reason == "no weights"
    assert results["other", "F1"].reason == "planned"


def test_markdown_links_runs_and_explains_gaps(table, out):
    text = to_markdown(table, gather(table, out))
    assert "85.00 ± 7.07<br>[0](runs/a-s0), [1](runs/a-s1)" in text
    assert "| *paper, published* | *79.54* |  |" in text
    assert "[-](runs/b-s0) (2)" in text
    assert "- (2) no weights" in text
    assert "- so" in text


def test_all_four_files_hold_the_same_numbers(table, out):
    paths = write_table(table, gather(table, out), out)
    assert [path.suffix for path in paths] == [".md", ".csv", ".json", ".png"]
    with paths[1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    cells = json.loads(paths[2].read_text())["cells"]
    assert len(rows) == len(cells) == 5
    assert float(rows[0]["value"]) == pytest.approx(85)
    assert cells[0]["runs"] == ["runs/a-s0", "runs/a-s1"]
    assert rows[1]["value"] == ""
    assert cells[1]["value"] is None
    assert rows[-1]["source"] == "published"
    assert paths[3].stat().st_size > 5000


def test_figure_names_ours_and_theirs(table, out):
    figure = table_figure(table, gather(table, out))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"ours", "paper, published"} <= set(names)


def test_slurm_submits_stages_after_each_other_and_skips_what_is_missing():
    runs = (Run("p", {}), Run("a", {}, ("p",)), Run("b", {}, missing="no data"), Run("c", {}, ("p",)))
    script = slurm_script(Plan(runs, ()), ["dmlm", "reproduce", "all", "--out", "a b"], "go.sh")
    assert 'previous=$(sbatch --parsable --array=0 "$0")' in script
    assert 'sbatch --parsable --dependency=afterany:"$previous" --array=1,3 "$0"' in script
    assert "exec dmlm reproduce all --out 'a b' --task \"$SLURM_ARRAY_TASK_ID\"" in script


def test_slurm_with_nothing_to_submit_is_refused():
    with pytest.raises(ConfigError, match=r"--slurm go.sh: nothing to submit \(rsna is not there\); give --data"):
        slurm_script(Plan((Run("a", {}, missing="rsna is not there"),), ()), ["dmlm"], "go.sh")
