"""Warnings judged on runs on which nothing was chosen: other seeds, labels, architectures, images.

Everything takes the curves of published runs, by profile, as `stored` gives them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib import entropy_drop
from sparsity_lib.study.analysis.comparison import describe
from sparsity_lib.study.analysis.summary import SETTING, of_grid, only
from sparsity_lib.study.analysis.warning.detection import choose, judge
from sparsity_lib.study.analysis.warning.rules import of_known
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.profiles import PROFILES
from sparsity_lib.study.recipes import PLAIN
from sparsity_lib.study.runs.results import joined, published_parts

# EntropyDropDetector as it comes: of its layers the mean, and the first that begins to collapse.
AS_IT_COMES = {"entropy": entropy_drop.MARGIN, "entropy, first layer": entropy_drop.MARGIN}
IN_TIME = ("hit", "early")

_ALL: dict[str, object] = {}
_PLAIN, _CLEAN, _REDRAWN = {"label": PLAIN}, {"label_noise": 0.0}, {"label_noise": 0.3}

Published = Mapping[str, xr.Dataset]
Runs = Callable[[Published], xr.Dataset]


@dataclass(frozen=True)
class Transfer:
    """Parameters chosen on some runs and judged on others.

    **Fields:**

    - `name`: what changes, as in `clean → redrawn labels`.
    - `chosen_on`: the number of runs on which each rule's parameter was chosen; both halves' together, where
        each half's runs are judged by what was chosen on the other.
    - `judged`: `detection.judge` of the other runs.
    """

    name: str
    chosen_on: int
    judged: pd.DataFrame


def stored() -> dict[str, xr.Dataset]:
    """The published runs of every profile that has any; of those that are one training, the first."""
    found = {}
    for name in PROFILES:
        if parts := published_parts(name):
            lean = [part.drop_vars(["correlation", "knockout_accuracy"], errors="ignore") for part in parts]
            found[name] = _each_once(joined(lean))
    return found


def _each_once(curves: xr.Dataset) -> xr.Dataset:
    # One training may be in several grids: to record gradients too, or for more epochs. By what it is, as its
    # numbers may differ by rounding.
    fields = [name for name in (*SETTING, "seed") if name in curves.coords and name != "epochs"]
    told = pd.DataFrame({name: curves[name].to_numpy() for name in fields})
    told["label"] = [label.replace(" rho=-1.0", "") for label in curves["label"].to_numpy()]
    return curves.isel(run=~told.duplicated().to_numpy())


def every_run(of: Published) -> pd.DataFrame:
    """`detection.judge` of all runs by `EntropyDropDetector` with its defaults; and each `network`.

    Raises `StudyError` if there are no runs.
    """
    if not of:
        raise StudyError("no profile has published runs yet")
    judged = judge(joined(list(of.values())), AS_IT_COMES)
    return judged.assign(network=judged["label"].str.split().str[0])


def _networks(of: Published) -> xr.Dataset:
    return of_grid(of.get("laptop"), "laptop")


def _penalised(of: Published) -> xr.Dataset:
    """The runs with L1, L2 and the perplexity penalty, in which the norm of the weights is known."""
    grids = ("perplexity", "coherent")
    return joined([of_grid(of.get("laptop"), "laptop", grid) for grid in grids])


def _part(later: bool, of_these: Runs = _networks, fields: Mapping[str, object] = _ALL) -> Runs:
    """The runs of the later half of these runs' seeds, or of the others, that have these values."""

    def runs(of: Published) -> xr.Dataset:
        curves = of_these(of)
        is_later = (curves["seed"] > np.median(np.unique(curves["seed"]))).to_numpy()
        return only(curves.isel(run=is_later == later), **fields)

    return runs


def _grid(profile: str, grid: str = "networks") -> Runs:
    return lambda of: of_grid(of.get(profile), profile, grid)


def _crossed(
    choose_on: Mapping[str, object], judge_on: Mapping[str, object], of_these: Runs = _networks
) -> list[tuple[Runs, Runs]]:
    """Chosen on one half of the seeds and judged on the other, and the reverse: each run is judged once."""
    return [
        (_part(later, of_these, choose_on), _part(not later, of_these, judge_on)) for later in (True, False)
    ]


