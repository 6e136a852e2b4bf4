"""Entropy on training images against entropy on held-out ones: does the gap say more than the level?

Of one setting's runs. The *gap* is the entropy on training images less that on as many held-out ones, the
*level* is the latter; both in nats, by layer.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import rankdata

from sparsity_lib.study.analysis.summary import LAST, moment_of_overfitting, summary, trained, watched
from sparsity_lib.study.analysis.timing import BASELINE, lead, lead_by_chance
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.recipes import TARGETED

SIGNS = ("gap", "level")
OUTCOMES = {
    "val_loss_rise": "rise of validation loss",
    "accuracy_gap": "training less validation accuracy",
}
SCOPES = {"all": "over all runs of these networks", "within": "within networks"}
FEWEST = 5  # seeds: ranks of fewer tell little
MARGINS = (0.05, 0.005)  # of ln D: that of the claims, and a tenth of it


def gap_and_level(curves: xr.Dataset) -> xr.Dataset:
    """`gap` and `level` (run, layer, epoch), in nats."""
    entropy = curves["entropy"].sel(layer=watched(curves))
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
    """Rank correlations of the gap and of the level at the end with how much a run overfits; exploratory.

    **Arguments:** `curves`: one setting's runs; the seeds that not all networks have are left out.
    `resamples`: of the seeds, all networks of a seed together, for the intervals; drawn with a fixed seed.

    **Returns:** one row per layer, outcome, scope and `sign`: Spearman's correlation `rho`. The scope
    `within` ranks each network's runs among themselves, and has a 95 % bootstrap interval `low` to `high`.
    The scope `all` ranks all runs, which mostly tells these few networks apart. An interval of it would have
    to draw other networks, not other seeds: it has none (NaN).

    **Raises:** `StudyError` for fewer than five seeds.
    """
    worse, ends = outcomes(curves), _ends(curves)
    picked = _picked(curves, resamples)
    rows = []
    for layer, outcome, scope, sign in itertools.product(watched(curves), OUTCOMES, SCOPES, SIGNS):
        runs = picked if scope == "within" else picked[:1]
        rho = _spearman(ends[sign].sel(layer=layer).to_numpy()[runs], worse[outcome].to_numpy()[runs], scope)
        low, high = _interval(rho)
        rows.append(
            {"layer": layer, "outcome": outcome, "scope": scope, "sign": sign}
            | {"rho": rho[0], "low": low, "high": high}
        )
    return pd.DataFrame(rows)


def decisive(curves: xr.Dataset, resamples: int = 1000) -> dict[str, float]:
    """The one comparison that decides whether the gap says more than the level.

    Within networks, of the layers that TSR penalises: the mean size (without sign) of the rank correlation
    with the rise of the validation loss.

    **Arguments:** as of `told_by`.

    **Returns:** that mean of the `gap` and of the `level`, their `difference`, its 95 % bootstrap interval
    `low` to `high`, and the numbers of `seeds` and `networks`.

    **Raises:** `StudyError` for fewer than five seeds, or where the runs have none of these layers.
    """
    layers = watched(curves, TARGETED)
    if not layers:
        raise StudyError(f"these runs have none of the layers {', '.join(TARGETED)} that decide")
    picked, ends = _picked(curves, resamples), _ends(curves)
    worse = outcomes(curves)["val_loss_rise"].to_numpy()[picked]
    size = {}
    for sign in SIGNS:
        each = [
            _spearman(ends[sign].sel(layer=layer).to_numpy()[picked], worse, "within") for layer in layers
        ]
        size[sign] = np.abs(each).mean(axis=0)
    difference = size["gap"] - size["level"]
    low, high = _interval(difference)
    _, networks, seeds = picked.shape
    return {
        **{sign: float(values[0]) for sign, values in size.items()},
        **{"difference": float(difference[0]), "low": low, "high": high},
        **{"seeds": seeds, "networks": networks},
    }


def _ends(curves: xr.Dataset) -> xr.Dataset:
    return gap_and_level(trained(curves)).map(_end, args=(curves["epochs"],))


def _picked(curves: xr.Dataset, resamples: int) -> np.ndarray:
    # (1 + resamples, network, seed): places of runs, first as they are, then with resampled seeds
    runs = pd.DataFrame({name: curves[name].to_numpy() for name in ("label", "seed")}).reset_index()
    wide = runs.pivot(index="label", columns="seed", values="index").dropna(axis="columns").astype(int)
    seeds = wide.shape[1]
    if seeds < FEWEST:
        raise StudyError(f"seeds with runs of all networks: {seeds}; ranks need at least {FEWEST}")
    again = np.random.default_rng(0).integers(seeds, size=(resamples, seeds))
    return wide.to_numpy()[:, np.vstack([np.arange(seeds), again])].swapaxes(0, 1)


def _interval(values: np.ndarray) -> tuple[float, float]:
    # of the resampled values, which come after the first
    if len(values) == 1:
        return np.nan, np.nan
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return float(low), float(high)


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

    `timing.change_point`, the claims' rule, looks for a fall alone. Nothing says which way a gap would open,
    so here both are judged by a rule with two sides.
    """
    after = values.sel(epoch=values["epoch"] >= 0)
    first, later = after.isel(epoch=slice(BASELINE)), after.isel(epoch=slice(BASELINE, None))
    outside = (later > first.max("epoch") + margin) | (later < first.min("epoch") - margin)
    twice = outside & outside.shift(epoch=1, fill_value=False)
    epoch = twice["epoch"].isel(epoch=twice.argmax("epoch"))
    return epoch.drop_vars("epoch").where(twice.any("epoch"))


