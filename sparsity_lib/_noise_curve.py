"""The entropy that independent Gaussian activations have: a null without a fitted parameter."""

import functools
import math
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from sparsity_lib._entropy import exact_float
from sparsity_lib._settings import require

SCALE = 4.0  # the curve is tabulated over u = s/(s + SCALE), in which it is smooth from s = 0 to infinity
STEPS = 2048  # of the table, between which lines are drawn: exact to 1e-5 nats up to a million channels
DEGREE = 47  # of the polynomial in u through which the table is filled


def noise_entropy(sd: Tensor | np.ndarray | float, channels: int) -> Tensor:
    """Expected RFAV entropy of `channels` independent Gaussian activations of standard deviation `sd`.

    A null to compare `rfav_entropy` with: an entropy that noise of the same SD has too shows the scale of
    the activations and nothing else. It falls from ln D at s = 0, at first as ln D - (1 - 1/D) s^2/2, to 0,
    where it is proportional to 1/s. Activations are described by their unbiased variance over the channels,
    s^2 = D/(D - 1) times `variance(activations)`. Our addition to TSR.

    ```python
    null = noise_entropy(1.5, 32)  # nats, of 32 independent activations of SD 1.5
    ```

    Computed by quadrature once for each number of channels, then interpolated; exact to 1e-5 nats (3e-5 in
    float32) up to a million channels.

    **Arguments:**

    - `sd`: the Gaussian's standard deviation s >= 0, of any shape; infinity is allowed.
    - `channels`: D, at least 1.

    **Returns:** nats in [0, ln D], the shape of `sd`; 0 for one channel, NaN where `sd` is. Float64 for
    numbers, integers and float64, else float32; on the device of `sd`.

    **Raises:** `ValueError` for a negative `sd`, and unless `channels` is a whole number of at least 1.
    """
    if not isinstance(sd, Tensor):
        sd = torch.from_numpy(np.array(sd))
    require("channels", channels, Integral, lambda x: x >= 1, "a whole number of at least 1")
    if (sd < 0).any():
        raise ValueError(f"sd must not be negative; its smallest value is {sd.min().item()}")
    sd = sd.to(exact_float(sd) if sd.is_floating_point() else torch.float64)
    return interpolated(noise_curve(channels, sd.dtype, sd.device), sd)


def interpolated(curve: Tensor, sd: Tensor) -> Tensor:
    """Values of a `noise_curve` at standard deviations >= 0 of its dtype, on its device; NaN for NaN."""
    position = STEPS - STEPS * SCALE / (sd.flatten() + SCALE)
    below = position.long().clamp_(0, STEPS - 1)
    left, right = curve.index_select(0, below), curve.index_select(0, below + 1)
    return left.lerp(right, position - below).view(sd.shape)


def noise_curve(channels: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Expected entropies in nats, `(STEPS + 1,)`, at s = SCALE u/(1 - u), u uniform from 0 to 1."""
    return torch.tensor(_curve(channels), dtype=dtype, device=device)


@functools.cache  # of numbers: a tensor may be a fake, or of inference mode
def _curve(channels: int) -> np.ndarray:
    curve: np.ndarray = np.zeros(STEPS + 1)
    if channels > 1:
        nodes = np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))  # Chebyshev's, within (-1, 1)
        exact = _expected_entropy(SCALE * (1 + nodes) / (1 - nodes), channels)
        fit = np.polynomial.chebyshev.chebfit(nodes, exact, DEGREE)
        curve = np.polynomial.chebyshev.chebval(np.linspace(-1, 1, STEPS + 1), fit)
        curve[0], curve[-1] = math.log(channels), 0
    return curve


def _expected_entropy(sd: np.ndarray, channels: int) -> np.ndarray:
    """E H of the softmax of s z_d over D channels, z_d standard normal, by quadrature: `(S,) -> (S,)`.

    With independent Gumbel numbers g_d (mean Euler's gamma, distribution P(g) = exp(-e^-g)), the largest
    s z_d + g_d is that of channel d with probability softmax(s z)_d, and on average the largest is
    ln sum e^(s z) + gamma. So E[g - gamma] at the largest is E[ln sum e^(s z) - sum p s z] = E H. The
    largest, m, of D equal numbers s z + g has the density D Q(m)^(D - 1) q(m), where Q(m) = E P(m - s z)
    over z, and q = Q'. The integral over m is a trapezoid sum, the one over z Gauss and Legendre's, both over
    what is not negligible: |z| < 8, -3.5 < g < ln D + 20.
    """
    s = sd[:, None, None]  # (S, m, z)
    lowest, highest = -3.5, math.log(channels) + 20
    start, stop = lowest - 8 * s, highest + 8 * s
    step = (stop - start) / 160
    m = start + step * np.arange(161)[:, None]
    left, right = np.clip((m - highest) / s, -8, 8), np.clip((m - lowest) / s, -8, 8)
    nodes, weights = np.polynomial.legendre.leggauss(56)
    half = (right - left) / 2
    z = left + half * (1 + nodes)
    g = m - s * z
    of_z = half * weights * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    exp_g = np.exp(-g)
    above = -(of_z * np.expm1(-exp_g)).sum(2, keepdims=True)  # 1 - Q(m)
    above += np.vectorize(math.erfc)(right / math.sqrt(2)) / 2  # where z lies above `right`
    smaller = channels * (1 - above.clip(0, 1)) ** (channels - 1)
    return (step * smaller * of_z * exp_g * np.exp(-exp_g) * (g - np.euler_gamma)).sum((1, 2))
