"""`examples/python/lightning_project.py`: an encoder inside somebody else's LightningModule."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from conftest import tiny_encoder

from dmlm.models import save_pretrained

SCRIPT = Path(__file__).parents[2] / "examples" / "python" / "lightning_project.py"


@pytest.mark.filterwarnings("ignore")
def test_trains_the_head_only_and_loads_again(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("lightning_project", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    encoder = tiny_encoder()
    save_pretrained(encoder, tmp_path / "encoder")
    out = tmp_path / "head.ckpt"
    arguments = ["--ckpt", str(tmp_path / "encoder"), "--patients", "6", "--epochs", "1", "--out", str(out)]
    done = module.main(arguments)
    trained = torch.load(out, weights_only=True)
    assert trained["hyper_parameters"] == {"num_labels": 9, "lr": 1e-2}
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(trained["state_dict"][f"encoder.{name}"], value, msg=name)
    assert not done.encoder.training
    fresh = torch.nn.Linear(2 * encoder.embed_dim, 9)
    assert done.head.weight.shape == fresh.weight.shape
    side = encoder.image.image_size
    assert done(torch.zeros(2, 1, side, side, dtype=torch.uint8)).shape == (2, 9)
