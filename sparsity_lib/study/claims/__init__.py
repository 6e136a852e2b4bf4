"""Registered claims of two files, and the runs that each claim needs."""

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import xarray as xr
import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from sparsity_lib.study import paper
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.profiles import experiments, profile
from sparsity_lib.study.recipes import SIZES
from sparsity_lib.study.runs import compact, results

_FOLDER = Path(__file__).parent
REGISTRATION = _FOLDER / "registration.yaml"
REGISTRATION_OTHER_PAPERS = _FOLDER / "registration-other-papers.yaml"  # known by their abstracts

JUDGED_PROFILES = ("registered", "paper")  # profiles of the runs that judge claims
# Grids with more seeds, other readings and other learning rates.
_VARIATIONS = ("equivalence", "readings", "learning-rates")


class _Part(BaseModel):
    """Part of a registration; keys that no code reads are ignored, except in cells and criteria."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Cell(_Part, extra="forbid"):
    """Setting in which a claim is judged: fields of an experiment, and closeness to the paper's setting."""

    dataset: str
    size: str | None = None  # None: the only size of the network
    limit: int | None = None
    epochs: int = paper.EPOCHS
    optimizer: Literal["sgd", "adam"] = "sgd"
    kind: Literal["direct", "close", "conceptual"]

    @property
    def title(self) -> str:
        """Short title, such as `cifar10, s, 2,000 images, 60 epochs`."""
        parts = [self.dataset, *([self.size] if self.size else [])]
        parts += [f"{self.limit:,} images"] if self.limit else []
        parts += [f"{self.epochs} epochs"] if self.epochs != paper.EPOCHS else []
        return ", ".join([*parts, *(["Adam"] if self.optimizer == "adam" else [])])

    @property
    def columns(self) -> dict[str, object]:
        """Columns of a table that identify the cell; cells with equal columns need the same runs."""
        named = {"dataset": self.dataset, "size": self.size or "full", "limit": self.limit or 0}
        return named | {"epochs": self.epochs, "optimizer": self.optimizer}


class Criterion(_Part, extra="forbid"):
    """Test of a claim; the kinds are explained at the head of its file."""

    kind: Literal["value", "difference", "change", "layers", "sizes", "share", "lead"]
    network: str  # label of `results.label`, such as "prNet lambda_=1.0"
    quantity: str
    expected: Literal[-1, 0, 1]
    against: str | tuple[str, ...] = ()  # a network, or layers
    layer: tuple[str, ...] = ()
    since: int | None = Field(None, alias="from")
    until: int | Literal["last"] | None = Field(None, alias="to")

    @property
    def networks(self) -> tuple[str, ...]:
        """Labels of the networks that the test needs."""
        return (self.network, self.against) if isinstance(self.against, str) else (self.network,)


class Claim(_Part):
    """Claim of the paper, in our words; the first of its `cells` decides a primary claim."""

    id: str
    where: str
    claim: str
    test: Criterion | None
    primary: bool = False
    cells: tuple[Cell, ...] = ()

    @field_validator("test", mode="before")
    @classmethod
    def _none_is_none(cls, value: Any) -> Any:
        return None if value == "none" else value


class Registration(_Part):
    """Registered claims and the rules by which they are judged."""

    rules: dict[str, Any]
    claims: tuple[Claim, ...]

    def margin(self, test: Criterion) -> float:
        """Margin within which a difference counts as zero; infinite for shares.

        The name of a margin is a part of the name of its quantities: "loss" of val_loss_rise.
        """
        named = "epochs" if test.kind == "lead" else test.quantity
        known = (margin for name, margin in self.rules["margins"].items() if name in named)
        return math.inf if test.kind == "share" else float(next(known))


def load(path: Path = REGISTRATION) -> Registration:
    """Read a registration, by default that of TSR's claims."""
    return Registration(**yaml.safe_load(path.read_text(encoding="utf-8")))


def published() -> list[xr.Dataset]:
    """Curves of all published runs by which claims are judged; one data set per group of grids."""
    return [part for name in JUDGED_PROFILES for part in results.published_parts(name)]


def published_images() -> list[xr.Dataset]:
    """Outcomes of each validation image in these runs, as `compact.published_outcomes` returns them."""
    files = [(name, file) for name in JUDGED_PROFILES for file in profile(name).files()]
    found = (compact.published_outcomes(name, file) for name, file in files)
    return [images for images in found if images is not None]


@functools.cache
def registered_ids(label: str, cell: Cell) -> Mapping[int, str]:
    """Ids by seed of the registered runs of a label in a cell; empty for an unknown label.

    Runs of the equivalence test, of other readings and of other learning rates do not count. Cells that need
    a GPU (sizes m and xxl, AlexNet) have the runs of the profile `paper`.
    """
    wanted = cell.model_dump(exclude={"kind"} if cell.size else {"kind", "size"})
    both = (_runs_by_label(name).get(label, ()) for name in JUDGED_PROFILES)
    found = ({run.seed: run.id for run in runs if wanted.items() <= dict(run).items()} for runs in both)
    return next(filter(None, found), {})


def next_smaller(cell: Cell) -> Cell:
    """Copy of a cell at the next smaller size of Table 1."""
    sizes = list(SIZES)
    return cell.model_copy(update={"size": sizes[sizes.index(str(cell.size)) - 1]})


@functools.cache
def _runs_by_label(name: str) -> dict[str, list[Experiment]]:
    """Published experiments of a profile by label, without the grids of _VARIATIONS."""
    grids = [grid for grid in profile(name).grids if grid not in _VARIATIONS]
    found: dict[str, list[Experiment]] = {}
    for experiment in experiments(name, grids=grids, published=True):
        found.setdefault(results.label(experiment), []).append(experiment)
    return found


def paper_value(test: Criterion, cell: Cell) -> float | None:
    """Value in the paper for a test of best accuracies, from Tables 2 and 3; None if there is none."""
    if test.quantity != "accuracy" or cell.epochs != paper.EPOCHS:
        return None
    where = {name: value for name, value in cell.columns.items() if name != "limit"}
    value = paper.accuracy(network=test.network, **where)
    if test.kind == "difference":
        value -= paper.accuracy(network=test.against, **where)
    elif test.kind == "sizes":
        value -= paper.accuracy(network=test.network, **where | {"size": next_smaller(cell).size})
    return None if math.isnan(value) else value
