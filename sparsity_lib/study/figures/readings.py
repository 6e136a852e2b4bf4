"""Scale, strength, tuned baselines, other readings, and what DecorrReg's readings do to filters."""

from collections.abc import Sequence
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sparsity_lib.study.analysis.comparison import Description, describe
from sparsity_lib.study.analysis.readings import filters
from sparsity_lib.study.analysis.readings.changes import QUANTITIES, strengths
from sparsity_lib.study.analysis.summary import labels
from sparsity_lib.study.figures.data import INTERVAL, tell
from sparsity_lib.study.figures.panels import ZERO, name_rows, told_dot
from sparsity_lib.study.figures.style import COLORS, WIDTH, figure, legend, line_style
from sparsity_lib.study.recipes import TARGETED

_RESPONSES = {
    "chosen_accuracy": "accuracy at the chosen epoch",
    "entropy_end": "entropy at the end (shares of ln D)",
    "min_val_loss": "lowest validation loss (nats)",
    "last_val_loss": "last validation loss (nats)",
}
_CENTERS = {"filters": "mean filter (printed)", "components": "own mean", "none": "no mean"}
_SHADES = {"signed": "#000000", "absolute": "#0072B2", "squared": "#56B4E9", "local": "#D55E00"}
_NOT_DECORRELATED: dict[str, Literal["--", ":"]] = {"vanillaNet": "--", "sr2Net": ":"}
_MARKERS = {"signed": "o", "absolute": "s", "squared": "^", "local": "D"}


@figure
def entropy_against_sd(curves: xr.Dataset, layers: Sequence[str] = TARGETED) -> Figure:
    """Entropy, and below it scale-free entropy, against the SD of the layer's answers, from epoch to epoch.

    A line per network, the mean over seeds on held-out images; an open dot is the network before training, a
    full one the last epoch. Dashed: ln D - SD²/2, to which entropy tends for small answers.
    """
    rows = {"entropy": "entropy (nats)", "scale_free_entropy": "scale-free entropy (nats)"}
    fig, axes = plt.subplots(
        len(rows),
        len(layers),
        figsize=(WIDTH, 6.0),
        sharex="col",
        sharey="col",
        squeeze=False,
        layout="constrained",
    )
    for row, (quantity, words) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(words)
        for ax, layer in zip(row, layers, strict=True):
            there = curves.sel(split="monitor", layer=layer)
            for label in labels(curves):
                mine = there.isel(run=(there["label"] == label).to_numpy())
                sd, mean = mine["sd"].mean("run"), mine[quantity].mean("run")
                _path(ax, sd, mean, label)
                of = {"quantity": words, "layer": layer, "network": label}
                tell(ax, "mean", **of, epoch=mean["epoch"], sd=sd, value=mean)
    for ax, layer in zip(axes[0], layers, strict=True):
        _small_logits(ax, layer, float(np.log(curves["channels"].sel(layer=layer).max())))
        ax.set_title(layer)
    fig.supxlabel("SD of activations")
    legend(
        fig,
        labels(curves),
        (Line2D([], [], color="0.45", linestyle="--", linewidth=1.2), "ln D − SD²/2"),
        (Line2D([], [], color="0.4", marker="o", markerfacecolor="white", linestyle=""), "before training"),
        (Line2D([], [], color="0.4", marker="o", linestyle=""), "last epoch"),
    )
    return fig


def _path(ax: Axes, x: xr.DataArray, y: xr.DataArray, label: str) -> None:
    style = line_style(label)
    ax.plot(x, y, **style)
    last = int(y.notnull().sum("epoch")) - 1
    for at, face in ((0, "white"), (last, style["color"])):
        ax.plot(x[at], y[at], marker="o", markersize=5, color=style["color"], markerfacecolor=face)


def _small_logits(ax: Axes, layer: str, whole: float) -> None:
    # whole: ln D, in nats; the curve is drawn where the panel is
    (_, right), (bottom, _) = ax.get_xlim(), ax.get_ylim()
    sd = np.linspace(0, right, 200)
    ax.plot(sd, whole - sd**2 / 2, color="0.45", linestyle="--", linewidth=1.2, zorder=1)
    tell(ax, "ln D − SD²/2", quantity="entropy (nats)", layer=layer, sd=sd, value=whole - sd**2 / 2)
    ax.set_xlim(0, right)
    ax.set_ylim(max(bottom, 0), whole * 1.03)


