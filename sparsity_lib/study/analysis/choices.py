"""Choices that the paper leaves open, changed one at a time: readings, strengths, tuned baselines.

Runs of the grid "readings" of a profile are compared with unchanged networks in the same setting, paired by
seed. `outcomes` makes the table that the other functions take. Labels in it, such as `sr2Net T1: after the
ReLU`, are labels for `comparison.compare` too.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study import profiles
from sparsity_lib.study.analysis import (
    SMOOTHING,
    grid_runs,
    only,
    pilot_onset,
    runs_of,
    summary,
    trained,
)
from sparsity_lib.study.analysis.comparison import describe, seed_differences
from sparsity_lib.study.analysis.onset import onset
from sparsity_lib.study.analysis.significance import holm, one_sided
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.profiles import grid, with_grid
from sparsity_lib.study.queue.scheduling import load_or_train_all
from sparsity_lib.study.recipes import TARGETED
from sparsity_lib.study.runs.results import curves as curves_of
from sparsity_lib.study.runs.results import published
from sparsity_lib.study.selection import Listed, parse_seeds, select

UNCHANGED_NETWORKS = "vanillaNet,dropNet,normNet,sr2Net,sr3Net,varNet"  # in our reading
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
# Network of a finding, and its reference.
REFERENCE_NETWORK = {
    "sr2Net": "vanillaNet",
    "normNet": "vanillaNet",
    "dropNet": "vanillaNet",
    "sr3Net": "sr2Net",
}
QUANTITIES = ("chosen_accuracy", "val_loss_rise", "entropy_drop")
# Strengths of each regulariser; for SparsityReg the paper's lambda and its neighbours.
TUNED_STRENGTHS = {
    "dropout": (0.1, 0.25, 0.5),
    "SparsityReg": (1e-4, 1e-3, 1e-2),
    "weight decay": (1e-4, 1e-3, 1e-2),
    "label smoothing": (0.05, 0.1, 0.2),
}
WITHOUT_FC1 = "without fc1"


def experiments(profile: str, seeds: Listed | None = "", **fields: Any) -> list[Experiment]:
    """Experiments of the grid "readings" of a profile, and the unchanged networks in the same setting.

    `seeds`: by default the seeds of the published runs. `fields`: other arguments of `study.select`. Raises
    `StudyError` for a profile without that grid.
    """
    given = parse_seeds(seeds)
    own, unchanged_seeds = (given or grid(name, profile).published_seeds for name in ("readings", "networks"))
    changed = select(profile, grid="readings", seeds=own, **fields)
    unchanged = select(profile, UNCHANGED_NETWORKS, seeds=unchanged_seeds, **fields)
    settings = {_setting(experiment) for experiment in changed}
    return [*(e for e in unchanged if _setting(e) in settings), *changed]


def load(profile: str, seeds: Listed | None = "", **fields: Any) -> tuple[xr.Dataset, pd.DataFrame]:
    """Curves and `outcomes` of the published readings of a profile, or of runs with the given seeds.

    Runs with given seeds are loaded, or trained if they are missing. A profile without the grid "readings",
    or without published runs of it, is replaced by the laptop. `fields` as in `experiments`.
    """
    profile = with_grid("readings", profile)
    if parse_seeds(seeds):
        described = experiments(profile, seeds, **fields)
        curves: xr.Dataset | None = curves_of(load_or_train_all(described))
    else:
        profile = "laptop" if published(profile, "readings.nc") is None else profile
        described, curves = experiments(profile, **fields), published(profile)
    missing = "no runs of these readings are published; give seeds, and they are trained"
    curves = runs_of(curves, described, missing)
    return curves, outcomes(curves, described)


def _setting(experiment: Experiment) -> tuple[object, ...]:
    fields = ("dataset", "size", "limit", "label_noise", "optimizer", "epochs", "data_seed")
    return (experiment.learning_rate(), *(getattr(experiment, field) for field in fields))


def change_of(experiment: Experiment, conv_scale: float = 1.0) -> str:
    """Choices that the experiment changes, such as `T1: after the ReLU`; empty if there is none.

    `conv_scale` is the unchanged factor on lambda of conv layers. Another factor is a mean over positions
    (T2).
    """
    parts = [
        f"{number}: {words[value]}"
        for field, (number, words) in READINGS.items()
        if (value := getattr(experiment, field)) in words
    ]
    family, strength = _tuned(experiment)
    if family in ("weight decay", "label smoothing"):
        parts.append(f"{family} {strength:g}")
    if family == "dropout" and strength != Experiment.model_fields["dropout"].default:
        parts.append(f"dropout {strength:g}")
    if experiment.sparsity:
        parts.append(WITHOUT_FC1 if np.isnan(strength) else f"λ = {strength:g}")
    elif experiment.strengths()["sparsity"] and experiment.lambda_conv_scale != conv_scale:
        parts.append("T2: mean over positions")
    return ", ".join(parts)


def _tuned(experiment: Experiment) -> tuple[str, float]:
    """Family of the tuned regulariser and its strength; "" and NaN for none."""
    for field in ("weight_decay", "label_smoothing"):
        if strength := getattr(experiment, field):
            return field.replace("_", " "), strength
    if experiment.network == "dropNet":
        return "dropout", experiment.dropout
    if experiment.network == "sr2Net":
        return "SparsityReg", experiment.strengths()["sparsity"].get("fc1", np.nan)
    return "", np.nan


def outcomes(curves: xr.Dataset, described: Sequence[Experiment]) -> pd.DataFrame:
    """One row per run of `curves`; all of them are runs of the experiments `described`.

    **Returns:** the columns of `analysis.summary` without `others`, so that runs of one seed are paired, and

    - `label`: network and `change` (see `change_of`); `family` and `strength` of the tuned regulariser,
      unless a reading is changed;
    - `center` and `penalty`: the readings T3 and T4;
    - `monitor_accuracy`: at the chosen epoch, on the images by which it is chosen;
    - `entropy_end`, and `entropy_drop` from the best epoch to the end: mean over conv3, conv4 and fc1, in
      shares of ln D;
    - `correlation:filters`, `correlation:components`: mean |c| of the filters of conv1 at the end; NaN where
      the run did not record it.
    """
    by_id = {experiment.id: experiment for experiment in described}
    ordered = [by_id[run] for run in curves["run"].to_numpy().tolist()]
    table = summary(curves).drop(columns="others")
    targeted = [layer for layer in TARGETED if layer in curves["layer"]]
    whole = np.log(curves["channels"].sel(layer=targeted).to_numpy())  # (run, layer), nats
    best, end = (
        table[[f"entropy_{moment}:{layer}" for layer in targeted]].to_numpy() / whole
        for moment in ("best", "end")
    )
    conv_scale = max(experiment.lambda_conv_scale for experiment in described)
    changes = [change_of(experiment, conv_scale) for experiment in ordered]
    families = [
        ("", np.nan) if "T" in change else _tuned(e) for e, change in zip(ordered, changes, strict=True)
    ]
    columns: dict[str, object] = {
        "label": [f"{e.network} {change}".rstrip() for e, change in zip(ordered, changes, strict=True)],
        "change": changes,
        "family": [family for family, _ in families],
        "strength": [strength for _, strength in families],
        "center": [experiment.center for experiment in ordered],
        "penalty": [experiment.decorrelation_penalty for experiment in ordered],
        "monitor_accuracy": trained(curves)["monitor_accuracy"].sel(split="monitor").max("epoch").to_numpy(),
        "entropy_end": end.mean(1),
        "entropy_drop": (best - end).mean(1),
    }
    conv1 = curves["correlation"].sel(layer="conv1", epoch=curves["epochs"] - 1)
    columns |= {f"correlation:{name}": conv1.sel(center=name) for name in ("filters", "components")}
    return table.assign(**columns)


def _readings(table: pd.DataFrame) -> list[tuple[str, str]]:
    """(network, change) of each cell with another reading, in the order of T1 to T7."""
    cells = table[table["change"].str.startswith("T")][["network", "change"]].drop_duplicates()
    found = [(str(network), str(change)) for network, change in cells.itertuples(index=False)]
    return sorted(found, key=lambda cell: (cell[1][:2], cell[0]))


def effects(table: pd.DataFrame) -> pd.DataFrame:
    """Differences of the network in each reading minus the unchanged network, paired by seed.

    **Returns:** one row per reading, network and quantity: the fields of `Description`, and `holm`, the p
    value of a two-sided t test, corrected over all readings of one quantity.
    """
    rows = []
    for quantity in QUANTITIES:
        cells = _readings(table)
        pairs = [
            seed_differences(table, f"{network} {change}", network, quantity) for network, change in cells
        ]
        p = [2 * min(one_sided(each.to_numpy(), 0, side) for side in (1, -1)) for each in pairs]
        for (network, change), each, corrected in zip(cells, pairs, holm(p, len(cells)), strict=True):
            row = {"reading": change, "network": network, "quantity": quantity}
            rows.append(row | describe(each)._asdict() | {"holm": corrected if len(each) > 1 else np.nan})
    return pd.DataFrame(rows)


def findings(table: pd.DataFrame) -> pd.DataFrame:
    """Differences of each network minus its reference, in our reading and in each other one, for equal seeds.

    **Returns:** one row per reading, pair of networks and quantity: n pairs; mean (`ours`, `other`), 95 % t
    interval (`ours_low` and so on) and direction (`ours_direction`: 1 higher, -1 lower, 0 if the interval
    contains zero) in our and in the other reading. The reference has the other reading
    too if such runs exist.
    """
    rows = []
    for network, change in _readings(table):
        if network not in REFERENCE_NETWORK:
            continue
        reference, changed = REFERENCE_NETWORK[network], f"{REFERENCE_NETWORK[network]} {change}"
        pairs = {
            "ours": (network, reference),
            "other": (f"{network} {change}", changed if changed in set(table["label"]) else reference),
        }
        for quantity in QUANTITIES:
            values = {name: seed_differences(table, *pair, quantity) for name, pair in pairs.items()}
            seeds = values["ours"].index.intersection(values["other"].index)
            row: dict[str, object] = {"reading": change, "networks": f"{network} minus {reference}"}
            row |= {"quantity": quantity, "n": len(seeds)}
            for name, each in values.items():
                found = describe(each[seeds])
                row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
                row[f"{name}_direction"] = found.direction
            rows.append(row)
    return pd.DataFrame(rows)


def strengths(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of sr2Net by lambda, for seeds with runs of every lambda."""
    runs = table[(table["family"] == "SparsityReg") & table["strength"].notna()]
    return _of_common_seeds(runs).sort_values(["strength", "seed"])


