"""Pre-training and zero-shot evaluation end to end, through Lightning, on a few phantoms."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_bert, tiny_predictor, tiny_vit
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from dmlm.datamodules import PhantomDataModule
from dmlm.errors import CollapseError, ConfigError, MismatchError
from dmlm.models import CrossModalPredictor, ProbabilisticEncoder, from_pretrained
from dmlm.models.centering import center_statements
from dmlm.objectives import ObjectiveConfig
from dmlm.tasks import DMLMPretrainModule, OptimConfig, TaskModule, ZeroShotConfig, ZeroShotModule
from dmlm.tasks.zero_shot_evaluation import Rows, gather_rows

OPTIM = OptimConfig(lr=3e-3, encoder_lr=3e-3, min_lr=1e-4)


class Losses(Callback):
    """Keep every training loss."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.values.append(float(outputs["loss"]))


def datamodule(batch_size: int = 8, image_size: int = 32) -> PhantomDataModule:
    return PhantomDataModule(
        num_train=24, num_val=6, num_test=10, image_size=image_size, batch_size=batch_size, num_workers=0
    )


def module(**arguments) -> DMLMPretrainModule:
    torch.manual_seed(0)
    text = tiny_bert(max_length=64, hidden_dropout_prob=0.1)
    encoder = ProbabilisticEncoder(tiny_vit(), text, embed_dim=24, head="mlp")
    defaults = {"optim": OPTIM, "zero_shot": ZeroShotConfig(bootstrap=20, mc_samples=2), "collapse": "off"}
    return DMLMPretrainModule(encoder, tiny_predictor(), **{**defaults, **arguments})


