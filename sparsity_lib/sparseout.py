"""Sparseout: dropout whose noise grows with a chosen power of the activation (arXiv 1904.08050)."""

import math
from numbers import Real
from typing import Any, Literal, get_args

import torch
import torch.fx
import torch.nn.functional as F
import torch.overrides
from torch import Tensor, nn

from sparsity_lib._entropy import check_dense, exact_float, transformed
from sparsity_lib._settings import one_of, require

__all__ = ["Sparseout", "sparseout"]

Gradient = Literal["exact", "reused"]
GRADIENTS: tuple[Gradient, ...] = get_args(Gradient)  # torch.compile before 2.5 does not trace `get_args`
_ROOTS = {0.5: 1, 0.25: 2}  # how many square roots in a row an exponent is


def sparseout(
    input: Tensor, p: float = 0.5, training: bool = True, *, q: float = 2.0, gradient: Gradient = "exact"
) -> Tensor:
    """In training, a + sign(a) |a|^(q/2) e of each activation a (arXiv 1904.08050); otherwise `input` itself.

    The noise e is p/(1 - p) with probability 1 - p, else -1: the mean of the result is a, its variance
    |a|^q p/(1 - p). `q=2` is torch's dropout, with its random numbers; q below 2 favours sparser
    activations, q above 2 denser ones.

    ```python
    noisy = sparseout(torch.randn(4, 8).relu(), 0.25, q=1.0)
    ```

    For the backward pass `input` is kept, which a ReLU before it keeps anyway, and a byte per activation.

    **Arguments:**

    - `input`: floating point, of any shape and sign; usually what a ReLU returns.
    - `p`: the probability of e = -1, in [0, 1); at 0 there is no noise.
    - `training`: whether there is noise at all.
    - `q`: at least 0.
    - `gradient`: `"exact"`, the derivative 1 + q/2 |a|^((q-2)/2) e; `"reused"`, as in the authors' code,
        the factor 1 + |a|^((q-2)/2) e of the forward pass. With q < 2 both grow without bound towards a = 0
        (but the exact one of q = 0, which is 1); 0 is taken there, as ReLU does. With `q=2` both are
        dropout's. Higher derivatives are those of the chosen one.

    **Returns:** the shape, dtype and memory format of `input`; half precision is computed in float32.

    **Raises:** `ValueError` for a `p` or `q` out of range, a `training` that is not a bool, an unknown
    `gradient`, and for anything but a dense tensor of 16- to 64-bit floats.
    """
    if torch.overrides.has_torch_function_unary(input):  # as in torch's dropout: torch.fx records the call
        return torch.overrides.handle_torch_function(
            sparseout, (input,), input, p, training, q=q, gradient=gradient
        )
    _check(p, q, gradient)
    if not isinstance(training, bool):
        raise ValueError(f"training must be True or False, not {training!r}")
    check_dense("input", input)
    if not training or p == 0:
        return input
    if q == 2:
        return F.dropout(input, p)
    # In float32 at least: the coarse random numbers of half precision would miss p.
    kept = torch.rand_like(input, dtype=exact_float(input)) < 1 - p
    return with_mask(input, kept, p, q, gradient)


def with_mask(input: Tensor, kept: Tensor, p: float, q: float, gradient: str) -> Tensor:
    """`sparseout` where e is p/(1 - p) if `kept`, a boolean tensor like `input`, else -1."""
    exact = gradient == "exact"
    if transformed():
        return _differentiable(input, kept, float(p), float(q), exact)
    output: Tensor = _Sparseout.apply(input, kept, p, q, exact)
    return output


class Sparseout(nn.Module):
    """`sparseout` as a layer, to stand after a ReLU: noise in training mode, else nothing.

    Each activation a becomes a + sign(a) |a|^(q/2) e, with e = p/(1 - p) with probability 1 - p, else -1
    (arXiv 1904.08050). Traced, scripted, exported and compiled as `nn.Dropout`.

    ```python
    block = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), Sparseout(0.25, q=1.0))
    ```
    """

    def __init__(self, p: float = 0.5, q: float = 2.0, gradient: Gradient = "exact") -> None:
        """**Arguments:**

        - `p`: the probability of e = -1, in [0, 1).
        - `q`: at least 0; 2 is dropout, and below 2 favours sparser activations.
        - `gradient`: `"exact"`, or `"reused"` as in the authors' code; see `functional.sparseout`.

        **Raises:** `ValueError` for a setting out of its range; the forward pass, for anything but a dense
        tensor of 16- to 64-bit floats.
        """
        _check(p, q, gradient)
        super().__init__()
        self.p = float(p)
        self.q = float(q)
        self.gradient = gradient

    def forward(self, input: Tensor) -> Tensor:
        """The activations with noise, shaped as `input`."""
        if torch.jit.is_scripting():
            if not self.training or self.p == 0:
                return input
            if self.q == 2:
                return F.dropout(input, self.p)
            kept = torch.rand_like(input, dtype=torch.float32) < 1 - self.p
            return _differentiable(input, kept, self.p, self.q, self.gradient == "exact")
        if isinstance(input, torch.fx.Proxy):  # a call of this layer, which heeds train() and eval()
            path = input.tracer.path_of_module(self)
            return input.tracer.create_proxy("call_module", path, (input,), {})
        return sparseout(input, self.p, self.training, q=self.q, gradient=self.gradient)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"p={self.p}, q={self.q}, gradient={self.gradient!r}"


class _Sparseout(torch.autograd.Function):
    """The input times a factor; saves the input and the mask, and works out the factor again."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, kept: Tensor, p: float, q: float, exact: bool) -> Tensor:
        ctx.save_for_backward(input, kept)
        ctx.settings = p, q, exact
        return _factor(input, kept, p, q, 1.0).mul_(input).to(input.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        input, kept = ctx.saved_tensors
        p, q, exact = ctx.settings
        if torch.is_grad_enabled():
            output = _differentiable(input, kept, p, q, exact)
            (of_input,) = torch.autograd.grad(output, input, gradient, create_graph=True)
            return of_input, None, None, None, None
        factor = _factor(input, kept, p, q, q / 2 if exact else 1.0)
        if q < 2:
            factor.mul_(input.sign().abs_())  # 0 at 0, else 1: several times faster than a mask
        if torch._C._functorch.is_legacy_batchedtensor(gradient):
            return (factor * gradient).to(gradient.dtype), None, None, None, None  # it does not fit in place
        return factor.mul_(gradient).to(gradient.dtype), None, None, None, None


def _differentiable(input: Tensor, kept: Tensor, p: float, q: float, exact: bool) -> Tensor:
    """`with_mask` by operations that can be scripted, traced, transformed, and differentiated again."""
    a = input if input.dtype == torch.float64 else input.float()
    zero = a.abs() < 2e-38  # where no power of it is sure to be finite
    safe = a.masked_fill(zero, 1.0)
    noise = kept.to(a.dtype) / (1 - p) - 1
    power = safe.sign() * safe.abs() ** (q / 2)
    output = a + (power * noise).masked_fill(zero, 0.0)
    if not exact:  # its derivative is the factor
        integral = safe.abs().log() * safe.sign() if q == 0 else power * (2 / q)
        slope = a + (integral * noise).masked_fill(zero, 0.0)
        output = output.detach() + (slope - slope.detach())
    if q < 2:
        output = output.masked_fill(zero, 0.0)
    return output.to(input.dtype)


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
    one_of("gradient", gradient, GRADIENTS)
