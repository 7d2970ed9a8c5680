"""`TaskModule` from Python: recorded arguments, loading, agreement with the data, the run folder."""

from pathlib import Path

import doubles
import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from dmlm.errors import CheckpointError, ConfigError, MismatchError
from dmlm.io.checkpoints import read_checkpoint
from dmlm.tasks.base import TaskModule
from dmlm.tasks.optim import OptimConfig

TRAINER = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 1}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "a.ckpt"
    torch.manual_seed(0)
    encoder = doubles.TinyEncoder(doubles.OtherImage(depth=1), span=(0.0, 2.0))
    module = doubles.TinyClassifier(encoder, OptimConfig(lr=0.02), scale=0.5)
    trainer = pl.Trainer(**TRAINER, logger=False, enable_checkpointing=False)
    trainer.fit(module, datamodule=doubles.TinyData())
    trainer.save_checkpoint(path)
    return path, module


@pytest.mark.parametrize("cls", [doubles.TinyClassifier, TaskModule])
def test_round_trip(saved, cls):
    path, module = saved
    loaded = cls.load_from_checkpoint(path)
    assert type(loaded) is doubles.TinyClassifier
    assert type(loaded.encoder.image) is doubles.OtherImage
    assert loaded.optim == OptimConfig(lr=0.02)
    assert dict(loaded.hparams) == dict(module.hparams)
    torch.testing.assert_close(dict(loaded.state_dict()), dict(module.state_dict()))


def test_arguments_can_be_replaced(saved):
    path, _ = saved
    assert doubles.TinyClassifier.load_from_checkpoint(path, scale=9.0).scale == 9.0
    mine = doubles.TinyEncoder(doubles.OtherImage(depth=1))
    assert doubles.TinyClassifier.load_from_checkpoint(path, encoder=mine).encoder is mine


def test_what_does_not_fit_is_said_in_one_line(saved):
    path, _ = saved
    with pytest.raises(CheckpointError, match=r"holds a TinyClassifier, not a TinyPretrain; .*from_pretrained"):
        doubles.TinyPretrain.load_from_checkpoint(path)
    other = doubles.TinyEncoder(doubles.OtherImage(depth=2))
    with pytest.raises(CheckpointError, match=r"missing encoder\.image\.more\.1\.weight, encoder") as error:
        doubles.TinyClassifier.load_from_checkpoint(path, encoder=other)
    assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match=r"not found: nope\.ckpt"):
        TaskModule.load_from_checkpoint("nope.ckpt")


def test_a_newer_format_is_refused_by_the_trainer_too(saved, tmp_path):
    path, module = saved
    torch.save({**read_checkpoint(path), "dmlm": {"format": 2, "version": "9"}}, tmp_path / "new.ckpt")
    trainer = pl.Trainer(**TRAINER, logger=False)
    with pytest.raises(CheckpointError, match="format 2"):
        trainer.test(module, datamodule=doubles.TinyData(), ckpt_path=tmp_path / "new.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"image_size": 16}, "TinyData has image_size=16, but TinyClassifier was built for image_size=8: set --data"),
        ({"num_classes": 5}, "has num_classes=5, .* built for num_classes=2: set --model.num_classes 5"),
    ],
)
def test_data_that_do_not_belong_to_the_model(data, message):
    module = doubles.TinyClassifier(doubles.TinyEncoder(doubles.TinyImage()))
    with pytest.raises(MismatchError, match=message):
        pl.Trainer(**TRAINER, logger=False).fit(module, datamodule=doubles.TinyData(**data))


def test_run_dir(tmp_path):
    module = doubles.TinyClassifier(doubles.TinyEncoder(doubles.TinyImage()))
    for logger, expected in ((CSVLogger(tmp_path, "x", 3), "x/version_3"), (False, "root")):
        module.trainer = pl.Trainer(**TRAINER, logger=logger, default_root_dir=tmp_path / "root")
        assert module.run_dir == tmp_path / expected


def test_a_seed_in_both_task_and_data_is_no_conflict(tmp_path):
    # Lightning refuses to log a hyper-parameter that both have with different values
    class Seeded(doubles.TinyClassifier):
        def __init__(self, encoder: doubles.TinyEncoder, batch_size: int = 7) -> None:
            super().__init__(encoder)

    module = Seeded(doubles.TinyEncoder(doubles.TinyImage()))
    pl.Trainer(**TRAINER, logger=CSVLogger(tmp_path)).fit(module, datamodule=doubles.TinyData(batch_size=4))
    assert module.hparams["batch_size"] == 7
    assert set(module.hparams) == {"encoder", "batch_size", "_class_path", "_instantiator"}


def test_arguments_that_cannot_be_recorded_are_refused():
    with pytest.raises(ConfigError, match="of type function cannot be recorded"):
        doubles.TinyClassifier(doubles.TinyEncoder(doubles.TinyImage()), scale=lambda: 1.0)


def test_files_of_a_run_are_not_read_in_constructors():
    assert not Path("data").exists()
    doubles.TinyData(root="data")
