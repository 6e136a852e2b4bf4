"""The numbers in LayerStats, on activations made for the purpose."""

import math

import numpy as np
import pytest
import torch
from reference import QUANTILES, assert_is_reference, of_batches
from torch import nn

import sparsity_lib as sl
from sparsity_lib import functional as f


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_large_outputs_are_taken_in_pieces(memory_format: torch.memory_format) -> None:
    conv, x = nn.Conv2d(3, 40, 1), torch.randn(50, 3, 17, 16).to(memory_format=memory_format)
    assert conv(x).numel() > 2 * 2**18
    stats = of_batches(conv, x, maps=37)
    assert_is_reference(stats, conv(x))
    torch.testing.assert_close(torch.from_numpy(stats.maps), f.rfav_entropy(conv(x))[:37].detach())


@pytest.mark.parametrize("offset", [1e3, -1e4])
def test_a_large_offset_costs_no_precision(offset: float) -> None:
    x = offset + torch.randn(200, 8, 4)
    assert_is_reference(of_batches(nn.Identity(), x[:90], x[90:], dim=1), x)


def test_dead_channels_are_those_never_above_zero_in_any_batch() -> None:
    x = torch.tensor([[0.0, 1.0, -1.0, -2.0], [0.0, -1.0, 1e-30, -2.0]])
    assert of_batches(nn.Identity(), x).dead_channels == 2
    assert of_batches(nn.Identity(), x[:1], x[1:]).dead_channels == 2


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4 / 3])
def test_constant_activations_are_well_defined(value: float) -> None:
    stats = of_batches(nn.Identity(), torch.full((7, 27), value), torch.full((70, 27), value))
    assert stats.effective_rank == 0.0
    assert stats.sd == pytest.approx(0.0, abs=1e-6 * value)
    assert stats.mean == pytest.approx(value)
    assert stats.entropy == pytest.approx(math.log(27))
    assert stats.noise_entropy == pytest.approx(math.log(27))
    assert stats.scale_free_entropy == pytest.approx(math.log(27))
    assert stats.perplexity_sparsity == pytest.approx(0.0, abs=1e-6)


def test_one_channel_has_no_perplexity_sparsity_and_no_noise() -> None:
    stats = of_batches(nn.Linear(3, 1), torch.randn(5, 3))
    assert math.isnan(stats.perplexity_sparsity)
    assert math.isnan(stats.noise_entropy)
    assert stats.entropy == 0.0
    assert stats.entropy_quantiles == dict.fromkeys(QUANTILES, 0.0)


def test_maps_of_float64_activations_are_float32_and_read_only_where_they_are_wanted() -> None:
    layer, x = nn.Conv2d(1, 3, 3).double(), torch.randn(2, 1, 9, 9, dtype=torch.float64)
    assert of_batches(layer, x, maps=2).maps.dtype == np.float32
    with sl.ActivationMonitor(layer, [layer], maps=4) as monitor:
        layer(x)
        layer(x[..., 1:])
    assert monitor.scalars()["entropy/"] == monitor.to_dataframe().loc["", "entropy"] > 0
