"""Parts of several figures: grids of panels, means with their intervals, rows of names."""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from sparsity_lib.study.analysis.comparison import Description
from sparsity_lib.study.analysis.summary import SMOOTHING
from sparsity_lib.study.figures.data import INTERVAL, record
from sparsity_lib.study.figures.style import WIDTH

SMOOTHED = f"smoothed (sigma {SMOOTHING:g} epochs)"
ZERO: dict[str, Any] = {"color": "0.45", "linewidth": 0.9, "zorder": 1}  # the line at no difference


def panel_grid(n: int, share: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure of n panels, two or three in a row."""
    columns = min(n, 2 if n in (2, 4) else 3)
    rows = -(-n // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, 0.9 + 2.9 * rows), sharex=share, squeeze=False, layout="constrained"
    )
    for ax in axes.flat[n:]:
        ax.remove()
    return fig, list(axes.flat[:n])


def wrapped(title: str, panels: int) -> str:
    """A setting's title in the width of its panel, one of so many."""
    return textwrap.fill(title, {1: 84, 2: 40, 4: 40}.get(panels, 28))


def dot(
    ax: Axes,
    at: tuple[float, float],
    interval: tuple[float, float],
    color: str,
    *,
    upright: bool = False,
    marker: str = "o",
    hollow: bool = False,
) -> None:
    """A mean with its interval, if that is known, along the x axis; along the y axis if `upright`."""
    ends = np.abs(np.subtract(interval, at[1] if upright else at[0])).reshape(2, 1)
    known: dict[str, Any] = {"yerr" if upright else "xerr": ends} if np.isfinite(ends).all() else {}
    face = "white" if hollow else color
    ax.errorbar(*at, **known, color=color, marker=marker, markersize=5, markerfacecolor=face, linewidth=1.3)


def recorded_dot(
    ax: Axes, y: float, each: Description, color: str, of: dict[str, Any], *, hollow: bool = False
) -> None:
    """`dot` of a description in the row y, with its numbers recorded as those `of` something."""
    dot(ax, (each.mean, y), (each.low, each.high), color, hollow=hollow)
    record(ax, INTERVAL, **of, n=each.n, value=each.mean, low=each.low, high=each.high)


def name_rows(ax: Axes, names: Sequence[str]) -> None:
    """The names of the rows 0, 1, ... from above."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)


def falling_log(ax: Axes) -> None:
    """A logarithmic x axis, high values left, with few plain numbers also where it spans under a decade."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(LogLocator(subs=(1,) if high > 30 * low else (1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(high, low)
