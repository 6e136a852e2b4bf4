"""The gap between entropy on training and on held-out images, drawn: does it say more than the level?"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sparsity_lib.study.analysis import gap
from sparsity_lib.study.analysis.summary import labels, watched
from sparsity_lib.study.figures.data import tell
from sparsity_lib.study.figures.panels import ZERO, dot
from sparsity_lib.study.figures.style import WIDTH, figure, legend, line_style
from sparsity_lib.study.text import number


def timing_table(table: pd.DataFrame) -> pd.DataFrame:
    """Margin, sign and layer as rows: departures before overfitting, and false ones; SDs of the lead."""
    columns = {
        "before the moment": [f"{n} of {runs}" for n, runs in table[["before", "runs"]].to_numpy()],
        "at all": [f"{n} of {runs}" for n, runs in table[["departs", "runs"]].to_numpy()],
        "in runs that do not overfit": [
            f"{n} of {runs}" if runs else "none" for n, runs in table[["false", "others"]].to_numpy()
        ],
    }
    spreads = {"sd": "SD of the lead", "sd_others": "other runs' onsets", "sd_constant": "one constant epoch"}
    for name, text in spreads.items():
        columns[text] = [number(value, 1) if np.isfinite(value) else "" for value in table[name]]
    rows = table[["margin", "sign", "layer"]]
    rows = rows.assign(margin=[f"{100 * margin:g} % of ln D" for margin in rows["margin"]])
    return pd.DataFrame(columns, pd.MultiIndex.from_frame(rows.rename(columns={"sign": ""})))


@figure
def gap_curves(curves: xr.Dataset) -> Figure:
    """Entropy on held-out images (level), and on training less held-out images (gap), by layer and epoch.

    One setting; means over seeds. The two rows have scales of their own; 5 % of ln D, the margin of the
    claims, is the bar beside zero in the lower one.
    """
    signs, names, layers = gap.gap_and_level(curves), labels(curves), watched(curves)
    rows = {"level": "entropy, held out\n(nats)", "gap": "gap: training −\nheld out (nats)"}
    fig, axes = plt.subplots(
        2, len(layers), figsize=(WIDTH, 4.6), sharex=True, sharey="row", squeeze=False, layout="constrained"
    )
    for row, (sign, text) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(text)
        for ax, layer in zip(row, layers, strict=True):
            for label in names:
                mean = signs[sign].sel(layer=layer)[(curves["label"] == label).to_numpy()].mean("run")
                ax.plot(mean["epoch"], mean, **line_style(label) | {"linewidth": 1.2})
                of = {"quantity": f"{sign} (nats)", "layer": layer, "network": label}
                tell(ax, "mean", **of, epoch=mean["epoch"], value=mean)
    for ax, upper, layer in zip(axes[1], axes[0], layers, strict=True):
        upper.set_title(layer)
        margin = gap.MARGINS[0] * float(np.log(curves["channels"].sel(layer=layer).max()))
        ax.axhspan(-margin, margin, color="0.92", zorder=0)
        tell(ax, "margin", quantity="gap (nats)", layer=layer, low=-margin, high=margin)
    axes[0, 0].set_ylim(bottom=0)
    fig.supxlabel("epoch")
    margin_text = f"±{100 * gap.MARGINS[0]:g} % of ln D"
    legend(fig, names, (Patch(color="0.92"), margin_text))
    return fig


_SIGN_STYLES = {"gap": ("#D55E00", "o"), "level": ("#0072B2", "s")}


@figure
def gap_or_level(table: pd.DataFrame) -> Figure:
    """Rank correlations of the end's gap and level with overfitting (`gap.told_by`), by layer."""
    layers = list(table["layer"].unique())
    fig, axes = plt.subplots(
        len(gap.SCOPES),
        len(gap.OUTCOMES),
        figsize=(WIDTH, 4.8),
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    for row, (scope, where) in zip(axes, gap.SCOPES.items(), strict=True):
        for ax, (outcome, what) in zip(row, gap.OUTCOMES.items(), strict=True):
            mine = table[(table["scope"] == scope) & (table["outcome"] == outcome)]
            for sign, (color, marker) in _SIGN_STYLES.items():
                for _, told in mine[mine["sign"] == sign].iterrows():
                    y = layers.index(told["layer"]) + (0.16 if sign == "level" else -0.16)
                    dot(ax, (told["rho"], y), (told["low"], told["high"]), color, marker=marker)
                    of = {"with": what, "runs": where, "of": sign, "layer": told["layer"]}
                    numbers = {"value": told["rho"], "low": told["low"], "high": told["high"]}
                    tell(ax, "rank correlation", **of, **numbers)
            ax.axvline(0, **ZERO)
            ax.set_title(f"{what},\n{where}")
            ax.grid(axis="y", visible=False)
    axes[0, 0].set_xlim(-1, 1)
    axes[0, 0].set_xticks([-0.5, 0, 0.5])
    axes[0, 0].set_ylim(len(layers) - 0.5, -0.5)
    axes[0, 0].set_yticks(range(len(layers)), layers)
    fig.supxlabel("Spearman's rank correlation")
    handles = [
        Line2D([], [], color=color, marker=marker, label=f"{sign} of the entropy at the end")
        for sign, (color, marker) in _SIGN_STYLES.items()
    ]
    fig.legend(handles=handles, loc="outside upper left", ncols=2)
    return fig
