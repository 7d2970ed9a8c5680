"""Distances between Gaussians against torch.distributions, float64 and brute force."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Normal
from torch.distributions import kl_divergence as reference_kl

from dmlm.distributions import (
    Gaussian,
    barycenter,
    bound_logvar,
    csd,
    kl_divergence,
    pairwise_csd,
    pairwise_wasserstein2,
    standard_normal_kl,
    unbound_logvar,
    wasserstein2,
)


def random_gaussian(*shape: int, seed: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
    logvar = torch.rand(*shape, generator=generator, dtype=torch.float64) * 6 - 5
    return Gaussian(mean.to(dtype), logvar.to(dtype))


def reference(p: Gaussian) -> Independent:
    return Independent(Normal(p.mean.double(), torch.exp(0.5 * p.logvar.double())), 1)


def relative(value: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(((value.double() - wanted).abs() / wanted.abs().clamp_min(1e-30)).max())


@pytest.mark.parametrize("seed", range(3))
def test_kl_equals_torch_distributions(seed: int) -> None:
    p, q = random_gaussian(40, 64, seed=seed), random_gaussian(40, 64, seed=seed + 10)
    assert relative(kl_divergence(p, q, "sum"), reference_kl(reference(p), reference(q))) < 1e-6
    assert relative(kl_divergence(p, q), reference_kl(reference(p), reference(q)) / 64) < 1e-6


def test_kl_keeps_its_digits_near_the_optimum() -> None:
    p = random_gaussian(100, 768, seed=0)
    q = Gaussian(p.mean + 1e-3 * torch.randn_like(p.mean), p.logvar + 1e-3 * torch.randn_like(p.mean))
    assert relative(kl_divergence(p, q, "sum"), reference_kl(reference(p), reference(q))) < 1e-5


def test_wasserstein_and_csd_equal_brute_force() -> None:
    p, q = random_gaussian(30, 16, seed=1), random_gaussian(30, 16, seed=2)
    std = [torch.exp(0.5 * g.logvar.double()) for g in (p, q)]
    apart = (p.mean.double() - q.mean.double()).square().sum(-1)
    assert relative(wasserstein2(p, q, "sum"), apart + (std[0] - std[1]).square().sum(-1)) < 1e-6
    assert relative(csd(p, q, "sum"), apart + (std[0].square() + std[1].square()).sum(-1)) < 1e-6


def test_csd_is_the_expected_squared_distance() -> None:
    p, q = random_gaussian(5, seed=3), random_gaussian(5, seed=4)
    x, y = (reference(g).sample((400_000,)) for g in (p, q))
    assert float(csd(p, q, "sum")) == pytest.approx(float((x - y).square().sum(-1).mean()), rel=0.01)


@pytest.mark.parametrize("scale", [1.0, 1e-1, 1e-3])
@pytest.mark.parametrize(("matrix", "direct"), [(pairwise_wasserstein2, wasserstein2), (pairwise_csd, csd)])
def test_pairwise_equals_direct(matrix, direct, scale: float) -> None:
    p = random_gaussian(24, 48, seed=5)
    q = Gaussian(p.mean + scale * torch.randn(24, 48, generator=torch.Generator().manual_seed(0)), p.logvar + scale)
    wide = Gaussian(p.mean[:, None], p.logvar[:, None]), Gaussian(q.mean[None], q.logvar[None])
    whole = matrix(p, q)
    torch.testing.assert_close(whole, direct(*wide), rtol=1e-5, atol=2e-6)
    double = direct(Gaussian(p.mean.double(), p.logvar.double()), Gaussian(q.mean.double(), q.logvar.double()))
    assert relative(whole.diagonal(), double.double()) < 1e-5, "positives must be exact"
    assert matrix(p, Gaussian(q.mean[:7], q.logvar[:7])).shape == (24, 7)


@pytest.mark.parametrize(("matrix", "direct"), [(pairwise_wasserstein2, wasserstein2), (pairwise_csd, csd)])
def test_pairs_that_belong_together_are_exact_for_several_texts_of_an_image(matrix, direct) -> None:
    generator = torch.Generator().manual_seed(0)
    image = Gaussian(torch.randn(4, 768, generator=generator), torch.zeros(4, 768))
    owners = torch.arange(12) % 4
    close = 1e-3 * torch.randn(12, 768, generator=generator)
    text = Gaussian(image.mean[owners] + close, torch.full((12, 768), 1e-4))
    found = matrix(image, text, owners=owners)
    own = Gaussian(image.mean[owners], image.logvar[owners])
    torch.testing.assert_close(found[owners, torch.arange(12)], direct(own, text), rtol=1e-6, atol=0)
    others = found - matrix(image, text)
    others[owners, torch.arange(12)] = 0.0
    assert float(others.abs().max()) == 0.0


def test_pairwise_gradient_equals_direct_gradient() -> None:
    def gradient(function) -> torch.Tensor:
        p, q = (Gaussian(*(part.clone().requires_grad_() for part in random_gaussian(6, 8, seed=s))) for s in (6, 7))
        (function(p, q) * torch.arange(36.0).reshape(6, 6)).sum().backward()
        return torch.cat([part.grad for part in (*p, *q)])

    def slow(p: Gaussian, q: Gaussian) -> torch.Tensor:
        return wasserstein2(Gaussian(p.mean[:, None], p.logvar[:, None]), Gaussian(q.mean[None], q.logvar[None]))

    torch.testing.assert_close(gradient(pairwise_wasserstein2), gradient(slow), rtol=1e-4, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 10))
def test_properties(seed: int, scale: float) -> None:
    p, q = random_gaussian(4, 8, seed=seed, scale=scale), random_gaussian(4, 8, seed=seed + 1, scale=scale)
    assert (kl_divergence(p, q) >= 0).all()
    assert torch.equal(kl_divergence(p, p), torch.zeros(4))
    assert torch.equal(wasserstein2(p, p), torch.zeros(4))
    torch.testing.assert_close(wasserstein2(p, q), wasserstein2(q, p))
    assert (csd(p, q) >= wasserstein2(p, q) - 1e-5).all()
    assert (standard_normal_kl(p) >= standard_normal_kl(p, variance_only=True)).all()


def test_standard_normal_kl_equals_torch_distributions() -> None:
    p = random_gaussian(9, 32, seed=8)
    wanted = reference_kl(reference(p), Independent(Normal(torch.zeros(9, 32).double(), 1.0), 1)) / 32
    assert relative(standard_normal_kl(p), wanted) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_stay_finite(dtype: torch.dtype) -> None:
    p = Gaussian(torch.full((2, 8), 50.0, dtype=dtype), torch.full((2, 8), -8.0, dtype=dtype))
    q = Gaussian(torch.full((2, 8), -50.0, dtype=dtype), torch.full((2, 8), -8.0, dtype=dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for value in (kl_divergence(p, q), wasserstein2(p, q), pairwise_wasserstein2(p, q), pairwise_csd(p, q)):
            assert value.dtype == torch.float32
            assert torch.isfinite(value).all()


def test_barycenter_of_equal_components_is_the_component() -> None:
    p = random_gaussian(3, 5, seed=9)
    same = Gaussian(p.mean[:, None].expand(3, 4, 5), p.logvar[:, None].expand(3, 4, 5))
    center = barycenter(same, torch.tensor([0.1, 0.2, 0.3, 0.4]).expand(3, 4))
    torch.testing.assert_close(center.mean, p.mean)
    torch.testing.assert_close(center.logvar, p.logvar, rtol=1e-4, atol=1e-5)


@given(st.floats(-5.9, 1.9))
def test_bound_logvar_inverts_and_keeps_gradient(value: float) -> None:
    raw = torch.tensor(unbound_logvar(value, -6.0, 2.0), requires_grad=True)
    bounded = bound_logvar(raw, -6.0, 2.0)
    assert float(bounded) == pytest.approx(value, abs=1e-4)
    bounded.backward()
    assert raw.grad > 0


def test_sample_has_the_moments_of_the_gaussian_and_gradient() -> None:
    p = Gaussian(torch.tensor([1.0, -2.0]).requires_grad_(), torch.tensor([0.0, 1.0]).requires_grad_())
    wide = Gaussian(p.mean.expand(200_000, 2), p.logvar.expand(200_000, 2))
    draws = wide.sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws.mean(0), p.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(draws.var(0), p.variance, atol=0.05, rtol=0)
    draws.sum().backward()
    assert p.logvar.grad.abs().sum() > 0
