"""Segmentation end to end, its losses, and masks that are missing or wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_encoder
from finetuning import OPTIM, evaluator, metrics, phantoms, predictions, trainer
from torch.nn import functional as F

from dmlm.datamodules import PhantomDataModule
from dmlm.errors import CheckpointError, ConfigError, DatasetFormatError, MismatchError
from dmlm.tasks import ClassificationModule, SegmentationModule, TaskModule, load_finetuned
from dmlm.tasks.segmentation_loss import mask_loss, soft_dice

MASKS = ["Cardiomegaly", "Pleural Effusion"]


def module(**arguments) -> SegmentationModule:
    return SegmentationModule(tiny_encoder(), **{"num_masks": 2, "width": 16, "optim": OPTIM, **arguments})


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.getbasetemp() / "finetune-phantoms"


def data(cache: Path, **arguments):
    return phantoms(cache, **{"with_masks": True, "mask_of": MASKS, **arguments})


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache) -> Path:
    """Folder of a run on the patches' means that was tested with its best weights."""
    root = tmp_path_factory.mktemp("segment")
    torch.manual_seed(0)
    running = trainer(root, "val_dice")
    running.fit(module(decoder="setr", features="mean", mc_samples=2, threshold=0.3), data(cache))
    running.test(ckpt_path=str(root / "kept" / "best.ckpt"), datamodule=data(cache), weights_only=True, verbose=False)
    return root


def test_a_test_leaves_numbers_predictions_and_pictures(run, cache) -> None:
    found, rows = metrics(run), predictions(run)
    opened = data(cache)
    opened.setup("test")
    assert len(rows) == 2 * len(opened.test_dataset)
    batch = next(iter(opened.test_dataloader()))
    pixels = batch["masks"].sum((2, 3)).reshape(-1).tolist()
    assert [int(row["true"]) for row in rows[: len(pixels)]] == pixels
    dice = np.array([float(row["dice"]) for row in rows]).reshape(-1, 2)
    true = np.array([float(row["true"]) for row in rows]).reshape(-1, 2)
    assert found["segment/dice_all"] == pytest.approx(dice.mean(), abs=1e-6)
    positive = [dice[true[:, m] > 0, m].mean() for m in range(2)]
    assert found["segment/dice_positive"] == pytest.approx(np.mean(positive), abs=1e-6)
    assert {"segment/dice_global", "segment/dice_fg_bg", "segment/iou_positive/Cardiomegaly"} <= found.keys()
    for key in ("segment/dice_all", "segment/dice_positive"):
        assert found[f"{key}_low"] <= found[key] <= found[f"{key}_high"]
        assert 0 <= found[f"{key}_low/Cardiomegaly"] <= found[f"{key}_high/Cardiomegaly"] <= 1
    assert found["segment/threshold"] == 0.3
    assert all(float(row["mc_std"]) > 0 for row in rows)
    assert {"segment/uncertainty/entropy/aurc", "segment/uncertainty/mc_std/error_spearman"} <= found.keys()
    for name in ("roc", "risk_coverage", "predictions"):
        assert (run / f"{name}.png").stat().st_size > 2000, name


def test_metrics_do_not_depend_on_the_batch_size(run, cache, tmp_path) -> None:
    loaded = TaskModule.load_from_checkpoint(run / "kept" / "best.ckpt")
    evaluator(tmp_path).test(loaded, data(cache, batch_size=5), verbose=False)
    for key, value in metrics(run).items():
        assert metrics(tmp_path)[key] == pytest.approx(value, abs=1e-3, nan_ok=True), key


@pytest.mark.parametrize(
    "arguments",
    [{"decoder": "unet"}, {"decoder": "dpt", "loss": "focal_dice"}, {"decoder": "upernet", "freeze_encoder": True}],
)
def test_decoders_learn(arguments, cache, tmp_path) -> None:
    torch.manual_seed(0)
    made = module(**arguments)
    before = [value.clone() for value in made.encoder.image.parameters()]
    opened = data(cache)
    opened.setup("fit")
    batch = next(iter(opened.train_dataloader()))
    with torch.no_grad():
        start = mask_loss(_logits(made, batch), batch["masks"], made.loss_kind).mean()
    trainer(tmp_path, "val_dice", 6).fit(made, data(cache))
    with torch.no_grad():
        end = mask_loss(_logits(made, batch), batch["masks"], made.loss_kind).mean()
    assert end < start
    same = all(torch.equal(a, b) for a, b in zip(before, made.encoder.image.parameters(), strict=True))
    assert same == made.freeze_encoder


