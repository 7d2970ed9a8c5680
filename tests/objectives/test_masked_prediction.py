"""Masked prediction: its value against the divergences, and what its variance learns."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import gaussian

from dmlm.distributions import Gaussian, kl_divergence
from dmlm.errors import ConfigError
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


@pytest.mark.parametrize("direction", ["pred_target", "target_pred", "symmetric"])
def test_beta_nll_weighs_each_dimension_by_the_variance_that_the_kl_divides_by(direction) -> None:
    p, q = gaussian(2, 3, 4, seed=1), gaussian(2, 3, 4, seed=2)
    valid = torch.ones(2, 3, dtype=torch.bool)
    one, other = (Gaussian(g.mean.unsqueeze(-1), g.logvar.unsqueeze(-1)) for g in (p, q))
    to_target = (torch.exp(0.5 * q.logvar) * kl_divergence(one, other)).mean()
    to_predicted = (torch.exp(0.5 * p.logvar) * kl_divergence(other, one)).mean()
    wanted = {
        "pred_target": to_target,
        "target_pred": to_predicted,
        "symmetric": (to_target + to_predicted) / 2,
    }[direction]
    torch.testing.assert_close(MaskedPredictionLoss(direction, beta_nll=0.5)(p, q, valid), wanted)


def test_beta_nll_makes_the_gradient_of_the_mean_less_dependent_on_the_predicted_variance() -> None:
    """With an exponent of 1 the gradient of a mean is that of the squared error, whatever its variance."""
    q = Gaussian(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))
    gradients = []
    for beta in (0.0, 1.0):
        mean = torch.ones(1, 1, 2, requires_grad=True)
        predicted = Gaussian(mean, torch.tensor([[[-4.0, 0.0]]]))
        MaskedPredictionLoss(beta_nll=beta)(predicted, q, torch.ones(1, 1, dtype=torch.bool)).backward()
        gradients.append(mean.grad[0, 0])
    torch.testing.assert_close(gradients[0], torch.tensor([math.exp(4.0) / 2, 0.5]))
    torch.testing.assert_close(gradients[1], torch.tensor([0.5, 0.5]))


def test_beta_nll_has_nothing_to_weigh_by_without_variances() -> None:
    with pytest.raises(ConfigError, match="kl_direction mse has none"):
        MaskedPredictionLoss("mse", beta_nll=0.5)


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
