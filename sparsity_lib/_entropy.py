"""The entropy of softmax(a) over channels with its derivatives: exact, in one pass, optionally compiled."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from sparsity_lib._fusion import fused

Kernel = Callable[[Tensor, Tensor], tuple[Tensor, ...]]

LOWEST = -1e4  # of logits minus their maximum: e^z is 0 from there on, and z e^z is not 0 * infinity


def weighted_entropy(
    activations: Tensor, dim: int, weight: float, compiled: bool, keep: bool = False
) -> Tensor:
    """`weight * rfav_entropy(activations, dim)`, without a pass over the activations for the weight.

    Second derivatives need the activations once more: `keep` holds them for that; otherwise they must be
    alive anyway.
    """
    check_activations(activations, dim)
    vectors = activations.movedim(dim, -1)
    shape = vectors.shape[:-1]
    if transformed():
        return _differentiable_entropy(vectors) * weight
    kernel: Kernel = entropy_and_gradient
    if vectors.is_contiguous():
        vectors = vectors.view(-1, vectors.shape[-1])
        if compiled:
            kernel = fused(entropy_and_gradient, activations.device, scalars=1)
    elif not shape:
        vectors = vectors[None]
    recall = None
    if vectors.requires_grad:
        held = (lambda: activations) if keep else weakref.ref(activations)
        recall = _recalling(held, activations._version, dim, vectors.shape)
    entropy: Tensor = _Entropy.apply(vectors, weight, kernel, recall)
    return entropy.view(shape)


def transformed() -> bool:
    """Whether operations are traced, or transformed by torch.func: a custom rule would lose derivatives."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


class _Entropy(torch.autograd.Function):
    """Weighted entropy over the last axis, `(..., D) -> (...)`; saves its gradient alone."""

    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, weight: float, kernel: Kernel, recall: Callable[[], Tensor] | None
    ) -> Tensor:
        factor = vectors.new_full((), weight, dtype=exact_float(vectors))
        if kernel is entropy_and_gradient:
            entropy, gradient = _in_pieces(vectors, factor)
        else:
            entropy, gradient = kernel(vectors.detach(), factor)  # or it would be compiled a second time
        ctx.save_for_backward(gradient)
        ctx.weight, ctx.recall = weight, recall
        return entropy

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (of_entropy,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            of_entropy = _differentiable_gradient(ctx.recall()) * ctx.weight
        elif is_last_use():
            ctx.recall = None
            if _is_one(gradient):
                return of_entropy, None, None, None
        return of_entropy * gradient.unsqueeze(-1), None, None, None


def _differentiable_entropy(vectors: Tensor) -> Tensor:
    """The entropy over the last axis by operations that can be traced, transformed and differentiated."""
    shifted = _shifted(vectors)
    exp = shifted.exp()
    total = exp.sum(-1)
    smooth = total.log() - (exp * shifted).sum(-1) / total
    return _softmax(shifted.detach())[0].squeeze(-1) + (smooth - smooth.detach())


def _differentiable_gradient(vectors: Tensor) -> Tensor:
    """The gradient of the entropy over the last axis by operations that can be differentiated again."""
    shifted = _shifted(vectors)
    p = shifted.softmax(-1)
    return ((p * shifted).sum(-1, keepdim=True) - shifted) * p


def _shifted(vectors: Tensor) -> Tensor:
    exact = vectors.to(exact_float(vectors))
    return (exact - exact.amax(-1, keepdim=True).detach()).clamp(min=LOWEST)


def _recalling(
    held: Callable[[], Tensor | None], version: int, dim: int, shape: torch.Size
) -> Callable[[], Tensor]:
    """A function that returns the activations as vectors of that shape, unless they are not the same now."""

    def recall() -> Tensor:
        activations = held()
        if activations is None or activations._version != version:
            lost = "freed" if activations is None else "overwritten in place"
            raise RuntimeError(
                f"the second derivative of an entropy needs its activations, which were {lost}: "
                "keep the layer's output, and use no in-place operation on it"
            )
        return activations.movedim(dim, -1).reshape(shape)

    return recall


def _is_one(gradient: Tensor) -> bool:
    """Whether it is known to be 1 everywhere without a wait for the device: that of a sum."""
    if gradient.device.type != "cpu":
        return False
    of_a_sum = gradient.numel() > 0 and not any(gradient.stride())
    try:
        return of_a_sum and gradient.flatten()[0].item() == 1
    except RuntimeError:  # one that stands for others, as under vmap, or for none
        return False


def is_last_use() -> bool:
    """Whether the graph is dropped after this backward pass, so that what it saved can be given away."""
    kept = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)  # older torch has none
    return kept is not None and not kept()


def entropy_and_gradient(vectors: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Entropy of the softmax over the last axis, `(..., D) -> (...)`, and its gradient, `(..., D)`.

    Both are multiplied by `weight`, a scalar. Computed in float32 or float64.
    """
    exact = vectors.to(exact_float(vectors))
    shifted = (exact - exact.amax(-1, keepdim=True)).clamp_(min=LOWEST)
    entropy, mean, exp, share = _softmax(shifted)
    # -p (ln p + H) is p (E[z] - z): nothing cancels where one logit dominates.
    gradient = mean.sub(shifted).mul_(exp).mul_(share.mul_(weight))
    return entropy.squeeze(-1) * weight, gradient.to(_gradient_dtype(vectors))


def _softmax(shifted: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Entropy, E[z] under softmax(z), e^z, and 1 over its sum, of logits z whose maximum is 0.

    With s the sum of e^z without one maximum, H = log1p(s) - sum(z e^z)/(1 + s): two terms >= 0, so that
    nothing cancels where one logit dominates.
    """
    others = shifted.sign()  # 0 at each maximum, else -1: several times faster than a mask
    rest = others.sum(-1, keepdim=True).add_(shifted.shape[-1] - 1)
    exp = shifted.exp()
    others.mul_(exp)
    rest -= others.sum(-1, keepdim=True)
    share = (1 + rest).reciprocal_()
    mean = others.mul_(shifted).sum(-1, keepdim=True).mul_(share).neg_()
    return rest.log1p_().sub_(mean), mean, exp, share


def _in_pieces(vectors: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """`entropy_and_gradient` in pieces that a CPU's cache holds, which is up to twice as fast.

    Elsewhere they bound the memory that is needed in between.
    """
    elements = 2**18 if vectors.device.type == "cpu" else 2**26
    if vectors.numel() <= elements:
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
    """Raise `ValueError` unless the tensor and its channel axis are sound."""
    check_dense("activations", tensor)
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise ValueError(f"dim must be a whole number, not {dim!r}")
    if not -tensor.dim() <= dim < tensor.dim():
        raise ValueError(f"no axis {dim} in activations of shape {tuple(tensor.shape)}")
    if tensor.shape[dim] == 0:
        raise ValueError(f"no channels along axis {dim} of activations of shape {tuple(tensor.shape)}")


def check_dense(name: str, tensor: Tensor) -> None:
    """Raise `ValueError` unless it is a dense tensor of real floating-point numbers of 16 bits or more."""
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} must be a tensor of floating point, not {type(tensor).__name__}")
    if not tensor.is_floating_point() or tensor.element_size() < 2:
        raise ValueError(f"{name} must be of 16- to 64-bit floating point, not {tensor.dtype}")
    if tensor.is_nested or tensor.layout != torch.strided:
        kind = "nested" if tensor.is_nested else str(tensor.layout)
        raise ValueError(f"{name} must be a dense tensor, not {kind}; convert it first")
