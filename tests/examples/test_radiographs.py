"""The files of ``dmlm reproduce radiographs``: what they hold, and that every task of the plan can read them."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmlm._config import build
from dmlm.datamodules import ManifestDataModule
from dmlm.errors import DatasetFormatError
from dmlm.reproduce.catalog import make_plan
from dmlm.reproduce.scale import Scale

SCRIPTS = Path(__file__).parents[2] / "examples" / "python"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import prepare_radiographs

    yield prepare_radiographs
    for name in ("prepare_radiographs", "prepare_real_trial"):
        sys.modules.pop(name, None)


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_grades_are_quarters_of_the_scale(script):
    assert [script.grade(value, 8) for value in ("0", "1.9", "2.0", "4.3333", "6", "8.0", "")] == [
        "grade 0",
        "grade 0",
        "grade 1",
        "grade 2",
        "grade 3",
        "grade 3",
        "",
    ]
    assert script.grade("7.3333", 6) == "grade 3"  # a reading beyond the scale


def test_masks_are_made_of_what_was_decided(script, tmp_path):
    (tmp_path / "masks").mkdir()
    mask = np.zeros((100, 100), np.uint8)
    mask[:50] = 255
    mask[99, :90] = 127
    Image.fromarray(mask).save(tmp_path / "masks/a.png")
    row = {"path": "images/a.jpg", "lung_mask": "masks/a.png"}
    name = script.lung(row, tmp_path, tmp_path / "out")
    made = np.asarray(Image.open(tmp_path / "out" / name))
    assert set(np.unique(made)) == {0, 255}
    assert (made == 255).sum() == 5000
    mask[98:, :] = 127
    Image.fromarray(mask).save(tmp_path / "masks/a.png")
    assert script.lung(row, tmp_path, tmp_path / "out") == ""


def test_every_task_reads_its_file(script, real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("DMLM_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "root"
    counts = script.prepare_all(real_data, root)
    assert {name: sum(found.values()) for name, found in counts.items()} == {
        "kermany": 2662,
        "unseen": 2067,
        "nih": 897,
        "rsna": 303,
        "geographic": 311,
        "opacity": 311,
        "lung": 316,
        "ground_glass": 88,
    }
    assert not any("kermany" in row["path"] for row in rows_of(root / "pretrain.csv"))
    assert Counter(row["class"] for row in rows_of(root / "kermany.csv"))["Viral pneumonia"] == 670
    odd = [row for row in rows_of(root / "unseen.csv") if row["unseen"] == "1"]
    assert {row["split"] for row in odd} == {"test"}
    assert {row["Pneumonia"] for row in odd} == {"1"}
    plan = make_plan(["radiographs", "uncertainty"], Scale("trial", root))
    seen = set()
    for run in plan.runs:
        data = run.config["data"]["init_args"]
        if Path(data["path"]).name in seen:
            continue
        seen.add(Path(data["path"]).name)
        options = {**data, "cache_images": False}  # the files are read, the copies of all images are not made
        module = build(
            {"class_path": "dmlm.datamodules.ManifestDataModule", "init_args": options}, ManifestDataModule, ""
        )
        module.setup("fit")
        sample = module.val_dataset[0]
        task = run.config["model"]["init_args"]
        if "num_masks" in task:
            assert sample["masks"].shape == (1, data["image_size"], data["image_size"])
        elif "num_classes" in task:
            assert module.num_classes == task["num_classes"]
            assert module.task == task.get("task", "multiclass")
    assert len(seen) == 9


def test_a_manifest_without_severity_is_refused(script, tmp_path):
    header = "path,source,patient_id,study_id,labels,text_findings,rsna_target,split"
    (tmp_path / "manifest.csv").write_text(f"{header}\na.jpg,nih,p,s,No Finding,,1,train\n")
    with pytest.raises(DatasetFormatError, match="no column severity_geographic"):
        script.prepare_all(tmp_path, tmp_path / "root")
