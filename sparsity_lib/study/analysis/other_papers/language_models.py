"""Outcomes of language models: one row a run, and slopes by q."""

import json

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study.analysis.comparison import Description, describe
from sparsity_lib.study.analysis.summary import LAST
from sparsity_lib.study.errors import StudyError

OF_OUTPUTS = {
    "hoyer": "Hoyer's sparsity",
    "mean_abs": "mean |h|",
    "noise_to_signal": "noise over signal",
}


def labels(curves: xr.Dataset) -> list[str]:
    """The labels: no noise first, then by q."""
    found = pd.DataFrame({name: curves[name].to_numpy() for name in ("label", "q")}).drop_duplicates()
    return [str(label) for label in found.sort_values("q", na_position="first", kind="stable")["label"]]


def outcomes(curves: xr.Dataset) -> pd.DataFrame:
    """One row per run: identity, bits per character, and the layers' outputs after the last epoch.

    `lowest_bits` is that of the best epoch, chosen on the same held-out text, and so optimistic;
    `late_change` is the change of bits over the last five epochs, or over all of fewer. A layer's columns are
    `<quantity>:<layer>`, of the quantities OF_OUTPUTS. `setting` names the text and the units. Raises
    `StudyError` for runs of several settings.
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
        for name in OF_OUTPUTS
        for layer in curves["layer"].to_numpy()
    }
    table = pd.DataFrame({name: column.to_numpy() for name, column in columns.items()})
    units = json.loads(str(curves["experiment"].to_numpy()[0]))["hidden"]
    table = table.assign(setting=table["text"] + f", {units} units")
    return table.sort_values("label", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def layers(table: pd.DataFrame) -> list[int]:
    """The layers that the table has columns of."""
    return [int(name.removeprefix("hoyer:")) for name in table if name.startswith("hoyer:")]


def slope(table: pd.DataFrame, quantity: str) -> Description:
    """Change of the quantity with each unit of q: over seeds, the least-squares slope of a seed's runs.

    Seeds with fewer than three values of q are left out.
    """
    found = []
    for _, each in table[table["q"].notna()].groupby("seed"):
        values = each[["q", quantity]].dropna()
        enough = values["q"].nunique() > 2
        found.append(float(np.polyfit(values["q"], values[quantity], 1)[0]) if enough else np.nan)
    return describe(found)


def slope_table(table: pd.DataFrame) -> pd.DataFrame:
    """`slope` of the outputs' quantities by setting and layer: n seeds, mean, SD and 95 % t interval."""
    rows = [
        {"setting": setting, "quantity": words, "layer": layer} | slope(runs, f"{name}:{layer}")._asdict()
        for setting, runs in table.groupby("setting", sort=False)
        for name, words in OF_OUTPUTS.items()
        for layer in layers(runs)
    ]
    return pd.DataFrame(rows).set_index(["setting", "quantity", "layer"])
