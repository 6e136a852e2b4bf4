"""Gradient descent on DecorrReg alone, for each reading of the penalty (T3, T4)."""

import pandas as pd
import torch
from torch import Tensor

from sparsity_lib import functional
from sparsity_lib.study.training.random_streams import one_thread

COPY_NOISE = 0.1  # SD of the noise on copies of a pattern, as a share of its SD
COPY_CORRELATION = 0.9  # |c| above which two filters count as copies


def starts(filters: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Initial filters by name, each (filters, *shape): random, in clusters, or with a common pattern."""
    generator = torch.Generator().manual_seed(0)
    inputs, positions = shape[0], shape[1] * shape[2]
    bound = (6 / ((inputs + filters) * positions)) ** 0.5  # Glorot's, for a convolution
    random = torch.empty(filters, *shape).uniform_(-bound, bound, generator=generator)
    patterns = torch.empty(2, *shape).uniform_(-bound, bound, generator=generator)
    opposite = torch.stack([patterns[0], -patterns[0]]).repeat_interleave(filters // 2, 0)
    sizes = torch.where(torch.arange(filters) % 2 == 0, 1.0, 0.1).view(-1, 1, 1, 1)
    return {
        "random": random,
        "two opposite clusters": opposite + COPY_NOISE * random,
        "a common pattern": random + patterns[1],
        "a common pattern, unequal norms": sizes * (random + patterns[1]),
    }


def pairs(weight: Tensor, center: functional.Center) -> Tensor:
    """|c| of each pair of filters, `(pairs,)`."""
    correlation = functional.filter_correlation(weight, center)
    return correlation[torch.ones_like(correlation, dtype=torch.bool).tril(-1)].abs()


def descend(
    weight: Tensor,
    center: functional.Center,
    penalty: functional.OfPair,
    steps: int = 100,
    step: float = 0.03,
) -> Tensor:
    """Filters after gradient descent on a reading of DecorrReg, with normalised gradients.

    The length of a step does not depend on the gradient: it is a share of the norm of the weights, `step` at
    first and linearly falling to 0. Readings thus differ in direction only.
    """
    length = float(weight.norm())
    for i in range(steps):
        weight = weight.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(functional.decorrelation(weight, center, penalty), weight)
        size = gradient.norm().clamp(min=torch.finfo(gradient.dtype).tiny)
        weight = weight.detach() - step * (1 - i / steps) * length * gradient / size
    return weight.detach()


def descents(filters: int = 64, shape: tuple[int, ...] = (3, 3, 3)) -> pd.DataFrame:
    """One row per initial filters and reading: correlations before and after the descent.

    Correlations are Pearson's: mean |c| `before` and `after`, and `alike`, the share of pairs with |c| >
    COPY_CORRELATION after the descent.
    """
    rows = []
    with one_thread():  # several threads are much slower for such small tensors
        for name, weight in starts(filters, shape).items():
            before = float(pairs(weight, "components").mean())
            for center in functional.CENTERS:
                for penalty in functional.PENALTIES:
                    after = pairs(descend(weight, center, penalty), "components")
                    row = {"filters": name, "center": center, "penalty": penalty, "before": before}
                    alike = float((after > COPY_CORRELATION).float().mean())
                    rows.append(row | {"after": float(after.mean()), "alike": alike})
    return pd.DataFrame(rows)
