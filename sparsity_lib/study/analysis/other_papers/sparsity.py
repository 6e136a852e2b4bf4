"""Sparsity of the feature-extraction layers at the end of training, one row per run."""

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study.analysis.summary import settings, summary
from sparsity_lib.study.recipes import layers_of


def outcomes(curves: xr.Dataset) -> pd.DataFrame:
    """`analysis.summary` of each setting, its title as `setting`, and three means over the convolutions.

    The means are of held-out images at the last epoch: `sparsity`, the perplexity sparsity, in [0, 1];
    `scale_free`, the scale-free entropy in units of ln D; `log_sd`, the logarithm of the activations' SD. The
    last two separate sparsity from scale, which moves the first as well.
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
        parts.append(table.assign(**means, setting=title))
    return pd.concat(parts, ignore_index=True)


def _over_convolutions(of_layers: pd.DataFrame, table: pd.DataFrame) -> list[float]:
    return [
        of_layers.loc[run, [n for n in layers_of(network) if n in of_layers and n[:2] != "fc"]].mean()
        for run, network in zip(table["run"], table["network"], strict=True)
    ]