def _of_common_seeds(runs: pd.DataFrame) -> pd.DataFrame:
    common = set.intersection(*(set(same["seed"]) for _, same in runs.groupby("strength")))
    return runs[runs["seed"].isin(common)]


def tuned(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy at each strength of each family of regularisers minus vanillaNet's, paired by seed.

    The `chosen` strength has the highest mean accuracy on the monitor images, not on the validation images.

    **Returns:** one row per family and strength: network, label, `chosen`, and the fields of `Description`.
    """
    rows = []
    for family, strengths_tried in TUNED_STRENGTHS.items():
        tried = table[(table["family"] == family) & table["strength"].isin(strengths_tried)]
        tried = _of_common_seeds(tried)
        accuracy = tried.groupby("strength")["monitor_accuracy"].mean()
        same = table[table["seed"].isin(tried["seed"])]
        for strength, runs in tried.groupby("strength"):
            network, label = runs[["network", "label"]].iloc[0]
            row = {"family": family, "strength": strength, "network": network, "label": label}
            found = describe(seed_differences(same, label, "vanillaNet", "chosen_accuracy"))
            rows.append(row | {"chosen": strength == accuracy.idxmax()} | found._asdict())
    return pd.DataFrame(rows)


def on_cifar10(name: str) -> pd.DataFrame:
    """The `outcomes`, and `setting` in words, of a registered grid's published runs on images of CIFAR-10."""
    curves = grid_runs(published("registered", f"{name}.nc"), "registered", name)
    table = outcomes(curves, profiles.experiments("registered", grids=[name], published=True))
    return table.assign(setting="2,000 images of CIFAR-10")


def learning_rates() -> pd.DataFrame:
    """Outcomes of networks at several learning rates: one row per published run.

    The `chosen` rate of a network has the highest mean accuracy on the monitor images, not on the validation
    images.

    **Returns:** the columns of `outcomes`, `chosen`, and `setting`, the rate in words.
    """
    table = on_cifar10("learning-rates")
    accuracy = table.groupby(["label", "lr"])["monitor_accuracy"].mean()
    best = accuracy.groupby("label").idxmax()
    return table.assign(
        chosen=table.set_index(["label", "lr"]).index.isin(list(best)),
        setting=[f"learning rate {rate:g}" for rate in table["lr"]],
    )


def overfitting_by_rule(curves: xr.Dataset, table: pd.DataFrame) -> pd.DataFrame:
    """Runs of the unchanged networks that overfit by the registered rule (T10) and by simpler rules.

    The simpler rules (`analysis.pilot_onset`) require that the rise after the smoothed minimum is above the
    95 % bootstrap interval over validation images, or above 2 % of the loss; `sigma` is the SD of the
    smoothing in epochs.

    **Returns:** one row per rule and network: n runs; `overfit`, the number with a moment of overfitting;
    `epoch`, the median moment.
    """
    unchanged = table[table["change"] == ""]
    curves = only(curves, run=unchanged["run"].tolist())
    moments = {"registered": onset(curves)}
    thresholds: dict[str, Literal["bootstrap"] | float] = {"bootstrap": "bootstrap", "2 %": 0.02}
    for name, threshold in thresholds.items():
        for sigma in (0.0, SMOOTHING, 2 * SMOOTHING):
            found = pilot_onset(curves, smoothing=sigma, threshold=threshold)
            moments[f"{name}, sigma {sigma:g}"] = found
    frame = pd.DataFrame({rule: epochs.to_numpy() for rule, epochs in moments.items()})
    long = frame.assign(network=curves["label"].to_numpy()).melt("network", None, "rule", "epoch")
    found = long.groupby(["rule", "network"], sort=False)["epoch"]
    return found.agg(n="size", overfit="count", epoch="median").reset_index()
