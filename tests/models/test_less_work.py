"""What is left out of a step, kept for later or compiled changes nothing but time and memory."""

from __future__ import annotations

import pytest
import torch
from conftest import example_views, tiny_encoder, tiny_predictor
from torch.utils.flop_counter import FlopCounterMode

from dmlm.models import GaussianHead
from dmlm.objectives import ObjectiveConfig, PretrainingObjective


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["attn", "mlp"])
def test_head_at_some_positions_equals_the_head_at_all(kind: str) -> None:
    torch.manual_seed(0)
    head = GaussianHead(20, 24, kind, num_heads=4)
    torch.nn.init.normal_(head.logvar_out.weight)
    features = torch.randn(3, 7, 20, requires_grad=True)
    valid = torch.arange(7)[None] < torch.tensor([7, 5, 3])[:, None]
    index = torch.tensor([[0, 6], [4, 1], [2, 2]])
    results = []
    for some in (False, True):
        head.zero_grad()
        features.grad = None
        out = head(features, valid, index) if some else head(features, valid).gather(index)
        (out.mean.sin().sum() + out.logvar.sum()).backward()
        results.append((out, {**gradients(head), "features": features.grad.clone()}))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-5, rtol=1e-5)


def test_head_at_no_position_is_empty() -> None:
    for kind in ("attn", "mlp"):
        out = GaussianHead(8, 8, kind, num_heads=2)(torch.randn(2, 3, 8), None, torch.zeros(2, 0, dtype=torch.int64))
        assert out.mean.shape == out.logvar.shape == (2, 0, 8)


def test_global_elements_equal_element_zero() -> None:
    encoder = tiny_encoder(head="attn")
    views = example_views(encoder)
    torch.testing.assert_close(encoder.image_global(views.images), encoder.encode_image(views.images).at(0))
    torch.testing.assert_close(encoder.text_global(views.tokens), encoder.encode_text(views.tokens).at(0))
    texts = ["No edema.", "Left pleural effusion."]
    torch.testing.assert_close(encoder.text_global(texts), encoder.encode_text(texts).at(0))


@pytest.mark.parametrize(("options", "saved"), [({}, 0.01), ({"masked_weight": 0.0}, 0.02)])
def test_heads_compute_only_what_is_read(options: dict, saved: float) -> None:
    """A step with heads at all elements gives the same loss and counts more operations."""
    encoder, predictor = tiny_encoder(head="attn"), tiny_predictor()
    objective = PretrainingObjective(ObjectiveConfig(**options), encoder)
    views = example_views(encoder)
    losses, counted = [], []
    for everywhere in (False, True):
        if everywhere:
            for model in filter(None, (encoder, objective.teacher.encoder)):
                for head in (model.image_head, model.text_head):
                    forward = head.forward

                    def at_all(features, valid=None, index=None, forward=forward):
                        out = forward(features, valid)
                        return out if index is None else out.gather(index)

                    head.forward = at_all
        with FlopCounterMode(display=False) as counter:
            losses.append(objective(encoder, predictor, views).loss)
        counted.append(counter.get_total_flops())
    torch.testing.assert_close(losses[0], losses[1])
    assert counted[0] < (1 - saved) * counted[1]


@pytest.mark.slow
def test_compiled_step_equals_the_plain_one() -> None:
    """What the compiler captures is the same function; writing C++ for it, which takes minutes, is torch's part."""
    encoder, predictor = tiny_encoder(), tiny_predictor()
    objective = PretrainingObjective(ObjectiveConfig(), encoder)
    names = [name for name, _ in objective.named_parameters()]
    plain = [float(objective(encoder, predictor, example_views(encoder, seed=seed)).loss.detach()) for seed in (0, 1)]
    objective.masked.compile(dynamic=True, backend="aot_eager")
    encoder.image.compile(backend="eager")
    encoder.text.compile(dynamic=True, backend="eager")
    for seed in (0, 1):  # texts of another length, too
        loss = objective(encoder, predictor, example_views(encoder, seed=seed)).loss
        assert float(loss.detach()) == pytest.approx(plain[seed], rel=1e-5)
        loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.image.model.blocks.parameters())
    assert [name for name, _ in objective.named_parameters()] == names  # checkpoints keep their keys
