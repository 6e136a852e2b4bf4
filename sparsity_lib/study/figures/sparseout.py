"""Sparseout's noise, and language models trained with it."""

import math
from collections.abc import Iterable

import matplotlib.pyplot as plt
import pandas as pd
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sparsity_lib.study.analysis.comparison import describe
from sparsity_lib.study.analysis.other_papers import language_models
from sparsity_lib.study.figures.data import record
from sparsity_lib.study.figures.panels import (
    ZERO,
    grid,
    horizontal_interval,
    mean_curve,
    name_rows,
    seed_range,
    vertical_intervals,
)
from sparsity_lib.study.figures.style import COLORS, OTHER, WIDTH, figure, handle, legend
from sparsity_lib.study.language import DROPOUT, NO_NOISE

# Blue is sparser than dropout, red is denser.
SHADES = {
    NO_NOISE: COLORS["vanillaNet"],
    "q = 1": "#0072B2",
    "q = 1.5": "#56B4E9",
    DROPOUT: COLORS["dropNet"],
    "q = 2.5": "#D55E00",
    "q = 3": "#CC79A7",
}


@figure
def noise_variances(table: pd.DataFrame) -> Figure:
    """The variance of Sparseout's noise by the size of an activation: dots measured, lines |a|^q p/(1 - p).

    `table` is made by `sparseout_noise.variances`.
    """
    fig, ax = plt.subplots(figsize=(WIDTH, 3.6), layout="constrained")
    labels = []
    for q, rows in table.groupby("q"):
        labels.append(f"q = {q:g}")
        color = _shade(labels[-1])
        ax.plot(rows["magnitude"], rows["expected"], color=color)
        ax.plot(rows["magnitude"], rows["measured"], color=color, marker="o", markersize=5, linestyle="")
        for drawn in ("expected", "measured"):
            record(ax, drawn, noise=labels[-1], magnitude=rows["magnitude"], value=rows[drawn])
    ax.set(xscale="log", yscale="log", xlabel="|a|", ylabel="variance of the noise")
    legend(fig, [], *_patches(labels), (handle("0.3", marker="o", linestyle=""), "measured"), columns=6)
    return fig


@figure
def penalty_ratios(table: pd.DataFrame) -> Figure:
    """A logistic model's loss under noise minus that without, over the Lq penalty; bars are 95 % intervals.

    `table` is made by `sparseout_noise.logistic_increases`.
    """
    fig, ax = plt.subplots(figsize=(WIDTH, 3.6), layout="constrained")
    labels = [f"q = {q:g}" for q in table["q"].unique()]
    for at, (label, (_, rows)) in enumerate(zip(labels, table.groupby("q", sort=False), strict=True)):
        x = rows["shift"] * 1.05 ** (at - len(labels) // 2)  # side by side
        means, fields = rows.rename(columns={"ratio": "mean"}), {"noise": label, "shift": rows["shift"]}
        style = {"color": _shade(label), "marker": "o", "markersize": 4, "linestyle": ""}
        vertical_intervals(ax, x, means, fields, **style)
    ax.axhline(1, **ZERO)
    ax.set(xscale="log", xlabel="SD of the shift of the logit")
    ax.set_ylabel("increase of the loss\nover the penalty")
    ax.set_ylim(bottom=0)
    legend(fig, [], *_patches(labels), columns=6)
    return fig


@figure
def language_curves(curves: xr.Dataset) -> Figure:
    """Bits per character by epoch, held out without noise and in training with it: means, ranges of seeds."""
    fig, axes = grid(1, 2, 3.7, sharey=True)
    panels = {
        "held out, without noise": curves["val_bits"],
        "training, with noise": curves["train_loss"] / math.log(2),
    }
    labels = language_models.labels(curves)
    for ax, (title, values) in zip(axes[0], panels.items(), strict=True):
        for label in labels:
            seeds = values.isel(run=(curves["label"] == label).to_numpy()).sel(epoch=slice(0, None))
            fields, color = {"bits": title, "noise": label}, _shade(label)
            mean_curve(ax, seeds, {"color": color}, fields)
            seed_range(ax, seeds, color, "lowest and highest of the seeds", fields)
        ax.set_title(title)
    ends = [float(values.sel(epoch=1).max()) for values in panels.values() if 1 in values["epoch"]]
    if ends:
        axes[0, 0].set_ylim(top=max(ends))  # the first epoch's range would compress the others
    fig.supxlabel("epoch")
    axes[0, 0].set_ylabel("bits per character")
    legend(fig, [], *_patches(labels), columns=6)
    return fig


@figure
def language_sparsity(table: pd.DataFrame) -> Figure:
    """Outputs of the layers on held-out text after the last epoch, by kind of noise: means, 95 % intervals.

    Hoyer's sparsity, mean |h|, and the noise's variance over the mean of h²; one row of panels per layer.
    """
    labels, layers = list(dict.fromkeys(table["label"])), language_models.layers(table)
    height = 0.9 + (0.5 + 0.24 * len(labels)) * len(layers)
    fig, axes = grid(len(layers), len(language_models.OUTPUT_QUANTITIES), height, sharex="col", sharey=True)
    for row, layer in zip(axes, layers, strict=True):
        for ax, (name, words) in zip(row, language_models.OUTPUT_QUANTITIES.items(), strict=True):
            for y, label in enumerate(labels):
                each = describe(table[table["label"] == label][f"{name}:{layer}"])
                fields = {"quantity": words, "layer": layer, "noise": label, "n": each.n}
                horizontal_interval(ax, y, each, fields, color=_shade(label))
            ax.grid(axis="y", visible=False)
        name_rows(row[0], labels)
        row[0].set_title(f"layer {layer}", loc="left")
    for ax, words in zip(axes[-1], language_models.OUTPUT_QUANTITIES.values(), strict=True):
        ax.set_xlabel(words)
    return fig


def _shade(label: str) -> str:
    return SHADES.get(label, OTHER)


def _patches(labels: Iterable[str]) -> list[tuple[Artist, str]]:
    return [(Patch(color=_shade(label)), label) for label in labels]
