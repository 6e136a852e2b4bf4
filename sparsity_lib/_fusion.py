"""Computations on vectors, each fused into one by torch.compile."""

import functools
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

Computation = Callable[..., tuple[Tensor, ...]]


@functools.cache
def fused(function: Computation, device: torch.device, scalars: int = 0) -> Computation:
    """The function of vectors `(V, D)` and of so many scalar tensors, compiled for the device.

    Where that fails, which is tried once: the function itself, with a warning.

    It is for use without gradients. Compiling takes seconds, once per process, less where torch's cache has
    it already.
    """
    compiled = torch.compile(function, dynamic=True)  # else anew for each number of vectors and channels
    try:
        with torch.no_grad():  # of a usual size: what is made suits the first it sees
            compiled(torch.zeros(2**14, 33, device=device), *torch.ones(scalars, device=device))
    except Exception as error:  # whatever a missing or broken compiler raises
        reason = str(error).strip().partition("\n")[0]
        warnings.warn(f"torch.compile does not work here, going on without: {reason}", RuntimeWarning, 3)
        return function
    return compiled


def compiles(device: torch.device) -> bool:
    """Whether `fused` works for the device; if not, a warning was given, once."""
    return fused(_nothing, device) is not _nothing


def _nothing(vectors: Tensor) -> tuple[Tensor, ...]:
    return (vectors + 1,)
