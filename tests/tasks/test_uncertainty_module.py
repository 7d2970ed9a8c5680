"""`dmlm test` with `UncertaintyModule` over a classifier and a zero-shot model, through the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import tiny_encoder

from dmlm.__main__ import main
from dmlm.distributions import Gaussian
from dmlm.tasks import ClassificationModule
from dmlm.tasks.doubts import DROPOUT, GAUSSIAN_SAMPLES, MAX_PROBABILITY, classifier_doubts

DATA = {"num_train": 24, "num_val": 8, "num_test": 40, "image_size": 32, "batch_size": 8, "num_workers": 0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    """A checkpoint of a classifier with dropout and one of a pre-training run."""
    import lightning.pytorch as pl

    from dmlm.datamodules import PhantomDataModule
    from dmlm.tasks import DMLMPretrainModule

    folder = tmp_path_factory.mktemp("uncertainty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMLM_CACHE", str(folder / "cache"))
        found = {}
        tasks = {
            "classifier": ClassificationModule(tiny_encoder(), 9, dropout=0.3, bootstrap=0),
            "zero_shot": DMLMPretrainModule(tiny_encoder()),
        }
        for name, task in tasks.items():
            trainer = pl.Trainer(
                max_steps=2, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=folder
            )
            trainer.fit(task, datamodule=PhantomDataModule(**DATA))
            found[name] = folder / f"{name}.ckpt"
            trainer.save_checkpoint(found[name])
    return found


def run(path: Path, folder: Path, **data) -> dict:
    config = {
        "trainer": {
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "default_root_dir": str(folder),
        },
        "model": {
            "class_path": "UncertaintyModule",
            "init_args": {"path": str(path), "levels": [1, 5], "corruptions": ["noise", "covered"], "samples": 4},
        },
        "data": {"class_path": "PhantomDataModule", "init_args": {**DATA, **data}},
    }
    (folder / "u.yaml").write_text(yaml.safe_dump(config))
    assert main(["test", "--config", str(folder / "u.yaml")]) in (0, None)
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("kind", ["classifier", "zero_shot"])
def test_doubts_are_measured_whatever_the_batch_size(kind, trained, tmp_path) -> None:
    metrics = run(trained[kind], tmp_path)
    assert (tmp_path / "risk_coverage.png").stat().st_size > 1000
    assert (tmp_path / "corruption.png").stat().st_size > 1000
    assert 0 <= metrics["uncertainty/error_rate@0"] <= 1
    for name in ("max_probability", "embedding_variance", "gaussian_samples"):
        for key in ("aurc", "error_auroc", "unseen_auroc", "corruption_auroc@5", "corruption_auroc/noise@1"):
            assert 0 <= metrics[f"uncertainty/{name}/{key}"] <= 1, (name, key)
    assert ("uncertainty/mc_dropout/aurc" in metrics) == (kind == "classifier")
    again = run(trained[kind], tmp_path, batch_size=7)
    assert again.keys() == metrics.keys()
    for key, value in metrics.items():
        assert again[key] == pytest.approx(value, abs=2e-3), key  # equal up to the rounding of batched products


def test_doubts_of_a_classifier_are_those_of_their_formulas() -> None:
    task = ClassificationModule(tiny_encoder(), 3, dropout=0.5, bootstrap=0).eval()
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    prob, doubts = classifier_doubts(task, images, [5, 6], samples=2000)
    assert doubts[MAX_PROBABILITY].value == pytest.approx(1 - np.maximum(prob, 1 - prob))
    with torch.no_grad():
        image = task.encoder.encode_image(images).at(0)
        normal = torch.randn(2000, 2, image.mean.shape[-1], generator=torch.Generator().manual_seed(1))
        each = torch.sigmoid(task.head(Gaussian(*image).mean + image.std * normal))
    assert doubts[GAUSSIAN_SAMPLES].value == pytest.approx(each.std(0).numpy(), rel=0.1)
    assert (doubts[DROPOUT].value > 0).all()
    assert not any(part.training for part in task.modules())  # dropout is off again
    alone, single = classifier_doubts(task, images[1:], [6], samples=2000)
    assert alone == pytest.approx(prob[1:], abs=1e-6)
    assert single[DROPOUT].value == pytest.approx(doubts[DROPOUT].value[1:], abs=1e-4)


def test_other_labels_other_tasks_and_fit_are_refused(trained, tmp_path, capsys) -> None:
    config = {
        "model": {"class_path": "UncertaintyModule", "init_args": {"path": str(trained["classifier"])}},
        "data": {"class_path": "PhantomDataModule", "init_args": {**DATA, "target": "Edema"}},
    }
    (tmp_path / "u.yaml").write_text(yaml.safe_dump(config))
    flags = ["--config", str(tmp_path / "u.yaml"), "--trainer.accelerator", "cpu", "--trainer.logger", "false"]
    assert main(["test", *flags]) == 2
    assert "was trained for" in capsys.readouterr().err
    assert main(["fit", *flags]) == 2
    assert "trains nothing" in capsys.readouterr().err
    assert main(["test", *flags, "--model.path", "nothing.ckpt"]) == 2
    assert "nothing.ckpt" in capsys.readouterr().err


@pytest.mark.parametrize("samples", [0, 3])
def test_the_answers_that_are_judged_are_those_that_the_task_gives(samples) -> None:
    """Also in mixed precision, and where the task itself answers by samples."""
    task = ClassificationModule(tiny_encoder(), 3, mc_samples=samples, bootstrap=0).eval()
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for mixed in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            prob, doubts = classifier_doubts(task, images, [5, 6], samples=8)
            given = task.predict_images(images, [5, 6])["prob"]
        assert prob == pytest.approx(given, abs=1e-7)
        assert doubts[MAX_PROBABILITY].value == pytest.approx(1 - np.maximum(given, 1 - given), abs=1e-7)
