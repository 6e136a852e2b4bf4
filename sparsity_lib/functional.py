"""Entropy and sparsity of activations, and correlation of filters, as functions of tensors.

Sources: "Targeted Sparsity Regularization" (TSR, arXiv 2002.09237), "Impact of Activation Sparsity on
Overfitting" (arXiv 2104.06153), OrthoReg (arXiv 1611.01967). Activations are `(N, D, *spatial)`: the D
channels at one position of one sample are its receptive field activation vector (RFAV). Half precision is
computed in float32; float64 stays. Entropies are in nats.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparsity_lib._fusion import fused

__all__ = [
    "CENTERS",
    "PENALTIES",
    "decorrelation",
    "filter_correlation",
    "perplexity",
    "perplexity_sparsity",
    "rfav_entropy",
    "standardize",
    "variance",
]

CENTERS = ("filters", "components", "none")  # T3
PENALTIES = ("signed", "absolute", "squared", "local")  # T4


def rfav_entropy(activations: Tensor, dim: int = 1, *, compiled: bool = False) -> Tensor:
    """The entropy of the softmax over channels, at every position (TSR, Eq. 3 and 4).

    Exact to rounding where one channel dominates, and at any offset. The gradient is the closed form
    -p (ln p + H), computed along with the entropy; nothing of `activations` is kept, so that they may be
    overwritten afterwards (an in-place ReLU). Differentiable once.

    **Arguments:**

    - `activations`: finite, `(N, D, *spatial)`, or any shape with the channels along `dim`.
    - `dim`: the channel axis.
    - `compiled`: fuse the computation by torch.compile, where channels are innermost in memory (dense
        layers; images in `torch.channels_last`). Faster, after some seconds the first time.
        Without a working compiler: a warning, and the same values to rounding.

    **Returns:** nats in [0, ln D], `(N, *spatial)`: the shape without `dim`; float32, or float64 for float64.

    **Raises:** `ValueError` for an axis that is not there or has no channels, or for integers.
    """
    return weighted_entropy(activations, dim, 1.0, compiled)


def weighted_entropy(activations: Tensor, dim: int, weight: float, compiled: bool) -> Tensor:
    """`weight * rfav_entropy(activations, dim)`, without a pass over the activations for the weight."""
    _check(activations, dim)
    vectors = activations.movedim(dim, -1)
    shape = vectors.shape[:-1]
    kernel: Kernel = entropy_and_gradient
    if vectors.is_contiguous():
        vectors = vectors.view(-1, vectors.shape[-1])
        if compiled and not torch.compiler.is_compiling():
            kernel = fused(entropy_and_gradient, activations.device, scalars=1)
    elif not shape:
        vectors = vectors[None]
    entropy: Tensor = _Entropy.apply(vectors, weight, kernel)
    return entropy.view(shape)


def perplexity(entropy: Tensor) -> Tensor:
    """e^H, the effective number of active channels: in [1, D] for an entropy in nats (TSR, Eq. 2)."""
    return entropy.exp()


def perplexity_sparsity(activations: Tensor, dim: int = 1) -> Tensor:
    """1 - (perplexity - 1)/(D - 1): 0 for equal channels, 1 where a single one dominates.

    Our measure for the claims of arXiv 2104.06153, whose own is not in its abstract; it is not the share of
    zeros.

    **Arguments:** as for `rfav_entropy`.

    **Returns:** in [0, 1] to rounding, `(N, *spatial)`.

    **Raises:** `ValueError` as `rfav_entropy`, and for fewer than two channels.
    """
    entropy = rfav_entropy(activations, dim)
    channels = activations.shape[dim]
    if channels < 2:
        raise ValueError(f"perplexity sparsity needs at least 2 channels; axis {dim} has {channels}")
    return 1 - entropy.expm1() / (channels - 1)


def standardize(activations: Tensor, dim: int = 1) -> Tensor:
    """Zero mean and unit population SD over the channels; a constant vector becomes zeros.

    Its entropy is scale-free: it tells sparsity from a mere growth of the activations.

    **Arguments:** as for `rfav_entropy`.

    **Returns:** the shape of `activations`; float32, or float64 for float64.

    **Raises:** `ValueError` as `rfav_entropy`.
    """
    centred = _centred(activations, dim)
    mean_square = centred.square().mean(dim, keepdim=True)
    constant = mean_square == 0
    return centred * mean_square.masked_fill(constant, 1).rsqrt().masked_fill(constant, 0)


def variance(activations: Tensor, dim: int = 1) -> Tensor:
    """The population variance over channels: for small logits H is about ln D - variance/2.

    Like `rfav_entropy` it keeps nothing that an in-place ReLU could overwrite.

    **Arguments:** as for `rfav_entropy`.

    **Returns:** `(N, *spatial)`; float32, or float64 for float64.

    **Raises:** `ValueError` as `rfav_entropy`.
    """
    return _centred(activations, dim).square().mean(dim)


def filter_correlation(weight: Tensor, center: str = "filters") -> Tensor:
    """The correlation of each pair of filters (TSR, Eq. 6).

    **Arguments:**

    - `weight`: `(D, ...)`, one filter per row once flattened.
    - `center`: what is subtracted before normalising (T3): `"filters"`, the mean over filters of each
      component, as printed; `"components"`, each filter's own mean (Pearson); `"none"` (cosine).

    **Returns:** `(D, D)` in [-1, 1] to rounding. A filter that is zero to rounding once centred has no
    direction: its row and column are 0, the diagonal included.

    **Raises:** `ValueError` for an unknown `center`, integers, or a weight without filters.
    """
    units = _unit_filters(weight, center)
    with torch.autocast(units.device.type, enabled=False):
        return units @ units.T


def decorrelation(weight: Tensor, center: str = "filters", penalty: str = "signed") -> Tensor:
    """The decorrelation penalty: over each pair of filters once, a sum of their correlation c (TSR, Eq. 7).

    The signed sum is (|sum of unit filters|^2 - D)/2, at least -D/2, and is computed so: it costs O(D n)
    and forms no D x D matrix.

    **Arguments:**

    - `weight`, `center`: as for `filter_correlation`.
    - `penalty`: of a pair (T4): `"signed"` c, as printed; `"absolute"` |c|; `"squared"` c^2; `"local"`
      ln(1 + exp(10 (c - 1))), OrthoReg's, meant for `center="none"`.

    **Returns:** a scalar; float32, or float64 for float64. Pairs with a filter without direction have c = 0.

    **Raises:** `ValueError` as `filter_correlation`, and for an unknown `penalty`.
    """
    one_of("penalty", penalty, PENALTIES)
    if penalty == "signed":
        units = _unit_filters(weight, center)
        # Both terms are near D even where their difference is near 0; the second is constant in the weight.
        exact = torch.promote_types(units.dtype, exact_dtype(units.device))
        together = units.sum(0, dtype=exact).square().sum()
        alone = torch.linalg.vector_norm(units.detach(), dtype=exact).square()
        return ((together - alone) / 2).to(units.dtype)
    correlation = filter_correlation(weight, center)
    pairs = torch.ones_like(correlation, dtype=torch.bool).tril(-1)
    return _OF_A_PAIR[penalty](correlation[pairs]).sum()


_OF_A_PAIR: dict[str, Callable[[Tensor], Tensor]] = {
    "absolute": torch.abs,
    "squared": torch.square,
    "local": lambda c: F.softplus(10 * (c - 1)),
}


Kernel = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


class _Entropy(torch.autograd.Function):
    """Weighted entropy over the last axis, `(..., D) -> (...)`; saves its gradient alone."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, weight: float, kernel: Kernel) -> Tensor:
        factor = vectors.new_full((), weight, dtype=_exact(vectors))
        if kernel is entropy_and_gradient:
            entropy, gradient = _in_pieces(vectors, factor)
        else:
            entropy, gradient = kernel(vectors.detach(), factor)  # or it would be compiled a second time
        ctx.save_for_backward(gradient)
        return entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (of_entropy,) = ctx.saved_tensors
        if not (_is_one(gradient) and _is_last_use()):
            of_entropy = of_entropy * gradient.unsqueeze(-1)
        return of_entropy, None, None


