"""``fit --profile``: the table adds up, the trace is there, and nothing is recorded otherwise."""

import json
import re

import pytest
import torch
import yaml

from dmlm.__main__ import main
from dmlm.cli.profiling import Region, StepProfiler, exclusive, report

ENCODER = {
    "class_path": "ProbabilisticEncoder",
    "init_args": {
        "image": {
            "class_path": "TimmImageEncoder",
            "init_args": {
                "model_name": "vit_tiny_patch16_224",
                "pretrained": False,
                "image_size": 32,
                "model_kwargs": {"patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2},
            },
        },
        "text": {
            "class_path": "HFTextEncoder",
            "init_args": {
                "model_name": "bert",
                "pretrained": False,
                "tokenizer": "library",
                "max_length": 64,
                "hf_config": {
                    "model_type": "bert",
                    "hidden_size": 24,
                    "num_hidden_layers": 1,
                    "num_attention_heads": 2,
                    "intermediate_size": 48,
                },
            },
        },
        "embed_dim": 24,
        "head": "mlp",
    },
}
CONFIG = {
    "trainer": {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "limit_val_batches": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "gradient_clip_val": 1.0,
    },
    "model": {
        "class_path": "DMLMPretrainModule",
        "init_args": {
            "encoder": ENCODER,
            "predictor": {
                "class_path": "CrossModalPredictor",
                "init_args": {"embed_dim": 24, "width": 24, "depth": 1, "num_heads": 2},
            },
        },
    },
    "data": {
        "class_path": "PhantomDataModule",
        "init_args": {
            "num_train": 20,
            "num_val": 2,
            "num_test": 2,
            "image_size": 32,
            "batch_size": 4,
            "num_workers": 0,
        },
    },
    "test_after_fit": False,
}


def test_fit_writes_where_the_time_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(CONFIG))
    arguments = ["fit", "--config", "c.yaml", "--trainer.default_root_dir", "run"]
    assert main([*arguments, "--profile", "--trainer.max_steps=6"]) is None
    text = (tmp_path / "run" / "profile.txt").read_text()
    assert re.match(r"[\d.]+ ms a step, mean of 3 steps", text)  # 6 steps, the first 3 are not recorded
    rows = {row[1].strip(): row for row in re.finditer(r"^(.{28}) +([\d.]+) +([\d.]+)% +([\d.]+)$", text, re.MULTILINE)}
    expected = "data wait, draw views, encode image, encode text, teacher, predictor, losses, backward, optimizer"
    for name in (*expected.split(", "), "teacher update", "clip gradients", "between steps"):
        assert name in rows, name
    assert abs(sum(float(row[3]) for row in rows.values()) - 100.0) < 1.0
    assert float(rows["predictor"][4]) == 1.0  # both directions are one region
    assert "aten::" in text
    trace = json.loads((tmp_path / "run" / "profile_trace.json").read_text())
    names = {event.get("name") for event in trace["traceEvents"]}
    assert {"dmlm: encode image", "dmlm: backward"} <= names


@pytest.mark.parametrize(("epoch", "recorded"), [(1, 1), (2, 1), (3, 3), (4, 1)])
def test_short_epochs_are_recorded_whatever_their_length(tmp_path, epoch, recorded):
    profiler = StepProfiler()
    profiler.dirpath = tmp_path
    profiler.setup("fit", local_rank=0)
    for _ in range(4):
        profiler.start("run_training_epoch")
        for _ in range(epoch):
            profiler.start("run_training_batch")
            torch.ones(3).sum()
            profiler.stop("run_training_batch")
        profiler.stop("run_training_epoch")
    profiler.teardown("fit")
    assert f"mean of {recorded} steps" in (tmp_path / "profile.txt").read_text()


def test_nothing_is_written_unasked_and_two_profilers_exclude_each_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(CONFIG))
    arguments = ["fit", "--config", "c.yaml", "--trainer.default_root_dir", "run", "--trainer.max_steps=1"]
    assert main(arguments) is None
    assert not (tmp_path / "run" / "profile.txt").exists()
    assert main([*arguments, "--profile", "--trainer.profiler=simple"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_time_inside_belongs_to_the_inner_region():
    spans = [("a", 0.0, 10.0, 1), ("b", 2.0, 5.0, 1), ("c", 3.0, 4.0, 1), ("b", 6.0, 7.0, 1), ("a", 8.0, 9.0, 2)]
    regions = {region.name: region for region in exclusive(spans)}
    assert regions["a"][1:] == pytest.approx((7e-6, 2))
    assert regions["b"][1:] == pytest.approx((3e-6, 2))
    assert regions["c"][1:] == pytest.approx((1e-6, 1))
    assert sum(region.seconds for region in regions.values()) == pytest.approx(11e-6)


def test_report_names_what_is_left():
    text = report([Region("a", 0.06, 2)], total=0.1, steps=2)
    assert text.startswith("50.0 ms a step, mean of 2 steps")
    assert re.search(r"a +30\.00 +60\.0% +1\.0\n", text)
    assert re.search(r"between steps +20\.00 +40\.0%", text)


def test_a_training_that_is_too_short_says_so(caplog):
    profiler = StepProfiler()
    profiler.setup("fit", local_rank=0)
    profiler.stop("run_training_batch")
    profiler.teardown("fit")
    assert "nothing was profiled" in caplog.text
