"""Masking strategies inside pre-training: `random` draws what it always drew, guided ones see texts and the teacher."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything
from test_pretrain import Losses, datamodule, module, trainer

from dmlm.masking import AppearanceMask, AttentionMask, GuidedMask, ImageMasker, MaskContext, MeijeringMask, RandomMask
from dmlm.masking.draws import Source
from dmlm.objectives import ObjectiveConfig, Views
from dmlm.reports import encode_facts
from dmlm.tasks.statements import text_key


def batch_of(data) -> dict:
    data.prepare_data()
    data.setup("fit")
    return next(iter(data.train_dataloader()))


def sources(count: int = 8) -> list[np.random.Generator]:
    return [np.random.default_rng(row) for row in range(count)]


def views_by_hand(task, batch, rngs) -> Views:
    """The views of a batch, drawn pair by pair."""
    texts = [task.views.sample(r, t, rng) for r, t, rng in zip(batch["report"], batch["text"], rngs, strict=True)]
    tokens = task.encoder.tokenize(texts)
    generators = [torch.Generator().manual_seed(int(rng.integers(2**62))) for rng in rngs]
    rows, columns = task.encoder.image.patch_grid
    noise = torch.stack([torch.rand(rows * columns, generator=generator) for generator in generators])
    mask = torch.zeros_like(noise, dtype=torch.bool)
    mask.scatter_(1, noise.topk(round(0.3 * rows * columns), dim=1).indices, value=True)
    return Views(
        images=batch["image"],
        image_mask=mask,
        text_mask=task.text_masker(tokens, generators),
        tokens=tokens,
        report_facts=torch.from_numpy(np.stack([encode_facts(r.observations) for r in batch["report"]])),
        text_facts=torch.from_numpy(np.stack([encode_facts(t.statements) for t in texts])),
        text_keys=torch.tensor([text_key(t) for t in texts]),
    )


@pytest.mark.parametrize("target", ["ema", "online"])
def test_random_masks_give_the_losses_of_pairs_drawn_apart(target: str) -> None:
    task = module(image_masker=RandomMask(), objective=ObjectiveConfig(target=target))
    batch = batch_of(datamodule())
    losses = []
    for draw in (views_by_hand, type(task).draw_views):
        views = draw(task, batch, sources())
        assert views.targets is None
        torch.manual_seed(5)
        losses.append(task.objective(task.encoder, task.predictor, views).loss.item())
    assert losses[0] == losses[1]


class Seen(ImageMasker):
    """Keeps what it was shown."""

    def __init__(self) -> None:
        self.contexts: list[MaskContext] = []

    def __call__(self, context: MaskContext, generator: Source) -> torch.Tensor:
        self.contexts.append(context)
        return RandomMask()(context, generator)


def test_a_strategy_sees_texts_geometry_and_progress(tmp_path) -> None:
    masker = Seen()
    trainer(tmp_path, 2).fit(module(image_masker=masker), datamodule())
    first, last = masker.contexts[0], masker.contexts[-1]
    count = len(first.images)
    assert len(first.texts) == len(first.projections) == count
    assert all(text.statements for text in first.texts)
    assert first.matrix.shape == (count, 2, 3)
    assert first.stored_size.shape == (count, 2)
    assert first.similarity is None
    steps = len(masker.contexts)
    assert first.progress == 0
    assert last.progress == pytest.approx((steps - 1) / steps)


@pytest.mark.parametrize(
    ("masker", "logged"),
    [
        (AppearanceMask(ratio_range=(0.1, 0.5), warmup=(0.0, 0.3)), "train_mask_nothing_present"),
        (AttentionMask(warmup=0.3), "train_mask_no_similarity"),
        (MeijeringMask(ratio=0.4), "train_mask_no_ridges"),
    ],
)
def test_guided_strategies_train_and_log_their_fallbacks(tmp_path, masker: GuidedMask, logged: str) -> None:
    losses = Losses()
    running = trainer(tmp_path, 2, losses)
    running.fit(module(image_masker=masker), datamodule())
    assert np.isfinite(losses.values).all()
    assert 0 <= running.callback_metrics[logged] <= 1


def test_a_guided_run_is_repeatable(tmp_path) -> None:
    runs = []
    for name in ("one", "two"):
        seed_everything(0)
        losses = Losses()
        masker = AppearanceMask(warmup=(0.0, 0.5))
        trainer(tmp_path / name, 1, losses).fit(module(image_masker=masker), datamodule())
        runs.append(losses.values)
    assert runs[0] == runs[1]


def test_the_teacher_reads_each_batch_once() -> None:
    """The similarity and the targets of masked prediction share one pass."""
    task = module(image_masker=AttentionMask(warmup=0.0))
    calls = []
    teacher = task.objective.teacher.encoder
    teacher.image.register_forward_hook(lambda *_: calls.append(1))
    views = task.draw_views(batch_of(datamodule()), sources())
    assert views.targets is not None
    torch.manual_seed(0)
    step = task.objective(task.encoder, task.predictor, views)
    assert len(calls) == 1
    torch.manual_seed(0)
    again = task.objective(task.encoder, task.predictor, views._replace(targets=None))
    assert len(calls) == 2
    assert step.loss.item() == pytest.approx(again.loss.item(), rel=1e-5)


def test_without_a_teacher_the_encoder_is_asked_and_targets_stay_its_own() -> None:
    task = module(image_masker=AttentionMask(warmup=0.0), objective=ObjectiveConfig(target="online"))
    views = task.draw_views(batch_of(datamodule()), sources())
    assert not views.targets.image.mean.requires_grad
    assert torch.isfinite(task.objective(task.encoder, task.predictor, views).loss)


def test_without_masked_prediction_nobody_is_asked() -> None:
    task = module(image_masker=AttentionMask(warmup=0.0), objective=ObjectiveConfig(masked_weight=0.0))
    assert task.draw_views(batch_of(datamodule()), sources()).targets is None