@figure
def response_curve(table: pd.DataFrame) -> Figure:
    """What comes out of sr2Net by strength of SparsityReg: a tick per seed, means, their 95 % t intervals.

    `table` is that of `readings.outcomes`. The grey band is vanillaNet's mean with its interval.
    """
    mine = strengths(table)
    plain = table[(table["network"] == "vanillaNet") & (table["change"] == "")]
    plain = plain[plain["seed"].isin(mine["seed"])]
    fig, axes = plt.subplots(2, 2, figsize=(WIDTH, 5.6), sharex=True, layout="constrained")
    for ax, (quantity, words) in zip(axes.flat, _RESPONSES.items(), strict=True):
        if len(plain):
            none = describe(plain[quantity])
            ax.axhspan(none.low, none.high, color="0.85", linewidth=0)
            ax.axhline(none.mean, color="0.5", linewidth=1.2)
            numbers = {"value": none.mean, "low": none.low, "high": none.high}
            tell(ax, INTERVAL, quantity=words, network="vanillaNet", **numbers)
        told = {strength: describe(runs[quantity]) for strength, runs in mine.groupby("strength")}
        of = {"quantity": words, "network": "sr2Net"}
        _with_intervals(ax, told, COLORS["sr2Net"], of)
        tell(ax, "a seed", **of, strength=mine["strength"], seed=mine["seed"], value=mine[quantity])
        ax.scatter(mine["strength"], mine[quantity], s=26, color=COLORS["sr2Net"], marker="_", alpha=0.6)
        ax.set_xscale("log")
        ax.set_title(words)
    fig.supxlabel("λ of the dense layer; conv layers have it times the profile's factor")
    handles = [
        Line2D([], [], color=COLORS["sr2Net"], marker="o", label="sr2Net: mean, 95 % interval"),
        Line2D([], [], color=COLORS["sr2Net"], marker="_", linestyle="", label="a seed"),
        Line2D([], [], color="0.5", label="vanillaNet: mean, 95 % interval"),
    ]
    fig.legend(handles=handles, loc="outside upper left", ncols=3)
    return fig


def _with_intervals(ax: Axes, told: dict[float, Description], color: str, of: dict[str, str]) -> None:
    x = list(told)
    means, lows, highs = ([getattr(each, n) for each in told.values()] for n in ("mean", "low", "high"))
    ax.plot(x, means, color=color, marker="o", markersize=5)
    ax.vlines(x, lows, highs, color=color)
    tell(ax, INTERVAL, **of, strength=x, value=means, low=lows, high=highs)


@figure
def tuned_baselines(tuned: pd.DataFrame) -> Figure:
    """Each tried strength against vanillaNet, by seed: mean difference and its 95 % t interval.

    `tuned` is that of `readings.tuned`. Full dots: the strength that the monitor images choose.
    """
    names = [f"{row.family} {row.strength:g}" for row in tuned.itertuples()]
    fig, ax = plt.subplots(figsize=(WIDTH, 1.2 + 0.3 * len(tuned)), layout="constrained")
    for y, row in enumerate(tuned.itertuples()):
        color = line_style(str(row.network))["color"]
        of = {"regulariser": row.family, "strength": row.strength, "network": row.network}
        told_dot(ax, y, row.difference, color, of | {"chosen": bool(row.chosen)}, hollow=not row.chosen)
    for y, (row, following) in enumerate(zip(tuned["family"], tuned["family"][1:], strict=False)):
        if row != following:
            ax.axhline(y + 0.5, color="0.8", linewidth=0.8)
    name_rows(ax, names)
    ax.axvline(0, **ZERO)
    ax.set_xlabel("accuracy at the chosen epoch, less vanillaNet's")
    chosen = [
        Line2D([], [], color="0.3", marker="o", label="chosen on the monitor images"),
        Line2D([], [], color="0.3", marker="o", markerfacecolor="white", label="tried"),
    ]
    fig.legend(handles=chosen, loc="outside upper left", ncols=2)
    return fig


@figure
def reading_effects(effects: pd.DataFrame) -> Figure:
    """What each reading changes, by seed, of accuracy and of the drop of entropy: means, 95 % t intervals.

    `effects` is that of `readings.effects`.
    """
    rows = list(dict.fromkeys(zip(effects["reading"], effects["network"], strict=True)))
    fig, axes = plt.subplots(
        1,
        len(QUANTITIES),
        figsize=(WIDTH, 1.4 + 0.29 * len(rows)),
        sharey=True,
        layout="constrained",
    )
    titles = {"chosen_accuracy": "accuracy", "entropy_drop": "drop of entropy (of ln D)"}
    for ax, quantity in zip(axes, QUANTITIES, strict=True):
        shown = effects[effects["quantity"] == quantity].set_index(["reading", "network"])["difference"]
        for y, cell in enumerate(rows):
            of = {"quantity": titles[quantity], "reading": cell[0], "network": cell[1]}
            told_dot(ax, y, shown.loc[cell], line_style(cell[1])["color"], of)
        ax.set_title(titles[quantity])
    name_rows(axes[0], [f"{name}, vanillaNet" if cell == "vanillaNet" else name for name, cell in rows])
    for ax in axes:
        ax.axvline(0, **ZERO)
    axes[1].grid(axis="y", visible=False)
    fig.supxlabel("changed by the reading, paired by seed")
    legend(fig, list(dict.fromkeys(network for _, network in rows)))
    return fig


