"""Differences between networks, in pairs of the same seed, with 95 % intervals."""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsity_lib.study.figures.data import INTERVAL, record
from sparsity_lib.study.figures.panels import ZERO, dot
from sparsity_lib.study.figures.style import WIDTH, figure, line_style

WORDS = {
    "chosen_accuracy": "accuracy at the chosen epoch",
    "min_val_loss": "lowest validation loss\n(nats)",
    "val_loss_rise": "rise of the loss to the end\n(nats)",
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

    `found` is that of `comparison.comparison_table`. Dots are means over pairs, filled where the interval
    excludes 0.
    """
    quantities = list(dict.fromkeys(found["quantity"]))
    columns = min(len(quantities), 2)
    blocks = found.drop_duplicates(["setting", "networks"]).groupby("setting", sort=False)["networks"]
    names = [name for _, pairs in blocks for name in ("", *(_short(pair, found) for pair in pairs))]
    lines = -(-len(quantities) // columns)
    fig, grid = plt.subplots(
        lines,
        columns,
        figsize=(WIDTH, 1.0 + lines * (0.5 + 0.24 * len(names))),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax in grid.flat[len(quantities) :]:
        ax.remove()
    for ax, quantity in zip(grid.flat, quantities, strict=False):
        _panel(ax, found[found["quantity"] == quantity], WORDS.get(quantity, quantity))
        ax.set_yticks(range(len(names)))
        ax.set_ylim(len(names) - 0.4, -0.6)
    headings = list(zip(_starts(names), [setting for setting, _ in blocks], strict=True))
    for ax in grid[:, 0]:
        ax.set_yticklabels(names)
        for y, heading in headings:  # over the row, which is empty in the panel at the right, too
            words = textwrap.fill(heading, 36 if columns > 1 else 80)
            ax.text(0.02, y, words, transform=ax.get_yaxis_transform(), **_HEADING)
    references = _references(found)
    fig.supxlabel(f"difference to {references[0]}" if len(references) == 1 else "difference", fontsize=10)
    return fig


def _panel(ax: Axes, mine: pd.DataFrame, words: str) -> None:
    ax.axvline(0, **ZERO)
    ax.set_title(words, fontsize=10)
    ax.grid(axis="y", visible=False)
    y = 0
    for setting, rows in mine.groupby("setting", sort=False):
        for row in rows.itertuples():
            y += 1
            color = line_style(row.networks)["color"]
            dot(ax, (row.mean, y), (row.low, row.high), color, hollow=not row.low * row.high > 0)
            of = {"quantity": words, "setting": setting, "networks": row.networks, "n": row.n}
            record(ax, INTERVAL, **of, value=row.mean, low=row.low, high=row.high)
        y += 1


def _starts(names: Sequence[str]) -> list[int]:
    return [at for at, name in enumerate(names) if not name]


def _references(found: pd.DataFrame) -> Sequence[str]:
    return found["networks"].str.partition(" less ")[2].unique()


def _short(pair: str, found: pd.DataFrame) -> str:
    # the first network's name alone where all pairs have the same second one
    return pair.partition(" less ")[0] if len(_references(found)) == 1 else pair
