"""Every overlay of examples/objectives runs over the default configuration, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from dmlm.__main__ import main

ROOT = Path(__file__).parents[2]
OVERLAYS = sorted((ROOT / "examples" / "objectives").glob("*.yaml"))
SMALL = {
    "trainer": {
        "max_epochs": 1,
        "max_steps": 2,
        "limit_val_batches": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "callbacks": [{"class_path": "dmlm.tasks.FrozenEvaluation", "init_args": {"few": 0.5, "draws": 2}}],
    },
    "data": {"init_args": {"num_train": 8, "num_val": 3, "num_test": 4, "batch_size": 4, "num_workers": 0}},
    "model": {"init_args": {"zero_shot": {"mc_samples": 1, "bootstrap": 10}}},
}


SLOW = ("deterministic_twin", "more_masked", "simclr", "w2_contrast")  # nearly what others are
CASES = [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in SLOW else []) for path in OVERLAYS]


@pytest.mark.parametrize("overlay", CASES)
def test_overlay_runs(overlay: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = tmp_path / "small.yaml"
    small.write_text(yaml.safe_dump(SMALL))
    configs = [str(ROOT / "cli.yaml"), str(overlay), str(small)]
    assert not main(["fit", *(word for config in configs for word in ("--config", config))])
    folder = next((tmp_path / "runs").glob("*/version_0"))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"zero_shot/auc_macro", "probe/auc_macro", "probe_few/auc_macro", "train/cpu_seconds"} <= set(metrics)
    options = yaml.safe_load((folder / "config.yaml").read_text())["model"]["init_args"]
    (name, asked), *_ = [
        (key, value)
        for key, value in yaml.safe_load(overlay.read_text())["model"]["init_args"].items()
        if key.endswith("objective")
    ]
    resolved = options[name]
    assert {key: resolved[key] for key in asked} == asked
    masked = resolved.get("masked_weight", 0) > 0 and resolved["kl_direction"] != "mse"
    assert ("masked/variance_rho" in metrics) == masked


def test_overlays_are_there() -> None:
    names = {path.stem for path in OVERLAYS}
    with_texts = {"clip", "deterministic_twin", "local_alignment", "maskvlm", "more_masked", "w2_contrast"}
    assert names == with_texts | {"mae", "moco", "simclr"}
