"""Entropy and sparsity of activations, correlation of filters, and Sparseout, as functions of tensors.

Sources: "Targeted Sparsity Regularization" (TSR, arXiv 2002.09237), "Impact of Activation Sparsity on
Overfitting" (arXiv 2104.06153), OrthoReg (arXiv 1611.01967), Sparseout (arXiv 1904.08050). Activations are
`(N, D, *spatial)`: the D channels at one position of one sample are its receptive field activation vector
(RFAV). Half precision is computed in float32; float64 stays. Entropies are in nats.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsity_lib._entropy import check_activations, check_dense, exact_float, transformed, weighted_entropy
from sparsity_lib._filters import (
    Center,
    Product,
    SumOfPairs,
    checked_filters,
    magnitude,
    sum_of_pairs,
    units,
    without_autocast,
)
from sparsity_lib._noise_curve import noise_entropy
from sparsity_lib._settings import one_of
from sparsity_lib.sparseout import sparseout

__all__ = [
    "CENTERS",
    "PENALTIES",
    "decorrelation",
    "filter_correlation",
    "noise_entropy",
    "perplexity",
    "perplexity_sparsity",
    "rfav_entropy",
    "sparseout",
    "standardize",
    "variance",
]

OfPair = Literal["signed", "absolute", "squared", "local"]  # T4
#: What can be subtracted from filters before they are correlated (T3).
CENTERS: tuple[Center, ...] = get_args(Center)
#: What can be summed of pairs' correlations (T4).
PENALTIES: tuple[OfPair, ...] = get_args(OfPair)

LARGE = 2**16  # elements of filters from which on memory, not calls, takes a penalty's time


def rfav_entropy(activations: Tensor, dim: int = 1, *, compiled: bool = False) -> Tensor:
    """The entropy of the softmax over channels, at every position (TSR, Eq. 3 and 4).

    ```python
    entropy = rfav_entropy(torch.zeros(2, 8, 5, 5))  # (2, 5, 5), ln 8 everywhere
    ```

    Exact to rounding where one channel dominates, at any offset, and up to the largest finite activations.
    The gradient is the closed form -p (ln p + H), computed along with the entropy, so that the activations
    may be overwritten afterwards (an in-place ReLU). Higher derivatives and torch.func work too; for those
    the activations are held, not copied, until the backward pass, and must not be overwritten.

    **Arguments:**

    - `activations`: finite, `(N, D, *spatial)`, or any shape with the channels along `dim`.
    - `dim`: the channel axis.
    - `compiled`: fuse the computation by torch.compile, where channels are innermost in memory (dense
        layers; images in `torch.channels_last`). Faster, after some seconds the first time.
        Without a working compiler: a warning, and the same values to rounding.

    **Returns:** nats in [0, ln D], `(N, *spatial)`: the shape without `dim`; float32, or float64 for float64.

    **Raises:** `ValueError` for an axis that is not there or has no channels, and for anything but a dense
    tensor of 16- to 64-bit floats; the backward pass `RuntimeError` for the second derivative at activations
    that were overwritten.
    """
    return weighted_entropy(activations, dim, 1.0, compiled, keep=True)


def perplexity(entropy: Tensor) -> Tensor:
    """e^H, the effective number of active channels: in [1, D] for an entropy in nats (TSR, Eq. 2).

    ```python
    channels = perplexity(rfav_entropy(torch.zeros(2, 8)))  # (2,), 8 of 8 channels
    ```

    **Arguments:**

    - `entropy`: in nats, of any shape.

    **Returns:** the shape and dtype of `entropy`.

    **Raises:** `ValueError` for anything but a dense tensor of 16- to 64-bit floats.
    """
    check_dense("entropy", entropy)
    return entropy.exp()


def perplexity_sparsity(activations: Tensor, dim: int = 1) -> Tensor:
    """1 - (perplexity - 1)/(D - 1): 0 for equal channels, 1 where a single one dominates.

    Our measure for the claims of arXiv 2104.06153, whose own is not in its abstract; it is not the share of
    zeros.

    ```python
    sparsity = perplexity_sparsity(torch.zeros(2, 8, 5, 5))  # (2, 5, 5), 0 everywhere
    ```

    **Arguments:**

    - `activations`: finite, `(N, D, *spatial)`, or any shape with the channels along `dim`.
    - `dim`: the channel axis.

    **Returns:** in [0, 1] to rounding, `(N, *spatial)`: the shape without `dim`; float32, or float64 for
    float64.

    **Raises:** `ValueError` for an axis that is not there or has no channels or only one, and for anything
    but a dense tensor of 16- to 64-bit floats.
    """
    entropy = rfav_entropy(activations, dim)
    channels = activations.shape[dim]
    if channels < 2:
        raise ValueError(f"perplexity sparsity needs at least 2 channels; axis {dim} has {channels}")
    return 1 - entropy.expm1() / (channels - 1)


def standardize(activations: Tensor, dim: int = 1) -> Tensor:
    """Zero mean and unit population SD over the channels; a constant vector becomes zeros.

    The entropy of the result is scale-free: it does not change if all activations are multiplied by the same
    positive number. Any finite activations are standardised exactly, from the type's smallest to its largest.
    Our addition to TSR.

    ```python
    scale_free_entropy = rfav_entropy(standardize(10 * torch.randn(2, 8, 5, 5)))  # (2, 5, 5)
    ```

    **Arguments:**

    - `activations`: finite, `(N, D, *spatial)`, or any shape with the channels along `dim`.
    - `dim`: the channel axis.

    **Returns:** the shape of `activations`; float32, or float64 for float64.

    **Raises:** `ValueError` for an axis that is not there or has no channels, and for anything but a dense
    tensor of 16- to 64-bit floats.
    """
    check_activations(activations, dim)
    exact = activations.to(exact_float(activations))
    centred = _centred(exact / magnitude(exact, dim), dim)
    mean_square = centred.square().mean(dim, keepdim=True)
    constant = mean_square == 0
    return centred * mean_square.masked_fill(constant, 1).rsqrt().masked_fill(constant, 0)


def variance(activations: Tensor, dim: int = 1) -> Tensor:
    """The population variance over channels: for small logits H is about ln D - variance/2.

    The activations may be overwritten afterwards, as by an in-place ReLU. Our addition to TSR.

    ```python
    of_channels = variance(torch.randn(2, 8, 5, 5))  # (2, 5, 5), 7/8 on average
    ```

    **Arguments:**

    - `activations`: finite, `(N, D, *spatial)`, or any shape with the channels along `dim`.
    - `dim`: the channel axis.

    **Returns:** `(N, *spatial)`: the shape without `dim`; float32, or float64 for float64.

    **Raises:** `ValueError` for an axis that is not there or has no channels, and for anything but a dense
    tensor of 16- to 64-bit floats.
    """
    check_activations(activations, dim)
    return _centred(activations.to(exact_float(activations)), dim).square().mean(dim)


def filter_correlation(weight: Tensor, center: Center = "filters") -> Tensor:
    """The correlation of each pair of filters (TSR, Eq. 6).

    ```python
    correlation = filter_correlation(nn.Conv2d(3, 16, 3).weight)  # (16, 16)
    ```

    **Arguments:**

    - `weight`: `(D, ...)`, one filter per row once flattened.
    - `center`: what is subtracted before normalising (T3): `"filters"`, the mean over filters of each
      component, as printed; `"components"`, each filter's own mean (Pearson); `"none"` (cosine).

    **Returns:** `(D, D)` in [-1, 1] to rounding. A filter that is zero to rounding once centred has no
    direction: its row and column are 0, the diagonal included.

    **Raises:** `ValueError` for an unknown `center`, integers, or a weight without filters.
    """
    directions = units(checked_filters(weight, center), center)
    if transformed():
        with without_autocast(directions.device):
            return directions @ directions.T
    correlation: Tensor = Product.apply(directions, directions.T)
    return correlation


def decorrelation(weight: Tensor, center: Center = "filters", penalty: OfPair = "signed") -> Tensor:
    """The decorrelation penalty: over each pair of filters once, a sum of their correlation c (TSR, Eq. 7).

    The signed sum is (|sum of unit filters|^2 - D)/2, at least -D/2, and is computed so: it costs O(D n)
    and forms no D x D matrix.

    ```python
    penalty = decorrelation(nn.Conv2d(3, 16, 3).weight)  # a scalar of at least -8
    ```

    **Arguments:**

    - `weight`: `(D, ...)`, one filter per row once flattened.
    - `center`: what is subtracted before normalising (T3): `"filters"`, the mean over filters of each
      component, as printed; `"components"`, each filter's own mean (Pearson); `"none"` (cosine).
    - `penalty`: of a pair (T4): `"signed"` c, as printed; `"absolute"` |c|; `"squared"` c^2; `"local"`
      ln(1 + exp(10 (c - 1))), OrthoReg's, meant for `center="none"`.

    **Returns:** a scalar; float32, or float64 for float64. Pairs with a filter without direction have c = 0.

    **Raises:** `ValueError` for an unknown `center` or `penalty`, integers, or a weight without filters.
    """
    one_of("penalty", penalty, PENALTIES)
    if penalty == "signed":
        filters = checked_filters(weight, center)
        if filters.numel() < LARGE or transformed():
            return sum_of_pairs(units(filters, center))
        value: Tensor = SumOfPairs.apply(weight.to(filters.dtype), center)
        return value
    correlation = filter_correlation(weight, center)
    one, other = torch.tril_indices(len(correlation), len(correlation), -1, device=correlation.device)
    return _OF_A_PAIR[penalty](correlation[one, other]).sum()


_OF_A_PAIR: dict[str, Callable[[Tensor], Tensor]] = {
    "absolute": torch.abs,
    "squared": torch.square,
    "local": lambda c: F.softplus(10 * (c - 1)),
}


def _centred(activations: Tensor, dim: int) -> Tensor:
    # Less the maximum first: a constant vector becomes exact zeros, and a large offset costs no precision.
    shifted = activations - activations.amax(dim, keepdim=True).detach()
    return shifted - shifted.mean(dim, keepdim=True)
