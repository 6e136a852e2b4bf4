"""Figures of choices: readings, strengths of lambda, tuned baselines, and readings of DecorrReg."""

from typing import Literal

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sparsity_lib.study.analysis import choices, filters
from sparsity_lib.study.analysis.comparison import describe
from sparsity_lib.study.figures.data import INTERVAL, record
from sparsity_lib.study.figures.panels import ZERO, name_rows, recorded_dot
from sparsity_lib.study.figures.style import COLORS, WIDTH, figure, legend, line_style

_RESPONSES = {
    "chosen_accuracy": "accuracy at the chosen epoch",
    "entropy_end": "entropy at the end (shares of ln D)",
    "min_val_loss": "lowest validation loss (nats)",
    "val_loss_rise": "rise of the validation loss (nats)",
}
_EFFECTS = {
    "chosen_accuracy": "accuracy",
    "val_loss_rise": "rise of the loss (nats)",
    "entropy_drop": "fall of entropy (of ln D)",
}
_CENTERS = {"filters": "mean filter (printed)", "components": "own mean", "none": "no mean"}
_SHADES = {"signed": "#000000", "absolute": "#0072B2", "squared": "#56B4E9", "local": "#D55E00"}
_NOT_DECORRELATED: dict[str, Literal["--", ":"]] = {"vanillaNet": "--", "sr2Net": ":"}
_MARKERS = {"signed": "o", "absolute": "s", "squared": "^", "local": "D"}


@figure
def reading_effects(table: pd.DataFrame) -> Figure:
    """Changes of accuracy, rise of the loss and fall of entropy by reading: means, 95 % t intervals.

    `table` is that of `choices.outcomes`; differences to the same network in our reading, paired by seed.
    """
    effects = choices.effects(table)
    rows = list(dict.fromkeys(zip(effects["reading"], effects["network"], strict=True)))
    size = (WIDTH, 1.4 + 0.29 * len(rows))
    fig, axes = plt.subplots(1, len(_EFFECTS), figsize=size, sharey=True, layout="constrained")
    for ax, (quantity, words) in zip(axes, _EFFECTS.items(), strict=True):
        for row in effects[effects["quantity"] == quantity].itertuples():
            of = {"quantity": words, "reading": row.reading, "network": row.network}
            at = rows.index((row.reading, row.network))
            recorded_dot(ax, at, row, line_style(row.network)["color"], of)
        ax.axvline(0, **ZERO)
        ax.set_title(words)
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.grid(axis="y", visible=False)
    name_rows(axes[0], [reading for reading, _ in rows])
    fig.supxlabel("changed by the reading, paired by seed")
    legend(fig, list(dict.fromkeys(sorted(effects["network"], key=list(COLORS).index))))
    return fig


@figure
def response_curve(table: pd.DataFrame) -> Figure:
    """Outcomes of sr2Net by strength of SparsityReg: a tick per seed, means, their 95 % t intervals.

    `table` is that of `choices.outcomes`. The grey band is vanillaNet's mean with its interval.
    """
    mine = choices.strengths(table)
    plain = table[(table["label"] == "vanillaNet") & table["seed"].isin(mine["seed"])]
    fig, axes = plt.subplots(2, 2, figsize=(WIDTH, 5.6), sharex=True, layout="constrained")
    for ax, (quantity, words) in zip(axes.flat, _RESPONSES.items(), strict=True):
        if len(plain):
            none = describe(plain[quantity])
            ax.axhspan(none.low, none.high, color="0.85", linewidth=0)
            ax.axhline(none.mean, color="0.5", linewidth=1.2)
            numbers = {"value": none.mean, "low": none.low, "high": none.high}
            record(ax, INTERVAL, quantity=words, network="vanillaNet", **numbers)
        of = {"quantity": words, "network": "sr2Net"}
        found = [describe(runs[quantity]) for _, runs in mine.groupby("strength")]
        x = mine["strength"].unique()
        means, lows, highs = ([getattr(each, name) for each in found] for name in ("mean", "low", "high"))
        ax.plot(x, means, color=COLORS["sr2Net"], marker="o", markersize=5)
        ax.vlines(x, lows, highs, color=COLORS["sr2Net"])
        record(ax, INTERVAL, **of, strength=x, value=means, low=lows, high=highs)
        ax.scatter(mine["strength"], mine[quantity], s=26, color=COLORS["sr2Net"], marker="_", alpha=0.6)
        record(ax, "a seed", **of, strength=mine["strength"], seed=mine["seed"], value=mine[quantity])
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


