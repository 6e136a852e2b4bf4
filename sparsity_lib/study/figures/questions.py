"""What a sceptic asks first, drawn: one figure per question, from the quantities of `questions`."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from sparsity_lib.study.analysis import questions
from sparsity_lib.study.analysis.comparison import describe
from sparsity_lib.study.analysis.summary import labels, settings
from sparsity_lib.study.figures.data import INTERVAL, tell
from sparsity_lib.study.figures.panels import SMOOTHED, ZERO, dot, falling_log, panel_grid
from sparsity_lib.study.figures.style import WIDTH, figure, legend, line_style
from sparsity_lib.study.figures.tables import KINDS
from sparsity_lib.study.text import number


def _dots(ax: Axes, rows: pd.DataFrame, factor: bool = False, **of: str) -> None:
    # rows: label, mean, low, high; one line each, from above; with `factor` they are logarithms
    values = rows[["mean", "low", "high"]].to_numpy(dtype=float)
    values = np.exp(values) if factor else values
    for y, (label, (mean, low, high)) in enumerate(zip(rows["label"], values, strict=True)):
        dot(ax, (mean, y), (low, high), line_style(label)["color"])
    mean, low, high = values.T
    tell(ax, INTERVAL, **of, network=rows["label"], value=mean, low=low, high=high)


@figure
def growth(curves: xr.Dataset, layers: Sequence[str] = questions.TARGETED) -> Figure:
    """Of one setting, from the lowest validation loss to the end: entropy, scale-free entropy, SD's factor.

    Means over seeds with their 95 % t intervals; both entropies are drawn on one scale.
    """
    table, names = questions.growth(curves, layers), labels(curves)
    shown = {
        "entropy": "change of\nentropy (nats)",
        "scale_free_entropy": "change of scale-free\nentropy (nats)",
        "log_sd": "factor of the SD\nof activations",
    }
    there = table["layer"].unique()
    size = (WIDTH, 0.9 + (0.3 + 0.2 * len(names)) * len(there))
    fig, axes = plt.subplots(
        len(there), 3, figsize=size, sharex="col", sharey=True, squeeze=False, layout="constrained"
    )
    for row, layer in zip(axes, there, strict=True):
        for ax, quantity in zip(row, shown, strict=True):
            mine = table.query("layer == @layer and quantity == @quantity")
            _dots(ax, mine, quantity == "log_sd", quantity=shown[quantity], layer=layer)
            ax.axvline(float(quantity == "log_sd"), **ZERO)
            ax.grid(axis="y", visible=False)
        row[0].set_yticks(range(len(names)), names)
        row[0].set_ylim(len(names) - 0.5, -0.5)
        row[0].set_title(layer, loc="left")
    for ax, text in zip(axes[-1], shown.values(), strict=True):
        ax.set_xlabel(text)
    ends = [ax.get_xlim() for ax in axes[0, :2]]
    for ax in axes[0, :2]:
        ax.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
    return fig


@figure
def matched_losses(curves: xr.Dataset) -> Figure:
    """Validation loss less vanillaNet's at the same training loss, by network; bands are 95 % t intervals.

    Pairs of the same seed; drawn down to the lowest training loss that both of every pair reach. Time plays
    no part: below zero, a network generalises better at the same fit. Pairs that reach none, as runs of one
    epoch, leave their panel empty, and it says so.
    """
    panels = settings(curves)
    fig, axes = panel_grid(len(panels), share=False)
    for ax, (title, group) in zip(axes, panels, strict=True):
        met = False
        for label in (name for name in labels(group) if name != questions.PLAIN):
            pairs = questions.matched(group, label, questions.PLAIN)
            told = [describe(column) for column in pairs.to_numpy().T]
            mean, low, high = (
                np.array([getattr(t, name) if not t.missing else np.nan for t in told])
                for name in ("mean", "low", "high")
            )
            met |= bool(np.isfinite(mean).any())
            ax.plot(pairs["level"], mean, **line_style(label))
            ax.fill_between(
                pairs["level"], low, high, color=line_style(label)["color"], alpha=0.13, linewidth=0
            )
            quantity = f"validation loss less {questions.PLAIN}'s (nats), all losses {SMOOTHED}"
            of = {"setting": title, "network": label, "quantity": quantity}
            tell(ax, INTERVAL, **of, training_loss_nats=pairs["level"], value=mean, low=low, high=high)
        ax.axhline(0, **ZERO)
        if met:
            falling_log(ax)
        else:
            ax.text(0.5, 0.6, "no training loss in common", ha="center", transform=ax.transAxes)
        ax.set_title(title)
    fig.supxlabel("training loss (nats), falling to the right")
    fig.supylabel(f"validation loss less {questions.PLAIN}'s (nats)")
    legend(fig, [name for name in labels(curves) if name != questions.PLAIN])
    return fig


def overfitting_table(table: pd.DataFrame) -> pd.DataFrame:
    """Networks as rows: how many runs overfit; validation loss against vanillaNet's."""
    counts = table[["overfit", "runs"]].to_numpy()
    columns = {
        "loss gets worse for good": [f"{overfit} of {runs}" for overfit, runs in counts],
        "less vanillaNet's at the same training loss": [_with_interval(row) for _, row in table.iterrows()],
        "that training loss, median": [number(x) if x > 0 else "" for x in table["level"]],
    }
    index = pd.MultiIndex.from_frame(table[["setting", "label"]], names=["setting", "network"])
    return pd.DataFrame(columns, index)


