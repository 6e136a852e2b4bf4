"""Callbacks and losses for training frameworks: `integrations.lightning`, `integrations.transformers`.

Each needs its framework, from the extra of the same name, and is imported by its full name.
"""

from typing import Any, Protocol

import torch.distributed as dist
from torch import Tensor

from sparsity_lib.monitor import ActivationMonitor


class Penalty(Protocol):
    """Part of a penalty, such as SparsityReg or DecorrReg, that integrations use."""

    def __call__(self) -> Tensor:
        """A scalar to add to the loss."""

    def reset(self) -> None:
        """Drop what was collected."""


def named_penalties(penalties: tuple[Penalty, ...]) -> dict[str, Penalty]:
    """Penalties by their class's name, numbered where a class comes again.

    **Raises:** `TypeError` for none, or for objects that are no penalties.
    """
    names: dict[str, Penalty] = {}
    for penalty in penalties:
        kind = type(penalty).__name__
        if not (callable(penalty) and hasattr(penalty, "reset")):
            raise TypeError(f"a penalty such as SparsityReg is needed, not {kind}")
        number = 1 + sum(type(other) is type(penalty) for other in names.values())
        names[kind if number == 1 else f"{kind}{number}"] = penalty
    if not names:
        raise TypeError("no penalty is given")
    return names


def scalars_of_all(monitor: ActivationMonitor) -> dict[str, float]:
    """`monitor.scalars()` over the data of all processes."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return monitor.scalars()
    monitors: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(monitors, monitor)
    first, *others = monitors
    for other in others:
        first.merge(other)
    return first.scalars()
