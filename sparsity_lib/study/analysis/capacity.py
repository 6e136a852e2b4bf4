"""Measures of how a layer's channels are used, for which the paper has none."""

import pandas as pd
import torch
import xarray as xr

from sparsity_lib.study.analysis.comparison import Description, compare, describe
from sparsity_lib.study.analysis.summary import having, penalised_layers
from sparsity_lib.study.runs.file import Run
from sparsity_lib.study.runs.networks import trained_network
from sparsity_lib.study.training.observation import layer_outputs


def rank_share(curves: xr.Dataset) -> xr.DataArray:
    """(run, layer): effective rank after the last epoch, on held-out images, as a share of the channels.

    Only runs in which it was measured have a value.
    """
    measured = having(curves, "effective_rank").sel(layer=penalised_layers(curves))
    rank = measured["effective_rank"].sel(split="monitor").sel(epoch=measured["epochs"] - 1)
    return rank.drop_vars("epoch") / measured["channels"]


def ablation_area(curves: xr.Dataset) -> xr.DataArray:
    """(run, layer): mean share of its accuracy that a network keeps as a layer's channels are set to zero.

    The area below accuracy over the share silenced, by the trapezoid rule, divided by the accuracy without
    ablation and by the largest share: 1 where nothing is lost. The more of a layer is needed, the smaller it
    is, in the runs in which it was measured.
    """
    accuracy = having(curves, "knockout_accuracy")["knockout_accuracy"].sel(layer=penalised_layers(curves))
    kept = accuracy / accuracy.sel(knocked_out=0)
    return kept.integrate("knocked_out") / float(accuracy["knocked_out"].max())


def by_layer(values: xr.DataArray, label: str) -> pd.DataFrame:
    """One row per layer: n, mean, SD and 95 % t interval of a network's values, which are (run, layer)."""
    chosen = values.isel(run=(values["label"] == label).to_numpy())
    return pd.DataFrame(
        {"layer": layer} | describe(chosen.sel(layer=layer))._asdict() for layer in values["layer"].to_numpy()
    )


def compared(values: xr.DataArray, a: str, b: str) -> dict[str, Description]:
    """Differences of network `a` minus `b` by layer, paired by seed; `values` are (run, layer)."""
    table = values.to_dataframe("value").reset_index()
    return {str(layer): compare(rows, a, b, "value") for layer, rows in table.groupby("layer")}


def largest_share(run: Run, layer: str) -> float:
    """Largest share that one channel has in the variance of the activations over channels.

    After the last epoch, on the run's images: the squared distance of each channel from the mean over the D
    channels, as a share of their sum, averaged over images and positions; 1/D where channels are alike. The
    run's network must be kept (`trained_network`, whose errors it raises).
    """
    model, prepare = trained_network(run)
    inputs = prepare(torch.from_numpy(run.root["images"].to_numpy()).movedim(-1, 1))
    squares = layer_outputs(model, [layer], inputs)[layer].double()
    squares = (squares - squares.mean(1, keepdim=True)).square()
    return (squares / squares.sum(1, keepdim=True)).movedim(1, 0).flatten(1).mean(1).max().item()
