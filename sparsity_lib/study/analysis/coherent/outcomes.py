"""Which runs shrink their weights in which way, and what came out of each: one row per run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study.analysis.comparison import Description, describe
from sparsity_lib.study.analysis.summary import LAST, chosen_accuracy, last_five_accuracy, only, trained
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.profiles import profile as profile_of
from sparsity_lib.study.runs.results import joined
from sparsity_lib.study.selection import Listed, parse_seeds, select

GRIDS = ("coherent", "coherent-strengths", "readings")  # of the last, weight decay alone
NONE, ALWAYS, DELAYED, GATED = "none", "always on", "delayed", "gated"
WAYS = (ALWAYS, DELAYED, GATED)
TERMS = ("L1", "L2")
DECAY = "weight decay"
GUESSING = 0.95  # a training loss above this share of the untrained network's is that of guessing
Cell = tuple[str, float, str]  # term, strength, way
QUANTITIES = {
    "accuracy": "accuracy at the end",
    "chosen_accuracy": "accuracy at the chosen epoch",
    "log_compression": "compression",
}


def experiments(profile: str, seeds: Listed | None = "", **asked: Any) -> list[Experiment]:
    """Those of the profile's grids in which gradients are watched, and vanillaNet's with weight decay.

    `seeds`: none are those of the published runs. `asked`: what else `study.select` takes. A grid that the
    profile lacks adds nothing.
    """
    grids = profile_of(profile).grids
    found = [
        experiment
        for name in GRIDS
        if name in grids
        for experiment in select(
            profile, grid=name, seeds=parse_seeds(seeds) or grids[name].published_seeds, **asked
        )
    ]
    return [e for e in found if e.network == "vanillaNet" and (e.rho is not None or e.weight_decay)]


def described(experiment: Experiment) -> dict[str, Any]:
    """What shrinks the experiment's weights: `term` ("" is none), its `strength`, and in which `way`."""
    for term, strength in zip(
        (*TERMS, DECAY), (experiment.l1, experiment.l2, experiment.weight_decay), strict=True
    ):
        if strength:
            gated = experiment.rho is not None and experiment.rho > -1
            way = DELAYED if experiment.delay else GATED if gated else ALWAYS
            return {"term": term, "strength": strength, "way": way}
    return {"term": "", "strength": 0.0, "way": NONE}


def gathered(
    curves: xr.Dataset | None, which: Sequence[Experiment], instead: xr.Dataset | None = None
) -> xr.Dataset:
    """The curves of these experiments, with the coordinates `term`, `strength` and `way` of each run.

    Runs of `instead` stand in for cells of which `curves` has none. Raises `StudyError` without any run.
    """
    parts: list[xr.Dataset] = []
    for part in (curves, instead):
        mine = _described(part, which)
        known = {key for before in parts for key in _keys(before)}
        new = [key not in known for key in _keys(mine)] if mine is not None else []
        if mine is not None and any(new):
            parts.append(mine.isel(run=new))
    if not parts:
        raise StudyError("there are no runs with strong L1 or L2: none are published, and none were trained")
    return joined(parts)


def _described(curves: xr.Dataset | None, which: Sequence[Experiment]) -> xr.Dataset | None:
    by_id = {experiment.id: experiment for experiment in which}
    there = [] if curves is None else [run for run in curves["run"].to_numpy().tolist() if run in by_id]
    if curves is None or not there:
        return None
    told = pd.DataFrame([described(by_id[run]) for run in there])
    mine = only(curves, run=there).dropna("epoch", how="all")
    return mine.assign_coords({name: ("run", told[name].to_numpy()) for name in told})


def _keys(curves: xr.Dataset) -> list[Cell]:
    return list(zip(*(curves[name].to_numpy().tolist() for name in ("term", "strength", "way")), strict=True))


def cells(curves: xr.Dataset) -> dict[Cell, xr.Dataset]:
    """`gathered` curves by term, strength and way, in order."""
    keys = _keys(curves)
    return {key: curves.isel(run=[each == key for each in keys]) for key in sorted(set(keys))}


