"""Filters under each reading of DecorrReg (T3, T4), by gradient descent on the penalty alone."""

import pandas as pd
import torch
from torch import Tensor

from sparsity_lib import functional
from sparsity_lib.study.training.random_streams import one_thread

COPIES = 0.1  # SD of the noise on copies, in shares of a pattern's
ALIKE = 0.9  # |c| above which two filters count as copies


def starts(filters: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Filters by name, each (filters, *shape): random, in clusters, or with a common pattern."""
    generator = torch.Generator().manual_seed(0)
    inputs, positions = shape[0], shape[1] * shape[2]
    bound = (6 / ((inputs + filters) * positions)) ** 0.5  # Glorot's, for a convolution
    random = torch.empty(filters, *shape).uniform_(-bound, bound, generator=generator)
    patterns = torch.empty(2, *shape).uniform_(-bound, bound, generator=generator)
    opposite = torch.stack([patterns[0], -patterns[0]]).repeat_interleave(filters // 2, 0)
    sizes = torch.where(torch.arange(filters) % 2 == 0, 1.0, 0.1).view(-1, 1, 1, 1)
    return {
        "random": random,
        "two opposite clusters": opposite + COPIES * random,
        "a common pattern": random + patterns[1],
        "a common pattern, unequal norms": sizes * (random + patterns[1]),
    }


def pairs(weight: Tensor, center: functional.Center) -> Tensor:
    """|c| of each pair of filters once."""
    correlation = functional.filter_correlation(weight, center)
    return correlation[torch.ones_like(correlation, dtype=torch.bool).tril(-1)].abs()


def descend(
    weight: Tensor,
    center: functional.Center,
    penalty: functional.OfPair,
    steps: int = 100,
    step: float = 0.03,
) -> Tensor:
    """Gradient descent on a reading of DecorrReg alone, at matched gradient norm.

    Each step is the same share of the weights' norm, `step` at first and falling to 0, whatever the
    gradient's size: readings differ in where they lead, not in how strongly they pull.
    """
    length = float(weight.norm())
    for i in range(steps):
        weight = weight.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(functional.decorrelation(weight, center, penalty), weight)
        size = gradient.norm().clamp(min=torch.finfo(gradient.dtype).tiny)
        weight = weight.detach() - step * (1 - i / steps) * length * gradient / size
    return weight.detach()


def descents(filters: int = 64, shape: tuple[int, ...] = (3, 3, 3)) -> pd.DataFrame:
    """One row per start and reading, after a descent at matched gradient norm.

    By each filter's own mean (Pearson): mean |c| `before` and `after`, and `alike`, the share of pairs with
    |c| > ALIKE after it.
    """
    rows = []
    with one_thread():  # for so small tensors, several are a hundred times slower on a busy machine
        for name, weight in starts(filters, shape).items():
            before = float(pairs(weight, "components").mean())
            for center in functional.CENTERS:
                for penalty in functional.PENALTIES:
                    after = pairs(descend(weight, center, penalty), "components")
                    row = {"filters": name, "center": center, "penalty": penalty, "before": before}
                    alike = float((after > ALIKE).float().mean())
                    rows.append(row | {"after": float(after.mean()), "alike": alike})
    return pd.DataFrame(rows)