@figure
def tuned_baselines(table: pd.DataFrame) -> Figure:
    """Accuracy at each tried strength less vanillaNet's, by seed: mean difference and its 95 % t interval.

    `table` is that of `choices.outcomes`. Full dots: the strength that the monitor images choose.
    """
    tuned = choices.tuned(table)
    fig, ax = plt.subplots(figsize=(WIDTH, 1.2 + 0.3 * len(tuned)), layout="constrained")
    for y, row in enumerate(tuned.itertuples()):
        of = {"regulariser": row.family, "strength": row.strength, "network": row.network}
        color = line_style(row.network)["color"]
        recorded_dot(ax, y, row, color, of | {"chosen": row.chosen}, hollow=not row.chosen)
    for y, (family, following) in enumerate(zip(tuned["family"], tuned["family"][1:], strict=False)):
        if family != following:
            ax.axhline(y + 0.5, color="0.8", linewidth=0.8)
    name_rows(ax, [f"{row.family} {row.strength:g}" for row in tuned.itertuples()])
    ax.axvline(0, **ZERO)
    ax.set_xlabel("accuracy at the chosen epoch, less vanillaNet's")
    chosen = [
        Line2D([], [], color="0.3", marker="o", label="chosen on the monitor images"),
        Line2D([], [], color="0.3", marker="o", markerfacecolor="white", label="tried"),
    ]
    fig.legend(handles=chosen, loc="outside upper left", ncols=2)
    return fig


@figure
def decorrelation_descents(descents: pd.DataFrame) -> Figure:
    """Mean |c| of filters, by each filter's own mean, after descent on each reading of DecorrReg.

    `descents` is that of `filters.descents`; a panel per kind of filters, a row per centre, a marker per
    penalty. Vertical lines: the filters before.
    """
    kinds = list(dict.fromkeys(descents["filters"]))
    rows = -(-len(kinds) // 2)
    fig, axes = plt.subplots(rows, 2, figsize=(WIDTH, 4.6), sharex=True, sharey=True, layout="constrained")
    for ax, kind in zip(axes.flat, kinds, strict=False):
        here = descents[descents["filters"] == kind]
        ax.axvline(here["before"].iloc[0], color="0.45", linestyle="--", linewidth=1.4)
        _penalties(ax, here, "after", filters=kind)
        record(ax, "before", filters=kind, value=here["before"].iloc[0])
        ax.set_title(kind)
    before = Line2D([], [], color="0.45", linestyle="--", label="before")
    fig.supxlabel("mean |c| after the descent")
    fig.legend(handles=[*_penalty_handles(), before], loc="outside upper left", ncols=5)
    return fig


@figure
def trained_correlations(table: pd.DataFrame) -> Figure:
    """Mean |c| of conv1's filters after training, by reading of DecorrReg, with two centres.

    `table` is that of `choices.outcomes`: a row per centre, a marker per penalty, means over seeds with
    their 95 % t intervals. Dashed lines: vanillaNet, dotted: sr2Net, where they kept their correlations.
    """
    kept = table.dropna(subset=["correlation:filters", "correlation:components"])
    networks = [name for name in _NOT_DECORRELATED if (kept["label"] == name).any()]
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2), sharex=True, sharey=True, layout="constrained")
    cells = kept[kept["network"] == "sr3Net"].groupby(["center", "penalty"])
    for ax, center in zip(axes, ("filters", "components"), strict=True):
        of = {"mean_removed": _CENTERS[center]}
        found = [
            {"center": cell[0], "penalty": cell[1]} | describe(runs[f"correlation:{center}"])._asdict()
            for cell, runs in cells
        ]
        _penalties(ax, pd.DataFrame(found), "mean", **of)
        for network in networks:
            mean = kept[kept["label"] == network][f"correlation:{center}"].mean()
            style = {"color": COLORS[network], "linestyle": _NOT_DECORRELATED[network]}
            ax.axvline(mean, **style, linewidth=1.4, zorder=1)
            record(ax, "mean", **of, network=network, value=mean)
        ax.set_title(f"mean removed: {_CENTERS[center]}")
    axes[0].set_xlim(left=0)
    fig.supxlabel("mean |c| of conv1's filters at the end")
    lines = [
        Line2D([], [], color=COLORS[network], linestyle=_NOT_DECORRELATED[network], label=network)
        for network in networks
    ]
    fig.legend(handles=[*_penalty_handles(), *lines], loc="outside upper left", ncols=6)
    return fig


def _penalties(ax: Axes, table: pd.DataFrame, quantity: str, **of: str) -> None:
    # a row per centre, a marker per penalty; intervals where there are some
    for y, center in enumerate(filters.CENTERS):
        for i, penalty in enumerate(filters.PENALTIES):
            here = table[(table["center"] == center) & (table["penalty"] == penalty)]
            at = [y + 0.17 * (i - 1.5)] * len(here)
            intervals = {name: here[name] for name in ("low", "high") if name in here}
            if intervals:
                ax.hlines(at, here["low"], here["high"], color=_SHADES[penalty], linewidth=1.2)
            cell = of | {"centre": _CENTERS[center], "penalty": penalty}
            record(ax, INTERVAL if intervals else "after", **cell, value=here[quantity], **intervals)
            ax.scatter(here[quantity], at, s=36, marker=_MARKERS[penalty], color=_SHADES[penalty], zorder=2)
    ax.set_yticks(range(len(_CENTERS)), list(_CENTERS.values()))
    ax.set_ylim(len(_CENTERS) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


def _penalty_handles() -> list[Line2D]:
    return [
        Line2D([], [], color=_SHADES[name], marker=_MARKERS[name], linestyle="", label=name)
        for name in filters.PENALTIES
    ]
