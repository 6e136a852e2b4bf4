"""The study's named grids of experiments ("profiles"), each a queue in the order in which it is trained."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.networks import NETWORKS

SIX = ("vanillaNet", "dropNet", "normNet", "sr1Net", "sr2Net", "sr3Net")  # TSR, Table 2


@dataclass(frozen=True)
class Profile:
    """A grid: cells (all fields of an experiment but its seed), and the seeds each is trained with."""

    what: str
    cells: tuple[dict[str, Any], ...]
    seeds: tuple[int, ...]
    published_seeds: tuple[int, ...]


def _cells(networks: Iterable[str], **fields: Any) -> tuple[dict[str, Any], ...]:
    return tuple({"network": network, **fields} for network in networks)


# Eq. 5 sums over positions, so lambda is 16 times weaker on 8 x 8 digits than on the paper's 32 x 32
# images: conv layers get 16 times the paper's, and sr2Net's literal value is trained beside it. At the
# paper's learning rate of 0.01 nothing overfits in 100 epochs of 1,000 digits; at 0.1 it does.
_DIGITS = {"dataset": "digits", "lr": 0.1}
_LAPTOP = tuple(
    cell
    for noise in (0.0, 0.3)
    for cell in (
        *_cells(NETWORKS, **_DIGITS, label_noise=noise, lambda_conv_scale=16.0),
        *_cells(("sr2Net",), **_DIGITS, label_noise=noise),
    )
)
_DESKTOP = tuple(
    cell
    for size in ("s", "m")
    for dataset in ("cifar10-jpeg", "tiny32-100")
    for cell in _cells(NETWORKS, dataset=dataset, size=size, limit=10_000)
)
_PAPER = (
    *_cells(NETWORKS, dataset="cifar10", size="xxl"),
    *(cell for size in ("s", "m", "xxl") for cell in _cells(NETWORKS, dataset="cifar100", size=size)),
    *_cells(SIX, dataset="cifar100", size="xxl", optimizer="adam"),
    *_cells(SIX, dataset="cifar100", size="xxl", epochs=200),
    *_cells(SIX, dataset="tiny-imagenet", size="xxl"),
)

# Confirmatory seeds start at 100; seeds below are for trying things.
PROFILES = {
    "laptop": Profile(
        "1,000 of scikit-learn's digits, as they are and with 30 % of the labels redrawn; minutes on 2 cores",
        _LAPTOP,
        seeds=(0, 1, 2),
        published_seeds=tuple(range(100, 120)),
    ),
    "desktop": Profile(
        "10,000 images of cifar10-jpeg and tiny32-100; hours on a CPU (size s), minutes on a GPU (m)",
        _DESKTOP,
        seeds=tuple(range(100, 105)),
        published_seeds=tuple(range(100, 105)),
    ),
    "paper": Profile(
        "the paper's data sets, sizes and settings; a GPU",
        _PAPER,
        seeds=(100, 101, 102),
        published_seeds=(100, 101, 102),
    ),
}


def profile(name: str) -> Profile:
    """The profile of that name; `StudyError` naming the known ones otherwise."""
    if not isinstance(name, str) or name not in PROFILES:
        raise StudyError(f"unknown profile '{name}'; known: {', '.join(PROFILES)}")
    return PROFILES[name]


def experiments(name: str, seeds: Iterable[int] | None = None) -> list[Experiment]:
    """The profile's queue: every cell at the first seed, then every cell at the next."""
    grid = profile(name)
    cells = [Experiment(**cell) for cell in grid.cells]
    return [cell.model_copy(update={"seed": seed}) for seed in (seeds or grid.seeds) for cell in cells]
