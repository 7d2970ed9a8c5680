"""Products that are put aside: what is computed from them again is what it was, whatever a layer does with them."""

from __future__ import annotations

import pytest
import torch

from dmlm.models.checkpointing import Checkpointing, run
from dmlm.models.products import _is_kept


def test_attention_with_dropout_is_computed_again() -> None:
    """Where a kernel draws the dropout itself, as on GPUs, leaving it out would shift all random numbers after it."""
    plain = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
    fused = torch.ops.aten._scaled_dot_product_efficient_attention.default
    some = (torch.zeros(1),) * 3
    assert _is_kept(plain, some, {})
    assert _is_kept(fused, (*some, None, True), {})
    assert _is_kept(fused, (*some, None, True, 0.0), {})
    assert not _is_kept(plain, (*some, 0.1), {})
    assert not _is_kept(fused, (*some, None, True, 0.1), {})
    assert not _is_kept(fused, (*some, None, True), {"dropout_p": 0.1})
    assert not _is_kept(torch.ops.aten.gelu.default, some[:1], {})


class Layer(torch.nn.Module):
    """Writes into a product in some way, or not."""

    def __init__(self, how: str = "") -> None:
        super().__init__()
        self.norm, self.first, self.second = (torch.nn.LayerNorm(6), torch.nn.Linear(6, 6), torch.nn.Linear(6, 6))
        self.how = how

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.first(self.norm(inputs))
        if self.how == "adds":
            hidden += self.second(inputs)
        elif self.how == "divides a view":
            hidden[:, 2:].div_(3.0)
        elif self.how == "activates":
            hidden = torch.nn.functional.silu(hidden, inplace=True)
        elif self.how == "batched":  # torch.matmul gives a result that does not share its version
            hidden = torch.matmul(hidden[None, None], self.first.weight)[0, 0]
            hidden += inputs
        return self.second(torch.tanh(hidden))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [True, "selective"])
@pytest.mark.parametrize("how", ["", "adds", "divides a view", "activates", "batched"])
def test_layers_may_write_into_their_products(how: str, kind: Checkpointing) -> None:
    torch.manual_seed(0)
    layer, inputs = Layer(how).double(), torch.randn(4, 6, dtype=torch.double, requires_grad=True)
    wanted = [inputs, *layer.parameters()]
    plain, again = (torch.autograd.grad(run(layer, way, layer, inputs).square().sum(), wanted) for way in (False, kind))
    torch.testing.assert_close(again, plain, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [True, "selective"])
def test_a_graph_can_be_kept_and_gradients_have_gradients(kind: Checkpointing) -> None:
    torch.manual_seed(0)
    layer, inputs = Layer().double(), torch.randn(4, 6, dtype=torch.double, requires_grad=True)
    results = []
    for way in (False, kind):
        loss = run(layer, way, layer, inputs).square().sum()
        once, twice = (torch.autograd.grad(loss, [inputs, *layer.parameters()], create_graph=True) for _ in range(2))
        torch.testing.assert_close(once, twice, rtol=0, atol=0)
        results.append((once, torch.autograd.grad(once[0].square().sum(), inputs)))
    torch.testing.assert_close(results[0], results[1])
