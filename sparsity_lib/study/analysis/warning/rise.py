"""Does perplexity sparsity rise shortly before the validation loss does? Claim A of arXiv 2104.06153.

Of the feature-extraction layers, which are the convolutions: the mean over them, on held-out images. What is
set beside it is the SD of the same activations, by the same rule. Everything takes `study.curves(runs)`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.entropy_drop import collapse_epochs
from sparsity_lib.study.analysis.comparison import describe
from sparsity_lib.study.analysis.sparsity import convolutions
from sparsity_lib.study.analysis.summary import (
    labels,
    layers_of,
    moment_of_overfitting,
    only,
    settings,
    smoothed,
    trained,
)
from sparsity_lib.study.analysis.timing import BASELINE, PATIENCE, sd
from sparsity_lib.study.analysis.warning.detection import WITHIN, by_seed
from sparsity_lib.study.errors import StudyError

SHORTLY = WITHIN  # epochs before the moment of overfitting, itself included
WINDOWS = tuple((start, start + SHORTLY) for start in (-2 * SHORTLY, -SHORTLY, 0, SHORTLY))  # after it


def feature_layers(curves: xr.Dataset) -> list[str]:
    """The convolutions that at least one of the runs has; `StudyError` if none has any."""
    networks = np.unique(curves["network"])
    known = {layer for network in networks for layer in convolutions(str(network))}
    found = [layer for layer in layers_of(curves) if layer in known or layer.startswith("conv")]
    if not found:
        raise StudyError(f"these runs have no convolution; there are {', '.join(layers_of(curves))}")
    return found


def feature_sparsity(curves: xr.Dataset) -> xr.DataArray:
    """(run, epoch), from epoch 0 on: perplexity sparsity, the mean over the convolutions."""
    return _features(curves, "perplexity_sparsity").mean("layer")


def _log_sd(curves: xr.Dataset) -> xr.DataArray:
    sds = _features(curves, "sd")
    return xr.apply_ufunc(np.log, sds.where(sds > 0)).mean("layer")


def _features(curves: xr.Dataset, quantity: str) -> xr.DataArray:
    mine = trained(curves[["channels", quantity]])
    found = mine[quantity].sel(split="monitor", layer=feature_layers(mine))
    return found.transpose("run", "layer", "epoch")


# What rises, and by how much: 0.05 as for entropies in shares of ln D, and the SD to its double.
SIGNALS: dict[str, tuple[Callable[[xr.Dataset], xr.DataArray], float]] = {
    "perplexity sparsity": (feature_sparsity, 0.05),
    "SD": (_log_sd, float(np.log(2))),
}


def rises(curves: xr.Dataset) -> pd.DataFrame:
    """When each signal is known to have risen, and whether that is shortly before the moment of overfitting.

    It is known in the second of the first two epochs in a row, from epoch 5 on, in which it lies above the
    highest of its values in epochs 0 to 4 by more than its margin.

    **Returns:** one row per run and signal:

    - `run`, `setting`, `label`, `seed`, `signal`;
    - `onset`, `rose`, in epochs, NaN for none; `lead`, their difference: positive is before overfitting;
    - `shortly`: 1 if the lead is 0 to SHORTLY, else 0; NaN for a run that does not overfit;
    - `by_others`: the same, had another run of this network and setting given the rise: the mean over these;
    - `by_constant`: the same, with one epoch as the rise: the median moment of these others, less half of
        SHORTLY. Both NaN where there is no other.

    **Raises:** `StudyError` for no runs, or runs without convolutions.
    """
    parts = []
    for title, group in settings(curves):
        for label in labels(group):
            mine = only(group, label=label)
            onset = moment_of_overfitting(mine).to_numpy()
            identity = {"run": mine["run"].to_numpy(), "setting": title, "label": label}
            identity |= {"seed": mine["seed"].to_numpy()}
            for name, (signal, margin) in SIGNALS.items():
                falling = -signal(mine).to_numpy()
                rose = collapse_epochs(falling, margin=margin, reference=BASELINE, patience=PATIENCE)
                told = {"signal": name, "onset": onset, "rose": rose, "lead": onset - rose}
                told["shortly"] = _shortly(onset, rose)
                told |= _by_chance(onset, rose)
                parts.append(pd.DataFrame(identity | told))
    return pd.concat(parts, ignore_index=True)


def _shortly(onset: np.ndarray, rose: np.ndarray) -> np.ndarray:
    lead = onset - rose
    return np.where(np.isfinite(onset), (lead >= 0) & (lead <= SHORTLY), np.nan)


def _by_chance(onset: np.ndarray, rose: np.ndarray) -> dict[str, np.ndarray]:
    others, constant = np.full(len(onset), np.nan), np.full(len(onset), np.nan)
    for i in range(len(onset)):
        if np.isfinite(onset[i]) and len(onset) > 1:
            others[i] = _shortly(onset[i], np.delete(rose, i)).mean()
            moments = np.delete(onset, i)
            if np.isfinite(moments).any():
                constant[i] = _shortly(onset[i], np.nanmedian(moments) - SHORTLY / 2)
    return {"by_others": others, "by_constant": constant}


def rise_table(risen: pd.DataFrame, by: Sequence[str] = ("setting", "label")) -> pd.DataFrame:
    """One row per signal and what else is asked for, of `rises`.

    Runs, those that overfit, those of these in which the signal rises `before`, and `shortly` before; the
    runs that do not overfit, `others`, and those of these in which it rises, `false`; the lead's mean, SD and
    95 % interval, and the SD of the moments alone, `onset_sd`; means and intervals of what `shortly` is over
    chance, `over_others` and `over_constant`. Intervals are `detection.by_seed`.
    """
    rows = []
    for key, group in risen.groupby([*by, "signal"], sort=False):
        overfits = group["onset"].notna()
        row = dict(zip([*by, "signal"], key, strict=True))
        row |= {"runs": len(group), "overfit": int(overfits.sum()), "others": int((~overfits).sum())}
        row |= {"before": int((group["lead"] >= 0).sum()), "shortly": int(group["shortly"].sum())}
        row |= {"false": int(group.loc[~overfits, "rose"].notna().sum())}
        row |= _told("lead", group["lead"], group["seed"])
        row |= {"lead_sd": sd(group["lead"].dropna().to_numpy())}
        row |= {"onset_sd": sd(group["onset"].dropna().to_numpy())}
        for chance in ("others", "constant"):
            row |= _told(f"over_{chance}", group["shortly"] - group[f"by_{chance}"], group["seed"])
        rows.append(row)
    return pd.DataFrame(rows)


def _told(name: str, values: pd.Series, seeds: pd.Series) -> dict[str, float]:
    known = values.notna()
    low, high = by_seed(values[known].to_numpy(), seeds[known].to_numpy())
    mean = float(values[known].mean())
    return {f"{name}_n": int(known.sum()), name: mean, f"{name}_low": low, f"{name}_high": high}


def speeds(curves: xr.Dataset) -> pd.DataFrame:
    """How far perplexity sparsity rises in the windows of SHORTLY epochs around the moment of overfitting.

    Smoothed over epochs as the validation loss is. One setting's runs, or several.

    **Returns:** one row per run that overfits and window of WINDOWS: `setting`, `label`, `seed`, `start` (of
    the window, in epochs after the moment), `rise`, NaN where the run has no such epochs; `elsewhere`: the
    same run's rise in that window around the moments of the other runs of its network, their mean.

    **Raises:** `StudyError` if no run has a moment of overfitting.
    """
    rows = []
    for title, group in settings(curves):
        for label in labels(group):
            mine = only(group, label=label)
            onset = moment_of_overfitting(mine).to_numpy()
            values = smoothed(feature_sparsity(mine)).to_numpy()
            for i in np.flatnonzero(np.isfinite(onset)):
                others = np.delete(onset, i)
                for start, stop in WINDOWS:
                    found = _rise(values[i], onset[i], start, stop)
                    away = [_rise(values[i], at, start, stop) for at in others[np.isfinite(others)]]
                    rows.append(
                        {"setting": title, "label": label, "seed": int(mine["seed"][i])}
                        | {"start": start, "rise": found, "elsewhere": describe([*away, np.nan]).mean}
                    )
    if not rows:
        raise StudyError("none of these runs has a moment of overfitting")
    return pd.DataFrame(rows)


def _rise(values: np.ndarray, at: float, start: int, stop: int) -> float:
    first, last = int(at) + start, int(at) + stop
    return float(values[last] - values[first]) if first >= 0 and last < len(values) else np.nan


def acceleration(found: pd.DataFrame) -> pd.DataFrame:
    """Of `speeds`: is the rise in the last window before the moment larger than it would be elsewhere?

    **Returns:** one row per setting, network and `against`: `earlier`, the window before that one, or
    `elsewhere`, the same window around other runs' moments; n runs, mean difference, SD, 95 % t interval.
    """
    rows = []
    for (title, label), mine in found.groupby(["setting", "label"], sort=False):
        wide = mine.pivot(index="seed", columns="start", values="rise")
        there = mine.pivot(index="seed", columns="start", values="elsewhere")
        differences = {
            "earlier": wide[-SHORTLY] - wide[-2 * SHORTLY],
            "elsewhere": wide[-SHORTLY] - there[-SHORTLY],
        }
        rows += [
            {"setting": title, "label": label, "against": against} | describe(values)._asdict()
            for against, values in differences.items()
        ]
    return pd.DataFrame(rows)
