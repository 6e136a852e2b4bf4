"""Which runs change what, and what came out of each: one row per run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study.analysis.summary import only, summary, trained
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.profiles import profile as profile_of
from sparsity_lib.study.queue.scheduling import load_or_train_all
from sparsity_lib.study.recipes import TARGETED
from sparsity_lib.study.runs.file import Run
from sparsity_lib.study.runs.results import curves as curves_of
from sparsity_lib.study.runs.results import joined
from sparsity_lib.study.selection import Listed, parse_seeds, select

NETWORKS = "vanillaNet,dropNet,normNet,sr2Net,sr3Net,varNet"  # in the default reading, to compare with
READINGS: dict[str, tuple[str, dict[object, str]]] = {
    "include_bias": ("T1", {False: "without the bias"}),
    "activation": ("T1", {"after": "after the ReLU"}),
    "reduction": ("T2", {"mean": "mean over positions"}),
    "center": ("T3", {"components": "own mean", "none": "no mean"}),
    "decorrelation_penalty": ("T4", {name: name for name in ("absolute", "squared", "local")}),
    "norm_placement": ("T5", {"convolution": "a norm per convolution"}),
    "dropout_placement": ("T5", {"convolution": "dropout per convolution"}),
    "init": ("T6", {"pytorch": "PyTorch's initialisation"}),
    "input_scaling": ("T7", {"standardize": "standardised inputs"}),
}
WITHOUT_FC1 = "without fc1"
_COLUMNS = (
    "run",
    "network",
    "label",
    "seed",
    "numerics",
    "change",
    "family",
    "strength",
    "onset_loss",
)


def experiments(profile: str, seeds: Listed | None = "", **asked: Any) -> list[Experiment]:
    """The experiments of the profile's grid "readings", and the unchanged networks in the same setting.

    `seeds`: none are those of the published runs. `asked`: what else `study.select` takes. A profile without
    that grid has none.
    """
    grids = profile_of(profile).grids
    if "readings" not in grids:
        return []
    theirs = {name: parse_seeds(seeds) or grids[name].published_seeds for name in ("networks", "readings")}
    changed = select(profile, grid="readings", seeds=theirs["readings"], **asked)
    unchanged = select(profile, NETWORKS, seeds=theirs["networks"], **asked)
    settings = {_setting(experiment) for experiment in changed}
    return [*(e for e in unchanged if _setting(e) in settings), *changed]


def fresh(profile: str, seeds: Listed | None, **asked: Any) -> list[Run]:
    """The runs of `experiments` with these seeds, loaded or trained; none if no seeds are said."""
    return load_or_train_all(experiments(profile, seeds, **asked)) if parse_seeds(seeds) else []


def _setting(experiment: Experiment) -> tuple[object, ...]:
    fields = ("dataset", "size", "limit", "label_noise", "optimizer", "epochs", "data_seed")
    return (experiment.learning_rate(), *(getattr(experiment, field) for field in fields))


def gathered(published: xr.Dataset | None, runs: Sequence[Run]) -> xr.Dataset | None:
    """The published curves with what `runs` add: those not among them, and correlations that they lack.

    (The curves of older published runs are without the correlations of filters, which their files have.)
    """
    if not runs:
        return published
    mine = curves_of(runs)
    if published is None:
        return mine
    kept = mine["correlation"].reset_coords(drop=True)
    known = published["correlation"].reset_coords(drop=True) if "correlation" in published else kept
    filled = known.combine_first(kept).reindex(run=published["run"], epoch=published["epoch"])
    new = mine.isel(run=~mine["run"].isin(published["run"]).to_numpy())
    both = [published.assign(correlation=filled.reset_coords(drop=True)), new]
    return joined([part for part in both if part.sizes["run"]])


def name_of(experiment: Experiment, conv_scale: float = 1.0) -> str:
    """What the experiment changes, in a few words, as `T1: after the ReLU`; empty if nothing.

    `conv_scale` is the factor on conv layers' lambda that is unchanged. Without it, entropy is averaged over
    as many positions (T2).
    """
    told = [
        f"{number}: {words[value]}"
        for field, (number, words) in READINGS.items()
        if (value := getattr(experiment, field)) in words
    ]
    told += [f"weight decay {experiment.weight_decay:g}"] if experiment.weight_decay else []
    told += [f"label smoothing {experiment.label_smoothing:g}"] if experiment.label_smoothing else []
    if experiment.network == "dropNet" and experiment.dropout != Experiment.model_fields["dropout"].default:
        told.append(f"dropout {experiment.dropout:g}")
    if experiment.sparsity:
        told.append(f"λ = {experiment.sparsity['fc1']:g}" if "fc1" in experiment.sparsity else WITHOUT_FC1)
    elif experiment.strengths()["sparsity"] and experiment.lambda_conv_scale != conv_scale:
        told.append("T2: mean over positions")
    return ", ".join(told)


def _family(experiment: Experiment) -> tuple[str, float]:
    """What is tuned, and its strength; none for a reading."""
    for field in ("weight_decay", "label_smoothing"):
        if strength := getattr(experiment, field):
            return field.replace("_", " "), strength
    if experiment.network == "dropNet":
        return "dropout", experiment.dropout
    if experiment.network == "sr2Net":
        return "SparsityReg", experiment.strengths()["sparsity"].get("fc1", np.nan)
    return "", np.nan


def outcomes(curves: xr.Dataset | None, described: Sequence[Experiment]) -> pd.DataFrame:
    """One row per run of `curves` that is one of the experiments; no rows if there are none.

    **Returns:** the columns of `analysis.summary`, and

    - `change`: its `name_of`; `family` and `strength`: what is tuned, and how strongly;
    - `center` and `penalty`: the readings T3 and T4;
    - `monitor_accuracy`: at the chosen epoch, on the images by which it is chosen;
    - `entropy_end`, and `entropy_drop` from the best epoch to the end: mean over conv3, conv4 and fc1, in
      shares of ln D;
    - `correlation:filters`, `correlation:components`: mean |c| of conv1's filters at the end; NaN where the
      run did not keep it.
    """
    by_id = {experiment.id: experiment for experiment in described}
    there = [] if curves is None else [str(run) for run in curves["run"].to_numpy() if str(run) in by_id]
    if curves is None or not there:
        return pd.DataFrame(columns=list(_COLUMNS))
    curves = only(curves, run=there)
    table = summary(curves)
    targeted = [layer for layer in TARGETED if layer in curves["layer"]]
    whole = np.log(curves["channels"].sel(layer=targeted).to_numpy())  # (run, layer), nats
    best, end = (
        table[[f"entropy_{moment}:{layer}" for layer in targeted]] / whole for moment in ("best", "end")
    )
    conv_scale = max(experiment.lambda_conv_scale for experiment in described)
    mine = [by_id[run] for run in there]
    columns: dict[str, object] = {
        "change": [name_of(experiment, conv_scale) for experiment in mine],
        "family": [_family(experiment)[0] for experiment in mine],
        "strength": [_family(experiment)[1] for experiment in mine],
        "center": [experiment.center for experiment in mine],
        "penalty": [experiment.decorrelation_penalty for experiment in mine],
        "monitor_accuracy": trained(curves)["monitor_accuracy"].sel(split="monitor").max("epoch").to_numpy(),
        "entropy_end": end.to_numpy().mean(1),
        "entropy_drop": best.to_numpy().mean(1) - end.to_numpy().mean(1),
    }
    columns |= {f"correlation:{center}": _at_the_end(curves, center) for center in ("filters", "components")}
    table = table.assign(**columns)
    table.loc[table["change"].str.contains("T\\d"), ["family", "strength"]] = ["", np.nan]
    return table


def _at_the_end(curves: xr.Dataset, center: str) -> np.ndarray:
    if "correlation" not in curves:
        return np.full(curves.sizes["run"], np.nan)
    of_conv1 = curves["correlation"].sel(layer="conv1", center=center)
    return of_conv1.sel(epoch=curves["epochs"] - 1).to_numpy()


def measured(table: pd.DataFrame, network: str, change: str, quantity: str) -> pd.Series:
    """The quantity of a cell's runs, by seed; `StudyError` if the cell has no runs."""
    cell = table[(table["network"] == network) & (table["change"] == change)]
    if cell.empty:
        raise StudyError(f"there are no runs of {network} {change or '(unchanged)'} to compare")
    return cell.set_index("seed")[quantity].astype(float).round(6)  # no digits beyond float32's
