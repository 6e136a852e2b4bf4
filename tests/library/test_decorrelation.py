"""Correlation of filters and the decorrelation penalties, against explicit sums over pairs."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sparsity_lib import functional as f


@pytest.fixture(autouse=True, params=[2**16, 0], ids=["small", "large"])
def _seeded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f, "LARGE", request.param)  # elements from which weights are large
    torch.manual_seed(0)


def pairwise(weight: Tensor, center: str, penalty: str) -> float:
    """The penalty by an explicit loop over pairs, in float64."""
    w = weight.detach().double().flatten(1).numpy()
    mean = {"filters": w.mean(0), "components": w.mean(1, keepdims=True), "none": 0.0}[center]
    u = w - mean
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    of_pair = {
        "signed": lambda c: c,
        "absolute": abs,
        "squared": lambda c: c**2,
        "local": lambda c: math.log(1 + math.exp(10 * (c - 1))),
    }[penalty]
    return sum(of_pair(float(u[d] @ u[e])) for d in range(len(u)) for e in range(d))


@pytest.mark.parametrize("center", f.CENTERS)
@pytest.mark.parametrize("penalty", f.PENALTIES)
def test_decorrelation_is_the_explicit_sum_over_pairs(center: str, penalty: str) -> None:
    for shape in ((2, 5), (40, 3, 3, 3), (64, 9)):
        weight = torch.randn(shape) * torch.rand(shape[0], *[1] * (len(shape) - 1)) + 0.3
        expected = pairwise(weight, center, penalty)
        assert f.decorrelation(weight, center, penalty).item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("center", f.CENTERS)
@pytest.mark.parametrize("penalty", f.PENALTIES)
def test_decorrelation_passes_gradcheck(center: str, penalty: str) -> None:
    weight = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: f.decorrelation(w, center, penalty), (weight,))
    assert torch.autograd.gradgradcheck(lambda w: f.decorrelation(w, center, penalty), (weight,))


def test_a_graph_that_is_kept_gives_the_gradient_again() -> None:
    weight = torch.randn(5, 6, requires_grad=True)
    penalty = f.decorrelation(weight)
    (first,) = torch.autograd.grad(penalty, weight, retain_graph=True)
    assert torch.equal(first, torch.autograd.grad(penalty, weight)[0])


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(
    ("center", "penalty"),
    [*((center, "signed") for center in f.CENTERS), ("none", "squared"), ("none", "local")],
)
def test_autocast_changes_neither_value_nor_gradient(center: str, penalty: str, create_graph: bool) -> None:
    weight = torch.randn(40, 3, 3, 3, requires_grad=True)
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            value = f.decorrelation(weight, center, penalty)
            found.append((value, *torch.autograd.grad(value, weight, create_graph=create_graph)))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


@pytest.mark.parametrize("scale", [1.0, 1e-15])
@pytest.mark.parametrize("center", f.CENTERS)
def test_a_large_weight_may_have_its_channels_last(center: str, scale: float) -> None:
    weight = scale * torch.randn(64, 64, 5, 5)
    assert weight.numel() >= f.LARGE
    exact = weight.double().requires_grad_()
    expected = f.sum_of_pairs(f.units(exact.flatten(1), center))
    (gradient,) = torch.autograd.grad(expected, exact)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        given = weight.clone(memory_format=memory_format).requires_grad_()
        value = f.decorrelation(given, center)
        value.backward()
        assert given.grad.is_contiguous(memory_format=memory_format)
        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(given.grad.double() * scale, gradient * scale, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("center", f.CENTERS)
def test_signed_decorrelation_keeps_its_precision_for_many_filters(center: str) -> None:
    weight = torch.randn(2048, 27) * torch.rand(2048, 1)
    exact = f.decorrelation(weight.double(), center).item()
    assert f.decorrelation(weight, center).item() == pytest.approx(exact, rel=1e-5, abs=1e-4)


def test_signed_decorrelation_forms_no_matrix_of_pairs() -> None:
    weight = torch.randn(200_000, 3, requires_grad=True)  # the matrix would take 160 GB
    f.decorrelation(weight).backward()
    assert weight.grad.isfinite().all()


def test_correlation_is_pearsons_for_components_and_cosine_for_none() -> None:
    weight = torch.randn(12, 3, 3, 3)
    flat = weight.flatten(1)
    torch.testing.assert_close(
        f.filter_correlation(weight, "components"), torch.corrcoef(flat), rtol=0, atol=1e-6
    )
    cosine = torch.nn.functional.cosine_similarity(flat[:, None], flat[None], dim=2)
    torch.testing.assert_close(f.filter_correlation(weight, "none"), cosine, rtol=0, atol=1e-6)


@pytest.mark.parametrize("center", f.CENTERS)
@pytest.mark.parametrize("penalty", f.PENALTIES)
def test_filters_without_direction_count_as_uncorrelated(center: str, penalty: str) -> None:
    weight = torch.randn(7, 27)
    weight[0] = weight.mean() if center == "components" else 0.0
    if center == "filters":
        weight[0] = weight[1:].mean(0)
    weight.requires_grad_()
    correlation = f.filter_correlation(weight, center)
    assert torch.equal(correlation[0], torch.zeros(7))
    assert torch.equal(correlation[:, 0], torch.zeros(7))
    f.decorrelation(weight, center, penalty).backward()
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize("filters", [2, 3, 7, 100, 1000])
def test_equal_filters_have_no_direction_whatever_their_mean_rounds_to(filters: int) -> None:
    weight = torch.randn(27).expand(filters, 27)
    assert f.decorrelation(weight, "filters").item() == 0.0
    constant = torch.randn(filters, 1).expand(filters, 27)
    assert f.decorrelation(constant, "components").item() == 0.0


@pytest.mark.parametrize("center", f.CENTERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_correlation_does_not_depend_on_the_weights_scale(center: str, dtype: torch.dtype) -> None:
    weight = torch.randn(6, 3, 3, 3, dtype=torch.float64)
    for scale in (1e-44, 1e-38, 1e-30, 1e-20, 1.0, 1e20, 1e30, 3e37):
        scaled = (weight * scale).to(dtype).requires_grad_()
        if (exact := scaled.detach().double() / scale).count_nonzero() == 0:
            continue  # bfloat16 has nothing as small
        found = f.filter_correlation(scaled, center).double()
        torch.testing.assert_close(found, f.filter_correlation(exact, center), rtol=0, atol=1e-6)
        if scale > 1e-35:
            for penalty in f.PENALTIES:
                (gradient,) = torch.autograd.grad(f.decorrelation(scaled, center, penalty), scaled)
                assert gradient.isfinite().all()


@pytest.mark.parametrize("center", ["components", "none"])
def test_each_filter_may_have_a_scale_of_its_own(center: str) -> None:
    weight = torch.randn(4, 9)
    scales = torch.tensor([1e-35, 1e-10, 1.0, 1e30])[:, None]
    found = f.filter_correlation(weight * scales, center)
    torch.testing.assert_close(found, f.filter_correlation(weight, center), rtol=0, atol=1e-6)


@pytest.mark.parametrize("center", f.CENTERS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_have_no_correlation(center: str, value: float) -> None:
    weight = torch.randn(4, 9)
    weight[1, 2] = value
    assert f.filter_correlation(weight, center)[1].isnan().all()
    assert all(f.decorrelation(weight, center, penalty).isnan() for penalty in f.PENALTIES)
