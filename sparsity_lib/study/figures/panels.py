"""Parts of several figures: grids of panels, curves of seeds, means with their intervals, names of rows."""

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
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


def grid(rows: int, columns: int, height: float, **shared: Any) -> tuple[Figure, np.ndarray]:
    """A figure as wide as the page, and its panels `(rows, columns)`; height in inches."""
    return plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, layout="constrained", **shared)


def panel_grid(n: int, columns: int, head: float, row: float, **shared: Any) -> tuple[Figure, list[Axes]]:
    """A figure of n panels; `head` and `row` are the heights of its top and of a row of panels in inches."""
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
    ax: Axes, seeds: xr.DataArray, color: str, drawn: str, fields: dict[str, Any], **more: ArrayLike
) -> None:
    """A band from the lowest to the highest run of curves `(run, epoch)`, recorded under the name `drawn`."""
    low, high = seeds.min("run"), seeds.max("run")
    ax.fill_between(low["epoch"], low, high, color=color, alpha=0.16, linewidth=0)
    record(ax, drawn, **fields, epoch=low["epoch"], **more, low=low, high=high)


def vertical_intervals(
    ax: Axes, x: ArrayLike, table: pd.DataFrame, fields: dict[str, Any], **style: Any
) -> None:
    """Means at x with intervals along the y axis: the columns `mean`, `low` and `high` of the table.

    `style` applies to the line through the means and its markers.
    """
    ax.plot(x, table["mean"], **style)
    ax.vlines(x, table["low"], table["high"], color=style["color"], linewidth=1.3)
    record(ax, INTERVAL, **fields, value=table["mean"], low=table["low"], high=table["high"])


def horizontal_interval(
    ax: Axes, y: float, estimate: Any, fields: dict[str, Any], *, color: str, **marker: Any
) -> None:
    """A mean in the row y with an interval along the x axis, which is left out where its ends are NaN.

    `estimate` is a `Description` or a row of a table with `mean`, `low` and `high`.
    """
    ax.hlines(y, estimate.low, estimate.high, color=color, linewidth=1.3)
    ax.plot(estimate.mean, y, color=color, **{"marker": "o", "markersize": 5, **marker})
    record(ax, INTERVAL, **fields, value=estimate.mean, low=estimate.low, high=estimate.high)


def reference_band(ax: Axes, estimate: Any, fields: dict[str, Any]) -> None:
    """A grey line at the mean of a `Description`, and a band over its interval, along the x axis."""
    ax.axhline(estimate.mean, color="0.5", linewidth=1.2, zorder=1)
    if np.isfinite([estimate.low, estimate.high]).all():
        ax.axhspan(estimate.low, estimate.high, color="0.85", linewidth=0, zorder=0)
    record(ax, INTERVAL, **fields, value=estimate.mean, low=estimate.low, high=estimate.high)


def name_rows(ax: Axes, names: Sequence[str]) -> None:
    """The names of the rows 0, 1, ... from above."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)


def label_rows(axes: np.ndarray, labels: Iterable[str]) -> None:
    """A label of the y axis for each row of the panels `(rows, columns)`."""
    for ax, label in zip(axes[:, 0], labels, strict=True):
        ax.set_ylabel(label)


def plain_numbers(axis: Axis, subs: tuple[int, ...] = (1, 2, 5), widest: float = 100) -> None:
    """Few plain numbers on a logarithmic axis; powers of ten alone where the range exceeds `widest`."""
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=(1,) if high > widest * low else subs))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
