"""Strong L1 and L2 in three ways: coherence, accuracy against strength, pulls at weights, compression."""

from collections.abc import Iterable
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from sparsity_lib.study.analysis.comparison import Description, describe
from sparsity_lib.study.analysis.other_papers import coherence
from sparsity_lib.study.analysis.other_papers.coherence import (
    ALWAYS,
    DECAY,
    DELAYED,
    GATED,
    NONE,
    TERMS,
    WAYS,
)
from sparsity_lib.study.analysis.summary import SMOOTHING, smoothed, trained
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.figures.curves import BAND
from sparsity_lib.study.figures.data import INTERVAL, record
from sparsity_lib.study.figures.style import WIDTH, figure

_COLORS = {NONE: "#000000", ALWAYS: "#D55E00", DELAYED: "#0072B2", GATED: "#009E73"}
_MARKERS = {NONE: "X", ALWAYS: "s", DELAYED: "^", GATED: "o"}
_FILLED = {"L1": True, "L2": False}


@figure
def coherence_curves(curves: xr.Dataset) -> Figure:
    """Coherence, the share of steps in which the term acts, and validation accuracy, by epoch and strength.

    A column for each strength of `curves`, which are `coherence.gathered`. Smoothed for drawing. Lines are
    means over seeds; bands go from the lowest to the highest seed. Raises `StudyError` without L1 and L2.
    """
    lines = coherence.cells(curves)
    columns = list(dict.fromkeys((term, strength) for term, strength, _ in lines if term in TERMS))
    if not columns:
        raise StudyError("there are no runs with L1 or L2 to draw")
    rows = {
        "coherence": "coherence",
        "coherence_gate": "share of steps\nin which it acts",
        "val_accuracy": "validation accuracy",
    }
    fig, axes = plt.subplots(
        len(rows),
        len(columns),
        figsize=(WIDTH, 6.4),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for column, (term, strength) in zip(axes.T, columns, strict=True):
        column[0].set_title(f"{term} {strength:g}")
        for key in (each for each in lines if each[:2] == (term, strength) or each[2] == NONE):
            for ax, (quantity, words) in zip(column, rows.items(), strict=True):
                if not (quantity == "coherence_gate" and key[2] == NONE):
                    of = {"panel": f"{term} {strength:g}", "quantity": words, "way": key[2]}
                    _curve(ax, lines[key][[quantity]], of)
    for row, words in zip(axes, rows.values(), strict=True):
        row[0].set_ylabel(words)
    for ax in axes[0]:
        ax.axhline(0, color="0.45", linewidth=0.9, zorder=1)
    fig.supxlabel(f"epoch (smoothed, sigma {SMOOTHING:g} epochs)")
    ways = [way for way in (NONE, *WAYS) if any(way == key[2] for key in lines)]
    _legend(fig, ways, (BAND, "lowest to highest seed"), lines=True)
    return fig


def _curve(ax: Axes, values: xr.Dataset, of: dict[str, str]) -> None:
    color, (name,) = _COLORS[of["way"]], values.data_vars
    each = smoothed(trained(values)[name])
    mean, low, high = each.mean("run"), each.min("run"), each.max("run")
    record(ax, "mean", **of, epoch=mean["epoch"], value=mean)
    record(ax, "lowest and highest seed", **of, epoch=low["epoch"], low=low, high=high)
    ax.fill_between(low["epoch"], low, high, color=color, alpha=0.16, linewidth=0)
    ax.plot(mean["epoch"], mean, color=color)


@figure
def strength_sweep(table: pd.DataFrame) -> Figure:
    """Accuracy at the end, and compression, against the strength of L1 and of L2, way by way.

    `table` is `coherence.outcomes`: means over seeds with 95 % t intervals, of compression geometric and of
    the runs that do not guess; the grey band is no regulariser. Crosses: cells of which most runs guess.
    Dashed: the tolerance level. Raises `StudyError` without L1 and L2.
    """
    terms = [term for term in TERMS if (table["term"] == term).any()]
    if not terms:
        raise StudyError("there are no runs with L1 or L2 to draw")
    rows = {"accuracy": "accuracy at the end", "log_compression": "compression at the end"}
    fig, axes = plt.subplots(
        len(rows),
        len(terms),
        figsize=(WIDTH, 5.6),
        sharex="col",
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for column, term in zip(axes.T, terms, strict=True):
        column[0].set_title(term)
        _strength_axis(column[-1], table, term)
        _level(column, table, term)
        for ax, (quantity, words) in zip(column, rows.items(), strict=True):
            of = {"quantity": words, "regulariser": term}
            _plain_band(ax, table[table["way"] == NONE], quantity, of)
            for position, way in enumerate(WAYS):
                mine = table[(table["term"] == term) & (table["way"] == way)]
                _means(ax, mine, quantity, 1.08 ** (position - 1), of | {"way": way})
    for row, words in zip(axes, rows.values(), strict=True):
        row[0].set_ylabel(words)
    axes[0, 0].set_ylim(0, 1)
    if table["log_compression"].notna().any():
        axes[1, 0].set_yscale("log")
        _plain_numbers(axes[1, 0].yaxis)
    _legend(
        fig,
        WAYS,
        (Line2D([], [], color="0.5", linewidth=5, alpha=0.5), "no regulariser"),
        (Line2D([], [], color="0.4", linestyle="--", linewidth=1), "tolerance level"),
        (Line2D([], [], color="0.4", marker="x", linestyle=""), "most runs guess"),
    )
    return fig


def _level(axes: Iterable[Axes], table: pd.DataFrame, term: str) -> None:
    level = coherence.tolerance(table, term)
    if np.isfinite(level):
        for ax in axes:
            ax.axvline(level, color="0.4", linestyle="--", linewidth=1, zorder=1)


def _interval(values: pd.Series, quantity: str) -> Description:
    # in the quantity's own units: a geometric mean of compression
    found = describe(values)
    if quantity != "log_compression":
        return found
    return found._replace(mean=np.exp(found.mean), low=np.exp(found.low), high=np.exp(found.high))


def _plain_band(ax: Axes, runs: pd.DataFrame, quantity: str, of: dict[str, str]) -> None:
    if not runs[quantity].notna().any():
        return
    plain = _interval(runs[quantity], quantity)
    ax.axhline(plain.mean, color="0.5", linewidth=1.2, zorder=1)
    if plain.n > 1:
        ax.axhspan(plain.low, plain.high, color="0.85", linewidth=0, zorder=0)
    record(ax, INTERVAL, **of, way=NONE, n=plain.n, value=plain.mean, low=plain.low, high=plain.high)


def _means(ax: Axes, runs: pd.DataFrame, quantity: str, shift: float, of: dict[str, str]) -> None:
    if not runs[quantity].notna().any():
        return
    cells = runs.groupby("strength")
    found = [_interval(each[quantity], quantity) for _, each in cells]
    strengths, guess = np.array(list(cells.groups)), (cells["guesses"].mean() > 0.5).to_numpy()
    mean, low, high = (np.array([getattr(each, n) for each in found]) for n in ("mean", "low", "high"))
    color, marker = _COLORS[of["way"]], _MARKERS[of["way"]]
    ax.plot(strengths * shift, mean, color=color, linewidth=1.3)
    for chosen, shape in ((~guess, marker), (guess, "x")):
        ax.plot(
            strengths[chosen] * shift, mean[chosen], color=color, marker=shape, markersize=6, linestyle=""
        )
    ax.vlines(strengths * shift, low, high, color=color, linewidth=1.3)
    n = [each.n for each in found]
    record(ax, INTERVAL, **of, strength=strengths, n=n, most_guess=guess, value=mean, low=low, high=high)


@figure
def pulls(table: pd.DataFrame) -> Figure:
    """Norms of the gradients of the term and of the loss after the first epoch, always on, by strength.

    Means over seeds with 95 % t intervals. Dashed: the tolerance level. Raises `StudyError` without runs
    in which the norms were measured.
    """
    always = table[(table["way"] == ALWAYS) & table["term_pull"].notna()]
    terms = [term for term in TERMS if (always["term"] == term).any()]
    if not terms:
        raise StudyError("there are no runs always on in which the pulls were measured")
    fig, axes = plt.subplots(
        1, len(terms), figsize=(WIDTH, 3.2), sharey=True, squeeze=False, layout="constrained"
    )
    drawn: dict[str, tuple[str, str, Literal["-", ":"]]] = {
        "term_pull": ("the regulariser's", "s", "-"),
        "loss_pull": ("the loss's", "o", ":"),
    }
    for ax, term in zip(axes[0], terms, strict=True):
        for quantity, (words, marker, style) in drawn.items():
            found = {
                s: describe(each[quantity]) for s, each in always[always["term"] == term].groupby("strength")
            }
            strengths = list(found)
            mean, low, high = ([getattr(each, n) for each in found.values()] for n in ("mean", "low", "high"))
            ax.plot(strengths, mean, color=_COLORS[ALWAYS], marker=marker, markersize=5, linestyle=style)
            ax.vlines(strengths, low, high, color=_COLORS[ALWAYS], linewidth=1.3)
            of = {"regulariser": term, "gradient": words}
            record(ax, INTERVAL, **of, strength=strengths, value=mean, low=low, high=high)
        _level([ax], table, term)
        ax.set_yscale("log")
        _plain_numbers(ax.yaxis)
        ax.set_title(term)
        _strength_axis(ax, always, term)
    axes[0, 0].set_ylabel("norm of the gradient")
    handles = [
        Line2D([], [], color=_COLORS[ALWAYS], marker=marker, linestyle=style, label=words)
        for words, marker, style in drawn.values()
    ]
    handles.append(Line2D([], [], color="0.4", linestyle="--", linewidth=1, label="tolerance level"))
    fig.legend(handles=handles, loc="outside upper left", ncols=3)
    return fig


@figure
def accuracy_against_compression(table: pd.DataFrame) -> Figure:
    """Accuracy at the end against compression of every run, both of the last network.

    Full markers are L1, hollow ones L2, which makes no exact zeros. Runs that guess are left out. Raises
    `StudyError` without any other.
    """
    mine = table[table["compression"].notna() & ~table["guesses"] & (table["term"] != DECAY)]
    if mine.empty:
        raise StudyError("there are no runs whose compression was measured and that learned anything")
    fig, ax = plt.subplots(figsize=(WIDTH, 4.2), layout="constrained")
    for (way, term), runs in mine.groupby(["way", "term"], sort=False):
        color = _COLORS[way]
        face = color if _FILLED.get(term, True) else "none"
        ax.scatter(
            runs["compression"],
            runs["accuracy"],
            s=34,
            marker=_MARKERS[way],
            edgecolor=color,
            facecolor=face,
            alpha=0.8,
        )
        of = {"regulariser": term or NONE, "way": way}
        record(
            ax,
            "a run",
            **of,
            strength=runs["strength"],
            seed=runs["seed"],
            compression=runs["compression"],
            value=runs["accuracy"],
        )
    ax.set_xscale("log")
    _plain_numbers(ax.xaxis)
    ax.set_xlabel("compression (parameters over non-zero ones)")
    ax.set_ylabel("accuracy at the end")
    hollow = Line2D([], [], color="0.4", marker="o", markerfacecolor="none", linestyle="")
    _legend(fig, (NONE, *WAYS), (hollow, "hollow: L2"))
    return fig


def _strength_axis(ax: Axes, table: pd.DataFrame, term: str) -> None:
    strengths = np.unique(table["strength"][table["term"] == term])
    ax.set_xscale("log")
    ax.set_xlabel(f"strength of {term}")
    ax.set_xticks(strengths, [f"{strength:g}" for strength in strengths])
    ax.xaxis.set_minor_locator(NullLocator())


def _plain_numbers(axis: Axis) -> None:
    # of a logarithmic axis: 1, 2, 5 and 10 in place of powers; of three decades and more, powers of ten alone
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _legend(fig: Figure, ways: Iterable[str], *others: tuple[Artist, str], lines: bool = False) -> None:
    handles: list[Any] = [
        Line2D(
            [],
            [],
            color=_COLORS[way],
            marker=None if lines else _MARKERS[way],
            linestyle="-" if lines else "",
        )
        for way in ways
    ]
    words = ["no regulariser" if way == NONE else way for way in ways]
    fig.legend(
        [*handles, *(handle for handle, _ in others)],
        [*words, *(text for _, text in others)],
        loc="outside upper left",
        ncols=4,
        columnspacing=1.4,
    )
