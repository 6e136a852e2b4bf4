"""The entropy of independent Gaussian activations: values, limits, shapes, refusals."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from sparsity_lib import functional as f
from sparsity_lib._noise_curve import interpolated, noise_curve

CHANNELS = (2, 3, 32, 1024, 65_536)


@pytest.mark.parametrize(
    ("channels", "samples"), [(2, 100_000), (3, 100_000), (32, 30_000), (500, 4000), (65_536, 50)]
)
@pytest.mark.parametrize("sd", [0.3, 1.0, 3.0, 10.0, 100.0])
def test_noise_entropy_is_the_mean_entropy_of_gaussian_numbers(
    sd: float, channels: int, samples: int
) -> None:
    entropy = f.rfav_entropy(sd * torch.randn(samples, channels)).double()
    error = entropy.std().item() / math.sqrt(samples)
    assert f.noise_entropy(sd, channels).item() == pytest.approx(entropy.mean().item(), abs=4 * error + 1e-4)


@pytest.mark.parametrize("sd", [0.01, 1.0, 5.0, 1e3])
def test_noise_entropy_of_two_channels_is_an_integral(sd: float) -> None:
    difference = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    entropy = f.rfav_entropy(torch.stack([math.sqrt(2) * sd * difference, 0 * difference], 1))
    mean = torch.trapezoid(entropy * (-(difference**2) / 2).exp(), difference) / math.sqrt(2 * math.pi)
    assert f.noise_entropy(sd, 2).item() == pytest.approx(mean.item(), abs=2e-5)


@pytest.mark.parametrize("channels", CHANNELS)
def test_noise_entropy_falls_from_ln_d_to_0(channels: int) -> None:
    sd = torch.cat([torch.linspace(0, 30, 5001), torch.logspace(1.5, 12, 200), torch.tensor([math.inf])])
    entropy = f.noise_entropy(sd.double(), channels)
    assert entropy[0] == math.log(channels)
    assert entropy[-1] == 0
    assert (entropy.diff() < 0).all()


@pytest.mark.parametrize("channels", CHANNELS)
def test_small_activations_lose_half_their_variance(channels: int) -> None:
    sd = torch.linspace(0, 0.1, 50, dtype=torch.float64)
    lost = math.log(channels) - f.noise_entropy(sd, channels)
    # Of D channels one degree of freedom goes to their mean, which entropy ignores.
    torch.testing.assert_close(lost, sd**2 / 2 * (1 - 1 / channels), atol=5e-5, rtol=0)


def test_shape_dtype_and_device_are_those_of_sd() -> None:
    for dtype, expected in {
        torch.float64: torch.float64,
        torch.float32: torch.float32,
        torch.float16: torch.float32,
        torch.int64: torch.float64,
    }.items():
        sd = torch.ones(2, 0, 3, dtype=dtype)
        assert (f.noise_entropy(sd, 8).shape, f.noise_entropy(sd, 8).dtype) == (sd.shape, expected)
    meta = torch.ones(3, device="meta")
    assert interpolated(noise_curve(8, meta.dtype, meta.device), meta).device == meta.device
    frozen = np.broadcast_to(np.float64(2.0), (4, 5))
    expected = torch.full((4, 5), f.noise_entropy(2, 8).item(), dtype=torch.float64)
    torch.testing.assert_close(f.noise_entropy(frozen, 8), expected, atol=0, rtol=0)
    assert f.noise_entropy(2.0, 8).shape == ()


@pytest.mark.parametrize("channels", CHANNELS)
def test_float32_is_close_to_float64(channels: int) -> None:
    sd = 10 ** torch.linspace(-4, 6, 10_000, dtype=torch.float64)
    single = f.noise_entropy(sd.float(), channels).double()
    torch.testing.assert_close(single, f.noise_entropy(sd, channels), atol=3e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 2, 32])
def test_nan_stays_nan(channels: int) -> None:
    entropy = f.noise_entropy(torch.tensor([1.0, math.nan]), channels)
    assert entropy.isnan().tolist() == [False, True]


def test_one_channel_has_no_noise_entropy() -> None:
    assert f.noise_entropy(torch.tensor([0.0, 1.0, math.inf]), 1).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("mode", "channels"), [(torch.inference_mode, 77), (FakeTensorMode, 78)])
def test_noise_entropy_has_gradients_after_other_modes(
    mode: Callable[[], AbstractContextManager[Any]], channels: int
) -> None:
    with mode():
        f.noise_entropy(torch.tensor(1.0), channels)
    sd: Tensor = torch.tensor([0.5, 3.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(f.noise_entropy(sd, channels).sum(), sd)
    assert (gradient < 0).all()


@pytest.mark.parametrize(
    ("sd", "channels", "message"),
    [(-1.0, 8, "-1.0"), (torch.tensor([1, -2]), 8, "-2"), (1.0, 0, "not 0"), (1.0, 2.5, "not 2.5")],
)
def test_bad_input_is_refused(sd: Tensor | float, channels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        f.noise_entropy(sd, channels)
