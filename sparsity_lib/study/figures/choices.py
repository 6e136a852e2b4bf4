"""Figures of choices: readings, strengths of lambda, tuned baselines, and readings of DecorrReg."""

from typing import Any, Literal

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sparsity_lib import functional
from sparsity_lib.study.analysis import choices
from sparsity_lib.study.analysis.comparison import describe
from sparsity_lib.study.figures.data import INTERVAL, record
from sparsity_lib.study.figures.panels import (
    ZERO,
    grid,
    horizontal_interval,
    name_rows,
    panel_grid,
    plain_numbers,
    reference_band,
    vertical_intervals,
)
from sparsity_lib.study.figures.style import COLORS, WIDTH, figure, handle, legend, line_style

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
_OF_VANILLA = {"weight decay": "#8C564B", "label smoothing": "#5C6F00"}  # families within vanillaNet
_CENTERS = {"filters": "mean filter (printed)", "components": "own mean", "none": "no mean"}
_NOT_DECORRELATED: dict[str, Literal["--", ":"]] = {"vanillaNet": "--", "sr2Net": ":"}
_PENALTIES: dict[str, dict[str, Any]] = {
    "signed": {"color": "#000000", "marker": "o"},
    "absolute": {"color": "#0072B2", "marker": "s"},
    "squared": {"color": "#56B4E9", "marker": "^"},
    "local": {"color": "#D55E00", "marker": "D"},
}


@figure
def reading_effects(table: pd.DataFrame) -> Figure:
    """Changes of accuracy, rise of the loss and fall of entropy by reading: means, 95 % t intervals.

    `table` is made by `choices.outcomes`; differences to the same network in our reading, paired by seed.
    """
    effects = choices.effects(table)
    rows = list(dict.fromkeys(zip(effects["reading"], effects["network"], strict=True)))
    fig, axes = grid(1, len(_EFFECTS), 1.4 + 0.29 * len(rows), sharey=True)
    for ax, (quantity, words) in zip(axes[0], _EFFECTS.items(), strict=True):
        for row in effects[effects["quantity"] == quantity].itertuples():
            fields = {"quantity": words, "reading": row.reading, "network": row.network, "n": row.n}
            y, color = rows.index((row.reading, row.network)), line_style(row.network)["color"]
            horizontal_interval(ax, y, row, fields, color=color)
        ax.axvline(0, **ZERO)
        ax.set_title(words.replace(" (", "\n("))
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.grid(axis="y", visible=False)
    name_rows(axes[0, 0], [f"{network}, {reading}" for reading, network in rows])
    fig.supxlabel("changed by the reading, paired by seed")
    legend(fig, dict.fromkeys(sorted(effects["network"], key=list(COLORS).index)))
    return fig


@figure
def response_curve(table: pd.DataFrame) -> Figure:
    """Outcomes of sr2Net by strength of SparsityReg: a tick per seed, means, their 95 % t intervals.

    `table` is made by `choices.outcomes`. The grey band is vanillaNet's mean with its interval.
    """
    tried, color = choices.strengths(table), COLORS["sr2Net"]
    plain = table[(table["label"] == "vanillaNet") & table["seed"].isin(tried["seed"])]
    x = tried["strength"].unique()
    fig, axes = grid(2, 2, 5.6, sharex=True)
    for ax, (quantity, words) in zip(axes.flat, _RESPONSES.items(), strict=True):
        if len(plain):
            reference_band(ax, describe(plain[quantity]), {"quantity": words, "network": "vanillaNet"})
        fields = {"quantity": words, "network": "sr2Net"}
        means = pd.DataFrame(describe(runs[quantity]) for _, runs in tried.groupby("strength"))
        vertical_intervals(ax, x, means, {**fields, "strength": x}, color=color, marker="o", markersize=5)
        ax.scatter(tried["strength"], tried[quantity], s=26, color=color, marker="_", alpha=0.6)
        record(ax, "a seed", **fields, strength=tried["strength"], seed=tried["seed"], value=tried[quantity])
        ax.set_xscale("log")
        ax.set_title(words)
    fig.supxlabel("λ (conv layers on digits: 16 times)")
    legend(
        fig,
        [],
        (handle(color, marker="o"), "sr2Net: mean, 95 % interval"),
        (handle(color, marker="_", linestyle=""), "a seed"),
        (handle("0.5"), "vanillaNet: mean, 95 % interval"),
    )
    return fig


@figure
def learning_rates(table: pd.DataFrame) -> Figure:
    """Outcomes of each network by learning rate: a tick per seed, and means over seeds.

    `table` is made by `choices.learning_rates`.
    """
    networks = [name for name in COLORS if name in set(table["network"])]
    fig, axes = grid(2, 2, 5.8, sharex=True)
    for ax, (quantity, words) in zip(axes.flat, _RESPONSES.items(), strict=True):
        for network in networks:
            runs, style = table[table["network"] == network], line_style(network)
            mean = runs.groupby("lr")[quantity].mean()
            fields = {"quantity": words, "network": network}
            ax.plot(mean.index, mean, **style, marker="o", markersize=4)
            record(ax, "mean", **fields, learning_rate=mean.index, value=mean)
            ax.scatter(runs["lr"], runs[quantity], s=26, color=style["color"], marker="_", alpha=0.6)
            record(ax, "a seed", **fields, learning_rate=runs["lr"], seed=runs["seed"], value=runs[quantity])
        ax.set_xscale("log")
        ax.set_title(words)
        plain_numbers(ax.xaxis, subs=(1, 3))
    fig.supxlabel("learning rate")
    legend(fig, networks, (handle("0.3", marker="_", linestyle=""), "a seed"), columns=5)
    return fig


