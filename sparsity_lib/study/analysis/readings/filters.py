"""What each reading of DecorrReg does to filters: by arithmetic, by descent, and in trained networks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pandas as pd
import torch
from torch import Tensor

from sparsity_lib import functional
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.runs.file import Run
from sparsity_lib.study.runs.results import label

CENTERS = functional.CENTERS
PENALTIES = functional.PENALTIES
COPIES = 0.1  # SD of what tells copies apart, in shares of a pattern's
ALIKE = 0.9  # |c| above which two filters are as good as copies


def starts(filters: int = 256, shape: tuple[int, ...] = (3, 3, 3), seed: int = 0) -> dict[str, Tensor]:
    """Filters to decorrelate, each (filters, *shape): at random, or with something to be taken away."""
    generator = torch.Generator().manual_seed(seed)
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


def pairs(weight: Tensor, center: str) -> Tensor:
    """|c| of each pair of filters once."""
    correlation = functional.filter_correlation(weight, center)
    return correlation[torch.ones_like(correlation, dtype=torch.bool).tril(-1)].abs()


def mean_absolute(weight: Tensor, center: str) -> float:
    """The mean |c| over pairs of filters."""
    return float(pairs(weight, center).mean())


def against_floor(filters: int = 256, shape: tuple[int, ...] = (3, 3, 3), seed: int = 0) -> pd.DataFrame:
    """One row per start: the printed penalty (Eq. 6 and 7), its floor -D/2, and mean |c| by two centres."""
    rows = [
        {
            "filters": name,
            "penalty": float(functional.decorrelation(weight)),
            "floor": -filters / 2,
            "mean |c|": mean_absolute(weight, "filters"),
            "mean |c|, own means": mean_absolute(weight, "components"),
        }
        for name, weight in starts(filters, shape, seed).items()
    ]
    return pd.DataFrame(rows).set_index("filters")


def descend(weight: Tensor, center: str, penalty: str, steps: int = 100, step: float = 0.03) -> Tensor:
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


def descents(filters: int = 64, shape: tuple[int, ...] = (3, 3, 3), seed: int = 0) -> pd.DataFrame:
    """One row per start and reading, after a descent at matched gradient norm.

    By each filter's own mean (Pearson): mean |c| `before` and `after`, and `alike`, the share of pairs with
    |c| > ALIKE after it.
    """
    rows = []
    with _one_thread():
        for name, weight in starts(filters, shape, seed).items():
            before = mean_absolute(weight, "components")
            for center in CENTERS:
                for penalty in PENALTIES:
                    after = pairs(descend(weight, center, penalty), "components")
                    row = {"filters": name, "center": center, "penalty": penalty, "before": before}
                    alike = float((after > ALIKE).float().mean())
                    rows.append(row | {"after": float(after.mean()), "alike": alike})
    return pd.DataFrame(rows)


@contextmanager
def _one_thread() -> Iterator[None]:
    # Of so small tensors, several threads make a hundred times slower work on a busy machine.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def trained_floors(runs: Sequence[Run], layer: str = "conv1") -> pd.DataFrame:
    """One row per run: the printed penalty on a layer's filters before training and at the end, its floor.

    From the histograms, whose bins round each correlation to two decimals; mean |c| likewise.
    """
    if not runs:
        raise StudyError("there are no run files here to read correlations of filters from")
    rows = []
    for run in runs:
        counts = run.layer(layer)["correlation_histogram"].sel(center="filters")
        row = {"network": label(run.experiment), "seed": run.experiment.seed}
        for when, epoch in (("before", -1), ("end", run.experiment.epochs - 1)):
            at = counts.sel(epoch=epoch)
            row[f"penalty, {when}"] = float((at * at["bin"]).sum())
            row[f"mean |c|, {when}"] = float((at * abs(at["bin"])).sum() / at.sum())
        rows.append(row | {"floor, −D/2": -float(run.layer(layer).attrs["channels"]) / 2})
    return pd.DataFrame(rows).set_index("network")


def largest_at_least(mean: float, run: Run, center: str, layer: str = "conv1") -> float:
    """What the largest |c| of a layer's pairs cannot be below, if their mean |c| is this.

    By Welch the mean square of c is at least (D - n)/(n (D - 1)), and it is at most mean |c| times the
    largest. `run` is any of that architecture and data set.
    """
    shape = run.layer(layer).attrs
    filters, n = float(shape["channels"]), float(shape["fan_in"]) - (center == "components")
    return max(0.0, filters - n) / (n * (filters - 1)) / mean


def correlations(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of sr3Net, and of sr2Net and vanillaNet unchanged, whose conv1 kept its correlations."""
    unchanged = table["network"].isin(["vanillaNet", "sr2Net"]) & (table["change"] == "")
    found = table[(table["network"] == "sr3Net") | unchanged]
    if "correlation:components" in found:
        found = found.dropna(subset="correlation:components")
    if found[found["network"] == "sr3Net"]["change"].nunique() < 2:
        raise StudyError("there are no runs of several readings of DecorrReg that kept filters' correlations")
    return found
