"""Image-only pre-training as a task: which weights train under each objective."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_encoder

from dmlm.models import CrossModalPredictor
from dmlm.objectives.image_only import ImageObjectiveConfig
from dmlm.tasks import ImagePretrainModule


def predictor(share_directions: bool) -> CrossModalPredictor:
    torch.manual_seed(1)
    return CrossModalPredictor(24, width=24, depth=1, num_heads=2, share_directions=share_directions)


@pytest.mark.parametrize("share_directions", [False, True])
def test_the_decoder_of_mae_trains(share_directions: bool) -> None:
    task = ImagePretrainModule(
        tiny_encoder(), predictor(share_directions), image_objective=ImageObjectiveConfig("mae")
    ).train()
    assert all(parameter.requires_grad for parameter in task.predictor.image.parameters())
    x = torch.randint(0, 256, (4, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(16).expand(4, -1) < 12
    task.objective(task.encoder, task.predictor, x, mask=mask).loss.backward()
    missing = [name for name, value in task.named_parameters() if value.requires_grad and value.grad is None]
    assert not missing, "DDP would wait for these for ever"
    assert task.predictor.image.mean.weight.grad.any()
    if not share_directions:
        assert not any(parameter.requires_grad for parameter in task.predictor.text.parameters())


@pytest.mark.parametrize("kind", ["simclr", "moco"])
def test_contrastive_objectives_train_no_predictor(kind: str) -> None:
    for share_directions in (False, True):
        task = ImagePretrainModule(
            tiny_encoder(), predictor(share_directions), image_objective=ImageObjectiveConfig(kind)
        )
        assert not any(parameter.requires_grad for parameter in task.predictor.parameters())