def _is_one(gradient: Tensor) -> bool:
    """Whether it is known at no cost to be 1 everywhere: that of a sum, where reading it is no wait."""
    if torch.compiler.is_compiling() or gradient.device.type != "cpu":
        return False
    of_a_sum = gradient.numel() > 0 and not any(gradient.stride())
    try:
        return of_a_sum and gradient.flatten()[0].item() == 1
    except RuntimeError:  # one that stands for others, as under vmap, or for none
        return False


def _is_last_use() -> bool:
    """Whether the graph is dropped after this backward pass, so that what it saved can be given away."""
    kept = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)  # older torch has none
    return kept is not None and not kept()


def entropy_and_gradient(vectors: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Entropy of the softmax over the last axis, `(..., D) -> (...)`, and its gradient, `(..., D)`.

    Both are multiplied by `weight`, a scalar. Computed in float32 or float64.
    """
    exact = vectors.to(_exact(vectors))
    shifted = exact - exact.amax(-1, keepdim=True)
    entropy, mean, exp, share = _softmax(shifted)
    # -p (ln p + H) is p (E[z] - z): nothing cancels where one logit dominates.
    gradient = mean.sub(shifted).mul_(exp).mul_(share.mul_(weight))
    return entropy.squeeze(-1) * weight, gradient.to(_gradient_dtype(vectors))


def entropy_of_shifted(shifted: Tensor) -> Tensor:
    """Entropy of the softmax over the last axis, `(..., D) -> (...)`, of logits whose maximum there is 0."""
    return _softmax(shifted)[0].squeeze(-1)


def _softmax(shifted: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Entropy, E[z] under softmax(z), e^z, and 1 over its sum, of logits z whose maximum is 0.

    With s the sum of e^z without one maximum, H = log1p(s) - sum(z e^z)/(1 + s): two terms >= 0, so that
    nothing cancels where one logit dominates.
    """
    top = shifted.sign().add_(1)  # 1 at each maximum, else 0: several times faster than a mask
    exp = shifted.exp()
    rest = top.sum(-1, keepdim=True).sub_(1)
    others = top.sub_(exp)  # -e^z, and 0 at each maximum
    rest -= others.sum(-1, keepdim=True)
    share = (1 + rest).reciprocal_()
    mean = others.mul_(shifted).sum(-1, keepdim=True).mul_(share).neg_()
    return rest.log1p_().sub_(mean), mean, exp, share


def _in_pieces(vectors: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """`entropy_and_gradient` in pieces that a CPU's cache holds, which is up to twice as fast.

    Elsewhere they bound the memory that is needed in between.
    """
    elements = 2**18 if vectors.device.type == "cpu" else 2**26
    if torch.compiler.is_compiling() or vectors.numel() <= elements:
        return entropy_and_gradient(vectors, weight)
    entropy = vectors.new_empty(vectors.shape[:-1], dtype=weight.dtype)
    gradient = torch.empty_like(vectors, dtype=_gradient_dtype(vectors))
    size = max(1, elements // vectors[0].numel())
    pieces = (whole.split(size) for whole in (vectors, entropy, gradient))
    for piece, its_entropy, its_gradient in zip(*pieces, strict=True):
        computed = entropy_and_gradient(piece, weight)
        its_entropy.copy_(computed[0])
        its_gradient.copy_(computed[1])
    return entropy, gradient


def exact_dtype(device: torch.device) -> torch.dtype:
    """What long sums are taken in: float64, which Apple's GPUs lack."""
    return torch.float32 if device.type == "mps" else torch.float64


def one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise `ValueError` unless `value` is known, naming what is."""
    if value not in known:
        raise ValueError(f"unknown {name} {value!r}; choose from {', '.join(known)}")


def _exact(tensor: Tensor) -> torch.dtype:
    """Float64 for float64, else float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _gradient_dtype(vectors: Tensor) -> torch.dtype:
    """Float16's small range does not hold a weighted gradient."""
    return torch.float32 if vectors.dtype == torch.float16 else vectors.dtype


def _check(tensor: Tensor, dim: int) -> None:
    """Raise `ValueError` unless dtype and channel axis are sound."""
    if not tensor.is_floating_point():
        raise ValueError(f"activations must be floating point, not {tensor.dtype}")
    if not -tensor.dim() <= dim < tensor.dim():
        raise ValueError(f"no axis {dim} in activations of shape {tuple(tensor.shape)}")
    if tensor.shape[dim] == 0:
        raise ValueError(f"no channels along axis {dim} of activations of shape {tuple(tensor.shape)}")


def _centred(activations: Tensor, dim: int) -> Tensor:
    _check(activations, dim)
    activations = activations.to(_exact(activations))
    # Less the maximum first: a constant vector becomes exact zeros, and a large offset costs no precision.
    shifted = activations - activations.amax(dim, keepdim=True).detach()
    return shifted - shifted.mean(dim, keepdim=True)


def _unit_filters(weight: Tensor, center: str) -> Tensor:
    """Centred filters scaled to length 1, or 0 where they have no direction, `(D, n)`."""
    one_of("center", center, CENTERS)
    if not weight.is_floating_point():
        raise ValueError(f"weight must be floating point, not {weight.dtype}")
    if weight.dim() < 2 or weight.numel() == 0:
        raise ValueError(f"weight must be (filters, ...); {tuple(weight.shape)} holds no filters")
    filters = weight.to(_exact(weight)).flatten(1)
    centred = filters
    if center == "filters":
        centred = filters - filters.mean(0)
    elif center == "components":
        centred = filters - filters.mean(1, keepdim=True)
    square = centred.square().sum(1)
    # Equal filters leave rounding errors, not exact zeros, when their mean is subtracted.
    rounding = (4 * torch.finfo(filters.dtype).eps) ** 2 * filters.detach().square().sum(1)
    directed = square > rounding
    scale = torch.where(directed, square, 1).rsqrt() * directed
    return centred * scale[:, None]