def outcomes(
    curves: xr.Dataset, lost: Mapping[str, str] | None = None, which: Sequence[Experiment] = ()
) -> pd.DataFrame:
    """One row per run of `gathered` curves, and per experiment of `which` that is `lost`, having diverged.

    **Returns:** what the run is, and

    - `accuracy`: of the last five epochs, the network whose compression is given; `chosen_accuracy` (T18)
      can be that of an earlier, denser one;
    - `compression`: parameters over those that are not zero, after the last epoch; `log_compression`: its
      logarithm, NaN of a network that guesses, which needs no weights;
    - `guesses`: whether the training loss of the last five epochs is that of guessing, or infinite;
    - `loss_pull`, `term_pull`: norms of the gradients of the loss, in one batch, and of the term, after the
      first epoch.

    What was not measured, and all of this of a run that diverged, is NaN.
    """
    loss = curves["monitor_loss"].sel(split="train")
    end = loss.where(loss["epoch"] >= curves["epochs"] - LAST).mean("epoch")
    nonzero = _measured(curves, "nonzero_share").sel(epoch=curves["epochs"] - 1)
    table = pd.DataFrame(
        {name: curves[name].to_numpy() for name in ("run", "seed", "term", "strength", "way")}
        | {
            "accuracy": last_five_accuracy(curves).to_numpy(),
            "chosen_accuracy": chosen_accuracy(curves).to_numpy(),
            "compression": 1 / nonzero.to_numpy(),
            "guesses": (end > GUESSING * loss.sel(epoch=-1)).to_numpy(),
            "loss_pull": _measured(curves, "loss_gradient_norm").sel(epoch=0).to_numpy(),
            "term_pull": _measured(curves, "shrinkage_norm").sel(epoch=0).to_numpy(),
        }
    )
    diverged = [
        {"run": e.id, "seed": e.seed, "guesses": True} | described(e) for e in which if e.id in (lost or {})
    ]
    table = pd.concat([table, pd.DataFrame(diverged)]) if diverged else table
    table = table.astype({"guesses": bool}).sort_values(["term", "strength", "way", "seed"])
    return table.assign(log_compression=np.log(table["compression"].where(~table["guesses"])))


def _measured(curves: xr.Dataset, name: str) -> xr.DataArray:
    return curves[name] if name in curves else xr.full_like(trained(curves)["val_loss"], np.nan)


def cell(table: pd.DataFrame, term: str, strength: float, way: str) -> pd.DataFrame:
    """The rows of one term at one strength in one way, which may be none."""
    chosen = (table["term"] == term) & (table["strength"] == strength) & (table["way"] == way)
    return table[chosen]


def tolerance(table: pd.DataFrame, term: str) -> float:
    """The least strength at which at least half of the runs always on guess; NaN if there is none."""
    always = table[(table["term"] == term) & (table["way"] == ALWAYS)]
    shares = always.groupby("strength")["guesses"].mean()
    return float(shares.index[shares >= 0.5].min())


def difference_from(mine: pd.DataFrame, other: pd.DataFrame, quantity: str) -> Description:
    """A cell's quantity less that of another, in pairs of the same seed; n is 0 without any."""
    pairs = mine.set_index("seed")[quantity] - other.set_index("seed")[quantity]
    return describe(pairs.round(6) if len(pairs) else np.nan)  # no digits beyond float32's


def comparisons(table: pd.DataFrame) -> pd.DataFrame:
    """Each way at each strength against none, and against the same strength always on, by seed.

    **Returns:** one row per term, strength, way, `against` and `quantity`: the runs, how many of them
    `guess`, and `difference`, the `Description` of the pairs. That of `log_compression` is the logarithm of
    a factor; pairs of which one guesses are missing from it.
    """
    plain = table[table["way"] == NONE]
    rows = []
    for (term, strength, way), mine in table[table["way"] != NONE].groupby(
        ["term", "strength", "way"], sort=False
    ):
        others = {NONE: plain} | ({} if way == ALWAYS else {ALWAYS: cell(table, term, strength, ALWAYS)})
        for against, other in others.items():
            rows += [
                {"term": term, "strength": strength, "way": way, "against": against, "quantity": quantity}
                | {"runs": len(mine), "guess": int(mine["guesses"].sum())}
                | {"difference": difference_from(mine, other, quantity)}
                for quantity in QUANTITIES
            ]
    if not rows:
        raise StudyError("there are no runs with a regulariser to compare")
    return pd.DataFrame(rows)
