"""`dmlm export`: what of a run's metrics gets into the model card."""

from __future__ import annotations

from pathlib import Path

import lightning
import torch
from conftest import tiny_encoder

from dmlm.__main__ import main
from dmlm.io.atomic import write_json
from dmlm.tasks import ZeroShotModule


def test_numbers_that_do_not_exist_are_left_out_of_the_card(tmp_path: Path) -> None:
    """A run writes NaN as null, e.g. the AUC of a finding that no test image has."""
    task = ZeroShotModule(tiny_encoder())
    content = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams), "dmlm": {"format": 1}}
    torch.save({**content, "pytorch-lightning_version": lightning.__version__}, tmp_path / "run.ckpt")
    metrics = {"zero_shot/auc_macro": 0.75, "zero_shot/auc/Nodule": float("nan"), "studies": 12}
    write_json(tmp_path / "metrics.json", metrics)
    command = ["export", "--ckpt", str(tmp_path / "run.ckpt"), "--out", str(tmp_path / "out")]
    assert main([*command, "--metrics", str(tmp_path / "metrics.json")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| `zero_shot/auc_macro` | 0.7500 |" in card
    assert "| `studies` | 12.0000 |" in card
    assert "Nodule" not in card
