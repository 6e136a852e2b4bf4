"""The registered claims, two files: read and checked, and the runs that each claim needs."""

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
REGISTRATION_OTHER_PAPERS = _FOLDER / "registration-other-papers.yaml"  # three, of which we have abstracts

JUDGED = ("registered", "paper")  # profiles whose runs judge the claims
_VARIED = ("equivalence", "readings", "learning-rates")  # grids that vary seeds, readings and learning rates


class _Part(BaseModel):
    """Part of a registration; what no code reads is left out, except in cells and criteria."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Cell(_Part, extra="forbid"):
    """Where a claim is judged: an experiment's fields, and how close that is to the paper's."""

    dataset: str
    size: str | None = None  # None: the one size in which the network is run
    limit: int | None = None
    epochs: int = paper.EPOCHS
    optimizer: Literal["sgd", "adam"] = "sgd"
    kind: Literal["direct", "close", "conceptual"]

    @property
    def title(self) -> str:
        """A few words, as in `cifar10, s, 2,000 images, 60 epochs`."""
        parts = [self.dataset, *([self.size] if self.size else [])]
        parts += [f"{self.limit:,} images"] if self.limit else []
        parts += [f"{self.epochs} epochs"] if self.epochs != paper.EPOCHS else []
        return ", ".join([*parts, *(["Adam"] if self.optimizer == "adam" else [])])

    @property
    def place(self) -> dict[str, object]:
        """Columns of a table that name the cell; cells of the same place need the same runs."""
        named = {"dataset": self.dataset, "size": self.size or "full", "limit": self.limit or 0}
        return named | {"epochs": self.epochs, "optimizer": self.optimizer}


class Criterion(_Part, extra="forbid"):
    """The rule by which a claim is judged; the kinds are explained at the head of its file."""

    kind: Literal["value", "difference", "change", "layers", "sizes", "share", "lead"]
    network: str  # as `results.label` has it, as in "prNet lambda_=1.0"
    quantity: str
    expected: Literal[-1, 0, 1]
    against: str | tuple[str, ...] = ()  # a network, or layers
    layer: tuple[str, ...] = ()
    since: int | None = Field(None, alias="from")
    until: int | Literal["last"] | None = Field(None, alias="to")

    @property
    def networks(self) -> tuple[str, ...]:
        """The labels of the networks whose runs it needs."""
        return (self.network, self.against) if isinstance(self.against, str) else (self.network,)


class Claim(_Part):
    """One claim of the paper, in our words; the first of `cells` decides a primary one."""

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
    """Registered claims and the rules that judge them."""

    rules: dict[str, Any]
    claims: tuple[Claim, ...]

    def margin(self, test: Criterion) -> float:
        """Margin within which a difference counts as none; infinite for shares, which have none.

        The name of a margin is part of the name of its quantity, as loss in val_loss_rise.
        """
        named = "epochs" if test.kind == "lead" else test.quantity
        known = (margin for name, margin in self.rules["margins"].items() if name in named)
        return math.inf if test.kind == "share" else float(next(known))


def load(path: Path = REGISTRATION) -> Registration:
    """The registration in a YAML file of this folder."""
    return Registration(**yaml.safe_load(path.read_text(encoding="utf-8")))


def published() -> list[xr.Dataset]:
    """Curves of all published runs that can judge a claim, as `judge` takes them; may be none."""
    return [part for name in JUDGED for part in results.published_parts(name)]


def published_images() -> list[xr.Dataset]:
    """Each validation image in published runs that can judge a claim, of `compact.published_outcomes`."""
    found = (compact.published_outcomes(name, file) for name in JUDGED for file in profile(name).files())
    return [images for images in found if images is not None]


@functools.cache
def registered_ids(label: str, cell: Cell) -> Mapping[int, str]:
    """Ids by seed of the runs by which the registration judges a label in a cell; none for an unknown label.

    Runs of the test of equivalence, of readings and of other learning rates do not count. Cells that two
    cores cannot train (sizes m and xxl, AlexNet) have the runs of the profile `paper`.
    """
    wanted = cell.model_dump(exclude={"kind"} if cell.size else {"kind", "size"})
    both = (_runs_by_label(name).get(label, ()) for name in JUDGED)
    found = ({run.seed: run.id for run in runs if wanted.items() <= dict(run).items()} for runs in both)
    return next(filter(None, found), {})


def smaller(cell: Cell) -> Cell:
    """The same cell at the next smaller size of Table 1."""
    sizes = list(SIZES)
    return cell.model_copy(update={"size": sizes[sizes.index(str(cell.size)) - 1]})


@functools.cache
def _runs_by_label(name: str) -> dict[str, list[Experiment]]:
    """A profile's confirmatory runs by label, without those that vary what is not in the label."""
    grids = [grid for grid in profile(name).grids if grid not in _VARIED]
    found: dict[str, list[Experiment]] = {}
    for experiment in experiments(name, grids=grids, published=True):
        found.setdefault(results.label(experiment), []).append(experiment)
    return found


def papers_value(test: Criterion, cell: Cell) -> float | None:
    """The paper's number for a difference of (best) accuracies, from Tables 2 and 3; None if it has none."""
    if test.quantity != "accuracy" or cell.epochs != paper.EPOCHS:
        return None
    where = {name: value for name, value in cell.place.items() if name != "limit"}
    value = paper.accuracy(network=test.network, **where)
    if test.kind == "difference":
        value -= paper.accuracy(network=test.against, **where)
    elif test.kind == "sizes":
        value -= paper.accuracy(network=test.network, **where | {"size": smaller(cell).size})
    return None if math.isnan(value) else value
