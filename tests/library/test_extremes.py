"""Activations that are huge, tiny, infinite or NaN: right values, or NaN, and never a plausible wrong one."""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from reference import QUANTILES, assert_is_reference, of_batches
from torch import nn

import sparsity_lib as sl
from sparsity_lib import functional as f
from sparsity_lib.monitor import LayerStats

FLOATS = [field.name for field in fields(LayerStats) if field.type is float]
# The largest scale at which three SDs are finite, and the smallest at which there are a few digits.
SCALES = {
    torch.float16: (1e-6, 1e-4, 2e4),
    torch.bfloat16: (1e-38, 1e-25, 1e-9, 1e25, 1e38),
    torch.float32: (1e-43, 1e-38, 1e-30, 1e-25, 1e-12, 1e10, 1e19, 1e25, 1e38),
    torch.float64: (1e-310, 1e-300, 1e-170, 1e-25, 1e25, 1e170, 1e300, 5e307),
}


@pytest.mark.parametrize(("dtype", "scale"), [(dtype, scale) for dtype in SCALES for scale in SCALES[dtype]])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_statistics_at_any_scale_are_those_of_the_same_numbers_at_scale_1(
    dtype: torch.dtype, scale: float, offset: float
) -> None:
    x = ((torch.randn(40, 8, 3, dtype=torch.float64) + offset).clamp(-3, 3) * scale).to(dtype)
    of_x = of_batches(nn.Identity(), x, dim=1, maps=40)
    exact = x.double() / scale  # the same numbers, as rounded
    of_exact = of_batches(nn.Identity(), exact, dim=1, maps=40)
    unscaled = ("scale_free_entropy", "effective_rank", "zero_share", "dead_channels")
    for name in unscaled:
        assert getattr(of_x, name) == pytest.approx(getattr(of_exact, name), rel=1e-4), name
    for name in ("mean", "sd", "max"):
        assert getattr(of_x, name) / scale == pytest.approx(getattr(of_exact, name), rel=1e-4, abs=1e-5), name
    np.testing.assert_allclose(of_x.scale_free_maps, of_exact.scale_free_maps, rtol=1e-4, atol=1e-5)
    one_hot, uniform = scale > 1e6, scale < 1e-4
    if one_hot or uniform:
        expected = (x == x.amax(1, keepdim=True)).sum(1).log().mean().item() if one_hot else math.log(8)
        assert of_x.entropy == pytest.approx(expected, abs=1e-5)
        assert of_x.noise_entropy == pytest.approx(0 if one_hot else math.log(8), abs=1e-5)


def test_a_range_beyond_the_largest_number_is_no_infinity() -> None:
    x = torch.tensor([[3.4e38, -3.4e38, 0, 1e38], [1, 1, 1, -3.4e38], [-3.4e38, -3.4e38, -3.4e38, -3e38]])
    stats = of_batches(nn.Identity(), x, maps=3)
    np.testing.assert_allclose(stats.maps, [0, math.log(3), 0], atol=1e-6)
    expected = f.rfav_entropy(f.standardize(x.double() / 1e38)).numpy()
    np.testing.assert_allclose(stats.scale_free_maps, expected, rtol=1e-5)
    assert stats.sd == pytest.approx(1e38 * (x.double() / 1e38).std(correction=0).item())


@pytest.mark.parametrize("scales", [(0.0, 1.0), (1e-30, 1.0), (1.0, 1e25), (1e-38, 1e38)])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("merged", [False, True])
def test_batches_may_have_any_scales(scales: tuple[float, float], reverse: bool, merged: bool) -> None:
    layer, x = nn.Identity(), torch.randn(40, 6).clamp(-3, 3)
    batches = [scale * x for scale in (scales[::-1] if reverse else scales)]
    monitors = [sl.ActivationMonitor(layer, [layer]) for _ in range(2)]
    for monitor, batch in zip(monitors if merged else monitors[:1] * 2, batches, strict=True):
        with monitor:
            layer(batch)
    stats = (monitors[0].merge(monitors[1]) if merged else monitors[0]).compute()[""]
    expected = torch.cat([batch.double() / max(scales) for batch in batches])
    covariance = torch.cov(expected.T, correction=0)
    assert stats.sd / max(scales) == pytest.approx(expected.std(correction=0).item(), rel=1e-5)
    assert stats.mean / max(scales) == pytest.approx(expected.mean().item(), rel=1e-4)
    rank = covariance.trace() ** 2 / covariance.square().sum()
    assert stats.effective_rank == pytest.approx(rank.item(), rel=1e-5)


