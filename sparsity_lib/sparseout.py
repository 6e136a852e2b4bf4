"""Sparseout: dropout whose noise grows with a chosen power of the activation (arXiv 1904.08050)."""

import math
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sparsity_lib._entropy import exact_float
from sparsity_lib._settings import require

__all__ = ["Sparseout", "sparseout"]

_GRADIENTS = ("exact", "reused")
_ROOTS = {0.5: 1, 0.25: 2}  # how many square roots in a row an exponent is


def sparseout(
    input: Tensor, p: float = 0.5, q: float = 2.0, training: bool = False, gradient: str = "exact"
) -> Tensor:
    """In training, a + sign(a) |a|^(q/2) e of each activation a; otherwise `input` itself.

    The noise e is p/(1 - p) with probability 1 - p, else -1: the mean of the result is a, its variance
    |a|^q p/(1 - p). `q=2` is torch's dropout, with its random numbers; q below 2 favours sparser
    activations, q above 2 denser ones.

    For the backward pass `input` is kept, which a ReLU before it keeps anyway, and a byte per activation.
    Differentiable once.

    **Arguments:**

    - `input`: floating point, of any shape and sign; usually what a ReLU returns.
    - `p`: the probability of e = -1, in [0, 1); at 0 there is no noise.
    - `q`: at least 0.
    - `training`: whether there is noise at all.
    - `gradient`: `"exact"`, the derivative 1 + q/2 |a|^((q-2)/2) e; `"reused"`, as in the authors' code,
        the factor 1 + |a|^((q-2)/2) e of the forward pass. With q < 2 both grow without bound towards a = 0
        (but the exact one of q = 0, which is 1); 0 is taken there, as ReLU does. With `q=2` both are
        dropout's.

    **Returns:** the shape, dtype and memory format of `input`; half precision is computed in float32.

    **Raises:** `ValueError` for a `p` or `q` out of range, an unknown `gradient`, or an integer `input`.
    """
    _check(p, q, gradient)
    if not (isinstance(input, Tensor) and input.is_floating_point()):
        raise ValueError(f"input must be floating point, not {getattr(input, 'dtype', type(input).__name__)}")
    if not training or p == 0:
        return input
    if q == 2:
        return F.dropout(input, p)
    # In float32 at least: the coarse random numbers of half precision would miss p.
    kept = torch.rand_like(input, dtype=exact_float(input)) < 1 - p
    return with_mask(input, kept, p, q, gradient)


def with_mask(input: Tensor, kept: Tensor, p: float, q: float, gradient: str) -> Tensor:
    """`sparseout` where e is p/(1 - p) if `kept`, a boolean tensor like `input`, else -1."""
    slope = q / 2 if gradient == "exact" else 1.0
    output: Tensor = _Sparseout.apply(input, kept, p, q, slope)
    return output


class Sparseout(nn.Module):
    """`sparseout` as a layer, to stand after a ReLU: noise in training mode, else nothing."""

    def __init__(self, p: float = 0.5, q: float = 2.0, gradient: str = "exact") -> None:
        """**Arguments:** as for `sparseout`.

        **Raises:** `ValueError` as `sparseout`.
        """
        _check(p, q, gradient)
        super().__init__()
        self.p = p
        self.q = q
        self.gradient = gradient

    def forward(self, input: Tensor) -> Tensor:
        """The activations with noise, shaped as `input`."""
        return sparseout(input, self.p, self.q, self.training, self.gradient)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"p={self.p}, q={self.q}, gradient={self.gradient!r}"


class _Sparseout(torch.autograd.Function):
    """The input times a factor; saves the input and the mask, and works out the factor again."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, kept: Tensor, p: float, q: float, slope: float) -> Tensor:
        ctx.save_for_backward(input, kept)
        ctx.settings = p, q, slope
        return _factor(input, kept, p, q, 1.0).mul_(input).to(input.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        input, kept = ctx.saved_tensors
        p, q, slope = ctx.settings
        factor = _factor(input, kept, p, q, slope)
        if q < 2:
            factor.mul_(input.sign().abs_())  # 0 at 0, else 1: several times faster than a mask
        return factor.mul_(gradient).to(gradient.dtype), None, None, None, None


def _factor(input: Tensor, kept: Tensor, p: float, q: float, slope: float) -> Tensor:
    """1 + slope |a|^((q-2)/2) e, like `input` in float32 or float64; finite also at a = 0."""
    magnitude = input.to(exact_float(input)).abs()
    if q < 2:  # so far from 0 that no power of it overflows, not even times e
        magnitude.clamp_(min=torch.finfo(magnitude.dtype).tiny / (1 - p))
    noise = kept.to(magnitude.dtype).sub_(1 - p)  # (1 - p) e
    return torch.addcmul(noise.new_ones(()), _power(magnitude, (q - 2) / 2), noise, value=slope / (1 - p))


def _power(base: Tensor, exponent: float) -> Tensor:
    """The base to that power, in place; roots by rsqrt, several times faster on a CPU than pow."""
    roots = _ROOTS.get(abs(exponent))
    if roots is None:
        return base.pow_(exponent)
    for _ in range(roots):
        base.rsqrt_()
    of_rsqrt = (-0.5) ** roots
    return base if exponent == of_rsqrt else base.reciprocal_()


def _check(p: float, q: float, gradient: str) -> None:
    require("p", p, Real, lambda x: 0 <= x < 1, "in [0, 1)")
    require("q", q, Real, lambda x: 0 <= x < math.inf, "finite and at least 0")
    if gradient not in _GRADIENTS:
        raise ValueError(f"unknown gradient {gradient!r}; choose from {', '.join(_GRADIENTS)}")
