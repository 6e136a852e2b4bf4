"""Entropy on training images against entropy on held-out ones: does the gap say more than the level?

Of one setting's runs. The *gap* is the entropy on training images less that on as many held-out ones, the
*level* is the latter; both in nats, by layer.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import rankdata

from sparsity_lib.study.analysis import LAST, labels, moment_of_overfitting, summary, trained
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.questions import layers_of

SIGNS = ("gap", "level")
OUTCOMES = {
    "val_loss_rise": "rise of validation loss",
    "accuracy_gap": "training less validation accuracy",
}
SCOPES = {"all": "over all runs", "within": "within networks"}
MARGINS = (0.05, 0.005)  # of ln D: that of the claims, and a tenth of it
FIRST = 5  # epochs, whose range a departure leaves


def gap_and_level(curves: xr.Dataset) -> xr.Dataset:
    """`gap` and `level` (run, layer, epoch), in nats."""
    entropy = curves["entropy"].sel(layer=layers_of(curves))
    held_out = entropy.sel(split="monitor", drop=True)
    return xr.Dataset({"gap": entropy.sel(split="train", drop=True) - held_out, "level": held_out})


def _end(values: xr.DataArray, epochs: xr.DataArray) -> xr.DataArray:
    return values.where(values["epoch"] >= epochs - LAST).mean("epoch")


def outcomes(curves: xr.Dataset) -> pd.DataFrame:
    """One row per run: label, seed, and how much it overfits, in the two ways of OUTCOMES.

    `val_loss_rise` (nats) is from its lowest smoothed value to the last five epochs; `accuracy_gap` is the
    accuracy on training images less that on validation images, both in evaluation mode, mean of the last
    five.
    """
    after = trained(curves)
    accuracies = after["monitor_accuracy"].sel(split="train"), after["val_accuracy"]
    training, validation = (_end(accuracy, curves["epochs"]) for accuracy in accuracies)
    table = summary(curves)[["run", "label", "seed", "val_loss_rise"]]
    return table.assign(accuracy_gap=(training - validation).to_numpy())


def told_by(curves: xr.Dataset, resamples: int = 1000) -> pd.DataFrame:
    """Rank correlations of the gap and of the level at the end with how much a run overfits.

    **Arguments:** `curves`: one setting's runs; the seeds that not all networks have are left out.
    `resamples`: of the seeds, all networks of a seed together, for the intervals; drawn with a fixed seed.

    **Returns:** one row per layer, outcome, scope and `sign`: Spearman's correlation `rho` and its 95 %
    bootstrap interval `low` to `high`. The scope `all` ranks all runs, so it also tells networks apart;
    `within` ranks each network's runs among themselves. The sign `gap - level` is the difference of the two
    correlations, both taken without their sign: above zero, the gap says more.

    **Raises:** `StudyError` for fewer than three seeds.
    """
    table = outcomes(curves)
    place = table.reset_index().pivot(index="label", columns="seed", values="index")
    place = (
        place.loc[labels(curves)].dropna(axis="columns").astype(int).to_numpy()
    )  # (network, seed): the run
    seeds = place.shape[1]
    if seeds < 3:
        raise StudyError(f"{seeds} seeds have runs of all networks; rank correlations need three or more")
    generator = np.random.default_rng(0)
    drawn = np.vstack([np.arange(seeds), generator.integers(seeds, size=(resamples, seeds))])
    picked = place[:, drawn].swapaxes(0, 1)  # (resample, network, seed): the run; the first is as it was
    ends = {n: _end(v, curves["epochs"]) for n, v in gap_and_level(trained(curves)).items()}
    rows = []
    for layer in layers_of(curves):
        signs = {str(name): values.sel(layer=layer).to_numpy()[picked] for name, values in ends.items()}
        for outcome in OUTCOMES:
            worse = table[outcome].to_numpy()[picked]
            for scope in SCOPES:
                rho = {name: _spearman(values, worse, scope) for name, values in signs.items()}
                rho["gap - level"] = np.abs(rho["gap"]) - np.abs(rho["level"])
                rows += [
                    {"layer": layer, "outcome": outcome, "scope": scope, "sign": name, "rho": values[0]}
                    | dict(zip(("low", "high"), np.nanquantile(values[1:], (0.025, 0.975)), strict=True))
                    for name, values in rho.items()
                ]
    return pd.DataFrame(rows)


def _spearman(a: np.ndarray, b: np.ndarray, scope: str) -> np.ndarray:
    # a, b (resample, network, seed) -> (resample,); 0 where all ranks are equal
    if scope == "all":
        a, b = (values.reshape(len(values), 1, -1) for values in (a, b))
    a, b = (rankdata(values, axis=-1) for values in (a, b))
    a, b = (values - values.mean(-1, keepdims=True) for values in (a, b))
    product, squares = (a * b).sum((1, 2)), (a**2).sum((1, 2)) * (b**2).sum((1, 2))
    return np.divide(product, np.sqrt(squares), out=np.zeros(len(a)), where=squares > 0)


def departure(values: xr.DataArray, margin: float) -> xr.DataArray:
    """The epoch at which values (..., epoch) have left the range of their first five, whichever way.

    The second of the first two epochs in a row, from epoch 5 on, outside the range of epochs 0 to 4 by more
    than `margin`, in nats. It uses no later epoch, and no loss. NaN if there is none.
    """
    after = values.sel(epoch=values["epoch"] >= 0)
    first, later = after.isel(epoch=slice(FIRST)), after.isel(epoch=slice(FIRST, None))
    outside = (later > first.max("epoch") + margin) | (later < first.min("epoch") - margin)
    twice = outside & outside.shift(epoch=1, fill_value=False)
    epoch = twice["epoch"].isel(epoch=twice.argmax("epoch"))
    return epoch.drop_vars("epoch").where(twice.any("epoch"))


def timing(curves: xr.Dataset, margins: Sequence[float] = MARGINS) -> pd.DataFrame:
    """When the gap and the level first depart, against the moment of overfitting (T10).

    **Returns:** one row per layer, margin (a share of ln D) and sign: of the runs that have a moment, how
    many (`runs`), how many of these depart at all (`departs`) and before it (`before`), and the median
    `lead`, in epochs, of those that depart: positive is before.

    **Raises:** `StudyError` if no run has a moment of overfitting.
    """
    moment = moment_of_overfitting(curves)
    runs = moment.notnull().to_numpy()
    if not runs.any():
        raise StudyError("none of these runs has a moment of overfitting for entropies to be held against")
    signs, moment = gap_and_level(curves.isel(run=runs)), moment.isel(run=runs)
    rows = []
    for layer in layers_of(curves):
        full = float(np.log(curves["channels"].sel(layer=layer).max()))
        for margin in margins:
            for sign in SIGNS:
                first = departure(signs[sign].sel(layer=layer), margin * full)
                lead = (moment - first).to_numpy()
                rows.append(
                    {"layer": layer, "margin": margin, "sign": sign, "runs": len(lead)}
                    | {"departs": int(np.isfinite(lead).sum()), "before": int((lead > 0).sum())}
                    | {"lead": float(np.nanmedian(lead)) if np.isfinite(lead).any() else np.nan}
                )
    return pd.DataFrame(rows)