@figure
def tuned_baselines(table: pd.DataFrame) -> Figure:
    """Accuracy at each tried strength minus vanillaNet's, by seed: mean difference and its 95 % t interval.

    `table` is made by `choices.outcomes`. Full dots: the strength chosen on the monitor images.
    """
    tuned = choices.tuned(table)
    fig, ax = plt.subplots(figsize=(WIDTH, 1.2 + 0.3 * len(tuned)), layout="constrained")
    for y, row in enumerate(tuned.itertuples()):
        fields = {"regulariser": row.family, "strength": row.strength, "network": row.network}
        fields |= {"chosen": row.chosen, "n": row.n}
        color = _OF_VANILLA.get(row.family) or line_style(row.network)["color"]
        face = color if row.chosen else "white"
        horizontal_interval(ax, y, row, fields, color=color, markerfacecolor=face)
    for y, (family, following) in enumerate(zip(tuned["family"], tuned["family"][1:], strict=False)):
        if family != following:
            ax.axhline(y + 0.5, color="0.8", linewidth=0.8)
    name_rows(ax, [f"{row.family} {row.strength:g}" for row in tuned.itertuples()])
    ax.axvline(0, **ZERO)
    ax.set_xlabel("accuracy at the chosen epoch, minus vanillaNet's")
    chosen = handle("0.3", marker="o"), "chosen on the monitor images"
    legend(fig, [], chosen, (handle("0.3", marker="o", markerfacecolor="white"), "tried"))
    return fig


@figure
def decorrelation_descents(descents: pd.DataFrame) -> Figure:
    """Mean |c| of filters, by each filter's own mean, after descent on each reading of DecorrReg.

    `descents` is from `decorrelation.descents`: a panel per kind of filters, a row per centre, a marker per
    penalty. Vertical lines: before the descent.
    """
    kinds = descents.groupby("filters", sort=False)
    fig, axes = panel_grid(len(kinds), 2, 0.6, 2.0, sharex=True, sharey=True)
    for ax, (kind, here) in zip(axes, kinds, strict=True):
        before = here["before"].iloc[0]
        ax.axvline(before, color="0.45", linestyle="--", linewidth=1.4)
        _by_penalty(ax, here.rename(columns={"after": "mean"}), "after", filters=kind)
        record(ax, "before", filters=kind, value=before)
        ax.set_title(kind)
    fig.supxlabel("mean |c| after the descent")
    legend(fig, [], *_penalty_handles(), (handle("0.45", linestyle="--"), "before"), columns=5)
    return fig


@figure
def trained_correlations(table: pd.DataFrame) -> Figure:
    """Mean |c| of conv1's filters after training, by reading of DecorrReg, with two centres.

    `table` is made by `choices.outcomes`: a row per centre, a marker per penalty, means over seeds with
    their 95 % t intervals. Dashed lines: vanillaNet; dotted: sr2Net, if their correlations were recorded.
    """
    kept = table.dropna(subset=["correlation:filters", "correlation:components"])
    networks = [name for name in _NOT_DECORRELATED if (kept["label"] == name).any()]
    cells = kept[kept["network"] == "sr3Net"].groupby(["center", "penalty"])
    fig, axes = grid(1, 2, 3.2, sharex=True, sharey=True)
    for ax, center in zip(axes[0], ("filters", "components"), strict=True):
        fields = {"mean_removed": _CENTERS[center]}
        found = [
            {"center": cell[0], "penalty": cell[1]} | describe(runs[f"correlation:{center}"])._asdict()
            for cell, runs in cells
        ]
        _by_penalty(ax, pd.DataFrame(found), INTERVAL, **fields)
        for network in networks:
            mean = kept[kept["label"] == network][f"correlation:{center}"].mean()
            style = {"color": COLORS[network], "linestyle": _NOT_DECORRELATED[network]}
            ax.axvline(mean, **style, linewidth=1.4, zorder=1)
            record(ax, "mean", **fields, network=network, value=mean)
        ax.set_title(f"mean removed: {_CENTERS[center]}")
    axes[0, 0].set_xlim(left=0)
    fig.supxlabel("mean |c| of conv1's filters at the end")
    lines = [(handle(COLORS[name], linestyle=_NOT_DECORRELATED[name]), name) for name in networks]
    legend(fig, [], *_penalty_handles(), *lines, columns=6)
    return fig


def _by_penalty(ax: Axes, table: pd.DataFrame, drawn: str, **fields: str) -> None:
    # A row per centre, a marker per penalty; intervals where the table has them.
    for row in table.itertuples():
        style = _PENALTIES[row.penalty]
        y = functional.CENTERS.index(row.center) + 0.17 * (functional.PENALTIES.index(row.penalty) - 1.5)
        if "low" in table:
            ax.hlines(y, row.low, row.high, color=style["color"], linewidth=1.2)
        ax.scatter(row.mean, y, s=36, **style, zorder=2)
    cells = {"centre": table["center"].map(_CENTERS), "penalty": table["penalty"], "value": table["mean"]}
    record(ax, drawn, **fields, **cells, **{name: table[name] for name in ("low", "high") if name in table})
    name_rows(ax, list(_CENTERS.values()))


def _penalty_handles() -> list[tuple[Artist, str]]:
    return [(handle(**_PENALTIES[name], linestyle=""), name) for name in functional.PENALTIES]
