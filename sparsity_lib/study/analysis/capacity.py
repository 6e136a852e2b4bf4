"""Measures of the use of a layer's channels; the paper gives no numbers for it."""

import pandas as pd
import torch
import xarray as xr

from sparsity_lib.study.analysis import hidden_layers, runs_with
from sparsity_lib.study.analysis.comparison import Description, compare, describe
from sparsity_lib.study.runs.file import Run
from sparsity_lib.study.runs.networks import trained_network
from sparsity_lib.study.training.observation import layer_outputs


def rank_share(curves: xr.Dataset) -> xr.DataArray:
    """(run, layer): effective rank after the last epoch, on held-out images, as a share of the channels.

    Runs without a measurement are left out.
    """
    measured = runs_with(curves, "effective_rank").sel(layer=hidden_layers(curves))
    rank = measured["effective_rank"].sel(split="monitor").sel(epoch=measured["epochs"] - 1)
    return rank.drop_vars("epoch") / measured["channels"]


def ablation_area(curves: xr.Dataset) -> xr.DataArray:
    """(run, layer): mean share of the accuracy that remains as channels of a layer are set to zero.

    Area under the accuracy over the share of silenced channels, by the trapezoid rule, divided by the
    accuracy without ablation and by the largest share: 1 where nothing is lost, smaller where more of the
    layer is needed. Runs without a measurement are left out.
    """
    accuracy = runs_with(curves, "knockout_accuracy")["knockout_accuracy"].sel(layer=hidden_layers(curves))
    kept = accuracy / accuracy.sel(knocked_out=0)
    return kept.integrate("knocked_out") / float(accuracy["knocked_out"].max())


def describe_layers(values: xr.DataArray, label: str) -> pd.DataFrame:
    """One row per layer: n, mean, SD and 95 % t interval of the (run, layer) values of a network."""
    chosen = values.isel(run=(values["label"] == label).to_numpy())
    return pd.DataFrame(
        {"layer": layer} | describe(chosen.sel(layer=layer))._asdict() for layer in values["layer"].to_numpy()
    )


def compare_layers(values: xr.DataArray, a: str, b: str) -> dict[str, Description]:
    """Differences of network `a` minus network `b` by layer, paired by seed; `values` are (run, layer)."""
    table = values.to_dataframe("value").reset_index()
    return {str(layer): compare(rows, a, b, "value") for layer, rows in table.groupby("layer")}


def largest_share(run: Run, layer: str) -> float:
    """Largest share of one channel in the variance of activations over channels, after the last epoch.

    The share of a channel is its squared distance from the mean over the D channels, divided by the sum over
    channels, and averaged over the images of the run and positions; 1/D for equal channels. The run must have
    a stored network. Raises as `trained_network`.
    """
    model, prepare = trained_network(run)
    inputs = prepare(torch.from_numpy(run.root["images"].to_numpy()).movedim(-1, 1))
    squares = layer_outputs(model, [layer], inputs)[layer].double()
    squares = (squares - squares.mean(1, keepdim=True)).square()
    return (squares / squares.sum(1, keepdim=True)).movedim(1, 0).flatten(1).mean(1).max().item()
