"""Parts of several figures: grids of panels, curves of seeds, means with their intervals, rows of names."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import ArrayLike

from sparsity_lib.study.analysis import SMOOTHING
from sparsity_lib.study.figures.data import INTERVAL, record
from sparsity_lib.study.figures.style import WIDTH
from sparsity_lib.study.runs.file import Run
from sparsity_lib.study.text import NO_RUNS

SMOOTHED = f"smoothed (sigma {SMOOTHING:g} epochs)"
ZERO: dict[str, Any] = {"color": "0.45", "linewidth": 0.9, "zorder": 1}  # the line at no difference


Estimate = Any  # a `Description`, or a row of a table, with `mean`, `low` and `high`


def grid(rows: int, columns: int, height: float, **shared: Any) -> tuple[Figure, np.ndarray]:
    """A figure as wide as the page, and its panels `(rows, columns)`; height in inches."""
    return plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, layout="constrained", **shared)


def panel_grid(n: int, columns: int, head: float, row: float, **shared: Any) -> tuple[Figure, list[Axes]]:
    """A figure of n panels, so many in a row; heights of what is above all panels and of a row in inches."""
    rows = -(-n // columns)
    fig, axes = grid(rows, columns, head + row * rows, **shared)
    for ax in axes.flat[n:]:
        ax.remove()
    return fig, list(axes.flat[:n])


def first_of(runs: Run | Sequence[Run]) -> Run | None:
    """The run itself, or the first of several; None of none."""
    return runs if isinstance(runs, Run) else next(iter(runs), None)


def no_runs() -> Figure:
    """The figure where there are no runs: one line of text."""
    fig, ((ax,),) = grid(1, 1, 0.4)
    ax.axis("off")
    ax.text(0, 0.5, NO_RUNS, va="center")
    return fig


def mean_curve(
    ax: Axes, seeds: xr.DataArray, style: dict[str, Any], fields: dict[str, Any], **more: ArrayLike
) -> None:
    """The mean over runs of curves `(run, epoch)`, recorded with `fields` and `more` columns."""
    mean = seeds.mean("run")
    ax.plot(mean["epoch"], mean, **style)
    record(ax, "mean", **fields, epoch=mean["epoch"], **more, value=mean)


def seed_range(
    ax: Axes, seeds: xr.DataArray, color: str, between: str, fields: dict[str, Any], **more: ArrayLike
) -> None:
    """A band from the lowest to the highest run of curves `(run, epoch)`, recorded as `between`."""
    low, high = seeds.min("run"), seeds.max("run")
    ax.fill_between(low["epoch"], low, high, color=color, alpha=0.16, linewidth=0)
    record(ax, between, **fields, epoch=low["epoch"], **more, low=low, high=high)


def upright_means(
    ax: Axes, x: ArrayLike, found: Sequence[Estimate], fields: dict[str, Any], **style: Any
) -> None:
    """Means at x with their intervals along the y axis; `style` is that of the means' line and markers."""
    mean, low, high = (np.array([getattr(each, name) for each in found]) for name in ("mean", "low", "high"))
    ax.plot(x, mean, **style)
    ax.vlines(x, low, high, color=style["color"], linewidth=1.3)
    record(ax, INTERVAL, **fields, value=mean, low=low, high=high)


def dot(
    ax: Axes, y: float, each: Estimate, color: str, fields: dict[str, Any], *, hollow: bool = False
) -> None:
    """A mean in the row y with its interval, if that is known, along the x axis."""
    ends = np.abs(np.subtract([each.low, each.high], each.mean)).reshape(2, 1)
    known: dict[str, Any] = {"xerr": ends} if np.isfinite(ends).all() else {}
    face = "white" if hollow else color
    ax.errorbar(
        each.mean, y, **known, color=color, marker="o", markersize=5, markerfacecolor=face, linewidth=1.3
    )
    record(ax, INTERVAL, **fields, value=each.mean, low=each.low, high=each.high)


def name_rows(ax: Axes, names: Sequence[str]) -> None:
    """The names of the rows 0, 1, ... from above."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)


def plain_numbers(axis: Axis, subs: tuple[int, ...] = (1, 2, 5), widest: float = 100) -> None:
    """Few plain numbers in place of powers on a logarithmic axis; beyond `widest`, powers of ten alone."""
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=(1,) if high > widest * low else subs))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
