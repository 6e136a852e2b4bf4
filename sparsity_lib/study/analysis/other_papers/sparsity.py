"""Sparsity of the feature-extraction layers at the end of training, one row per run."""

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study.analysis import settings, summary
from sparsity_lib.study.recipes import convolutions_of


def outcomes(curves: xr.Dataset) -> pd.DataFrame:
    """Table of `analysis.summary` with the title of the `setting` and three means over convolutions.

    The means are over held-out images at the last epoch: `sparsity`, the perplexity sparsity, in [0, 1];
    `scale_free`, the scale-free entropy in units of ln D; `log_sd`, the logarithm of the SD of activations.
    Scale changes the first; the last two separate it from sparsity.
    """
    parts = []
    for title, group in settings(curves):
        table = summary(group)
        last = group.sel(split="monitor").sel(epoch=group["epochs"] - 1)
        quantities = {
            "sparsity": last["perplexity_sparsity"],
            "scale_free": last["scale_free_entropy"] / np.log(last["channels"]),
            "log_sd": xr.apply_ufunc(np.log, last["sd"].where(last["sd"] > 0)),
        }
        means = {name: _over_convolutions(values.to_pandas(), table) for name, values in quantities.items()}
        parts.append(table.assign(**means, setting=title))
    return pd.concat(parts, ignore_index=True)


def _over_convolutions(values: pd.DataFrame, table: pd.DataFrame) -> list[float]:
    return [
        values.loc[run, [layer for layer in convolutions_of(network) if layer in values]].mean()
        for run, network in zip(table["run"], table["network"], strict=True)
    ]
