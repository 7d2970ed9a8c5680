"""Losses and distances, each against doing it the usual way; part of :mod:`benchmarks.levers`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.machine import best
from dmlm.distributions import Gaussian, kl_divergence, pairwise_wasserstein2
from dmlm.objectives.masked_prediction import MaskedPredictionLoss

WIDTH = 768


def loss_gathered(rounds: int) -> dict[str, float]:
    """The KL at masked places only, against everywhere and masked afterwards."""
    p, q = _gaussians(2, 32, 197, WIDTH)
    index = torch.rand(32, 197).argsort(1)[:, :59]
    chosen = torch.zeros(32, 197).scatter_(1, index, 1.0)

    def everywhere() -> Tensor:
        return (kl_divergence(p, q) * chosen).sum() / chosen.sum()

    def gathered() -> Tensor:
        return kl_divergence(p.gather(index), q.gather(index)).mean()

    assert torch.allclose(everywhere(), gathered(), rtol=1e-4)
    times = best({"all": _with_backward(everywhere), "ours": _with_backward(gathered)}, rounds)
    return {"lever_loss_gathered_x": times["all"] / times["ours"]}


def losses(rounds: int) -> dict[str, float]:
    """KL in log-variances (and compiled), against torch.distributions."""
    from torch.distributions import Independent, Normal
    from torch.distributions import kl_divergence as torch_kl

    p, q = _gaussians(2, 32, 64, WIDTH)
    target, valid = q.detach(), torch.ones(32, 64, dtype=torch.bool)
    plain, compiled = MaskedPredictionLoss(), MaskedPredictionLoss()

    def usual() -> Tensor:
        predicted, wanted = (Independent(Normal(side.mean, side.std), 1) for side in (p, target))
        return torch_kl(wanted, predicted).mean() / WIDTH

    sides: dict[str, Callable[[], Tensor]] = {"usual": usual, "ours": lambda: plain(p, target, valid)}
    assert torch.allclose(usual(), sides["ours"](), rtol=1e-4)
    figures = {}
    compiled.compile()
    try:
        assert torch.allclose(compiled(p, target, valid), usual(), rtol=1e-4)
        sides["compiled"] = lambda: compiled(p, target, valid)
    except Exception as error:  # no C++ compiler here; torch has many errors for that
        print(f"losses are not compiled here: {type(error).__name__}")
    times = best({name: _with_backward(work) for name, work in sides.items()}, rounds)
    figures["lever_kl_closed_form_x"] = times["usual"] / times["ours"]
    if "compiled" in times:
        figures["lever_kl_compiled_x"] = times["usual"] / times["compiled"]
    return figures


def distances(rounds: int) -> dict[str, float]:
    """All pairwise Wasserstein distances by one matrix product, against broadcasting; 128 pairs."""
    p, q = _gaussians(2, 128, WIDTH)

    def usual() -> Tensor:
        means = (p.mean[:, None] - q.mean[None]).square().mean(-1)
        return (means + (p.std[:, None] - q.std[None]).square().mean(-1)).sum()

    assert torch.allclose(usual(), pairwise_wasserstein2(p, q).sum(), rtol=1e-4)
    ours = _with_backward(lambda: pairwise_wasserstein2(p, q).sum())
    times = best({"usual": _with_backward(usual), "ours": ours}, rounds)
    return {"lever_pairwise_w2_x": times["usual"] / times["ours"]}


def _with_backward(work: Callable[[], Tensor]) -> Callable[[], object]:
    return lambda: work().backward()


def _gaussians(count: int, *shape: int) -> list[Gaussian]:
    generator = torch.Generator().manual_seed(0)
    return [
        Gaussian(
            torch.randn(*shape, generator=generator).requires_grad_(),
            (0.1 * torch.randn(*shape, generator=generator) - 2).requires_grad_(),
        )
        for _ in range(count)
    ]
