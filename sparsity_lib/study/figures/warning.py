"""Sparsity and overfitting in time, and what warnings are worth, from the quantities of `warning`."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sparsity_lib.study.analysis import warning
from sparsity_lib.study.analysis.comparison import describe
from sparsity_lib.study.analysis.summary import moment_of_overfitting, settings, smoothed, trained
from sparsity_lib.study.analysis.warning import detection
from sparsity_lib.study.analysis.warning.rules import RULES
from sparsity_lib.study.figures.data import INTERVAL, tell
from sparsity_lib.study.figures.panels import SMOOTHED, ZERO, dot, wrapped
from sparsity_lib.study.figures.style import WIDTH, figure, line_style
from sparsity_lib.study.figures.tables import unbroken
from sparsity_lib.study.text import number

# What is right comes first, so that a bar's left part is what a rule is worth.
OUTCOMES = {
    "hit": "#009E73",
    "quiet": "#B9D9CE",
    "early": "#56B4E9",
    "late": "#E69F00",
    "missed": "#7F7F7F",
    "false alarm": "#D55E00",
}
_MARKS: dict[str, dict[str, Any]] = {
    "rise known": {"marker": "^", "s": 50, "color": "white", "edgecolor": "0.1"},
    "warning": {"marker": "s", "s": 38, "color": "#D55E00", "edgecolor": "white", "linewidth": 0.8},
}


@figure
def sparsity_and_loss(curves: xr.Dataset) -> Figure:
    """Of a few runs, a column each: validation loss, and perplexity sparsity by convolution and their mean.

    Vertical: the moment of overfitting. A triangle is where the mean is known to have risen, a square where
    `EntropyDropDetector`, as it comes, warns on the mean of the layers it watches.
    """
    runs = range(curves.sizes["run"])
    fig, axes = plt.subplots(
        2, len(runs), figsize=(WIDTH, 4.6), sharex=True, sharey="row", squeeze=False, layout="constrained"
    )
    for column, i in zip(axes.T, runs, strict=True):
        _one_run(column, curves.isel(run=[i]))
    for ax, text in zip(axes[:, 0], ("validation loss\n(nats)", "perplexity sparsity"), strict=True):
        ax.set_ylabel(text)
        ax.set_ylim(bottom=0)
    fig.supxlabel("epoch")
    handles = [
        Line2D([], [], color="0.1", linestyle="--", linewidth=1.1, label="moment of overfitting"),
        Line2D([], [], color="0.1", linewidth=2, label="mean of the convolutions"),
        Line2D([], [], color="0.65", linewidth=0.9, label="each of them"),
        axes[0, 0].scatter([], [], **_MARKS["rise known"], label="its rise is known"),
        axes[0, 0].scatter([], [], **_MARKS["warning"], label="EntropyDropDetector warns"),
    ]
    fig.legend(handles=handles, loc="outside upper left", ncols=3, columnspacing=1.4)
    return fig


def _one_run(column: Sequence[Axes], curves: xr.Dataset) -> None:
    ((title, run),) = settings(curves)
    label = str(run["label"].item())
    of = {"network": label, "setting": title, "seed": int(run["seed"].item())}
    loss = smoothed(trained(run)["val_loss"]).isel(run=0).dropna("epoch")
    mean = warning.feature_sparsity(run).isel(run=0).dropna("epoch")
    style = line_style(label)
    column[0].plot(loss["epoch"], loss, **style)
    tell(
        column[0],
        "run",
        **of,
        quantity=f"validation loss (nats), {SMOOTHED}",
        epoch=loss["epoch"],
        value=loss,
    )
    for layer in warning.feature_layers(run):
        each = (
            trained(run)["perplexity_sparsity"].sel(split="monitor", layer=layer).isel(run=0).dropna("epoch")
        )
        column[1].plot(each["epoch"], each, color="0.65", linewidth=0.9)
        told = {"quantity": "perplexity sparsity", "layer": layer, "epoch": each["epoch"]}
        tell(column[1], "run", **of, **told, value=each)
    column[1].plot(mean["epoch"], mean, **style)
    words = "perplexity sparsity, mean of the convolutions"
    tell(column[1], "run", **of, quantity=words, epoch=mean["epoch"], value=mean)
    moment = moment_of_overfitting(run).item()
    if np.isfinite(moment):
        for ax in column:
            ax.axvline(moment, color="0.1", linestyle="--", linewidth=1.1)
        tell(column[0], "moment of overfitting", **of, quantity="epoch", value=moment)
    rose = warning.rises(run).set_index("signal").loc["perplexity sparsity", "rose"]
    warned = detection.judge(run, warning.AS_IT_COMES)["warned"].iloc[0]
    for drawn, at in (("rise known", rose), ("warning", warned)):
        if np.isfinite(at):
            height = mean.sel(epoch=at).item()
            column[1].scatter([at], [height], **_MARKS[drawn], zorder=4)
            tell(column[1], drawn, **of, quantity="perplexity sparsity", epoch=at, value=height)
    column[0].set_title(f"{label}\n{wrapped(title, 3)}", fontsize=9.5)


@figure
def around_the_moment(found: pd.DataFrame) -> Figure:
    """How far perplexity sparsity rises in windows around the moment of overfitting (`warning.speeds`).

    One setting; a panel per network. Full dots: means over runs with 95 % t intervals; hollow: the same runs
    in the windows around the moments of the network's other runs.
    """
    labels = list(dict.fromkeys(found["label"]))
    columns = min(4, len(labels))
    rows = -(-len(labels) // columns)
    fig, axes = plt.subplots(
        rows,
        columns,
        figsize=(WIDTH, 1.0 + 1.75 * rows),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(labels) :]:
        ax.remove()
    for ax, label in zip(axes.flat, labels, strict=False):
        mine, color = found[found["label"] == label], line_style(label)["color"]
        for column, shift in (("rise", -1.6), ("elsewhere", 1.6)):
            for start, values in mine.groupby("start")[column]:
                told = describe(values)
                middle = start + warning.SHORTLY / 2
                if told.n:
                    at, interval = (middle + shift, told.mean), (told.low, told.high)
                    dot(ax, at, interval, color, upright=True, hollow=column == "elsewhere")
                words = {"rise": "its own moments", "elsewhere": "other runs' moments"}[column]
                of = {"network": label, "around": words, "window_from": start, "n": told.n}
                tell(ax, INTERVAL, **of, value=told.mean, low=told.low, high=told.high)
        ax.axhline(0, **ZERO)
        ax.axvline(0, color="0.1", linestyle="--", linewidth=1.1)
        ax.set_title(label)
        ax.grid(axis="x", visible=False)
    axes[0, 0].set_xticks([start for start, _ in warning.WINDOWS] + [warning.WINDOWS[-1][1]])
    fig.supxlabel("epochs after the moment of overfitting")
    fig.supylabel(f"rise in {warning.SHORTLY} epochs")
    handles = [
        Line2D([], [], color="0.3", marker="o", linestyle="", label="around its own moment"),
        Line2D(
            [], [], color="0.3", marker="o", linestyle="", markerfacecolor="white", label="around other runs'"
        ),
    ]
    fig.legend(handles=handles, loc="outside upper left", ncols=2)
    return fig


@figure
def warning_leads(judged: pd.DataFrame, by: str = "rule") -> Figure:
    """A dot per warning of a run that overfits, in a row per rule or network: how long before the moment.

    Colours are outcomes; the grey band is where a warning is a hit. Beside each row: how many runs that
    overfit are missed, and how many that do not are falsely warned of.
    """
    names = list(dict.fromkeys(judged[by]))
    fig, ax = plt.subplots(figsize=(WIDTH, 1.2 + 0.34 * len(names)), layout="constrained")
    ax.axvspan(-detection.WITHIN, detection.WITHIN, color="0.93", zorder=0)
    tell(ax, "a hit", low=-detection.WITHIN, high=detection.WITHIN)
    for y, name in enumerate(names):
        mine = judged[judged[by] == name]
        for outcome in ("early", "hit", "late"):
            dots = mine[mine["outcome"] == outcome].sort_values("lead")
            heights = y + 0.3 * np.sin(2.4 * np.arange(len(dots)))  # apart, and the same each time
            ax.scatter(dots["lead"], heights, s=9, color=OUTCOMES[outcome], linewidth=0, alpha=0.85)
            of = {by: name, "outcome": outcome, "rule_and_run": dots["rule"] + " " + dots["run"]}
            tell(ax, "a warning's lead (epochs)", **of, value=dots["lead"])
        counts = mine["outcome"].value_counts()
        missed, false = (int(counts.get(outcome, 0)) for outcome in ("missed", "false alarm"))
        ax.text(1.01, y, f"{missed} / {false}", transform=ax.get_yaxis_transform(), va="center", fontsize=9.5)
        tell(ax, "runs", **{by: name}, outcome=["missed", "false alarm"], value=[missed, false])
    ax.text(1.01, -0.9, "missed / false", transform=ax.get_yaxis_transform(), va="center", fontsize=9.5)
    ax.axvline(0, **ZERO)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("lead of the warning (epochs): right of zero, before the moment of overfitting")
    handles = [
        Line2D([], [], color=OUTCOMES[name], marker="o", linestyle="", label=name)
        for name in ("early", "hit", "late")
    ]
    fig.legend(handles=handles, loc="outside upper left", ncols=3)
    return fig


@figure
def warning_outcomes(transfers: Sequence[warning.Transfer]) -> Figure:
    """A panel per way to choose and judge, a bar per rule: the shares of runs that have each outcome.

    A rule that was not judged there, since runs lack what it needs, has a dash.
    """
    tables = [detection.table(transfer.judged) for transfer in transfers]
    judged = {name for table in tables for name in table["rule"]}
    names = [name for name in RULES if name in judged]
    columns = min(3, len(tables))
    rows = -(-len(tables) // columns)
    fig, axes = plt.subplots(
        rows,
        columns,
        figsize=(WIDTH, 1.0 + (0.55 + 0.2 * len(names)) * rows),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(tables) :]:
        ax.remove()
    for ax, transfer, table in zip(axes.flat, transfers, tables, strict=False):
        _bars(ax, table.set_index("rule").reindex(names), transfer.name)
        ax.set_title(wrapped(f"{transfer.name} ({int(table['runs'].iloc[0])} runs)", 3), fontsize=9.5)
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    axes[0, 0].set_xlim(0, 1)
    axes[0, 0].set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    fig.supxlabel("share of runs")
    handles = [Patch(color=color, label=name) for name, color in OUTCOMES.items()]
    fig.legend(handles=handles, loc="outside upper left", ncols=6, columnspacing=1.2, handlelength=1.2)
    return fig


def _bars(ax: Axes, table: pd.DataFrame, name: str) -> None:
    left = np.zeros(len(table))
    for outcome, color in OUTCOMES.items():
        shares = (table[outcome] / table["runs"]).to_numpy()
        ax.barh(range(len(table)), shares, 0.78, left=left, color=color, linewidth=0)
        tell(ax, "share of runs", chosen_and_judged=name, rule=table.index, outcome=outcome, value=shares)
        left += shares
    for y in np.flatnonzero(table["runs"].isna()).tolist():
        ax.text(0.02, y, "–", va="center", color="0.35")
    ax.grid(axis="y", visible=False)


def rise_table(table: pd.DataFrame) -> pd.DataFrame:
    """`warning.rise_table` in words: how often a signal rises shortly before overfitting, how regularly."""
    counts = {
        "overfit": ("overfit", "runs"),
        "risen before": ("before", "overfit"),
        "shortly before": ("shortly", "overfit"),
        "risen without overfitting": ("false", "others"),
    }
    columns = {
        text: [unbroken(f"{n} of {of}") if of else "" for n, of in table[[counted, among]].to_numpy()]
        for text, (counted, among) in counts.items()
    }
    columns["lead (epochs)"] = [_interval(row, "lead", 1) for _, row in table.iterrows()]
    spreads = {"lead_sd": "SD of the lead", "onset_sd": "SD of the moment"}
    for name, text in spreads.items():
        columns[text] = [number(value, 1) if np.isfinite(value) else "" for value in table[name]]
    heads = {"setting": "setting", "label": "network"}
    if table["signal"].nunique() > 1:
        heads["signal"] = "signal"
    index = [table[name].rename(head) for name, head in heads.items() if name in table]
    return pd.DataFrame(columns).set_index(index)


def warning_table(transfers: Sequence[warning.Transfer]) -> pd.DataFrame:
    """Ways to choose and judge, and rules, as rows: what was chosen, how often it is right, what it costs."""
    rows = []
    for transfer in transfers:
        chosen = transfer.judged.groupby("rule")["parameter"].unique()
        for _, row in detection.table(transfer.judged).iterrows():
            values = [f"{value:.3g}" for value in sorted(chosen[row["rule"]])]
            rows.append(
                {"": transfer.name, "rule": row["rule"], "chosen": unbroken(" or ".join(values))}
                | {"right (%)": number(100 * row["right"], 0)}
                | {"over another run's warning (points)": _interval(row, "over_chance", 0, 100)}
                | {"loss above the lowest (nats)": _interval(row, "excess_loss", 2)}
            )
    return pd.DataFrame(rows).set_index(["", "rule"])


def _interval(row: pd.Series, name: str, decimals: int, factor: float = 1) -> str:
    mean, low, high = factor * row[[name, f"{name}_low", f"{name}_high"]].to_numpy(float)
    if not np.isfinite(mean):
        return ""
    told = number(mean, decimals, sign=True)
    if not low < high:  # none, or of no meaning: all runs agree
        return told
    return unbroken(f"{told} ({number(low, decimals, sign=True)} to {number(high, decimals, sign=True)})")
