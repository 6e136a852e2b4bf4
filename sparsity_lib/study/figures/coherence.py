"""Strong L1 and L2 in three ways: coherence, accuracy against strength, gradient norms, compression."""

from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from sparsity_lib.study.analysis import SMOOTHING, smoothed, trained
from sparsity_lib.study.analysis.comparison import Description, describe
from sparsity_lib.study.analysis.other_papers import coherence
from sparsity_lib.study.analysis.other_papers.coherence import (
    ALWAYS,
    DELAYED,
    GATED,
    NONE,
    TERMS,
    WAYS,
    WEIGHT_DECAY,
)
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.figures.curves import BAND
from sparsity_lib.study.figures.data import record
from sparsity_lib.study.figures.panels import (
    ZERO,
    grid,
    label_rows,
    mean_curve,
    plain_numbers,
    reference_band,
    seed_range,
    vertical_intervals,
)
from sparsity_lib.study.figures.style import WIDTH, figure, handle, legend

_COLORS = {NONE: "#000000", ALWAYS: "#D55E00", DELAYED: "#0072B2", GATED: "#009E73"}
_MARKERS = {NONE: "X", ALWAYS: "s", DELAYED: "^", GATED: "o"}
_TOLERANCE = handle("0.4", linestyle="--", linewidth=1), "tolerance level"


