"""Networks beside one of them: what a regulariser does, in pairs of the same seed on the same data."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study.analysis.comparison import Description, describe, paired
from sparsity_lib.study.analysis.summary import alike, labels, settings, summary
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.profiles import experiments, profile
from sparsity_lib.study.recipes import NETWORKS, layers_of
from sparsity_lib.study.runs.results import joined, published
from sparsity_lib.study.selection import Listed, select
from sparsity_lib.study.text import number

# Columns of `outcomes`, in words. The last two tell sparsity from scale, which moves the fourth as well.
QUANTITIES = {
    "chosen_accuracy": "accuracy at the chosen epoch",
    "min_val_loss": "lowest validation loss (nats)",
    "val_loss_rise": "rise of the loss to the end (nats)",
    "sparsity": "perplexity sparsity at the end",
    "scale_free": "scale-free entropy at the end (of ln D)",
    "log_sd": "ln SD of the activations at the end",
}

_OF_A_NETWORK = ("lambda_", "perplexity", "q", "l1", "l2", "rho", "delay")


def selected(
    name: str, grid: str, beside: Sequence[str] = (), seeds: Listed | None = "", **asked: Any
) -> list[Experiment]:
    """The experiments of a profile's grid, and those of the networks `beside` in the same settings.

    `seeds` and what else is `asked` are as for `study.select`.
    """
    found = select(name, grid=grid, seeds=seeds, **asked)
    plain = {field: Experiment.model_fields[field].default for field in _OF_A_NETWORK}
    others = [
        Experiment(**e.model_dump() | plain | {"network": network}) for e in found for network in beside
    ]
    return list({experiment.digest: experiment for experiment in (*found, *others)}.values())


def stored(name: str, grid: str, beside: Sequence[str] = ()) -> xr.Dataset:
    """The published runs of a profile's grid, and those `beside` (labels) in the same settings.

    Raises `StudyError` if none of the grid's are published.
    """
    there = profile(name).grids.get(grid)
    curves = published(name, f"{grid}.nc" if there.deep else None) if there else None
    ids = [experiment.id for experiment in experiments(name, grids=[grid], published=True)] if there else []
    mine = None if curves is None else curves.isel(run=curves["run"].isin(ids).to_numpy())
    if mine is None or not mine.sizes["run"]:
        raise StudyError(f"no runs of the grid {grid} are published for the profile {name}")
    others = alike(published(name), mine, ignoring=("label",))
    if others is None:
        return mine
    wanted = others["label"].isin(list(beside)) & ~others["run"].isin(mine["run"])
    return joined([mine, others.isel(run=wanted.to_numpy())]) if wanted.any() else mine


def of_all(
    names: Iterable[str], grid: str, beside: Sequence[str] = (), otherwise: xr.Dataset | None = None
) -> pd.DataFrame:
    """`outcomes` of what several profiles have published of a grid, or else of other runs.

    Raises `StudyError` if there are neither.
    """
    tables, lacking = [], []
    for name in names:
        try:
            tables.append(outcomes(stored(name, grid, beside)))
        except StudyError as error:
            lacking.append(str(error))
    if not tables and otherwise is not None:
        tables.append(outcomes(otherwise))
    if not tables:
        raise StudyError("; ".join(lacking) or "there are no other published runs")
    return pd.concat(tables, ignore_index=True)


def counted(table: pd.DataFrame) -> str:
    """How many runs, seeds and settings the outcomes are of."""
    parts = [
        f"{len(group)} runs, {group['seed'].nunique()} seeds: {title}"
        for title, group in table.groupby("title", sort=False)
    ]
    return "; ".join(parts) + "."


def outcomes(curves: xr.Dataset) -> pd.DataFrame:
    """`analysis.summary` of each setting, with its title as `title`, and the columns of QUANTITIES.

    `sparsity`, `scale_free`, `log_sd` are means over a network's convolutions, held out, at the last epoch.
    """
    parts = []
    for title, group in settings(curves):
        table = summary(group)
        last = group.sel(split="monitor").sel(epoch=group["epochs"] - 1)
        of_layers = {
            "sparsity": last["perplexity_sparsity"],
            "scale_free": last["scale_free_entropy"] / np.log(last["channels"]),
            "log_sd": xr.apply_ufunc(np.log, last["sd"].where(last["sd"] > 0)),
        }
        means = {name: _over_convolutions(values.to_pandas(), table) for name, values in of_layers.items()}
        parts.append(table.assign(**means, title=title))
    return pd.concat(parts, ignore_index=True)


def _over_convolutions(of_layers: pd.DataFrame, table: pd.DataFrame) -> list[float]:
    return [
        of_layers.loc[run, [name for name in convolutions(network) if name in of_layers]].mean()
        for run, network in zip(table["run"], table["network"], strict=True)
    ]


def convolutions(network: str) -> list[str]:
    """The layers of a known network that extract features; of one's own, none are known."""
    return [name for name in layers_of(network) if not name.startswith("fc")] if network in NETWORKS else []