def _with_interval(row: pd.Series) -> str:
    if not row["n"] > 0:
        return ""
    mean, low, high = (number(row[name], sign=True) for name in ("mean", "low", "high"))
    return f"{mean}, one run" if row["n"] == 1 else f"{mean} ({low} to {high})"


@figure
def strengths(table: pd.DataFrame) -> Figure:
    """Lambda R ln D by layer (`questions.strengths`), on a logarithmic scale; grey: the loss of guessing."""
    layers = [name for name in table.columns if name != "loss"]
    fig, ax = plt.subplots(figsize=(WIDTH, 3.4), layout="constrained")
    ax.axhspan(table["loss"].min(), table["loss"].max(), color="0.9", zorder=0)
    ax.text(
        2.5, np.sqrt(table["loss"].min() * table["loss"].max()), "loss of guessing", va="center", ha="center"
    )
    tell(ax, "loss of guessing (nats)", low=table["loss"].min(), high=table["loss"].max())
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(table)))
    for (name, row), color in zip(table.iterrows(), colors, strict=True):
        values = row[layers].astype(float)
        ax.plot(layers, values, color=color, marker="o", label=", ".join(name))
        tell(ax, "λ R ln D (nats)", setting=", ".join(name), layer=layers, value=values)
    ax.set_yscale("log")
    ax.set_ylabel("λ R ln D (nats)")
    ax.yaxis.set_major_formatter("{x:g}")
    fig.legend(loc="outside upper left", ncols=3, columnspacing=1.4)
    return fig


@figure
def optimism(curves: xr.Dataset) -> Figure:
    """How optimistic the best accuracy is, in points, and how the networks rank by each of the three (T18).

    Means over seeds of the difference within each run, with 95 % t intervals; one row of panels per setting.
    """
    panels = settings(curves)
    rows = max(len(labels(group)) for _, group in panels)
    words = ("best − chosen (points)", "best − last five (points)", "rank by mean")
    fig, axes = plt.subplots(
        len(panels),
        3,
        figsize=(WIDTH, 0.8 + (0.5 + 0.24 * rows) * len(panels)),
        squeeze=False,
        layout="constrained",
    )
    for row, (title, group) in zip(axes, panels, strict=True):
        names, table = labels(group), questions.optimism(group)
        for ax, measure, text in zip(row, questions.ACCURACIES[1:], words, strict=False):
            _dots(ax, table[table["measure"] == measure], setting=title, quantity=text)
            ax.axvline(0, **ZERO)
            ax.set_yticks(range(len(names)), names if ax is row[0] else [])
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.grid(axis="y", visible=False)
        row[0].set_title(title, loc="left")
        _ranks(row[2], questions.ranks(group), setting=title, quantity=words[2])
    for ax, text in zip(axes[-1], words, strict=True):
        ax.set_xlabel(text)
    return fig


def _ranks(ax: Axes, ranks: pd.DataFrame, **of: str) -> None:
    for label, row in ranks.iterrows():
        tell(ax, "rank", **of, network=label, accuracy=list(KINDS.values()), value=row)
        ax.plot(list(KINDS.values()), row, **line_style(str(label)), marker="o", markersize=4)
    ax.set_yticks(range(1, len(ranks) + 1))
    ax.set_ylim(len(ranks) + 0.5, 0.5)
    ax.set_xlim(-0.2, 2.2)
    ax.grid(visible=False)