@figure
def coherence_curves(curves: xr.Dataset) -> Figure:
    """Coherence, the share of steps in which the term acts, and validation accuracy, by epoch and strength.

    A column for each strength in `curves`, made by `coherence.runs_with_shrinkage`. Smoothed for drawing.
    Lines are means over seeds; bands go from the lowest to the highest seed. Raises `StudyError` without L1
    and L2.
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
    fig, axes = grid(len(rows), len(columns), 6.4, sharex=True, sharey="row")
    for column, (term, strength) in zip(axes.T, columns, strict=True):
        panel = f"{term} {strength:g}"
        column[0].set_title(panel)
        column[0].axhline(0, **ZERO)
        shown = {way: runs for (*cell, way), runs in lines.items() if cell == [term, strength] or way == NONE}
        for way, runs in shown.items():
            for ax, (quantity, words) in zip(column, rows.items(), strict=True):
                if not (quantity == "coherence_gate" and way == NONE):
                    fields = {"panel": panel, "quantity": words, "way": way}
                    seeds, color = smoothed(trained(runs)[quantity]), _COLORS[way]
                    mean_curve(ax, seeds, {"color": color}, fields)
                    seed_range(ax, seeds, color, "lowest and highest seed", fields)
    label_rows(axes, rows.values())
    fig.supxlabel(f"epoch (smoothed, sigma {SMOOTHING:g} epochs)")
    present = {way for _, _, way in lines}
    ways = [way for way in (NONE, *WAYS) if way in present]
    entries = [(handle(_COLORS[way]), _words(way)) for way in ways]
    legend(fig, [], *entries, (BAND, "lowest to highest seed"))
    return fig


@figure
def strength_sweep(table: pd.DataFrame) -> Figure:
    """Accuracy at the end, and compression, against the strength of L1 and of L2, way by way.

    `table` is made by `coherence.outcomes`. Means over seeds with 95 % t intervals; of compression geometric
    means over runs that do not guess. Grey band: no regulariser. Crosses: cells in which most runs guess.
    Dashed: the tolerance level. Raises `StudyError` without L1 and L2.
    """
    terms = [term for term in TERMS if (table["term"] == term).any()]
    if not terms:
        raise StudyError("there are no runs with L1 or L2 to draw")
    rows = {"accuracy": "accuracy at the end", "log_compression": "compression at the end"}
    fig, axes = grid(len(rows), len(terms), 5.6, sharex="col", sharey="row")
    for column, term in zip(axes.T, terms, strict=True):
        column[0].set_title(term)
        _strength_axis(column[-1], table, term)
        for ax, (quantity, words) in zip(column, rows.items(), strict=True):
            _tolerance_level(ax, table, term)
            fields = {"quantity": words, "regulariser": term}
            plain = table[table["way"] == NONE]
            if plain[quantity].notna().any():
                interval = _interval(plain[quantity], quantity)
                reference_band(ax, interval, fields | {"way": NONE, "n": interval.n})
            for position, way in enumerate(WAYS):
                runs = table[(table["term"] == term) & (table["way"] == way)]
                _means(ax, runs, quantity, 1.08 ** (position - 1), fields | {"way": way})
    label_rows(axes, rows.values())
    axes[0, 0].set_ylim(0, 1)
    if table["log_compression"].notna().any():
        axes[1, 0].set_yscale("log")
        plain_numbers(axes[1, 0].yaxis)
    others = (handle("0.5", linewidth=5, alpha=0.5), "no regulariser"), _TOLERANCE
    legend(fig, [], *_markers(WAYS), *others, (handle(marker="x", linestyle=""), "most runs guess"))
    return fig


def _interval(values: pd.Series, quantity: str) -> Description:
    # In the quantity's own units; of compression the geometric mean.
    found = describe(values)
    if quantity != "log_compression":
        return found
    return found._replace(mean=np.exp(found.mean), low=np.exp(found.low), high=np.exp(found.high))


def _means(ax: Axes, runs: pd.DataFrame, quantity: str, shift: float, fields: dict[str, str]) -> None:
    if not runs[quantity].notna().any():
        return
    cells = runs.groupby("strength")
    means = pd.DataFrame(_interval(each[quantity], quantity) for _, each in cells)
    strengths, guess = np.array(list(cells.groups)), (cells["guesses"].mean() > 0.5).to_numpy()
    x, color = strengths * shift, _COLORS[fields["way"]]
    columns = {"strength": strengths, "n": means["n"], "most_guess": guess}
    vertical_intervals(ax, x, means, fields | columns, color=color, linewidth=1.3)
    for chosen, shape in ((~guess, _MARKERS[fields["way"]]), (guess, "x")):
        ax.plot(x[chosen], means["mean"][chosen], color=color, marker=shape, markersize=6, linestyle="")


@figure
def gradient_norms(table: pd.DataFrame) -> Figure:
    """Norms of the gradients of the term and of the loss after the first epoch, always on, by strength.

    Means over seeds with 95 % t intervals. Dashed: the tolerance level. Raises `StudyError` without runs
    in which the norms were measured.
    """
    always = table[(table["way"] == ALWAYS) & table["term_gradient"].notna()]
    terms = [term for term in TERMS if (always["term"] == term).any()]
    if not terms:
        raise StudyError("there are no runs always on in which the gradient norms were measured")
    fig, axes = grid(1, len(terms), 3.2, sharey=True)
    drawn: dict[str, tuple[str, dict[str, Any]]] = {
        "term_gradient": ("the regulariser's", {"marker": "s", "linestyle": "-"}),
        "loss_gradient": ("the loss's", {"marker": "o", "linestyle": ":"}),
    }
    color = _COLORS[ALWAYS]
    for ax, term in zip(axes[0], terms, strict=True):
        cells = always[always["term"] == term].groupby("strength")
        for quantity, (words, style) in drawn.items():
            fields = {"regulariser": term, "gradient": words, "strength": list(cells.groups)}
            means = pd.DataFrame(describe(each) for _, each in cells[quantity])
            vertical_intervals(ax, fields["strength"], means, fields, color=color, markersize=5, **style)
        _tolerance_level(ax, table, term)
        ax.set_yscale("log")
        plain_numbers(ax.yaxis)
        ax.set_title(term)
        _strength_axis(ax, always, term)
    axes[0, 0].set_ylabel("norm of the gradient")
    legend(fig, [], *((handle(color, **style), words) for words, style in drawn.values()), _TOLERANCE)
    return fig


@figure
def accuracy_against_compression(table: pd.DataFrame) -> Figure:
    """Accuracy at the end against compression of every run, both of the last network.

    Full markers are L1, hollow ones L2, which makes no exact zeros. Runs that guess are left out. Raises
    `StudyError` without any other.
    """
    learned = table[table["compression"].notna() & ~table["guesses"] & (table["term"] != WEIGHT_DECAY)]
    if learned.empty:
        raise StudyError("there are no runs whose compression was measured and that learned anything")
    fig, ax = plt.subplots(figsize=(WIDTH, 4.2), layout="constrained")
    for (way, term), runs in learned.groupby(["way", "term"], sort=False):
        x, y, color = runs["compression"], runs["accuracy"], _COLORS[way]
        face = "none" if term == "L2" else color
        ax.scatter(x, y, s=34, marker=_MARKERS[way], edgecolor=color, facecolor=face, alpha=0.8)
        fields = {"regulariser": term or NONE, "way": way, "strength": runs["strength"], "seed": runs["seed"]}
        record(ax, "a run", **fields, compression=x, value=y)
    ax.set_xscale("log")
    plain_numbers(ax.xaxis)
    ax.set_xlabel("compression (parameters over non-zero ones)")
    ax.set_ylabel("accuracy at the end")
    hollow = handle(marker="o", markerfacecolor="none", linestyle="")
    legend(fig, [], *_markers((NONE, *WAYS)), (hollow, "hollow: L2"))
    return fig


def _tolerance_level(ax: Axes, table: pd.DataFrame, term: str) -> None:
    level = coherence.failure_strength(table, term)
    if np.isfinite(level):
        ax.axvline(level, color="0.4", linestyle="--", linewidth=1, zorder=1)


def _strength_axis(ax: Axes, table: pd.DataFrame, term: str) -> None:
    strengths = np.unique(table["strength"][table["term"] == term])
    ax.set_xscale("log")
    ax.set_xlabel(f"strength of {term}")
    ax.set_xticks(strengths, [f"{strength:g}" for strength in strengths])
    ax.xaxis.set_minor_locator(NullLocator())


def _words(way: str) -> str:
    return "no regulariser" if way == NONE else way


def _markers(ways: Iterable[str]) -> list[tuple[Artist, str]]:
    return [(handle(_COLORS[way], marker=_MARKERS[way], linestyle=""), _words(way)) for way in ways]
