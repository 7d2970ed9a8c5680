"""The learned scale of alignment: bounded, never stuck at its bound, and unchanged inside it."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import example_views, gaussian, tiny_encoder, tiny_predictor

from dmlm.distributions import Gaussian
from dmlm.errors import ConfigError
from dmlm.objectives import AlignmentLoss, ObjectiveConfig, PretrainingObjective
from dmlm.objectives.alignment import AlignmentKind

KINDS = ("contrastive", "cosine", "csd_bce")


def images() -> Gaussian:
    """Six images that are near each other: telling them apart asks for a large scale."""
    mean, logvar = gaussian(6, 8, seed=1)
    return Gaussian(0.3 * mean, logvar)


def loss_of(alignment: AlignmentLoss, text: Gaussian) -> torch.Tensor:
    """Loss of the images against six texts."""
    nothing = torch.zeros(6, 2, 4, dtype=torch.long)
    return alignment(images(), text, nothing, nothing, torch.arange(6))


def gradient(alignment: AlignmentLoss, text: Gaussian) -> float:
    alignment.zero_grad()
    loss_of(alignment, text).backward()
    return float(alignment.log_scale.grad)


class Unbounded(AlignmentLoss):
    """The scale as it was: a clamp without gradient above the bound."""

    def _scale(self, log_scale: torch.Tensor | None) -> torch.Tensor:
        return self.log_scale.exp().clamp_max(self.scale_max)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [images(), gaussian(6, 8, seed=2)])  # ask for a larger and for a smaller scale
def test_inside_the_bound_nothing_changes(kind: AlignmentKind, text: Gaussian) -> None:
    for start in (0.3, 7.14, 49.9):
        values = []
        for made in (AlignmentLoss, Unbounded):
            alignment = made(kind, "identity", scale_init=start)
            loss = loss_of(alignment, text)
            loss.backward()
            values.append((float(loss.detach()), float(alignment.scale.detach()), float(alignment.log_scale.grad)))
        assert values[0] == values[1]


def test_beyond_the_bound_only_gradients_that_lead_back_pass() -> None:
    alignment = AlignmentLoss("contrastive", "identity", scale_init=20.0, scale_max=20.0)
    near, far = images(), gaussian(6, 8, seed=2)
    with torch.no_grad():
        alignment.log_scale.add_(0.5)
    assert float(alignment.scale.detach()) == 20.0
    assert gradient(alignment, near) == 0, "matching pairs are nearest already: a larger scale is wanted"
    back = gradient(alignment, far)
    with torch.no_grad():
        alignment.log_scale.fill_(math.log(20.0) - 1e-4)
    assert gradient(alignment, near) < 0
    # of the same scale, but for the slope of the exponential
    assert back == pytest.approx(gradient(alignment, far) * math.exp(0.5), rel=1e-2)
    assert back > 0


def test_a_scale_that_went_beyond_its_bound_comes_down() -> None:
    alignment = AlignmentLoss("contrastive", "identity", scale_init=45.0)
    optimizer = torch.optim.AdamW(alignment.parameters(), 3e-3, weight_decay=0.0)
    scales = []
    for step in range(300):
        optimizer.zero_grad()
        easy = step < 150
        # a loss scaler multiplies by such a factor before the backward pass, and divides after it
        (2.0**16 * loss_of(alignment, images() if easy else gaussian(6, 8, seed=2))).backward()
        alignment.log_scale.grad /= 2.0**16
        optimizer.step()
        scales.append(float(alignment.log_scale.detach().exp()))
    assert 50.0 < max(scales) < 55.0, "what pushes on beyond the bound has no gradient"
    assert scales[-1] < 40.0


def test_the_bound_looks_at_the_sum_of_the_losses_of_a_step() -> None:
    alignment = AlignmentLoss("contrastive", "identity", scale_init=20.0, scale_max=20.0)
    nothing, own = torch.zeros(6, 2, 4, dtype=torch.long), torch.arange(6)
    with torch.no_grad():
        alignment.log_scale.add_(0.01)

    def gradients(weight: float) -> tuple[float, float]:
        """With the bound, and without one."""
        found = []
        for log_scale in (alignment.bounded_log_scale(), alignment.log_scale.detach().clone().requires_grad_()):
            alignment.zero_grad()
            up = alignment(images(), images(), nothing, nothing, own, log_scale)
            down = alignment(images(), gaussian(6, 8, seed=2), nothing, nothing, own, log_scale)
            (up + weight * down).backward()
            found.append(float(alignment.log_scale.grad if log_scale.grad_fn is not None else log_scale.grad))
        return found[0], found[1]

    assert gradients(1e-4)[1] < 0 < gradients(1.0)[1]
    assert gradients(1e-4)[0] == 0
    assert gradients(1.0)[0] == gradients(1.0)[1]


def test_global_and_local_alignment_share_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = tiny_encoder()
    objective = PretrainingObjective(ObjectiveConfig(local_weight=0.5), encoder)
    given = []
    for name in ("forward", "local"):
        method = getattr(objective.alignment, name)
        monkeypatch.setattr(
            objective.alignment, name, lambda *values, method=method: (given.append(values[-1]), method(*values))[1]
        )
    objective(encoder, tiny_predictor(), example_views(encoder, 4)).loss.backward()
    assert len(given) == 2
    assert given[0] is given[1]
    assert objective.alignment.log_scale.grad is not None


@pytest.mark.parametrize(
    "options",
    [
        {"scale_init": 0.0},
        {"scale_init": -1.0},
        {"scale_init": math.nan},
        {"scale_init": math.inf, "scale_max": math.inf},
        {"scale_init": 60.0},
        {"scale_max": 0.0},
    ],
)
def test_scales_out_of_range(options: dict) -> None:
    for made in (AlignmentLoss, ObjectiveConfig):
        with pytest.raises(ConfigError, match="scale_init must be finite, above 0 and at most scale_max"):
            made(**options)
    assert float(AlignmentLoss(scale_init=50.0).scale.detach()) == pytest.approx(50.0)
