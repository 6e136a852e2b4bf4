"""Entropy and the scale of activations; filters compared with random ones; capacity in use."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsity_lib import functional
from sparsity_lib.study.analysis import capacity as capacities
from sparsity_lib.study.analysis import explained_by_noise as noise
from sparsity_lib.study.analysis import hidden_layers, labels, only, random_filters
from sparsity_lib.study.figures.curves import median_moments
from sparsity_lib.study.figures.data import record
from sparsity_lib.study.figures.panels import ZERO, grid, mean_curve, plain_numbers, vertical_intervals
from sparsity_lib.study.figures.style import WIDTH, figure, handle, label_ends, legend, line_style

SEEDS = 5  # of each network, the lowest ones, whose runs are drawn one by one
LINES, DOTS = 2, 10  # epochs between the points of a run's line, and between its dots
_ENTROPIES = {"observed": "entropy", "scale_free": "scale-free entropy"}
_MOMENT = "median moment of overfitting"
_CROSS: dict[str, Any] = {"marker": "X", "zorder": 5}
_SCALE = "SD of the layer's activations"


@figure
def entropy_against_noise(curves: xr.Dataset, layer: str = "conv4") -> Figure:
    """Entropy of a layer over training, and against the SD of its activations, compared with Gaussian noise.

    Left: means over seeds. Right: a line per run, five seeds a network; small dots: the scale-free entropy of
    the same runs, every tenth epoch; grey, in the background: the expected entropy of as many independent
    Gaussian numbers with this SD (`functional.noise_entropy`), with no fitted parameter. Crosses: the median
    moment of overfitting, where at least half of a network's seeds have one. `curves` are of one setting. All
    entropies are shares of ln D.
    """
    shares, moments = noise.shares(curves.sel(layer=layer)), median_moments(curves)
    fig, ((left, right),) = grid(1, 2, 4.4, sharey=True)
    for label in labels(shares):
        runs, style, fields = only(shares, label=label), line_style(label), {"network": label, "layer": layer}
        mean_curve(left, runs["observed"], style, {"quantity": "entropy / ln D"} | fields)
        if label in moments:
            height = runs["observed"].mean("run").interp(epoch=moments[label]).item()
            left.scatter(moments[label], height, s=64, color=style["color"], **_CROSS)
            record(left, _MOMENT, quantity="entropy / ln D", **fields, epoch=moments[label], value=height)
        for _, run in runs.sortby("seed").isel(run=slice(SEEDS)).groupby("run"):
            one, of_run = run.squeeze("run", drop=True), fields | {"seed": int(run["seed"].item())}
            line, dots = (one.isel(epoch=slice(None, None, step)) for step in (LINES, DOTS))
            right.plot(line["scale"], line["observed"], color=style["color"], linewidth=0.9)
            right.scatter(dots["scale"], dots["scale_free"], s=3, color=style["color"], linewidths=0)
            for name, points in (("observed", line), ("scale_free", dots)):
                quantity = {"quantity": f"{_ENTROPIES[name]} / ln D", "epoch": points["epoch"]}
                record(right, "a run", **of_run, **quantity, sd=points["scale"], value=points[name])
    right.set_xscale("log")
    _noise(right, int(curves["channels"].sel(layer=layer).max()), layer)
    left.set_ylim(0, 1.03)
    label_ends(left, labels(shares))
    left.set_ylabel("activation entropy / ln D")
    left.set_xlabel("epoch")
    right.set_xlabel(_SCALE)
    left.set_title(f"Entropy of {layer} in training …", loc="left", fontsize=10)
    right.set_title("… is nearly that of noise of the same SD", loc="left", fontsize=10)
    legend(
        fig,
        (),  # the networks' names are at the ends of their curves
        (handle("0.3", linestyle="", **_CROSS), _MOMENT),
        (handle("0.85", linewidth=8), "Gaussian noise, no network"),
        (handle("0.3", marker="o", markersize=2, linestyle=""), "networks, at unit variance"),
    )
    return fig


def _noise(ax: Axes, channels: int, layer: str) -> None:
    # Over the range of SDs of the runs.
    low, high = ax.get_xlim()
    sd = np.geomspace(low, high, 200)
    share = functional.noise_entropy(sd, channels).numpy() / np.log(channels)
    ax.plot(sd, share, color="0.85", linewidth=8, zorder=0, solid_capstyle="butt")
    record(ax, "Gaussian noise", quantity="entropy / ln D", layer=layer, sd=sd, value=share)
    ax.set_xlim(low, high)


@figure
def noise_residuals(curves: xr.Dataset) -> Figure:
    """Entropy minus the entropy of noise with the same SD, as a share of ln D, against the SD, by layer.

    A dot per run and tenth epoch, five seeds a network. A second row has noise with the SD of each position,
    if the runs recorded it. `curves` are of one setting; layers are those that some network penalises.
    """
    layers = hidden_layers(curves)
    shares, names = noise.shares(curves), labels(curves)
    kinds = [kind for kind in noise.KINDS if kind in shares and shares[kind].notnull().any()]
    fig, axes = grid(len(kinds), len(layers), 0.9 + 2.3 * len(kinds), sharex=True, sharey=True)
    for ax, layer in zip(axes[0], layers, strict=True):
        ax.set_title(layer)
    for row, kind in zip(axes, kinds, strict=True):
        for ax, layer in zip(row, layers, strict=True):
            for label in names:
                runs = only(shares, label=label).sel(layer=layer).sortby("seed")
                few = runs.isel(run=slice(SEEDS), epoch=slice(None, None, DOTS))
                points = (few["observed"] - few[kind]).to_dataset(name="residual").assign(sd=few["scale"])
                table = points.to_dataframe().reset_index().dropna(subset=["residual"])
                color = line_style(label)["color"]
                ax.scatter(table["sd"], table["residual"], s=4, color=color, linewidths=0)
                fields = {"noise": f"SD: {kind}", "layer": layer, "network": label, "seed": table["seed"]}
                record(ax, "a run", **fields, epoch=table["epoch"], sd=table["sd"], value=table["residual"])
            ax.axhline(0, **ZERO)
            ax.set_xscale("log")
        row[0].set_ylabel("entropy − noise, / ln D" if len(kinds) == 1 else f"minus noise, {kind} SD")
    for ax in axes.flat:
        plain_numbers(ax.xaxis, (1,))
    fig.supxlabel(_SCALE)
    legend(fig, names)
    return fig


@figure
def filter_correlations(curves: xr.Dataset) -> Figure:
    """Mean absolute correlation of filters by layer, before training and at the end, on a logarithmic scale.

    Dots: means over seeds with 95 % t intervals, hollow before training. Dashed: random filters, as many and
    as large; dotted: the least root mean square that so many filters can have (Welch).
    """
    table, names = random_filters.correlations(curves), labels(curves)
    layers = list(table["layer"].unique())
    fig, ax = plt.subplots(figsize=(WIDTH, 3.6), layout="constrained")
    for (label, moment), rows in table.groupby(["label", "moment"], sort=False):
        _by_layer(ax, rows, label, names, {"when": moment}, "white" if moment == "start" else None)
    lines = table.groupby("layer", sort=False)[["expected", "welch"]].first()
    for x, (expected, welch) in enumerate(lines.to_numpy()):
        ax.hlines(expected, x - 0.45, x + 0.45, color="0.2", linestyle="--", linewidth=1.1)
        record(ax, "random filters", layer=layers[x], value=expected)
        if welch:
            record(ax, "Welch: rms is at least this", layer=layers[x], value=welch)
            ax.hlines(welch, x - 0.45, x + 0.45, color="0.2", linestyle=":", linewidth=1.3)
    ax.set_yscale("log")
    plain_numbers(ax.yaxis, (1, 2, 3, 5), np.inf)
    ax.set_ylabel("mean |c| of pairs of filters")
    bound = [(handle("0.2", linestyle=":", linewidth=1.3), "Welch: rms is at least this")]
    legend(
        fig,
        names,
        (handle(marker="o", linestyle="", markerfacecolor="white"), "before training"),
        (handle("0.2", linestyle="--", linewidth=1.1), "random filters"),
        *(bound if lines["welch"].any() else []),
    )
    return fig


@figure
def capacity(curves: xr.Dataset) -> Figure:
    """Capacity in use after the last epoch, by layer and network: means over seeds, 95 % t intervals.

    Above: effective rank as a share of the channels. Below: mean share of its accuracy that the network keeps
    as the layer's channels are silenced at random; the lower, the more of the layer is needed.
    """
    measures = {
        "effective rank / channels": capacities.rank_share(curves),
        "accuracy kept as\nchannels are silenced": capacities.ablation_area(curves),
    }
    names = labels(curves)
    fig, axes = grid(2, 1, 5.2, sharex=True)
    for ax, (words, values) in zip(axes[:, 0], measures.items(), strict=True):
        for label in labels(values.to_dataset(name="share")):
            _by_layer(ax, capacities.describe_layers(values, label), label, names, {"quantity": words})
        ax.set_ylabel(words)
        ax.set_ylim(0, 1)
    legend(fig, names)
    return fig


def _by_layer(
    ax: Axes,
    rows: pd.DataFrame,
    label: str,
    names: Sequence[str],
    fields: dict[str, str],
    face: str | None = None,
) -> None:
    # Means of one network by layer (layer, mean, low, high), shifted by network within a layer's width.
    layers, shift = rows["layer"].tolist(), 0.8 * ((names.index(label) + 1) / (len(names) + 1) - 0.5)
    color = line_style(label)["color"]
    style = {"color": color, "marker": "o", "markersize": 5, "markerfacecolor": face or color}
    fields = {**fields, "network": label, "layer": layers}
    vertical_intervals(ax, np.arange(len(layers)) + shift, rows, fields, **style, linestyle="")
    ax.set_xticks(range(len(layers)), layers)
    ax.grid(axis="x", visible=False)
