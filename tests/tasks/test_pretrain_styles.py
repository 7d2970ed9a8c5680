"""Every form of the paper's Table 6 trains, by the option that a user sets."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import yaml

from dmlm.__main__ import main
from dmlm.reports.views import Style

ROOT = Path(__file__).parents[2]
SMALL = {"num_train": 12, "num_val": 4, "num_test": 4, "image_size": 48, "batch_size": 4, "num_workers": 0}


@pytest.mark.parametrize("style", get_args(Style))
def test_a_step_with_each_style(style, tmp_path) -> None:
    flags = [word for name, value in SMALL.items() for word in (f"--data.{name}", str(value))]
    flags += ["--model.encoder.image.image_size", "48", "--model.views.style", style, "--trainer.accelerator", "cpu"]
    flags += ["--trainer.fast_dev_run", "1", "--trainer.enable_progress_bar", "false"]
    assert main(["fit", "--config", str(ROOT / "cli.yaml"), *flags]) in (0, None)


def test_the_styles_are_those_of_the_table() -> None:
    assert set(get_args(Style)) == {"original", "triplet", "ke_triplet", "observations_verdict", "structured"}
    assert yaml.safe_load((ROOT / "cli.yaml").read_text())["model"]["init_args"]["views"].get("style") is None
