"""Detectors and overfitting in time, and the gap between entropy on training and on held-out images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sparsity_lib.study.analysis import labels, smoothed, trained
from sparsity_lib.study.analysis.early_warning import gap
from sparsity_lib.study.analysis.early_warning.change_points import warning_counts
from sparsity_lib.study.analysis.early_warning.detectors import DetectorInputs
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.figures.data import record
from sparsity_lib.study.figures.panels import SMOOTHED, ZERO, grid, label_rows, mean_curve, name_rows
from sparsity_lib.study.figures.style import figure, handle, in_words, legend, line_style

_ONSET: dict[str, Any] = {"color": "0.1", "linestyle": "--", "linewidth": 1.1}
_CHANGED: dict[str, Any] = {"marker": "s", "s": 38, "color": "#D55E00", "edgecolor": "white", "zorder": 4}
_ROWS = {"entropy": "entropy\n(share of ln D)", "perplexity sparsity": "perplexity\nsparsity"}


@figure
def detectors_in_runs(inputs: DetectorInputs, networks: Sequence[str]) -> Figure:
    """The first run of each network, a column each: validation loss, mean entropy, mean perplexity sparsity.

    Dashed: the moment of overfitting. Squares: the detectors' warnings. Raises `StudyError` for a network
    without runs.
    """
    known = inputs.runs["network"]
    if unknown := [network for network in networks if network not in set(known)]:
        raise StudyError(f"no run of '{unknown[0]}'; known: {', '.join(known.unique())}")
    fig, axes = grid(3, len(networks), 5.2, sharex=True, sharey="row")
    for column, network in zip(axes.T, networks, strict=True):
        _run(column, inputs, int(known.index[known == network][0]))
    label_rows(axes, ("validation loss\n(nats)", *_ROWS.values()))
    for ax in axes[:, 0]:
        ax.set_ylim(bottom=0)
    fig.supxlabel("epoch")
    warning = axes[0, 0].scatter([], [], **_CHANGED)
    legend(fig, [], (handle(**_ONSET), "moment of overfitting"), (warning, "warning"))
    return fig


def _run(column: Sequence[Axes], inputs: DetectorInputs, place: int) -> None:
    run = inputs.runs.loc[place]
    fields, style = {"network": run["network"], "seed": run["seed"]}, line_style(run["network"])
    loss = smoothed(trained(inputs.curves)["val_loss"].isel(run=[place]))[0]
    column[0].plot(loss["epoch"], loss, **style)
    words = f"validation loss (nats), {SMOOTHED}"
    record(column[0], "run", **fields, quantity=words, epoch=loss["epoch"], value=loss)
    for ax, detector in zip(column[1:], _ROWS, strict=True):
        values = np.abs(inputs.signals[detector][place])
        epoch = np.arange(len(values))
        ax.plot(epoch, values, **style)
        record(ax, "run", **fields, quantity=_ROWS[detector].replace("\n", " "), epoch=epoch, value=values)
        changed = inputs.moments(detector).loc[place, "changed"]
        if np.isfinite(changed):
            ax.scatter([changed], [values[int(changed)]], **_CHANGED)
            record(ax, "warning", **fields, quantity=detector, epoch=changed, value=values[int(changed)])
    if np.isfinite(run["onset"]):
        for ax in column:
            ax.axvline(run["onset"], **_ONSET)
        record(column[0], "moment of overfitting", **fields, quantity="epoch", value=run["onset"])
    column[0].set_title(run["network"], fontsize=9.5)


@figure
def warning_leads(sets: Mapping[str, DetectorInputs]) -> Figure:
    """Lead of each warning by entropy, a panel per data set and a row per network.

    The lead is on the run's moment of overfitting. The counts at the right are hits, misses and false alarms.
    """
    known = [inputs.runs["network"].nunique() for inputs in sets.values()]
    height, ratios = 0.9 + 0.5 * len(sets) + 0.19 * sum(known), [rows + 0.6 for rows in known]
    fig, axes = grid(len(sets), 1, height, sharex=True, height_ratios=ratios)
    for ax, (name, inputs) in zip(axes.flat, sets.items(), strict=True):
        found = inputs.moments()
        names = labels(inputs.curves)
        counts = warning_counts(found["onset"], found["changed"], found["network"])
        for y, network in enumerate(names):
            warned = found[(found["network"] == network) & found["lead"].notna()].sort_values("lead")
            leads = warned["lead"].to_numpy()
            heights = y + 0.25 * np.sin(2.4 * np.arange(len(leads)))  # fixed offsets that separate the dots
            color = line_style(network)["color"]
            ax.scatter(leads, heights, s=11, color=color, linewidth=0, alpha=0.85)
            three = counts.loc[network, ["hits", "misses", "false_alarms"]]
            text = " / ".join(str(count) for count in three)
            ax.text(1.01, y, text, transform=ax.get_yaxis_transform(), va="center", fontsize=8.5)
            fields = {"data": name, "network": network, "detector": "entropy"}
            record(ax, "lead of a warning (epochs)", **fields, seed=warned["seed"], value=leads)
            record(ax, "runs", **fields, outcome=list(three.index), value=three)
        ax.axvline(0, **ZERO)
        ax.set_title(name, loc="left", fontsize=10)
        name_rows(ax, [in_words(network) for network in names])
        ax.tick_params(axis="y", labelsize=8.5)
    heads = {"transform": axes[0, 0].transAxes, "fontsize": 8.5, "va": "bottom"}
    axes[0, 0].text(1.01, 1.01, "hits / misses\n/ false alarms", **heads)
    axes[-1, 0].set_xlabel("lead of the warning (epochs); right of zero: before the moment of overfitting")
    return fig


@figure
def gap_curves(curves: xr.Dataset) -> Figure:
    """Entropy on held-out images (level), and on training minus held-out images (gap), by layer and epoch.

    One setting; means over seeds. The two rows have different scales; the band in the lower one is the
    registered margin, 5 % of ln D.
    """
    both, names = gap.gap_and_level(curves), labels(curves)
    layers = [str(layer) for layer in both["layer"].to_numpy()]
    rows = {"level": "entropy, held out\n(nats)", "gap": "gap: training −\nheld out (nats)"}
    fig, axes = grid(2, len(layers), 4.6, sharex=True, sharey="row")
    label_rows(axes, rows.values())
    for row, name in zip(axes, rows, strict=True):
        for ax, layer in zip(row, layers, strict=True):
            for label in names:
                seeds = both[name].sel(layer=layer)[(curves["label"] == label).to_numpy()]
                fields = {"quantity": f"{name} (nats)", "layer": layer, "network": label}
                mean_curve(ax, seeds, line_style(label) | {"linewidth": 1.2}, fields)
    for ax, upper, layer in zip(axes[1], axes[0], layers, strict=True):
        upper.set_title(layer)
        margin = gap.REGISTERED_MARGIN * float(np.log(curves["channels"].sel(layer=layer).max()))
        ax.axhspan(-margin, margin, color="0.92", zorder=0)
        record(ax, "margin", quantity="gap (nats)", layer=layer, low=-margin, high=margin)
    axes[0, 0].set_ylim(bottom=0)
    fig.supxlabel("epoch")
    legend(fig, names, (Patch(color="0.92"), f"±{100 * gap.REGISTERED_MARGIN:g} % of ln D"))
    return fig