# What is chosen on, and what is judged; of all grids, the first seeds are among the earlier ones.
PLANS: dict[str, list[tuple[Runs, Runs]]] = {
    f"{PLAIN} alone: other seeds": _crossed(_PLAIN, _PLAIN),
    "all networks: other seeds": _crossed(_ALL, _ALL),
    "clean → redrawn labels": _crossed(_CLEAN, _REDRAWN),
    "redrawn → clean labels": _crossed(_REDRAWN, _CLEAN),
    "baseline → LeNet, AlexNet": [(_part(True, fields=_REDRAWN), _grid("laptop", "lenet-alexnet"))],
    **{f"laptop → {name}": [(_part(True), _grid(name))] for name in PROFILES if name != "laptop"},
    "penalised networks: other seeds": _crossed(_ALL, _ALL, _penalised),
    "desktop: other seeds": _crossed(_ALL, _ALL, _grid("desktop", "perplexity")),
    "penalised networks: laptop → desktop": [(_part(True, _penalised), _grid("desktop", "perplexity"))],
}


def transfers(of: Published) -> list[Transfer]:
    """All of PLANS for which there are published runs.

    Of the runs to choose on, those of seeds to be judged are left out: trainings of one seed begin alike.

    **Raises:** `StudyError` if there are none.
    """
    found, chosen = [], _Chosen()
    for name, pairs in PLANS.items():
        try:
            runs = [_apart(choose_on(of), judge_on(of)) for choose_on, judge_on in pairs]
        except StudyError:
            continue
        judged = []
        for known, new in runs:
            judged.append(judge(new, of_known(chosen.on(known), new)))
        chosen_on = sum(known.sizes["run"] for known, _ in runs)
        found.append(Transfer(name, chosen_on, pd.concat(judged, ignore_index=True)))
    if not found:
        raise StudyError("there are no published runs to choose a warning's parameters on")
    return found


def _apart(known: xr.Dataset, new: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """The runs to choose on that have none of the others' seeds, and those; `StudyError` without any."""
    known = known.isel(run=~known["seed"].isin(new["seed"].to_numpy()).to_numpy())
    if not known.sizes["run"]:
        raise StudyError("all runs to choose on are of seeds to judge on")
    return known, new


class _Chosen:
    """Parameters by the runs they were chosen on: choosing takes the time, and several plans share runs."""

    def __init__(self) -> None:
        self._by_runs: dict[tuple[str, ...], dict[str, float]] = {}

    def on(self, curves: xr.Dataset) -> dict[str, float]:
        runs = tuple(curves["run"].to_numpy().tolist())
        if runs not in self._by_runs:
            self._by_runs[runs] = choose(curves)
        return self._by_runs[runs]


def blinded(judged: pd.DataFrame, rule: str = "entropy") -> pd.DataFrame:
    """Is a network that overfits warned of in time as often as the plain network?

    **Arguments:** `judged`: `detection.judge` of one setting's networks.

    **Returns:** one row per network: the runs that `overfit`, those of these `warned` of in time, which is a
    hit or earlier; and of the seeds with which it and vanillaNet overfit both, n, the mean difference of the
    two shares, its SD and 95 % t interval.

    **Raises:** `StudyError` if vanillaNet has no run that overfits.
    """
    mine = judged[(judged["rule"] == rule) & judged["onset"].notna()]
    wide = mine.assign(warned=mine["outcome"].isin(IN_TIME).astype(float))
    wide = wide.pivot(index="seed", columns="label", values="warned")
    if PLAIN not in wide:
        raise StudyError(f"no run of {PLAIN} overfits: there is nothing to hold the other networks against")
    return pd.DataFrame(
        {"label": label, "overfit": int(wide[label].count()), "warned": int(wide[label].sum())}
        | describe(wide[label] - wide[PLAIN])._asdict()
        for label in wide
    )
