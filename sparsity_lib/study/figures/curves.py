"""Curves over epochs: validation loss, entropies by layer, validation against training loss."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sparsity_lib.study.analysis import (
    labels,
    only,
    present_layers,
    published_in_same_settings,
    settings,
    smoothed,
    trained,
)
from sparsity_lib.study.analysis.onset import onset
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.figures.data import record
from sparsity_lib.study.figures.panels import (
    SMOOTHED,
    grid,
    label_rows,
    mean_curve,
    panel_grid,
    plain_numbers,
    seed_range,
)
from sparsity_lib.study.figures.style import figure, handle, label_ends, legend, line_style

BAND = Patch(color="0.5", alpha=0.25, linewidth=0)
_BANDS = {True: "published seeds, lowest to highest", False: "lowest to highest seed"}
_RANGES = {True: "lowest and highest of the published seeds", False: "lowest and highest of these seeds"}
_BY_LAYER = {
    "entropy": "entropy (nats)",
    "scale_free_entropy": "scale-free\nentropy (nats)",
    "sd": "SD of\nactivations",
}
_RELATIVE = {"entropy": "entropy / ln D", "scale_free_entropy": "scale-free\nentropy / ln D"}


@figure
def loss_curves(curves: xr.Dataset, published: xr.Dataset | None = None) -> Figure:
    """TSR's Figure 3: validation loss (cross-entropy alone) by epoch, one panel per size and noise level.

    Smoothed for drawing (T9). Lines are means over seeds; bands go from the lowest to the highest seed: of
    the published runs where they are given, else of these.
    """
    panels, drawn = settings(curves), _RANGES[published is not None]
    fig, axes = _panel_per_setting(panels, sharex=True)
    for ax, (title, group) in zip(axes, panels, strict=True):
        banded = group if published is None else published_in_same_settings(published, group)
        for label in labels(group):
            losses = [smoothed(trained(seeds)["val_loss"]) for seeds in _of_both(group, banded, label)]
            fields = {"setting": title, "quantity": f"validation loss (nats), {SMOOTHED}"}
            _curve(ax, losses, label, drawn, fields)
        ax.set_ylim(0, _top(group))
        if len(panels) < 3 and ax is axes[-1]:  # in another panel names would run into the next
            label_ends(ax, labels(group))
    fig.supxlabel("epoch")
    fig.supylabel("validation loss (nats)")
    legend(fig, labels(curves), (BAND, _BANDS[published is not None]))
    return fig


@figure
def entropy_curves(
    curves: xr.Dataset,
    published: xr.Dataset | None = None,
    layers: list[str] | None = None,
    relative: bool = False,
) -> Figure:
    """TSR's Figure 5, entropy by layer, with two rows more: scale-free entropy, and SD of the activations.

    Means over seeds on held-out images; bands from the lowest to the highest seed: of the published runs
    where they are given, else of these. Vertical lines: the median moment of overfitting, where at least half
    of a network's seeds have one. Entropies share one scale, in nats or, if `relative`, in shares of the
    layer's ln D; the faint line above is ln D. The output of a norm layer is drawn in the column of the layer
    before it.

    Raises `StudyError` if the runs are of several settings.
    """
    (title, group), *more = settings(curves)
    if more:
        titles = "; ".join(title for title, _ in settings(curves))
        raise StudyError(
            f"entropy curves show one setting, not {1 + len(more)} ({titles}); use analysis.only"
        )
    columns, moments, drawn = _columns(group, layers), median_moments(group), _RANGES[published is not None]
    rows = _BY_LAYER | (_RELATIVE if relative else {})
    banded = group if published is None else published_in_same_settings(published, group)
    seeds = {label: _of_both(group, banded, label) for label in labels(group)}
    fig, axes = grid(len(_BY_LAYER), len(columns), 6.2, sharex=True, sharey="row")
    for column, (layer, norm) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(layer)
        ln_d = float(np.log(group["channels"].sel(layer=layer).max()))
        for ax, (quantity, words) in zip(column, rows.items(), strict=True):
            unit = ln_d if relative and quantity != "sd" else 1.0
            fields = {"quantity": words, "layer": layer}
            for label, runs in seeds.items():
                values = [each[quantity].sel(split="monitor") / unit for each in runs]
                _curve(ax, [each.sel(layer=layer) for each in values], label, drawn, fields)
                if norm and (normed := values[0].sel(layer=norm)).notnull().any():
                    _curve(ax, [normed], label, drawn, fields | {"layer": norm}, linewidth=0.8)
            if quantity != "sd":
                ax.axhline(ln_d / unit, color="0.55", linestyle=":", linewidth=1)
                record(ax, "ln D", **fields, value=ln_d / unit)
            for label, moment in moments.items():
                ax.axvline(moment, **line_style(label) | {"linewidth": 0.9}, alpha=0.8)
    label_rows(axes, rows.values())
    for label, moment in moments.items():
        record(axes[0, 0], "median moment of overfitting", quantity="epoch", network=label, value=moment)
    lowest = min(axes[0, 0].get_ylim()[0], axes[1, 0].get_ylim()[0])
    for ax in axes[:2, 0]:  # one scale, so that the two entropies can be compared by eye
        ax.set_ylim(max(lowest, 0), 1.04 * (1.0 if relative else float(np.log(group["channels"].max()))))
    axes[2, 0].set_ylim(bottom=0)
    fig.supxlabel("epoch")
    extra = [(handle("0.55", linestyle=":"), "ln D"), (BAND, _BANDS[published is not None])]
    extra += [(handle(linewidth=0.9), "after the norm (thin)")] if any(columns.values()) else []
    legend(fig, labels(group), *extra, title=title)
    return fig


@figure
def validation_against_training(curves: xr.Dataset) -> Figure:
    """Validation loss against training loss, both in evaluation mode: a line per network, from left to right.

    Lines are means over seeds, smoothed for drawing; a dot is the last epoch. Networks whose lines differ at
    the same training loss generalise differently; networks on one line differ in speed alone.
    """
    panels = settings(curves)
    fig, axes = _panel_per_setting(panels)
    for ax, (title, group) in zip(axes, panels, strict=True):
        for label in labels(group):
            runs = trained(only(group, label=label))
            x = smoothed(runs["monitor_loss"].sel(split="train")).mean("run")
            y = smoothed(runs["val_loss"]).mean("run")
            last = int(y.notnull().sum("epoch")) - 1
            ax.plot(x, y, **line_style(label), marker="o", markersize=5, markevery=[last])
            quantity = f"validation loss (nats), {SMOOTHED} as the training loss is"
            fields = {"setting": title, "network": label, "quantity": quantity}
            record(ax, "mean", **fields, epoch=x["epoch"], training_loss_nats=x, value=y)
        ax.set_xscale("log")
        plain_numbers(ax.xaxis, widest=30)
        ax.set_xlim(ax.get_xlim()[::-1])
        ax.set_ylim(bottom=0)
    fig.supxlabel("training loss (nats), falling to the right")
    fig.supylabel("validation loss (nats)")
    legend(fig, labels(curves), (handle(marker="o", linestyle=""), "last epoch"))
    return fig


def _panel_per_setting(panels: Sequence[tuple[str, xr.Dataset]], **shared: Any) -> tuple[Figure, list[Axes]]:
    n = len(panels)
    fig, axes = panel_grid(n, min(n, 2 if n in (2, 4) else 3), 0.9, 2.9, **shared)
    for ax, (title, _) in zip(axes, panels, strict=True):
        ax.set_title(textwrap.fill(title, {1: 84, 2: 40, 4: 40}.get(n, 28)))
    return fig, axes


def _top(curves: xr.Dataset) -> float:
    # The upper end of the loss axis. The first fifth of the epochs may leave the panel, as their losses are
    # not compared. So may one failed run of twenty, but no mean.
    epochs = int(curves["epochs"].max())
    late = smoothed(trained(curves)["val_loss"]).sel(epoch=slice(min(epochs / 5, epochs - 1), None))
    of_networks = [late.isel(run=(curves["label"] == label).to_numpy()) for label in labels(curves)]
    nearly_all = [runs.fillna(0).quantile(0.95, "run").max() for runs in of_networks]
    means = [runs.mean("run").max() for runs in of_networks]
    return 1.08 * float(np.nanmax(nearly_all + means))


def _of_both(curves: xr.Dataset, banded: xr.Dataset | None, label: str) -> list[xr.Dataset]:
    # Runs of one network: those whose mean is the line, then those of the band, if there are any.
    both = (curves, banded) if banded is not None else (curves,)
    return [only(runs, label=label) for runs in both if label in runs["label"]]


def _curve(
    ax: Axes, curves: Sequence[xr.DataArray], label: str, drawn: str, fields: dict[str, str], **style: Any
) -> None:
    # Curves (run, epoch) of one network: the line is the mean of the first, the band the range of the second,
    # recorded under the name `drawn`.
    values, *banded = curves
    fields, style = {**fields, "network": label}, line_style(label) | style
    mean_curve(ax, values, style, fields, runs=values.count("run"))
    for seeds in banded:
        seed_range(ax, seeds, style["color"], drawn, fields, runs=seeds.count("run"))


def _columns(curves: xr.Dataset, layers: list[str] | None) -> dict[str, str | None]:
    # The layers to draw, each with the norm layer that follows it, if any.
    order = present_layers(curves)
    chosen = layers or [name for name in order if not name.startswith("norm")]
    if unknown := [name for name in chosen if name not in order]:
        raise StudyError(f"no layer '{unknown[0]}' in these runs; there are {', '.join(order)}")
    following = dict(zip(order, [*order[1:], ""], strict=True))
    return {name: following[name] if following[name].startswith("norm") else None for name in chosen}


def median_moments(curves: xr.Dataset) -> dict[str, float]:
    """Median moments of overfitting by network, of those with one in at least half of the runs."""
    moments = onset(curves).fillna(np.inf)
    medians = {label: float(moments.isel(run=curves["label"] == label).median()) for label in labels(curves)}
    return {label: moment for label, moment in medians.items() if np.isfinite(moment)}