def trainer(root: Path, epochs: int, *callbacks: Callback, **arguments) -> Trainer:
    return Trainer(
        default_root_dir=root,
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        callbacks=[
            ModelCheckpoint(root / "kept", save_last=True, save_top_k=-1, monitor="val_auroc", mode="max"),
            *callbacks,
        ],
        **arguments,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """Folder and losses of an unbroken run of three epochs, tested at its end."""
    root = tmp_path_factory.mktemp("run")
    seed_everything(0)
    losses = Losses()
    running = trainer(root, 3, losses)
    running.fit(module(), datamodule())
    running.test(ckpt_path=str(root / "kept" / "last.ckpt"), datamodule=datamodule(), weights_only=True)
    return root, losses.values


def test_the_loss_falls(run) -> None:
    losses = run[1]
    third = len(losses) // 3
    assert np.mean(losses[-third:]) < np.mean(losses[:third])
    assert np.isfinite(losses).all()


def test_results_lie_in_the_run_folder(run) -> None:
    metrics = json.loads((run[0] / "metrics.json").read_text())
    assert 0 <= metrics["zero_shot/auc_macro"] <= 1
    assert {"zero_shot/auc_macro@w2", "zero_shot/auc_macro@csd", "zero_shot/auc_macro@cosine"} <= metrics.keys()
    assert metrics["zero_shot/auc_macro_low"] <= metrics["zero_shot/auc_macro"] <= metrics["zero_shot/auc_macro_high"]
    with (run[0] / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    data = datamodule()
    data.prepare_data()
    data.setup("test")
    assert len(rows) == len(data.test_dataset) * data.num_classes
    assert {"prob", "entropy", "mc_std", "image_variance", "prompt_variance", "pred"} <= rows[0].keys()
    assert all(0 <= float(row["prob"]) <= 1 for row in rows)
    assert (run[0] / "roc.png").stat().st_size > 1000


def test_a_killed_run_goes_on_with_the_same_losses(run, tmp_path) -> None:
    """Dropout, masks, views, augmentation, teacher and schedule all resume."""
    seed_everything(0)
    first, rest = Losses(), Losses()

    class Kill(Callback):
        def on_train_epoch_start(self, trainer, module) -> None:
            if trainer.current_epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(tmp_path, 3, first, Kill()).fit(module(), datamodule())
    seed_everything(123)
    torch.rand(7)
    trainer(tmp_path, 3, rest).fit(
        module(), datamodule(), ckpt_path=str(tmp_path / "kept" / "last.ckpt"), weights_only=True
    )
    np.testing.assert_allclose(first.values + rest.values, run[1], rtol=1e-5)


def test_metrics_do_not_depend_on_the_batch_size(tmp_path) -> None:
    tested = module()
    _spread_out(tested.encoder)
    results = []
    for size in (8, 3):
        trainer(tmp_path / str(size), 1).test(tested, datamodule(size), verbose=False)
        results.append(json.loads((tmp_path / str(size) / "metrics.json").read_text()))
    assert len(results[0]) > 50
    for key, value in results[0].items():
        assert results[1][key] == pytest.approx(value, abs=1e-4), key


def _spread_out(encoder: ProbabilisticEncoder) -> None:
    """Let weights from nothing tell images and texts apart: scores that differ by rounding alone would be ties."""
    data = datamodule()
    data.prepare_data()
    data.setup("test")
    images = torch.stack([data.test_dataset[place]["image"] for place in range(len(data.test_dataset))])
    with torch.no_grad():
        features = encoder.eval().image(images)
        encoder.image_head.center(torch.cat([features.pooled.unsqueeze(1), features.patches], 1))
        center_statements(encoder)


def test_a_checkpoint_rebuilds_module_encoder_and_zero_shot(run, tmp_path) -> None:
    path = run[0] / "kept" / "last.ckpt"
    loaded = TaskModule.load_from_checkpoint(path)
    assert isinstance(loaded, DMLMPretrainModule)
    assert loaded.predictor.width == 24
    encoder = from_pretrained(str(path))
    torch.testing.assert_close(
        encoder.encode_text(["no edema"]).mean, loaded.eval().encoder.encode_text(["no edema"]).mean
    )
    zero_shot = ZeroShotModule(encoder, loaded.predictor, ZeroShotConfig(scorers=("pair", "cloze"), bootstrap=0))
    trainer(tmp_path, 1).test(zero_shot, datamodule(), verbose=False)
    given, wanted = (json.loads((root / "metrics.json").read_text()) for root in (tmp_path, run[0]))
    # after a few steps many scores are equal but for their last bit, which the learned scale moves: ties may break
    assert given["zero_shot/auc_macro"] == pytest.approx(wanted["zero_shot/auc_macro"], abs=5e-3)
    assert 0 <= given["zero_shot/auc_macro@cloze"] <= 1


def test_predict_writes_predictions(run, tmp_path) -> None:
    loaded = DMLMPretrainModule.load_from_checkpoint(run[0] / "kept" / "last.ckpt")
    trainer(tmp_path, 1).predict(loaded, datamodule())
    written, wanted = ((root / "predictions.csv").read_text().splitlines() for root in (tmp_path, run[0]))
    assert len(written) == len(wanted)


def test_weights_from_before_masked_prediction_are_named_when_they_are_tested(tmp_path, caplog) -> None:
    """The first of two epochs is alignment alone, so its weights have seen no masked prediction; the last ones have."""
    each = ModelCheckpoint(dirpath=tmp_path / "kept", filename="{epoch}", save_top_k=-1)
    waiting = ObjectiveConfig(masked_start=0.5)
    trainer(tmp_path, 2, each, limit_val_batches=0).fit(module(objective=waiting), datamodule())
    for epoch, named in ((0, True), (1, False)):
        caplog.clear()
        loaded = DMLMPretrainModule.load_from_checkpoint(tmp_path / "kept" / f"epoch={epoch}.ckpt")
        with caplog.at_level(logging.WARNING, logger="dmlm"):
            trainer(tmp_path, 1).test(loaded, datamodule(), verbose=False)
        assert named == any("alignment alone" in record.getMessage() for record in caplog.records)


def test_the_letter_warns_by_name(tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    letter = ObjectiveConfig(kl_direction="pred_target", target="shared", alignment="attract", vib_weight=0.0)
    with caplog.at_level(logging.WARNING, logger="dmlm"):
        trainer(tmp_path, 20, limit_val_batches=0).fit(
            module(objective=letter, collapse="warn", min_spread=0.05), datamodule()
        )
    assert any("collapse of" in record.getMessage() for record in caplog.records)
    with pytest.raises(CollapseError, match="spread at step"):
        trainer(tmp_path, 20, limit_val_batches=0).fit(
            module(objective=letter, collapse="stop", min_spread=0.05), datamodule()
        )


def test_facts_that_do_not_agree_are_named(tmp_path) -> None:
    with pytest.raises(MismatchError, match="image_size"):
        trainer(tmp_path, 1).fit(module(), datamodule(image_size=40))
    with pytest.raises(MismatchError, match="Gout"):
        trainer(tmp_path, 1).test(module(zero_shot=ZeroShotConfig(findings=("Gout",))), datamodule())
    with pytest.raises(ConfigError, match="embed_dim"):
        DMLMPretrainModule(module().encoder, CrossModalPredictor(48, 24, 1, 2))


@pytest.mark.parametrize(
    "arguments",
    [
        {"templates": ()},
        {"templates": ("haiku",)},
        {"scorers": ("oracle",)},
        {"mc_samples": 0},
        {"bootstrap": -1},
    ],
)
def test_wrong_zero_shot_options(arguments: dict) -> None:
    with pytest.raises(ConfigError, match="zero_shot"):
        ZeroShotConfig(**arguments)


def test_gathered_rows_are_unique_and_ordered() -> None:
    def rows(index: list[int]) -> Rows:
        values = np.asarray(index, dtype=float)
        return Rows(
            index=np.asarray(index),
            scores={"result": values[:, None]},
            labels=values[:, None],
            variance=values,
            mc_std=values[:, None],
            study_id=[f"s{i}" for i in index],
            patient_id=[f"p{i}" for i in index],
        )

    joined = gather_rows([rows([2, 0]), rows([1, 2])])
    assert joined.index.tolist() == [0, 1, 2]
    assert joined.study_id == ["s0", "s1", "s2"]
    assert joined.scores["result"][:, 0].tolist() == [0.0, 1.0, 2.0]


def test_compile_reaches_what_it_names() -> None:
    """Compiling happens at the first call, so this costs nothing; models/test_less_work.py runs a compiled step."""
    expected = {"nothing": (False, False), "losses": (True, False), "all": (True, True)}
    for part, (losses, towers) in expected.items():
        task = module(compile=part)
        assert task.config["init_args"]["compile"] == part
        task.on_fit_start()
        assert (task.objective.masked._compiled_call_impl is not None) is losses
        for encoder in (task.encoder, task.objective.teacher.encoder):
            assert (encoder.image._compiled_call_impl is not None) is towers
            assert (encoder.text.model._compiled_call_impl is not None) is towers
    with pytest.raises(ConfigError, match="compile must be nothing, losses, all"):
        module(compile="everything")