def _logits(made: SegmentationModule, batch) -> torch.Tensor:
    made.eval()
    return torch.logit(made.predict_images(batch["image"])["prob"], eps=1e-6)


def test_a_checkpoint_predicts_without_its_data_and_says_what_it_is(run) -> None:
    loaded = load_finetuned(str(run / "kept" / "best.ckpt"), SegmentationModule)
    assert loaded.class_names == tuple(MASKS)
    found = loaded.predict_images(torch.zeros(2, 1, 32, 32, dtype=torch.uint8))
    assert {name: tuple(value.shape) for name, value in found.items()} == dict.fromkeys(
        ("prob", "mc_std", "entropy"), (2, 2, 32, 32)
    )
    with pytest.raises(CheckpointError, match="SegmentationModule, which is no ClassificationModule"):
        load_finetuned(str(run / "kept" / "best.ckpt"), ClassificationModule)


def test_losses() -> None:
    torch.manual_seed(0)
    logits, masks = torch.randn(3, 2, 8, 8), (torch.rand(3, 2, 8, 8) < 0.3).float()
    cross = F.binary_cross_entropy_with_logits(logits, masks, reduction="none").mean((1, 2, 3))
    torch.testing.assert_close(mask_loss(logits, masks, "bce"), cross)
    dice = soft_dice(torch.sigmoid(logits), masks)
    torch.testing.assert_close(mask_loss(logits, masks), cross + 1 - dice.mean(1))
    right = torch.where(masks > 0, torch.sigmoid(logits), 1 - torch.sigmoid(logits))
    focal = -((1 - right) ** 2 * right.log()).mean((1, 2, 3))
    torch.testing.assert_close(mask_loss(logits, masks, "focal"), focal)
    torch.testing.assert_close(mask_loss(logits, masks, "focal_dice"), 10 * focal - dice.log().mean(1))
    perfect = torch.where(masks > 0, 50.0, -50.0)
    for kind in ("dice_bce", "bce", "focal", "focal_dice"):
        assert mask_loss(perfect, masks, kind).max() < 1e-4
    empty = torch.zeros(1, 1, 4, 4)
    assert soft_dice(empty, empty) == 1


def test_masks_that_are_missing_or_wrong(cache, tmp_path) -> None:
    with pytest.raises(MismatchError, match=r"set --data\.with_masks true"):
        evaluator(tmp_path).test(module(), phantoms(cache))
    with pytest.raises(MismatchError, match=r"gives 9 masks .*set --model\.num_masks 9"):
        evaluator(tmp_path).test(module(), phantoms(cache, with_masks=True))
    made = module()
    batch = {"image": torch.zeros(2, 1, 32, 32, dtype=torch.uint8), "study_id": ["a", "b"]}
    with pytest.raises(MismatchError, match="every study of a segmentation needs its masks"):
        made._masks(batch)
    with pytest.raises(MismatchError, match=r"masks have shape \[2, 2, 16, 16\], expected \[2, 2, 32, 32\]"):
        made._masks({**batch, "masks": torch.zeros(2, 2, 16, 16)})
    with pytest.raises(DatasetFormatError, match="has 255"):
        made._masks({**batch, "masks": torch.full((2, 2, 32, 32), 255)})


class EmptyMasks(PhantomDataModule):
    """Nobody has an effusion."""

    def make_dataset(self, split, transform):
        dataset = super().make_dataset(split, transform)
        dataset.masks = lambda _: np.zeros((1, 37, 37), np.uint8)  # as stored, a sixth larger
        return dataset


def test_a_test_set_without_any_mask(cache, tmp_path) -> None:
    """Zero positives: Dice over positive images does not exist, and the run goes on."""
    empty = EmptyMasks(24, 8, 12, 32, 8, cache=str(cache), num_workers=0, with_masks=True, mask_of=MASKS[:1])
    evaluator(tmp_path).test(module(num_masks=1), empty, verbose=False)
    found = metrics(tmp_path)
    assert np.isnan(found["segment/dice_positive"])
    assert 0 <= found["segment/dice_all"] <= 1
    assert np.isnan(found["segment/image_auc_macro"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "hinge"}, "loss must be one of dice_bce, bce, focal, focal_dice"),
        ({"threshold": 1.0}, r"inside \(0, 1\)"),
        ({"mc_samples": 4}, "with features mean"),
        ({"bootstrap": -1}, "bootstrap 0 or more"),
        ({"features": "mean"}, "decoder setr"),
        ({"decoder": "fcn"}, "unet, dpt, upernet, setr"),
    ],
)
def test_options_that_cannot_work(arguments, message) -> None:
    with pytest.raises(ConfigError, match=message):
        module(**arguments)
