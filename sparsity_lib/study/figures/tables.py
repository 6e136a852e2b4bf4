"""TSR's Tables 2 and 3, as a picture and as a table (best, chosen, last-five accuracy); entropies, too."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sparsity_lib.study import paper
from sparsity_lib.study.analysis import (
    LAYER_QUANTITIES,
    labels,
    only,
    present_layers,
    published_in_same_settings,
    settings,
    summary,
    targeted_layers,
)
from sparsity_lib.study.analysis.comparison import comparison_table, describe, prediction_interval
from sparsity_lib.study.figures.data import record
from sparsity_lib.study.figures.differences import WORDS
from sparsity_lib.study.figures.panels import grid, horizontal_interval, name_rows
from sparsity_lib.study.figures.style import figure, handle, in_words, legend, line_style
from sparsity_lib.study.text import formatted

KINDS = {"best_accuracy": "best", "chosen_accuracy": "chosen", "last_five_accuracy": "last five"}
MOMENTS = {"best": "lowest loss", "end": "end"}  # of `summary`'s quantities of layers, and their columns
_QUANTITIES = {"entropy": "entropy", "scale_free_entropy": "scale-free entropy", "sd": "SD"}
_MARKERS = dict(zip(KINDS, "^os", strict=True))
_OFFSETS = dict(zip(KINDS, (-0.26, 0.0, 0.26), strict=True))


@figure
def accuracies(curves: xr.Dataset, published: xr.Dataset | None = None) -> Figure:
    """A tick per seed, the mean and its 95 % t interval, of each network's three accuracies (T18).

    Diamonds are the paper's values, where the setting is the paper's. With `published`, bars show where one
    new run falls with 95 % probability, by the published ones.
    """
    panels = settings(curves)
    heights = [0.5 + 0.52 * len(labels(group)) for _, group in panels]
    fig, axes = grid(len(panels), 1, 1.0 + sum(heights), height_ratios=heights)
    with_papers = [_panel(ax, *panel, published) for ax, panel in zip(axes[:, 0], panels, strict=True)]
    fig.supxlabel("validation accuracy")
    entries: list[tuple[Artist, str]] = [
        (handle("0.3", marker=_MARKERS[kind], linestyle=""), KINDS[kind]) for kind in KINDS
    ]
    entries.append((handle("0.3", linewidth=1.4), "mean's 95 % interval"))
    entries.append((handle("0.3", marker="|", linestyle=""), "a seed"))
    if any(with_papers):
        entries.append((handle("black", marker="D", linestyle=""), "the paper's value"))
    if published is not None:
        entries.append((Patch(color="0.86"), "published: 95 % prediction"))
    legend(fig, [], *entries, columns=3)
    return fig


def _panel(ax: Axes, title: str, group: xr.Dataset, published: xr.Dataset | None) -> bool:
    # One setting; returns whether a value of the paper is shown.
    names, table = labels(group), summary(group)
    same = published_in_same_settings(published, group)
    peers = table.iloc[:0] if same is None else summary(same)
    some = False
    for y, label in enumerate(names):
        runs = table[table["label"] == label]
        if not np.isnan(value := _papers_accuracy(runs)):
            some = True
            ax.scatter(value, y + _OFFSETS["best_accuracy"], s=34, color="black", marker="D", zorder=4)
            record(ax, "the paper's value", setting=title, network=label, accuracy="best", value=value)
        for kind, name in KINDS.items():
            fields = {"setting": title, "network": label, "accuracy": name}
            _row(ax, y + _OFFSETS[kind], runs, kind, fields)
            if (of_peers := peers[peers["label"] == label][kind]).size > 1:
                low, high = np.clip(prediction_interval(of_peers), 0, 1)  # no accuracy is beyond
                ax.barh(y + _OFFSETS[kind], high - low, 0.2, left=low, color="0.86", zorder=0)
                record(ax, "published: 95 % prediction", **fields, low=low, high=high)
    name_rows(ax, names)
    ax.set_title(title)
    return some


def _row(ax: Axes, y: float, runs: pd.DataFrame, kind: str, fields: dict[str, str]) -> None:
    values, color = runs[kind], line_style(fields["network"])["color"]
    found = describe(values)
    low, high = np.clip([found.low, found.high], 0, 1)
    style = {"color": color, "marker": _MARKERS[kind], "markersize": 6.5, "zorder": 3}
    horizontal_interval(ax, y, found._replace(low=low, high=high), fields, **style)
    ax.scatter(values, np.full(len(values), y), s=50, color=color, marker="|", linewidth=1)
    record(ax, "a seed", **fields, seed=runs["seed"], value=values)


def accuracy_table(curves: xr.Dataset, published: xr.Dataset | None = None) -> pd.DataFrame:
    """Mean and SD of the three accuracies over n runs, one row per setting and network.

    With `published`, the published runs of the same setting are a row of their own below `these`. `paper`,
    under `best`, is the paper's value, where data set, size, optimizer, rate and epochs are the paper's, all
    labels as they are and the strength literal. A column without a value, such as the SD of single runs, is
    left out.
    """
    rows: dict[tuple[str, str, str], dict[tuple[str, str], float]] = {}
    for title, group in settings(curves):
        sources = {"these": summary(group)}
        if (peers := published_in_same_settings(published, group)) is not None:
            sources["published"] = summary(peers)
        for label in labels(group):
            for source, table in sources.items():
                runs = table[table["label"] == label]
                if not runs.empty:
                    cells: dict[tuple[str, str], float] = {("runs", "n"): len(runs)}
                    for kind, name in KINDS.items():
                        found = describe(runs[kind])
                        cells |= {(name, "mean"): found.mean, (name, "SD"): found.sd}
                        cells |= {(name, "paper"): _papers_accuracy(runs)} if name == "best" else {}
                    rows[title, label, source] = cells
    return _table(rows, "setting", "network", "source").dropna(axis="columns", how="all")


def _table(rows: dict[tuple[str, str, str], dict[tuple[str, str], float]], *names: str) -> pd.DataFrame:
    table = pd.DataFrame(list(rows.values()), pd.MultiIndex.from_tuples(rows, names=names))
    return table.set_axis(pd.MultiIndex.from_tuples(table.columns), axis="columns")


def _papers_accuracy(runs: pd.DataFrame) -> float:
    run = runs.iloc[0]
    usual = {"lr": paper.LEARNING_RATES[run["optimizer"]], "label_noise": 0, "limit": 0, "others": ""}
    if any(run[name] != value for name, value in usual.items() if name in run):
        return np.nan
    return paper.accuracy(
        network=run["label"], **{name: run[name] for name in ("dataset", "size", "optimizer", "epochs")}
    )


def difference_table(
    runs: xr.Dataset | pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    quantities: Sequence[str],
    digits: int = 3,
) -> pd.DataFrame:
    """Differences paired by seed, as text: `comparison.comparison_table` with quantities in words.

    One row per quantity and pair of networks; where the runs are of several settings, per setting too.
    """
    found = comparison_table(runs, pairs, quantities)
    rows = pd.DataFrame(
        {
            "setting": found["setting"],
            "quantity": found["quantity"].map(_in_words),
            "networks": found["networks"].map(in_words).str.replace(" ", "\u00a0"),  # on one line
            "n": found["n"],
            "mean": [formatted(mean, f"+.{digits}f") for mean in found["mean"]],
            "SD": [formatted(sd, f".{digits}f") for sd in found["sd"]],
            "95 % interval": [
                "\u00a0to\u00a0".join(formatted(end, f"+.{digits}f") for end in ends)
                for ends in zip(found["low"], found["high"], strict=True)
            ],
        }
    )
    if found["setting"].nunique() == 1:
        return rows.drop(columns="setting").set_index(["quantity", "networks"])
    return rows.set_index(["setting", "quantity", "networks"])


def _in_words(quantity: str) -> str:
    # Words for a column of `summary`, such as entropy_end:conv3.
    name, _, layer = quantity.partition(":")
    name, _, moment = name.rpartition("_") if layer else (name, "", "")
    words = WORDS.get(name, _QUANTITIES.get(name, name)).replace("\n", " ")
    return f"{words} of {layer}, {MOMENTS.get(moment, moment)}" if layer else words


def entropy_table(curves: xr.Dataset) -> pd.DataFrame:
    """Entropy, scale-free entropy (nats) and SD over training, one row per setting, network and layer.

    Means over n seeds, on held-out images: at the epoch of the `lowest loss`, the smoothed validation loss,
    and at the `end`, the last epoch. Layers are those that SparsityReg acts on in each architecture.
    """
    rows = {}
    for title, group in settings(curves):
        table = summary(group)
        for label in labels(group):
            runs = table[table["label"] == label]
            for layer in _targeted(only(group, label=label)):
                rows[title, label, layer] = {("runs", "n"): len(runs)} | {
                    (_QUANTITIES[name], when): runs[f"{name}_{moment}:{layer}"].mean()
                    for name in LAYER_QUANTITIES
                    for moment, when in MOMENTS.items()
                }
    return _table(rows, "setting", "network", "layer")


def _targeted(curves: xr.Dataset) -> list[str]:
    # Layers of one network that SparsityReg would act on; all layers if none has such a name.
    present = present_layers(curves)
    targeted = targeted_layers(str(curves["network"].to_numpy()[0]))
    return [layer for layer in targeted if layer in present] or present
