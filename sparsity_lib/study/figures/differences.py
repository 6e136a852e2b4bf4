"""Differences between networks, in pairs of the same seed, with 95 % intervals."""

import textwrap
from itertools import pairwise
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from sparsity_lib.study.analysis.comparison import QUANTITY_NAMES
from sparsity_lib.study.figures.panels import ZERO, horizontal_interval, panel_grid
from sparsity_lib.study.figures.style import figure, in_words, line_style

WORDS = QUANTITY_NAMES | {
    "best_epoch": "epoch of the lowest loss",
    "min_val_loss": "lowest validation loss\n(nats)",
    "val_loss_rise": "rise of the loss to the end\n(nats)",
    "val_loss_peak": "rise of the loss to its peak\n(nats)",
    "sparsity": "perplexity sparsity\nat the end",
    "scale_free": "scale-free entropy at the end\n(of ln D)",
    "log_sd": "ln SD of the activations\nat the end",
    "lowest_bits": "lowest bits per character",
    "last_bits": "last bits per character",
}
_HEADING: dict[str, Any] = {"va": "center", "fontsize": 8.5, "weight": "bold", "in_layout": False}


@figure
def paired_differences(found: pd.DataFrame) -> Figure:
    """A block of rows per setting, a row per pair of networks, a panel per quantity.

    `found` is made by `comparison.comparison_table`. Dots are means over pairs, filled where the interval
    excludes 0.
    """
    quantities = found.groupby("quantity", sort=False)
    references = found["networks"].str.partition(" minus ")[2].unique()
    names: list[str] = []
    headings = {}  # a row without a name per setting, then one per pair
    for setting, rows in found.drop_duplicates(["setting", "networks"]).groupby("setting", sort=False):
        headings[str(setting)] = len(names)
        names += ["", *rows["networks"]]
    columns = min(len(quantities), 2)
    fig, axes = panel_grid(len(quantities), columns, 1.0, 0.5 + 0.24 * len(names), sharey=True)
    for ax, (quantity, of_quantity) in zip(axes, quantities, strict=True):
        words = WORDS.get(quantity, quantity)
        for start, end in pairwise([*headings.values(), len(names)]):  # not through the headings
            ax.vlines(0, start + 0.65, end - 0.4, **ZERO)
        ax.set_title(words, fontsize=10)
        ax.grid(axis="y", visible=False)
        for row in of_quantity.itertuples():
            y = names.index(row.networks, headings[row.setting])
            fields = {"quantity": words, "setting": row.setting, "networks": row.networks, "n": row.n}
            color = line_style(row.networks)["color"]
            face = color if row.low * row.high > 0 else "white"
            horizontal_interval(ax, y, row, fields, color=color, markerfacecolor=face)
        ax.set_ylim(len(names) - 0.4, -0.6)
    alone = len(references) == 1  # then named below, and not in each row
    shown = [in_words(name.partition(" minus ")[0] if alone else name) for name in names]
    for ax in axes[::columns]:
        ax.set_yticks(range(len(names)), shown)
        for heading, y in headings.items():  # in the empty row, which continues in the next panel
            words = textwrap.fill(heading, 36 if columns > 1 else 80)
            ax.text(0.02, y, words, transform=ax.get_yaxis_transform(), **_HEADING)
    fig.supxlabel(f"difference to {in_words(references[0])}" if alone else "difference", fontsize=10)
    return fig
