"""Published runs by id, and the quantities of the second registration in each of them."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study.analysis import summary as analysis
from sparsity_lib.study.analysis.comparison import describe
from sparsity_lib.study.analysis.early_warning import change_points
from sparsity_lib.study.analysis.onset import SHORTEST, onset, onset_table
from sparsity_lib.study.analysis.significance import interval, pooled_sd
from sparsity_lib.study.claims import Cell, Criterion, Registration, registered_ids, smaller
from sparsity_lib.study.profiles import SEVEN
from sparsity_lib.study.runs.results import diverged

FALL = 0.05  # of ln D, or of perplexity sparsity: by how much a change-point lies beyond epochs 0 to 4

Curves = xr.Dataset | Sequence[xr.Dataset]
Measure = Callable[[xr.Dataset], xr.DataArray]
Runs = Mapping[int, str]  # ids by seed


class Evidence:
    """Published curves, one data set or several, in which runs are found by their ids.

    Runs whose loss became infinite or NaN, published or noted as such, are `diverged` and have no values.
    """

    def __init__(self, curves: Curves) -> None:
        given = [curves] if isinstance(curves, xr.Dataset) else list(curves)
        self.diverged = {run for part in given for run in diverged(part)}
        self._finished = set(self.diverged)
        self._parts: list[xr.Dataset] = []
        for part in given:
            its_own = (part["epoch"] >= 0) & (part["epoch"] < part["epochs"])
            loss, runs = part["val_loss"].where(its_own, 0), part["run"].to_numpy()
            finite = (loss.notnull() & (loss < np.inf)).all("epoch").to_numpy()
            self.diverged |= set(runs[~finite].tolist())
            self._parts.append(part.isel(run=finite & ~np.isin(runs, list(self._finished))))
            self._finished |= set(runs.tolist())

    def __contains__(self, run: str) -> bool:
        """Whether the run was finished, diverged ones included."""
        return run in self._finished

    def of(self, runs: Iterable[str]) -> list[xr.Dataset]:
        """Curves of those of the runs that are published and did not diverge; may be none."""
        wanted = list(runs)
        found = [part.isel(run=part["run"].isin(wanted).to_numpy()) for part in self._parts]
        return [part for part in found if part.sizes["run"]]

    def measured(self, measure: Measure, runs: Iterable[str]) -> pd.Series:
        """The measure of each of those runs that is published, by id; NaN for a run without a value."""
        found = [
            pd.Series(measure(part).to_numpy().astype(float), part["run"].to_numpy().tolist())
            for part in self.of(runs)
        ]
        return pd.concat(found) if found else pd.Series(dtype=float)


@dataclass(frozen=True)
class Sample:
    """Values of a quantity in finished runs, or differences of pairs of runs with the same seed.

    - `values`: by seed, without diverged runs and their pairs; NaN for a run without a value.
    - `planned`, `finished`, `diverged`: runs or pairs.
    - `pooled`: SD of a run, or of a pair of independent runs, pooled over the cell's networks, and its
        degrees of freedom.
    """

    values: pd.Series
    planned: int
    finished: int
    diverged: int
    pooled: tuple[float, int]

    @property
    def known(self) -> np.ndarray:
        """The values that there are."""
        return self.values.dropna().to_numpy()

    @property
    def complete(self) -> bool:
        """Whether all planned runs are finished; no verdict appears before."""
        return 0 < self.planned == self.finished

    def counts(self) -> dict[str, object]:
        """Columns `n` (values), `planned`, `diverged`, `runs` (as in `3 of 5`) and `status` of a table."""
        counted = {"n": len(self.known), "planned": self.planned, "diverged": self.diverged}
        runs = f"{self.finished} of {self.planned}"
        return counted | {"runs": runs, "status": status(self.finished, self.planned)}

    def described(self) -> dict[str, float]:
        """Columns `n`, `mean`, `sd`, `low` to `high` (95 %) and `low90` to `high90` of a table."""
        low90, high90 = interval(self.known, 0.90)
        return describe(self.known)._asdict() | {"low90": low90, "high90": high90}


def status(finished: int, planned: int) -> str:
    """`complete`, `not run`, or as in `3 of 5`."""
    return "not run" if not finished else "complete" if finished == planned else f"{finished} of {planned}"


def sample(evidence: Evidence, measure: Measure, pairs: Sequence[Runs], pool: Sequence[Runs] = ()) -> Sample:
    """Values of one label's runs or, of two, differences; `pool`: the runs of each of the cell's networks."""
    seeds = set.intersection(*(set(runs) for runs in pairs))
    finished = {seed for seed in seeds if all(runs[seed] in evidence for runs in pairs)}
    left_out = {seed for seed in finished if any(runs[seed] in evidence.diverged for runs in pairs)}
    each = evidence.measured(measure, [run for runs in (*pairs, *pool) for run in runs.values()])
    sd, freedom = pooled_sd([_by_seed(each, runs).dropna().to_numpy() for runs in pool])
    first, *other = (_by_seed(each, runs) for runs in pairs)
    values = first - other[0] if other else first
    return Sample(
        values.reindex(sorted(finished - left_out)),
        len(seeds),
        len(finished),
        len(left_out),
        (sd * math.sqrt(len(pairs)), freedom),
    )


def _by_seed(values: pd.Series, runs: Runs) -> pd.Series:
    return pd.Series({seed: values[run] for seed, run in runs.items() if run in values}, dtype=float)


def plans(test: Criterion, cell: Cell) -> list[Runs]:
    """The runs that a test compares in a cell: ids by seed of one network, or of two networks or sizes."""
    found = [registered_ids(label, cell) for label in test.networks]
    return [*found, registered_ids(test.network, smaller(cell))] if test.kind == "sizes" else found


def networks_of(cell: Cell, ledger: Registration) -> dict[str, Runs]:
    """Planned runs of the cell's networks by label: TSR's and varNet, and those of the ledger's claims."""
    tests = [claim.test for claim in ledger.claims for each in claim.cells if each.place == cell.place]
    labels = dict.fromkeys(label for test in tests if test for label in test.networks)
    if any(label in SEVEN for label in labels):
        labels = dict.fromkeys(SEVEN) | labels
    found = {label: registered_ids(label, cell) for label in labels}
    return {label: runs for label, runs in found.items() if runs}


