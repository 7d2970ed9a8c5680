"""Whatever is minimised, every trainable parameter gets a gradient in every step: DDP waits for all of them."""

from __future__ import annotations

import pytest
import torch
from conftest import example_views, tiny_encoder, tiny_predictor

from dmlm.masking import NoMask
from dmlm.objectives import ObjectiveConfig
from dmlm.tasks import DMLMPretrainModule

CONFIGS = {
    "default": {},
    "alignment only": {"masked_weight": 0.0},
    "prediction only": {"masked_weight": 1.0},
    "waiting": {"masked_start": 0.5},
    "token anchor": {"token_anchor": 0.1},
    "pixel anchor": {"pixel_anchor": 0.1},
    "letter": {"target": "shared", "alignment": "attract"},
    "masked views": {"conditioning": "joint", "align_view": "masked"},
    "csd": {"alignment": "csd_bce", "target": "online"},
}


HIDDEN = ("both", "text", "image", "nothing")


@pytest.mark.parametrize(
    ("name", "hide"),
    # with neither alignment nor anything to predict there is nothing to train
    [(n, h) for n in sorted(CONFIGS) for h in HIDDEN if (n, h) != ("prediction only", "nothing")],
)
def test_every_parameter_gets_a_gradient(name: str, hide: str) -> None:
    module = DMLMPretrainModule(tiny_encoder(), tiny_predictor(), NoMask(), objective=ObjectiveConfig(**CONFIGS[name]))
    views = example_views(module.encoder, 4)
    if hide in ("text", "nothing"):
        views = views._replace(image_mask=torch.zeros_like(views.image_mask))
    if hide in ("image", "nothing"):
        views = views._replace(text_mask=torch.zeros_like(views.text_mask))
    loss = module.objective(module.encoder, module.predictor, views, 0.2).loss
    loss.backward()
    assert not [key for key, value in module.named_parameters() if value.requires_grad and value.grad is None]
    assert torch.isfinite(loss)
