"""Optimizers by name, single steps with given gradients, and short trainings of a small network."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sparsity_lib as sl

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.05),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "nesterov": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01),
}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


def weight(values: list[float]) -> nn.Parameter:
    """A matrix of one row."""
    return nn.Parameter(torch.tensor([values]))


def shrinking(
    values: list[float], lr: float = 0.1, **settings: Any
) -> tuple[nn.Parameter, torch.optim.Optimizer, sl.GradientCoherent]:
    """A matrix of one row, plain SGD of it, and GradientCoherent of that."""
    w = weight(values)
    optimizer = torch.optim.SGD([w], lr=lr)
    return w, optimizer, sl.GradientCoherent(optimizer, **settings)


def step(optimizer: torch.optim.Optimizer, *gradients: list[float] | None) -> None:
    """A step with these gradients, one for each parameter in the optimizer's order."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = None if gradient is None else torch.tensor(gradient).view_as(parameter)
    optimizer.step()


Closure = Callable[[], Tensor]


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: int,
    seed: int = 1,
    step_by: Callable[[Closure], Tensor] | None = None,
) -> None:
    """Steps on random images; `step_by` makes each from a closure and returns its loss."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x, y = torch.randn(8, 3, 6, 6, generator=generator), torch.randint(2, (8,), generator=generator)

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        if step_by:
            assert step_by(closure).requires_grad
        else:
            closure()
            optimizer.step()


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have bit-equal parameters."""
    return all(map(torch.equal, one.parameters(), other.parameters()))