@figure
def decorrelating(descents: pd.DataFrame) -> Figure:
    """Where descent on each reading of DecorrReg leads: mean |c| of filters, by each filter's own mean.

    `descents` is that of `readings.descents`; a panel per kind of filters, a row per centre, a marker per
    penalty. Vertical lines: the filters before.
    """
    kinds = list(dict.fromkeys(descents["filters"]))
    fig, axes = plt.subplots(
        -(-len(kinds) // 2), 2, figsize=(WIDTH, 4.6), sharex=True, sharey=True, layout="constrained"
    )
    for ax, kind in zip(axes.flat, kinds, strict=False):
        here = descents[descents["filters"] == kind]
        ax.axvline(here["before"].iloc[0], color="0.45", linestyle="--", linewidth=1.4)
        _penalties(ax, here, "after", filters=kind)
        tell(ax, "before", filters=kind, value=here["before"].iloc[0])
        ax.set_title(kind)
    before = Line2D([], [], color="0.45", linestyle="--", label="before")
    fig.supxlabel("mean |c| after the descent")
    fig.legend(handles=[*_penalty_handles(), before], loc="outside upper left", ncols=5)
    return fig


@figure
def trained_correlations(table: pd.DataFrame) -> Figure:
    """Mean |c| of conv1's filters after training, by reading of DecorrReg, as seen by two centres.

    `table` is that of `readings.correlations`: a row per centre, a marker per penalty, means over seeds with
    their 95 % t intervals. Dashed lines: vanillaNet, dotted: sr2Net, where they kept their correlations.
    """
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2), sharex=True, sharey=True, layout="constrained")
    decorrelated = table[table["network"] == "sr3Net"]
    for ax, seen in zip(axes, ("filters", "components"), strict=True):
        quantity = f"correlation:{seen}"
        cells = decorrelated.groupby(["center", "penalty"])[quantity]
        told = pd.DataFrame(
            [{"center": c, "penalty": p} | describe(values)._asdict() for (c, p), values in cells]
        )
        of = {"seen_by": _CENTERS[seen]}
        _penalties(ax, told, "mean", **of)
        for network, style in _NOT_DECORRELATED.items():
            if len(theirs := table[table["network"] == network]):
                mean = theirs[quantity].mean()
                ax.axvline(mean, color=COLORS[network], linestyle=style, linewidth=1.4, zorder=1)
                tell(ax, "mean", **of, network=network, value=mean)
        ax.set_title(f"seen by: {_CENTERS[seen]}")
    axes[0].set_xlim(left=0)
    fig.supxlabel("mean |c| of conv1's filters at the end")
    lines = [
        Line2D([], [], color=COLORS[network], linestyle=style, label=network)
        for network, style in _NOT_DECORRELATED.items()
        if (table["network"] == network).any()
    ]
    fig.legend(handles=[*_penalty_handles(), *lines], loc="outside upper left", ncols=6)
    return fig


def _penalties(ax: Axes, told: pd.DataFrame, quantity: str, **of: str) -> None:
    # a row per centre, a marker per penalty; intervals where there are some
    for y, center in enumerate(filters.CENTERS):
        for i, penalty in enumerate(filters.PENALTIES):
            here = told[(told["center"] == center) & (told["penalty"] == penalty)]
            at = y + 0.17 * (i - 1.5)
            if "low" in here:
                ax.hlines([at] * len(here), here["low"], here["high"], color=_SHADES[penalty], linewidth=1.2)
            intervals = {name: here[name] for name in ("low", "high") if name in here}
            cell = of | {"centre": _CENTERS[center], "penalty": penalty}
            tell(ax, INTERVAL if intervals else "after", **cell, value=here[quantity], **intervals)
            ax.plot(
                here[quantity],
                [at] * len(here),
                marker=_MARKERS[penalty],
                markersize=6,
                color=_SHADES[penalty],
                linestyle="",
            )
    ax.set_yticks(range(len(_CENTERS)), list(_CENTERS.values()))
    ax.set_ylim(len(_CENTERS) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


def _penalty_handles() -> list[Line2D]:
    return [
        Line2D([], [], color=_SHADES[name], marker=_MARKERS[name], linestyle="", label=name)
        for name in filters.PENALTIES
    ]