@figure
def likeness(curves: xr.Dataset, center: str = "filters") -> Figure:
    """Mean absolute correlation of filters by layer, before training and at the end, on a logarithmic scale.

    Dots: means over seeds with 95 % t intervals, hollow before training. Dashed: what random filters of so
    many weights have; dotted: what the root mean square of so many filters cannot be below (Welch).
    """
    table, names = questions.likeness(curves, center), labels(curves)
    layers = list(table["layer"].unique())
    fig, ax = plt.subplots(figsize=(WIDTH, 3.6), layout="constrained")
    for (label, layer, moment), row in table.set_index(["label", "layer", "moment"]).iterrows():
        x = layers.index(layer) + 0.8 * ((names.index(label) + 1) / (len(names) + 1) - 0.5)
        dot(
            ax,
            (x, row["mean"]),
            (row["low"], row["high"]),
            line_style(label)["color"],
            upright=True,
            hollow=moment == "start",
        )
        of = {"network": label, "layer": layer, "when": moment}
        tell(ax, INTERVAL, **of, value=row["mean"], low=row["low"], high=row["high"])
    lines = table.groupby("layer", sort=False)[["expected", "welch"]].first()
    for x, (expected, welch) in enumerate(lines.to_numpy()):
        ax.hlines(expected, x - 0.45, x + 0.45, color="0.2", linestyle="--", linewidth=1.1)
        tell(ax, "random filters", layer=layers[x], value=expected)
        if welch:
            tell(ax, "Welch: rms is at least this", layer=layers[x], value=welch)
            ax.hlines(welch, x - 0.45, x + 0.45, color="0.2", linestyle=":", linewidth=1.3)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xticks(range(len(layers)), layers)
    ax.grid(axis="x", visible=False)
    ax.set_ylabel("mean |c| of pairs of filters")
    legend(
        fig,
        names,
        (Line2D([], [], color="0.4", marker="o", linestyle="", markerfacecolor="white"), "before training"),
        (Line2D([], [], color="0.2", linestyle="--", linewidth=1.1), "random filters"),
        (Line2D([], [], color="0.2", linestyle=":", linewidth=1.3), "Welch: rms is at least this"),
    )
    return fig


@figure
def effective_ranks(curves: xr.Dataset) -> Figure:
    """Effective rank at the last epoch as a share of the channels: means over seeds, 95 % t intervals."""
    share = questions.rank_share(curves)
    names, layers = labels(curves), share["layer"].to_numpy().tolist()
    fig, ax = plt.subplots(figsize=(WIDTH, 3.2), layout="constrained")
    for i, label in enumerate(names):
        rows = questions.by_layer(share, label)
        of = {"network": label, "layer": layers}
        tell(ax, INTERVAL, **of, value=rows["mean"], low=rows["low"], high=rows["high"])
        for x, (_, row) in enumerate(rows.iterrows()):
            at = x + 0.8 * ((i + 1) / (len(names) + 1) - 0.5)
            dot(ax, (at, row["mean"]), (row["low"], row["high"]), line_style(label)["color"], upright=True)
    ax.set_xticks(range(len(layers)), layers)
    ax.grid(axis="x", visible=False)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("effective rank / channels")
    legend(fig, names)
    return fig


@figure
def knockouts(curves: xr.Dataset) -> Figure:
    """Accuracy on the monitor images as a layer's channels are silenced at random, by layer and network."""
    curves = questions.having(curves, "knockout_accuracy")
    names, layers = labels(curves), questions.watched(curves)
    fig, axes = plt.subplots(
        1, len(layers), figsize=(WIDTH, 3.2), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for ax, layer in zip(axes.flat, layers, strict=True):
        accuracy = curves["knockout_accuracy"].sel(layer=layer)
        for label in names:
            mean = accuracy[curves["label"] == label].mean("run")
            ax.plot(mean["knocked_out"], mean, **line_style(label), marker="o", markersize=3)
            tell(ax, "mean", network=label, layer=layer, share_silenced=mean["knocked_out"], value=mean)
        ax.set_title(layer)
        ax.set_xticks([0, 0.5, 0.9], ["0", "0.5", "0.9"])
    axes[0, 0].set_ylim(0, 1)
    axes[0, 0].set_ylabel("monitor accuracy")
    fig.supxlabel("share of the layer's channels silenced")
    legend(fig, names)
    return fig