def differences(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Every other network less the reference, in each setting that has it.

    **Returns:** a row per setting (`title`), `label` and `quantity`: `n` pairs, mean, SD, 95 % t interval
    `low` to `high`, and how many pairs were `dropped` because a value is missing.

    **Raises:** `StudyError` if no setting has the reference and another network.
    """
    rows = []
    for title, group in table.groupby("title", sort=False):
        there = list(dict.fromkeys(group["label"]))
        if reference not in there:
            continue
        for label in there:
            if label == reference:
                continue
            for quantity in QUANTITIES:
                found = paired(group, label, reference, quantity, missing="drop")
                (told,) = found[["n", "mean", "sd", "low", "high", "dropped"]].to_dict("records")
                rows.append({"title": title, "label": label, "quantity": quantity} | told)
    if not rows:
        raise StudyError(f"there are no runs to set beside those of {reference}")
    return pd.DataFrame(rows)


def told(found: pd.DataFrame, reference: str, quantities: Sequence[str] = tuple(QUANTITIES)) -> list[str]:
    """A sentence per setting and quantity: which networks have more of it than the reference, which less."""
    sentences = []
    for (title, quantity), group in found.groupby(["title", "quantity"], sort=False):
        if quantity not in quantities:
            continue
        words: dict[int, list[str]] = {1: [], -1: [], 0: []}
        for row in group.itertuples():
            of = Description(row.n, row.mean, row.sd, row.low, row.high, row.dropped)
            words[of.direction].append(f"{row.label} ({_interval(of)})")
        parts = [f"higher with {', '.join(words[1])}"] if words[1] else []
        parts += [f"lower with {', '.join(words[-1])}"] if words[-1] else []
        parts += [f"not clearly different with {', '.join(words[0])}"] if words[0] else []
        sentences.append(f"{title}. Against {reference}, {QUANTITIES[quantity]} is {'; '.join(parts)}.")
    return sentences


def _interval(told: Description) -> str:
    if told.n < 2:
        return f"{number(told.mean, 3, sign=True)}, {told.n} pair"
    ends = f"{number(told.low, 3, sign=True)} to {number(told.high, 3, sign=True)}"
    return f"{number(told.mean, 3, sign=True)}, {ends}, n = {told.n}"


def means(table: pd.DataFrame) -> pd.DataFrame:
    """A row per setting and network: n, and of each quantity the mean ± SD between runs, in words."""
    rows = []
    for title, group in table.groupby("title", sort=False):
        for label in labels_in_order(group):
            mine = group[group["label"] == label]
            row = {"runs": title, "network": label, "n": len(mine)}
            rows.append(row | {words: _spread(mine[name]) for name, words in QUANTITIES.items()})
    return pd.DataFrame(rows).set_index(["runs", "network"])


def _spread(values: pd.Series) -> str:
    told = describe(values)
    spread = f" ± {number(told.sd, 3)}" if np.isfinite(told.sd) else ""
    return f"{number(told.mean, 3)}{spread}"


def labels_in_order(table: pd.DataFrame) -> list[str]:
    """The networks of a table, in the order of the study's."""
    return labels(xr.Dataset(coords={"label": ("run", table["label"].to_numpy(dtype=object))}))
