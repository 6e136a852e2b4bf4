"""Outcomes of language models by run, and their slopes by q."""

import json

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study.analysis import LAST
from sparsity_lib.study.analysis.comparison import Description, describe
from sparsity_lib.study.errors import StudyError

OUTPUT_QUANTITIES = {
    "hoyer": "Hoyer's sparsity",
    "mean_abs": "mean |h|",
    "noise_to_signal": "noise over signal",
}


def labels(curves: xr.Dataset) -> list[str]:
    """Labels, without noise first, then by q."""
    found = pd.DataFrame({name: curves[name].to_numpy() for name in ("label", "q")}).drop_duplicates()
    return [str(label) for label in found.sort_values("q", na_position="first", kind="stable")["label"]]


def outcomes(curves: xr.Dataset) -> pd.DataFrame:
    """One row per run: its fields, bits per character, and outputs of layers after the last epoch.

    `lowest_bits` is the minimum over epochs on the same held-out text, and so optimistic; `late_change` is
    the change of bits over the last five epochs, or over all of a shorter run. Columns of a layer are
    `<quantity>:<layer>`, for the quantities OUTPUT_QUANTITIES. `setting` names the text and the number of
    units. Raises `StudyError` for runs of several settings.
    """
    if len(settings := set(curves["setting"].to_numpy())) > 1:
        raise StudyError(f"{len(settings)} settings, where one is needed: {'; '.join(sorted(settings))}")
    order = {label: at for at, label in enumerate(labels(curves))}
    trained = curves.sel(epoch=slice(0, None))
    last = curves.sel(epoch=curves["epochs"] - 1)
    columns = {name: curves[name] for name in ("run", "label", "q", "seed", "text", "epochs")}
    columns |= {"last_bits": last["val_bits"], "lowest_bits": trained["val_bits"].min("epoch")}
    before = curves["val_bits"].sel(epoch=(curves["epochs"] - 1 - LAST).clip(min=-1))
    columns["late_change"] = last["val_bits"] - before
    columns |= {
        f"{name}:{layer}": last[name].sel(layer=layer)
        for name in OUTPUT_QUANTITIES
        for layer in curves["layer"].to_numpy()
    }
    table = pd.DataFrame({name: column.to_numpy() for name, column in columns.items()})
    units = json.loads(str(curves["experiment"].to_numpy()[0]))["hidden"]
    table = table.assign(setting=table["text"] + f", {units} units")
    return table.sort_values("label", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def layers(table: pd.DataFrame) -> list[int]:
    """Layers with columns in the table."""
    return [int(name.removeprefix("hoyer:")) for name in table if name.startswith("hoyer:")]


def slope(table: pd.DataFrame, quantity: str) -> Description:
    """Least-squares slope of a quantity by q: description over seeds.

    Seeds with fewer than three values of q are left out.
    """
    seeds = (runs for _, runs in table.dropna(subset=["q", quantity]).groupby("seed"))
    return describe([np.polyfit(r["q"], r[quantity], 1)[0] for r in seeds if r["q"].nunique() > 2])


def slope_table(table: pd.DataFrame) -> pd.DataFrame:
    """`slope` of the quantities of outputs by setting and layer: n seeds, mean, SD and 95 % t interval."""
    rows = [
        {"setting": setting, "quantity": words, "layer": layer} | slope(runs, f"{name}:{layer}")._asdict()
        for setting, runs in table.groupby("setting", sort=False)
        for name, words in OUTPUT_QUANTITIES.items()
        for layer in layers(runs)
    ]
    return pd.DataFrame(rows).set_index(["setting", "quantity", "layer"])
