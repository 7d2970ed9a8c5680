"""The examples of docs/extend.md and docs/masking.md train through the real command line, and their runs load again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dmlm.__main__ import main
from dmlm.models import from_pretrained
from docs.blocks import ROOT
from docs.conftest import TINY
from docs.test_code_blocks import save_named

QUICK = [flag for flag in TINY if not flag.startswith("--data.num_t") and not flag.startswith("--data.num_val")]


@pytest.fixture
def newest(workspace: Path):
    """Checkpoint and resolved configuration of the run that the test makes."""
    (workspace / "runs").unlink()

    def find() -> tuple[Path, str]:
        [run] = (workspace / "runs" / "phantom").iterdir()
        return run / "checkpoints" / "best.ckpt", (run / "config.yaml").read_text()

    return find


def test_an_image_encoder(workspace: Path, newest) -> None:
    save_named(ROOT / "docs" / "extend.md", workspace)
    options = ["--model.encoder.image", "my_encoder.PatchNet", "--model.encoder.image.width", "32"]
    assert main(["fit", "--config", "cli.yaml", *options, *TINY]) is None
    encoder = from_pretrained(str(newest()[0]))
    assert (type(encoder.image).__name__, encoder.image.feature_dim) == ("PatchNet", 32)
    images = torch.randint(0, 256, (3, 1, 80, 80), dtype=torch.uint8)
    mask = torch.zeros(3, 25, dtype=torch.bool)
    mask[:, :10] = True
    changed = images.clone()
    changed[:, :, :32] = 0  # the first two rows of patches
    with torch.no_grad():
        seen, same = encoder.encode_image(images, mask).mean, encoder.encode_image(changed, mask).mean
    assert seen.shape == (3, 16, 64)
    torch.testing.assert_close(seen, same)


def test_a_data_set(workspace: Path, newest) -> None:
    save_named(ROOT / "docs" / "extend.md", workspace)
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("NORMAL", "PNEUMONIA"):
            (workspace / "ROOT" / split / kind).mkdir(parents=True)
            for number in range(4):
                name = f"{kind[0].lower()}{number // 2}_{number}.png"
                picture = Image.fromarray(rng.integers(0, 256, (90, 100), dtype=np.uint8))
                picture.save(workspace / "ROOT" / split / kind / name)
    options = ["--data", "my_data.FolderDataModule", "--data.root", "ROOT", "--data.image_size", "80"]
    assert main(["fit", "--config", "cli.yaml", *options, *QUICK]) is None
    checkpoint, config = newest()
    assert "class_path: my_data.FolderDataModule" in config
    # the checkpoint rebuilds the data, and evaluates on its own
    assert main(["validate", "--ckpt", str(checkpoint), *QUICK[:3], "--trainer.logger=false"]) is None


def test_a_data_set_that_is_not_there_is_one_line(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_named(ROOT / "docs" / "extend.md", workspace)
    options = ["--data", "my_data.FolderDataModule", "--data.root", "nowhere", "--data.image_size", "80"]
    assert main(["fit", "--config", "cli.yaml", *options, *QUICK]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("dmlm: error: nowhere/train: no NORMAL/*.png")


def test_a_masking_strategy(workspace: Path, newest) -> None:
    save_named(ROOT / "docs" / "masking.md", workspace)
    assert main(["fit", "--config", "cli.yaml", "--model.image_masker", "border.BorderMask", *TINY]) is None
    checkpoint, _ = newest()
    recorded = torch.load(checkpoint, weights_only=True)["hyper_parameters"]["image_masker"]
    assert json.loads(json.dumps(recorded))["class_path"] == "border.BorderMask"
