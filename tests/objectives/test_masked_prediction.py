"""Masked prediction: its value against the divergences, and what its variance learns."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import gaussian

from dmlm.distributions import Gaussian, kl_divergence
from dmlm.objectives import (
    MaskedPredictionLoss,
)


@pytest.mark.parametrize("direction", ["pred_target", "target_pred", "symmetric", "mse"])
def test_masked_prediction_is_the_mean_over_valid_elements(direction: str) -> None:
    p, q = gaussian(3, 4, 8, seed=1), gaussian(3, 4, 8, seed=2)
    valid = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=torch.bool)
    each = {
        "pred_target": kl_divergence(p, q),
        "target_pred": kl_divergence(q, p),
        "symmetric": 0.5 * (kl_divergence(p, q) + kl_divergence(q, p)),
        "mse": (p.mean - q.mean).square().mean(-1),
    }[direction]
    loss = MaskedPredictionLoss(direction)(p, q, valid)
    torch.testing.assert_close(loss, each[valid].mean())
    torch.testing.assert_close(MaskedPredictionLoss(direction, "sum")(p, q, valid), 8 * loss)


def test_beta_nll_weighs_each_dimension_by_the_target_variance() -> None:
    p, q = gaussian(2, 3, 4, seed=1), gaussian(2, 3, 4, seed=2)
    valid = torch.ones(2, 3, dtype=torch.bool)
    singles = [Gaussian(g.mean.unsqueeze(-1), g.logvar.unsqueeze(-1)) for g in (p, q)]
    wanted = (torch.exp(0.5 * q.logvar) * kl_divergence(*singles)).mean()
    torch.testing.assert_close(MaskedPredictionLoss(beta_nll=0.5)(p, q, valid), wanted)


def test_nothing_masked_gives_zero_and_finite_gradient() -> None:
    p = Gaussian(torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4))
    for part in (p, p.at(slice(0, 0))):
        loss = MaskedPredictionLoss()(part, part.detach(), torch.zeros(part.mean.shape[:2], dtype=torch.bool))
        loss.backward()
        assert float(loss) == 0
    assert torch.isfinite(p.mean.grad).all()


def test_predicted_variance_copies_or_measures() -> None:
    """KL(pred || target) cannot learn the error; KL(target || pred) does (method, ruling 5)."""
    torch.manual_seed(0)
    truth = torch.randn(4000, 1, 1) * 0.7
    target = Gaussian(truth, torch.full_like(truth, math.log(0.3**2)))
    learned = {}
    for direction in ("pred_target", "target_pred"):
        logvar = torch.zeros(1, requires_grad=True)
        optimizer = torch.optim.Adam([logvar], 0.05)
        for _ in range(300):
            optimizer.zero_grad()
            predicted = Gaussian(torch.zeros_like(truth), logvar.expand_as(truth))
            MaskedPredictionLoss(direction)(predicted, target, torch.ones(4000, 1, dtype=torch.bool)).backward()
            optimizer.step()
        learned[direction] = float(torch.exp(0.5 * logvar.detach()))
    assert learned["pred_target"] == pytest.approx(0.3, abs=0.01)
    assert learned["target_pred"] == pytest.approx(math.hypot(0.3, 0.7), abs=0.03)
