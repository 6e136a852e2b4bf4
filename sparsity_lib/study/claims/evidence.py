"""Published runs by id, and the values of registered quantities in each of them."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study import analysis
from sparsity_lib.study.analysis.comparison import describe
from sparsity_lib.study.analysis.early_warning import change_points
from sparsity_lib.study.analysis.onset import LEAST_EPOCHS, excess_rise, onset
from sparsity_lib.study.analysis.significance import interval, pooled_sd
from sparsity_lib.study.claims import Cell, Criterion, Registration, next_smaller, registered_ids
from sparsity_lib.study.profiles import STUDY_NETWORKS
from sparsity_lib.study.runs.results import diverged

# Shares of ln D, or perplexity sparsity: distance of a change-point from the range of epochs 0 to 4.
CHANGE_POINT_MARGIN = 0.05

Curves = xr.Dataset | Sequence[xr.Dataset]
Measure = Callable[[xr.Dataset], xr.DataArray]
Runs = Mapping[int, str]  # ids by seed

RUN_QUANTITIES: dict[str, Measure] = {  # quantities without layers
    "accuracy": analysis.chosen_accuracy,
    "best_accuracy": analysis.best_accuracy,
    "last_five_accuracy": analysis.last_five_accuracy,
    "val_loss_rise": excess_rise,
    "val_loss_calibrated_rise": partial(excess_rise, quantity="val_loss_calibrated"),
    "min_val_loss": lambda curves: analysis.trained(curves)["val_loss"].min("epoch"),
    "onset_loss": onset,
}


class Evidence:
    """Published curves, one data set or several, with access to runs by their ids.

    Runs with an infinite or NaN loss, published or listed as such, are `diverged` and have no values.
    """

    def __init__(self, curves: Curves) -> None:
        given = [curves] if isinstance(curves, xr.Dataset) else list(curves)
        self.diverged = {run for part in given for run in diverged(part)}
        self._finished = set(self.diverged)
        self._parts: list[xr.Dataset] = []
        for part in given:
            trained = (part["epoch"] >= 0) & (part["epoch"] < part["epochs"])
            loss, runs = part["val_loss"].where(trained, 0), part["run"].to_numpy()
            finite = (loss.notnull() & (loss < np.inf)).all("epoch").to_numpy()
            self.diverged |= set(runs[~finite].tolist())
            self._parts.append(part.isel(run=finite & ~np.isin(runs, list(self._finished))))
            self._finished |= set(runs.tolist())

    def __contains__(self, run: str) -> bool:
        """Whether the run is finished; diverged runs are."""
        return run in self._finished

    def curves_of(self, runs: Iterable[str]) -> list[xr.Dataset]:
        """Curves of the given runs that are published and did not diverge; may be empty."""
        wanted = list(runs)
        found = [part.isel(run=part["run"].isin(wanted).to_numpy()) for part in self._parts]
        return [part for part in found if part.sizes["run"]]

    def measured(self, measure: Measure, runs: Iterable[str]) -> pd.Series:
        """Values of a measure in these runs by id; NaN for a run without a value."""
        found = [
            pd.Series(measure(part).to_numpy().astype(float), part["run"].to_numpy().tolist())
            for part in self.curves_of(runs)
        ]
        return pd.concat(found) if found else pd.Series(dtype=float)


@dataclass(frozen=True)
class Sample:
    """Values of a quantity in finished runs, or differences of pairs of runs with the same seed.

    - `values`: by seed, without diverged runs and their pairs; NaN for a run without a value.
    - `planned`, `finished`, `diverged`: numbers of runs or pairs.
    - `pooled`: SD of a run, or of a pair of independent runs, pooled over the networks of the cell, and its
        degrees of freedom.
    """

    values: pd.Series
    planned: int
    finished: int
    diverged: int
    pooled: tuple[float, int]

    @property
    def known(self) -> np.ndarray:
        """Values that are not NaN."""
        return self.values.dropna().to_numpy()

    @property
    def complete(self) -> bool:
        """Whether all planned runs are finished; verdicts need that."""
        return 0 < self.planned == self.finished

    def counts(self) -> dict[str, object]:
        """Columns `n` (values), `planned`, `diverged`, `runs` (such as `3 of 5`) and `status` of a table."""
        counted = {"n": len(self.known), "planned": self.planned, "diverged": self.diverged}
        runs = f"{self.finished} of {self.planned}"
        return counted | {"runs": runs, "status": status(self.finished, self.planned)}

    def described(self) -> dict[str, float]:
        """Columns `n`, `mean`, `sd`, `low` to `high` (95 %) and `low90` to `high90` of a table."""
        low90, high90 = interval(self.known, 0.90)
        return describe(self.known)._asdict() | {"low90": low90, "high90": high90}


def status(finished: int, planned: int) -> str:
    """`complete`, `not run`, or a count such as `3 of 5`."""
    return "not run" if not finished else "complete" if finished == planned else f"{finished} of {planned}"


def sample(evidence: Evidence, measure: Measure, pairs: Sequence[Runs], pool: Sequence[Runs] = ()) -> Sample:
    """Values of runs of one label, or differences between two; `pool`: runs of all networks of the cell."""
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


def compared_runs(test: Criterion, cell: Cell) -> list[Runs]:
    """Planned runs that a test compares in a cell, for one network, two networks or two sizes."""
    found = [registered_ids(label, cell) for label in test.networks]
    if test.kind == "sizes":
        found.append(registered_ids(test.network, next_smaller(cell)))
    return found


def planned_networks(cell: Cell, registration: Registration) -> dict[str, Runs]:
    """Planned runs of a cell by label: networks of its claims, with one of STUDY_NETWORKS all of them."""
    claims = [claim for claim in registration.claims for each in claim.cells if each.columns == cell.columns]
    labels = dict.fromkeys(label for claim in claims if claim.test for label in claim.test.networks)
    if any(label in STUDY_NETWORKS for label in labels):
        labels = dict.fromkeys(STUDY_NETWORKS) | labels
    found = {label: registered_ids(label, cell) for label in labels}
    return {label: runs for label, runs in found.items() if runs}


def measure_for(test: Criterion) -> Measure:
    """Function that returns the value of a test in each run."""
    if test.kind == "lead":
        return lambda curves: onset(curves) - change_point(test, curves)
    if test.kind == "change":
        return lambda curves: _change(test, curves, test.layer)
    if test.kind == "layers":
        return lambda curves: _change(test, curves, test.layer) - _change(test, curves, tuple(test.against))
    if test.kind == "share":
        return lambda curves: _quantity(test, curves).notnull().where(curves["epochs"] >= LEAST_EPOCHS)
    return lambda curves: _quantity(test, curves)


def change_point(test: Criterion, curves: xr.Dataset) -> xr.DataArray:
    """(run): epoch of the change-point of the quantity of a lead time; NaN for none."""
    return change_points.change_point(curves, test.layer, CHANGE_POINT_MARGIN, test.quantity)


def _change(test: Criterion, curves: xr.Dataset, layers: Sequence[str]) -> xr.DataArray:
    last = curves["epochs"] - 1
    if test.quantity == "correlation":
        by_layer = curves["correlation"].sel(center="components", layer=list(layers))
        return _at(by_layer.mean("layer", skipna=False), last)
    values = change_points.layer_means(curves, test.quantity, layers)
    if test.since is None:
        return _at(values, last) - _at(values, analysis.best_epoch(curves))
    return _at(values, last if test.until == "last" else test.until) - _at(values, test.since)


def _quantity(test: Criterion, curves: xr.Dataset) -> xr.DataArray:
    if test.quantity in RUN_QUANTITIES:
        return RUN_QUANTITIES[test.quantity](curves)
    if test.quantity == "correlation":
        return _change(test, curves, test.layer)
    name, _, moment = test.quantity.rpartition("_")
    if moment == "change":
        return _change(test.model_copy(update={"quantity": name}), curves, test.layer)
    return _at(change_points.layer_means(curves, name, test.layer), curves["epochs"] - 1)


def _at(values: xr.DataArray, epoch: object) -> xr.DataArray:
    return values.sel(epoch=epoch).drop_vars("epoch")
