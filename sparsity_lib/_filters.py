"""Filters of a weight as unit vectors, and the sum of the products of their pairs."""

import contextlib
import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sparsity_lib._entropy import check_dense, exact_float
from sparsity_lib._settings import one_of

Center = Literal["filters", "components", "none"]  # T3


def checked_filters(weight: Tensor, center: Center) -> Tensor:
    """Checked, one per row, in float32 or float64, `(D, n)`."""
    one_of("center", center, get_args(Center))
    check_dense("weight", weight)
    if weight.dim() < 2 or weight.numel() == 0:
        raise ValueError(f"weight must be (filters, ...); {tuple(weight.shape)} holds no filters")
    return weight.to(exact_float(weight)).flatten(1)


def units(filters: Tensor, center: Center) -> Tensor:
    """Centred filters scaled to length 1, or 0 where they have no direction, `(D, n)`."""
    filters = filters / magnitude(filters, (0, 1) if center == "filters" else 1)
    centred = filters
    if center == "filters":
        centred = filters - filters.mean(0)
    elif center == "components":
        centred = filters - filters.mean(1, keepdim=True)
    scale = magnitude(centred, 1)
    centred = centred / scale
    square = centred.square().sum(1)
    # Equal filters leave rounding errors, not exact zeros, when their mean is subtracted.
    rounding = (4 * torch.finfo(filters.dtype).eps) ** 2 * (filters.detach() / scale).square().sum(1)
    directed = square > rounding
    factor = torch.where(directed, square, 1).rsqrt() * directed
    return centred * factor[:, None]


def magnitude(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """The power of two next to the largest magnitude along axes that are kept."""
    return power_of_two(largest(x.detach(), dim))


def largest(x: Tensor, dim: int | tuple[int, ...] = ()) -> Tensor:
    """The largest magnitude along axes that are kept, or of all: vector_norm takes ten times as long."""
    return torch.maximum(x.amax(dim, keepdim=dim != ()), -x.amin(dim, keepdim=dim != ()))


def power_of_two(largest: Tensor) -> Tensor:
    """The power of two next to each magnitude, by which one divides without rounding.

    It is 1 for magnitudes whose squares are far from the type's limits.
    """
    most = -math.log2(torch.finfo(largest.dtype).tiny)
    exponent = largest.log2().round().clamp(-most, most)
    return exponent.masked_fill(exponent.abs() < 20, 0).exp2()


def sum_of_pairs(units: Tensor) -> Tensor:
    """The sum of the products of each pair of unit filters, `(D, n)`."""
    # Both terms are near D even where their difference is near 0; the second is constant in the weight.
    exact = torch.promote_types(units.dtype, exact_dtype(units.device))
    together = units.sum(0, dtype=exact).square().sum()
    alone = torch.linalg.vector_norm(units.detach(), dtype=exact).square()
    return ((together - alone) / 2).to(units.dtype)


class SumOfPairs(torch.autograd.Function):
    """`sum_of_pairs` of a large weight's filters, which are centred once more in backward, and not kept."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, center: Center) -> Tensor:
        with without_autocast(weight.device):
            filters = _as_stored(weight).flatten(1)
            scale = None
            lengths = torch.linalg.vector_norm(filters, dim=1)
            if not _usual(lengths, filters.shape[1], center):
                scale = magnitude(filters, (0, 1) if center == "filters" else 1).reciprocal_()
                filters = filters * scale
                lengths = torch.linalg.vector_norm(filters, dim=1)
            mean = filters.new_zeros(())
            if center != "none":
                mean = filters.mean(0 if center == "filters" else 1, keepdim=True)
            centred = filters - mean
            length = torch.linalg.vector_norm(centred, dim=1)
            rounding = 4 * torch.finfo(filters.dtype).eps * lengths
            factor = torch.where(length > rounding, 1 / length, 0 * length)  # NaN stays
            together = factor @ centred  # the sum of unit filters
            ctx.save_for_backward(weight, scale, mean, factor, together)
            ctx.center = center
            exact = together.to(torch.promote_types(filters.dtype, exact_dtype(filters.device)))
            return ((exact.square().sum() - (factor > 0).sum()) / 2).to(filters.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        weight, scale, mean, factor, together = ctx.saved_tensors
        with without_autocast(gradient.device):
            if torch.is_grad_enabled():
                value = sum_of_pairs(units(weight.flatten(1), ctx.center))
                return torch.autograd.grad(value, weight, gradient, create_graph=True)[0], None
            stored = _as_stored(weight)
            filters = stored.flatten(1)
            centred = (filters if scale is None else filters * scale) - mean
            # factor (together - (unit . together) unit) of each filter, less its mean if that was subtracted
            along = factor**2 * (centred @ together)
            rows, columns = factor[:, None], together[None]
            if ctx.center == "components":
                columns = columns - columns.mean()
            elif ctx.center == "filters":
                mean = factor.mean() * together - (along * factor) @ centred / len(centred)
                rows = torch.stack([factor, -torch.ones_like(factor)], 1)
                columns = torch.stack([together, mean])
            scale = gradient if scale is None else gradient * scale
            own = centred.mul_(-scale * (along * factor)[:, None]).addmm_(scale * rows, columns)
            own = own.view(stored.shape)
            return (own if stored is weight else own.movedim(-1, 1)), None


def _as_stored(weight: Tensor) -> Tensor:
    """The weight with its axes as they lie in memory, where its channels are last there."""
    last = weight.dim() > 2 and weight.movedim(1, -1).is_contiguous() and not weight.is_contiguous()
    return weight.movedim(1, -1) if last else weight


def _usual(lengths: Tensor, components: int, center: Center) -> bool:
    """Whether `magnitude` is known to be 1, as on a CPU, where reading a number takes no wait."""
    if not lengths.is_cpu:
        return False
    least, most = (each.item() for each in lengths.aminmax())
    return 2.0**-19 * math.sqrt(components) < (most if center == "filters" else least) and most < 2.0**19


class Product(torch.autograd.Function):
    """A matrix product without autocast, also in backward."""

    @staticmethod
    def forward(ctx: Any, one: Tensor, other: Tensor) -> Tensor:
        ctx.save_for_backward(one, other)
        with without_autocast(one.device):
            return one @ other

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        one, other = ctx.saved_tensors
        return Product.apply(gradient, other.T), Product.apply(one.T, gradient)


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """A context in which products keep their factors' type; meta tensors have no autocast."""
    there = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if there else contextlib.nullcontext()


def exact_dtype(device: torch.device) -> torch.dtype:
    """The type of long sums: float64, which Apple's GPUs lack."""
    return torch.float32 if device.type == "mps" else torch.float64