def measure_of(test: Criterion) -> Measure:
    """The values that a test needs of each run: of runs, not of pairs."""
    if test.kind == "lead":
        return lambda curves: onset(curves) - change_point(test, curves)
    if test.kind == "change":
        return lambda curves: _change(test, curves, test.layer)
    if test.kind == "layers":
        return lambda curves: _change(test, curves, test.layer) - _change(test, curves, tuple(test.against))
    if test.kind == "share":
        return lambda curves: _quantity(test, curves).notnull().where(curves["epochs"] >= SHORTEST)
    return lambda curves: _quantity(test, curves)


def change_point(test: Criterion, curves: xr.Dataset) -> xr.DataArray:
    """(run): epoch of the change-point of a lead's quantity; NaN for none."""
    return change_points.change_point(curves, test.layer, FALL, test.quantity)


def rise(quantity: str) -> Measure:
    """(run): the rise of `"val_loss"` or `"val_loss_calibrated"` minus the null's mean, nats."""
    return lambda curves: curves["epochs"].copy(data=onset_table(curves, quantity)["excess"].to_numpy())


def _change(test: Criterion, curves: xr.Dataset, layers: Sequence[str]) -> xr.DataArray:
    last = curves["epochs"] - 1
    if test.quantity == "correlation":
        there = curves["correlation"].sel(center="components", layer=list(layers))
        return _at(there.mean("layer", skipna=False), last)
    values = change_points.of_layers(curves, test.quantity, layers)
    if test.since is None:
        return _at(values, last) - _at(values, analysis.best_epoch(curves))
    return _at(values, last if test.until == "last" else test.until) - _at(values, test.since)


def _quantity(test: Criterion, curves: xr.Dataset) -> xr.DataArray:
    if test.quantity in OF_A_RUN:
        return OF_A_RUN[test.quantity](curves)
    if test.quantity == "correlation":
        return _change(test, curves, test.layer)
    name, _, moment = test.quantity.rpartition("_")
    if moment == "change":
        return _change(test.model_copy(update={"quantity": name}), curves, test.layer)
    return _at(change_points.of_layers(curves, name, test.layer), curves["epochs"] - 1)


def _at(values: xr.DataArray, epoch: object) -> xr.DataArray:
    return values.sel(epoch=epoch).drop_vars("epoch")


OF_A_RUN: dict[str, Measure] = {
    "accuracy": analysis.chosen_accuracy,
    "best_accuracy": analysis.best_accuracy,
    "last_five_accuracy": analysis.last_five_accuracy,
    "val_loss_rise": rise("val_loss"),
    "val_loss_calibrated_rise": rise("val_loss_calibrated"),
    "min_val_loss": lambda curves: analysis.trained(curves)["val_loss"].min("epoch"),
    "onset_loss": onset,
}
