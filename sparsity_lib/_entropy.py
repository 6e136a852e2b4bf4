"""The entropy of softmax(a) over channels with its gradient: exact, in one pass, optionally compiled."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparsity_lib._fusion import fused

Kernel = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


def weighted_entropy(activations: Tensor, dim: int, weight: float, compiled: bool) -> Tensor:
    """`weight * rfav_entropy(activations, dim)`, without a pass over the activations for the weight."""
    check_activations(activations, dim)
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


class _Entropy(torch.autograd.Function):
    """Weighted entropy over the last axis, `(..., D) -> (...)`; saves its gradient alone."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, weight: float, kernel: Kernel) -> Tensor:
        factor = vectors.new_full((), weight, dtype=exact_float(vectors))
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
    exact = vectors.to(exact_float(vectors))
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


def exact_float(tensor: Tensor) -> torch.dtype:
    """Float64 for float64, else float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _gradient_dtype(vectors: Tensor) -> torch.dtype:
    """Float16's small range does not hold a weighted gradient."""
    return torch.float32 if vectors.dtype == torch.float16 else vectors.dtype


def check_activations(tensor: Tensor, dim: int) -> None:
    """Raise `ValueError` unless dtype and channel axis are sound."""
    if not tensor.is_floating_point():
        raise ValueError(f"activations must be floating point, not {tensor.dtype}")
    if not -tensor.dim() <= dim < tensor.dim():
        raise ValueError(f"no axis {dim} in activations of shape {tuple(tensor.shape)}")
    if tensor.shape[dim] == 0:
        raise ValueError(f"no channels along axis {dim} of activations of shape {tuple(tensor.shape)}")
