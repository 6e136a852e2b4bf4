"""Inside the network: entropy maps of an image over epochs, and histograms of filter correlations."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from sparsity_lib.study.analysis.random_filters import welch_bound
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.figures.data import MOST_POSITIONS, record_map
from sparsity_lib.study.figures.panels import first_of, no_runs, panel_grid
from sparsity_lib.study.figures.style import WIDTH, figure, handle, legend
from sparsity_lib.study.runs.file import Run
from sparsity_lib.study.runs.results import label

SHOWN = (-1, 0, 1, 2, 5, 10, 20, 50)  # epochs of a strip, and the last
# Without the palest third, which is invisible on the background.
_SHARES = ListedColormap(plt.get_cmap("YlGnBu")(np.linspace(0.35, 1, 256)))
_GUIDE: dict[str, Any] = {
    "color": "black",
    "linewidth": 1,
    "path_effects": [withStroke(linewidth=2.5, foreground="white", alpha=0.6)],
}


@figure
def heatmap_strip(runs: Run | Sequence[Run]) -> Figure:
    """TSR's Figure 4: entropy maps of the first image, layers as rows and saved epochs as columns.

    The first of several runs is drawn; without runs, a line of text. The image is on the left. Each layer has
    one colour scale for all epochs, in nats; it starts at the first percentile of the values shown, so that
    single positions do not determine it. Data of more than `MOST_POSITIONS` positions are not recorded, since
    they would make the page large; the run's file has them.
    """
    run = first_of(runs)
    if run is None:
        return no_runs()
    picture, saved = run.root["images"][0].to_numpy(), run.root["saved_epoch"].to_numpy().tolist()
    shown = [epoch for epoch in SHOWN if epoch in saved[:-1]] + saved[-1:]
    first = {"image": 0, "saved_epoch": [saved.index(epoch) for epoch in shown]}
    all_maps = {layer: run.layer(layer)["heatmap"].isel(first) for layer in run.layers}
    complete = sum(maps.size for maps in all_maps.values()) <= MOST_POSITIONS
    step, left, head = 1.08, 2.0, 0.85  # maps are 1 x 1, right of the image and the layers' names
    width, height = left + step * len(shown) + 0.85, head + step * len(all_maps)
    fig, ax = plt.subplots(figsize=(WIDTH, WIDTH * height / width))
    fig.subplots_adjust(left=0, right=1, bottom=0, top=1)
    ax.axis("off")
    ax.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, extent=(0, 1, 1, 0))
    ax.text(0.5, -0.08, "image", ha="center", va="bottom")
    if complete:
        record_map(ax, "image", picture)
    for column, epoch in enumerate(shown):
        text = f"epoch {epoch}" if column == 0 else str(epoch)
        ax.text(left + step * column + 0.5, -0.08, text.replace("-", "−"), ha="center", va="bottom")
    title = f"{label(run.experiment)}, {_setting(run)}, seed {run.experiment.seed}"
    ax.text(left, -0.5, title, va="bottom", fontsize="large")
    ax.text(left + step * len(shown) + 0.06, -0.08, "nats", va="bottom")
    for row, (layer, maps) in enumerate(all_maps.items()):
        top_value, channels = float(maps.max()), float(run.layer(layer).attrs["channels"])
        # Maps are stored in steps of ln D / 255, which a narrower scale would show.
        widest = max(0.0, top_value - 0.05 * math.log(channels))
        norm = Normalize(min(float(maps.quantile(0.01)), widest), top_value)
        top = step * row
        ax.text(left - 0.1, top + 0.5, layer, ha="right", va="center")
        for column, values in enumerate(maps.to_numpy()):
            x = left + step * column
            colours = ax.imshow(values, cmap="viridis", norm=norm, extent=(x, x + 1, top + 1, top))
            if complete:
                record_map(ax, "entropy (nats)", values, layer=layer, epoch=shown[column])
        place = ((left + step * len(shown) + 0.06) / width, 1 - (top + 0.97 + head) / height)
        bar = fig.colorbar(colours, cax=fig.add_axes((*place, 0.12 / width, 0.94 / height)))
        bar.ax.tick_params(labelsize=8, length=2, pad=1)
        bar.ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.set(xlim=(0, width), ylim=(height - head, -head), aspect="equal")
    return fig


@figure
def correlation_histograms(
    runs: Run | Sequence[Run], center: str = "filters", layers: Sequence[str] | None = None
) -> Figure:
    """TSR's Figure 7: distribution of the pairwise correlations of filters, epoch by epoch (T19).

    Colour is the share of pairs on a logarithmic scale; white is none. One column per run, one row per layer.
    Dashed lines: mean |c| of random filters of n weights, sqrt(2/(pi n)). Dotted lines: with more filters D
    than weights n, the rms correlation is at least sqrt((D-n)/(n(D-1))) (Welch). For `components`, which
    subtracts each filter's own mean, n is one less. Data are not recorded: the shares of 201 bins by epoch,
    layer and run would make the page large; the runs' files have them. Without runs, a line of text.

    Raises `StudyError` for an unknown layer or `center`, or runs that lack a layer's histogram.
    """
    chosen = [runs] if isinstance(runs, Run) else list(runs)
    if not chosen:
        return no_runs()
    if center not in (known := chosen[0].root["center"].to_numpy().tolist()):
        raise StudyError(f"no histograms for center = '{center}'; there are those for {', '.join(known)}")
    names = list(layers or [name for name in chosen[0].layers if "fan_in" in chosen[0].layer(name).attrs])
    panels = [(name, run, _shares(run, name, center)) for name in names for run in chosen]
    norm = LogNorm(*np.nanquantile(np.concatenate([s.to_numpy().ravel() for *_, s in panels]), [0, 1]))
    columns = len(chosen) if len(chosen) > 1 else min(3, len(names))
    fig, drawn = panel_grid(len(panels), columns, 1.1, 1.5, sharex=True, sharey=True)
    labels, bounded = [label(run.experiment) for run in chosen], False
    for i, (ax, (name, run, shares)) in enumerate(zip(drawn, panels, strict=True)):
        colours = ax.pcolormesh(
            shares["epoch"], shares["bin"], shares, cmap=_SHARES, norm=norm, rasterized=True
        )
        bounded |= _guides(ax, run.layer(name), center)
        if len(chosen) == 1:
            ax.set_title(name)
        elif i < columns:
            same = labels.count(labels[i]) > 1
            ax.set_title(f"{labels[i]}, seed {run.experiment.seed}" if same else labels[i])
        if len(chosen) > 1 and i % columns == 0:
            ax.set_ylabel(name)
        ax.tick_params(labelbottom=i + columns >= len(panels))
    fig.colorbar(colours, ax=drawn, label="share of filter pairs", aspect=40, pad=0.01)
    fig.supxlabel("epoch")
    fig.supylabel("correlation")
    guides = [(handle(**_GUIDE, linestyle="--"), "random filters, mean |c|")]
    if bounded:
        guides.append((handle(**_GUIDE, linestyle=":"), "Welch: rms |c| is at least this"))
    legend(fig, [], *guides, title="; ".join(dict.fromkeys(map(_setting, chosen))))
    return fig


def _shares(run: Run, name: str, center: str) -> xr.DataArray:
    # (bin, epoch): share of all pairs of filters, NaN for none.
    layer = run.layer(name)
    if "fan_in" not in layer.attrs:
        raise StudyError(f"layer '{name}' of run {run.id} has no filters to correlate")
    counts = layer["correlation_histogram"].sel(center=center).transpose("bin", "epoch")
    filters = layer.attrs["channels"]
    return counts.where(counts > 0) / (filters * (filters - 1) / 2)


def _guides(ax: Axes, layer: xr.Dataset, center: str) -> bool:
    # Draws lines of random filters and of Welch's bound, if there is one; returns whether there is.
    filters, n = layer.attrs["channels"], layer.attrs["fan_in"] - (center == "components")
    heights = {"--": np.sqrt(2 / (np.pi * n))}
    if bound := welch_bound(filters, n):
        heights[":"] = bound
    for style, height in heights.items():
        for sign in (-1, 1):
            ax.axhline(sign * height, **_GUIDE, linestyle=style)
    ax.set_ylim(-1.005, 1.005)
    ax.grid(visible=False)
    return bound > 0


def _setting(run: Run) -> str:
    shown = run.experiment
    noise = f", {100 * shown.label_noise:g} % of labels redrawn" if shown.label_noise else ""
    return f"{shown.dataset_name}, {shown.size}{noise}"