@pytest.mark.parametrize("tiny", [1e-45, -1e-45])
def test_the_smallest_numbers_are_not_equal_to_zero(tiny: float) -> None:
    x = torch.tensor([[0, 0, 0, tiny]])
    stats = of_batches(nn.Identity(), x)
    expected = f.rfav_entropy(f.standardize(x.double() / 1e-45)).item()
    assert stats.scale_free_entropy == pytest.approx(expected, rel=1e-5)
    assert stats.zero_share == 0.75
    assert stats.dead_channels == (3 if tiny > 0 else 4)


def test_float64_is_computed_in_float64() -> None:
    x = torch.randn(200, 6, dtype=torch.float64) * 1e-6 + 1e3  # equal in float32
    stats = of_batches(nn.Identity(), x)
    assert_is_reference(stats, x)
    assert stats.effective_rank == pytest.approx(5.8, abs=0.2)
    assert stats.sd == pytest.approx(x.std(correction=0).item(), rel=1e-6)


def test_the_dtype_may_change_between_batches() -> None:
    layer, x = nn.Linear(4, 6), torch.randn(2, 20, 4)
    with sl.ActivationMonitor(layer, [layer]) as monitor:
        first = layer(x[0])
        second = layer.double()(x[1].double())
    assert_is_reference(monitor.compute()[""], torch.cat([first, second]))


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_reduced_precision_of_matrix_products_changes_nothing(precision: str) -> None:
    x = torch.randn(5000, 48) @ torch.randn(48, 48)
    exact = of_batches(nn.Identity(), x)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        reduced = of_batches(nn.Identity(), x)
    finally:
        torch.set_float32_matmul_precision(before)
    assert reduced.effective_rank == pytest.approx(exact.effective_rank, rel=1e-6)
    assert reduced.sd == pytest.approx(exact.sd, rel=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("batch", [0, 1])
def test_one_activation_that_is_not_finite_makes_every_float_nan(value: float, batch: int) -> None:
    batches = [torch.randn(5, 4, 2, 2) for _ in range(2)]
    batches[batch][3, 1, 0, 1] = value
    stats = of_batches(nn.Identity(), *batches, maps=10)
    assert "noise_entropy" in FLOATS
    for name in FLOATS:
        assert math.isnan(getattr(stats, name)), name
    assert list(stats.entropy_quantiles) == list(QUANTILES)
    assert all(math.isnan(quantile) for quantile in stats.entropy_quantiles.values())
    place = (5 * batch + 3, 0, 1)
    for maps in (stats.maps, stats.scale_free_maps):
        assert np.argwhere(np.isnan(maps)).tolist() == [list(place)]
    assert (stats.samples, stats.positions, stats.channels) == (10, 4, 4)


@pytest.mark.parametrize(("value", "dead"), [(math.nan, 1), (math.inf, 1), (-math.inf, 2)])
def test_a_channel_that_is_nan_is_not_dead(value: float, dead: int) -> None:
    x = torch.randn(30, 4)
    x[:, 0] = -x[:, 0].abs()
    x[:, 1] = value
    assert of_batches(nn.Identity(), x).dead_channels == dead


def test_a_single_channel_that_is_not_finite_is_seen_too() -> None:
    for value in (math.nan, math.inf, -math.inf):
        stats = of_batches(nn.Identity(), torch.tensor([[1.0], [value]]))
        assert math.isnan(stats.entropy)
        assert math.isnan(stats.mean)