def timing(curves: xr.Dataset, margins: Sequence[float] = MARGINS) -> pd.DataFrame:
    """When the gap and the level first depart, against the moment of overfitting (T10), and against chance.

    **Returns:** one row per margin (a share of ln D), sign and layer:

    - `runs`, those that have a moment; how many of these depart at all (`departs`), and before it (`before`);
    - `others`, the runs that do not overfit, and how many of these depart (`false`);
    - `sd`, in epochs, of the lead (positive is before) within networks, and the SDs that rules without
      knowledge of the run have: the onsets of other runs of the network (`sd_others`), and one constant epoch
      (`sd_constant`). NaN where no network has two leads.

    **Raises:** `StudyError` if no run has a moment of overfitting.
    """
    moment = moment_of_overfitting(curves)
    overfits = moment.notnull().to_numpy()
    if not overfits.any():
        raise StudyError("none of these runs has a moment of overfitting for entropies to be held against")
    signs = gap_and_level(curves)
    rows = []
    for margin, sign, layer in itertools.product(margins, SIGNS, watched(curves)):
        full = float(np.log(curves["channels"].sel(layer=layer).max()))
        first = departure(signs[sign].sel(layer=layer), margin * full)
        there = first.notnull().to_numpy()
        rows.append(
            {"margin": margin, "sign": sign, "layer": layer}
            | {"runs": int(overfits.sum()), "departs": int((overfits & there).sum())}
            | {"before": int((lead(moment, first) > 0).sum())}
            | {"others": int((~overfits).sum()), "false": int((~overfits & there).sum())}
            | _spreads(moment, first, curves["label"].to_numpy())
        )
    return pd.DataFrame(rows)


def _spreads(moment: xr.DataArray, first: xr.DataArray, label: np.ndarray) -> dict[str, float]:
    # SDs of the lead and of chance's, pooled over the networks: their means may differ
    leads = []
    for name in np.unique(label):
        mine = label == name
        own = lead(moment[mine], first[mine]).dropna("run").to_numpy()
        if len(own) > 1:
            chance = lead_by_chance(moment[mine], first[mine])
            leads.append({"sd": own} | {f"sd_{rule}": values for rule, values in chance.items()})
    if not leads:
        return dict.fromkeys(("sd", "sd_others", "sd_constant"), np.nan)
    weights = [len(of["sd"]) - 1 for of in leads]
    return {
        name: float(np.sqrt(np.average([of[name].var(ddof=1) for of in leads], weights=weights)))
        for name in leads[0]
    }
