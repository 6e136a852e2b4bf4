"""Networks less one of them, in pairs of the same seed, with 95 % intervals."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsity_lib.study.analysis.rivals import QUANTITIES, labels_in_order
from sparsity_lib.study.figures.data import INTERVAL, tell
from sparsity_lib.study.figures.style import WIDTH, figure, line_style

_WRAPPED = {name: words.replace(" (", "\n(") for name, words in QUANTITIES.items()}


@figure
def paired_differences(found: pd.DataFrame, reference: str) -> Figure:
    """A block of rows per setting, a row per network, a panel per quantity; 0 is the reference.

    `found` is that of `rivals.differences`. Dots are means over pairs, filled where the interval excludes 0.
    """
    blocks = {title: labels_in_order(group) for title, group in found.groupby("title", sort=False)}
    rows = sum(len(names) + 1 for names in blocks.values())
    fig, grid = plt.subplots(
        3, 2, figsize=(WIDTH, 1.5 + 3 * 0.24 * rows), sharey=True, layout="constrained", squeeze=False
    )
    for ax, quantity in zip(grid.flat, QUANTITIES, strict=True):
        ax.axvline(0, color="0.35", linewidth=0.9, zorder=1)
        names: dict[int, str] = {}
        y = 0
        for title, labels in blocks.items():
            names[y] = ""
            if ax in grid[:, 0]:  # its row is empty in the panel beside, too
                ax.text(
                    0.02,
                    y,
                    title,
                    transform=ax.get_yaxis_transform(),
                    va="center",
                    fontsize=9.5,
                    weight="bold",
                )
            for label in labels:
                y += 1
                names[y] = label
                mine = found.query("title == @title and label == @label and quantity == @quantity").iloc[0]
                _effect(ax, y, mine)
                of = {"quantity": f"{QUANTITIES[quantity]}, less {reference}'s", "runs": title}
                numbers = {"value": mine["mean"], "low": mine["low"], "high": mine["high"]}
                tell(ax, INTERVAL, **of, network=label, n=mine["n"], **numbers)
            y += 1
        ax.set_title(_WRAPPED[quantity], fontsize=10)
        ax.set_yticks(list(names))
        ax.set_ylim(y - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
    for ax in grid[:, 0]:
        ax.set_yticklabels(names.values())
    fig.supxlabel(f"difference to {reference}", fontsize=10)
    return fig


def _effect(ax: Axes, y: int, mine: pd.Series) -> None:
    color = line_style(mine["label"])["color"]
    if mine["n"] > 1:
        ax.plot([mine["low"], mine["high"]], [y, y], color=color, linewidth=1.6, zorder=2)
    sure = mine["low"] > 0 or mine["high"] < 0
    ax.scatter([mine["mean"]], [y], s=34, zorder=3, edgecolor=color, facecolor=color if sure else "white")
