"""Penalties of forward passes."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def collected(
    kind: Callable[..., Any], model: nn.Module, x: Tensor, layers: dict[Any, float], **options: object
) -> Tensor:
    """The penalty of a class, such as SparsityReg, that one forward pass of the model collects."""
    with kind(model, layers, **options) as reg:
        model(x)
        return reg()
