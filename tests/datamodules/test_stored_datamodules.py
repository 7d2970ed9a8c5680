"""Data sets that are found by their files, from a store alone: tables and store move to the cluster, images stay."""

import numpy as np
import pytest

from dmlm.__main__ import main
from dmlm.datamodules import NIHChestXray14DataModule, RSNAPneumoniaDataModule

MODULES = {"nih": NIHChestXray14DataModule, "rsna": RSNAPneumoniaDataModule}


@pytest.mark.parametrize("name", list(MODULES))
def test_the_files_may_go(tmp_path, name):
    root, store = tmp_path / name, tmp_path / "store"
    assert main(["data", "synthesize", name, str(root), "--patients", "12", "--image-size", "48"]) == 0
    assert main(["data", "prepare", str(root), "--out", str(store), "--size", "48", "--quiet"]) == 0
    options = {"image_size": 32, "batch_size": 2, "num_workers": 0, "split": "ratios", "ratios": (0.5, 0.25, 0.25)}
    files = MODULES[name](str(root), **options)
    files.setup("fit")
    wanted = [files.train_dataset[row] for row in range(len(files.train_dataset))]
    for image in files.table.images:
        (root / image).unlink()
    stored = MODULES[name](str(root), store=str(store), **options)
    stored.setup("fit")
    found = [stored.train_dataset[row] for row in range(len(stored.train_dataset))]
    assert [sample["study_id"] for sample in found] == [sample["study_id"] for sample in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours["labels"], theirs["labels"])
        assert np.abs(ours["image"].float().numpy() - theirs["image"].float().numpy()).mean() < 4
