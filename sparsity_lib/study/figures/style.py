"""Style of all figures: colour and dashes per network, white background, sizes fit for a narrow page."""

import functools
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.optimize import isotonic_regression

from sparsity_lib.study.figures import data

WIDTH = 7.4  # inches; 740 px of the book's text at 100 px an inch

# Okabe and Ito's palette, distinct for colour-blind readers and in grey.
COLORS = {
    "vanillaNet": "#000000",
    "dropNet": "#E69F00",
    "normNet": "#009E73",
    "sr1Net": "#56B4E9",
    "sr2Net": "#0072B2",
    "sr3Net": "#CC79A7",
    "varNet": "#D55E00",
    "sfNet": "#999933",
    "LeNet": "#A6761D",
    "srLeNet": "#66A61E",
    "AlexNet": "#7570B3",
    "srAlexNet": "#E7298A",
    "sparseoutNet": "#8C2D04",
    "prNet": "#5E3C99",
    "VGG11": "#252525",
    "dropVGG11": "#B35806",
    "normVGG11": "#1B7837",
    "sparseoutVGG11": "#A50F15",
    "srVGG11": "#2166AC",
    "prVGG11": "#762A83",
    "ResNet18": "#525252",
    "srResNet18": "#4393C3",
    "prResNet18": "#9970AB",
}
OTHER = "#7F7F7F"  # networks that are not the paper's
# Dashes by the regulariser of a network: they distinguish lines that coincide.
DASHES = {
    "sr1": (3.5, 1.2, 1, 1.2),
    "sr3": (3.5, 1.2, 1, 1.2, 1, 1.2),
    "sr": (6, 1.5),
    "var": (2.2, 1.2),
    "sf": (4, 1.2, 2.2, 1.2),
    "drop": (6, 1.5, 1, 1.5),
    "norm": (6, 1.5, 1, 1.5, 1, 1.5),
    "sparseout": (6, 1.2, 2.2, 1.2),
    "pr": (9, 2),
}
# Dots, in groups of one, two or three, where the strength is not the paper's.
SCALED = {"sr1": (1, 1, 1, 3), "sr3": (1, 1, 1, 1, 1, 3), "var": (1, 2.6), "sf": (1, 4), "": (1, 1)}
_FIELDS = {"lambda_": "λ", "l1": "L1", "l2": "L2"}  # names of fields in labels of runs

_SETTINGS: dict[str, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "figure.dpi": 150,
    "figure.facecolor": "white",
    "figure.labelsize": 11,
    "font.size": 10.5,
    "grid.color": "#E4E4E4",
    "legend.fontsize": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
}

# Colours of a figure of maps on a dark page: other figures are inverted there, and maps must not be.
_NIGHT: Any = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), "#CED6DD"),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor"), "none"),
    "axes.edgecolor": "#48566B",
    "grid.color": "#2B323D",
}

P = ParamSpec("P")


def figure(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorator: draws in the book's style, attaches the data, and closes the figure in pyplot.

    A notebook then shows the figure once. A curve of one point, as of a run of one epoch, is drawn as a dot.
    Maps are drawn a second time for dark pages.
    """

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        before, night = set(plt.get_fignums()), None
        with plt.rc_context(sns.axes_style("whitegrid") | _SETTINGS):
            try:
                made = draw(*args, **kwargs)
                if any(ax.images for ax in made.axes):
                    with plt.rc_context(_NIGHT):
                        night = draw(*args, **kwargs)
            finally:
                for number in set(plt.get_fignums()) - before:
                    plt.close(number)
        for line in (line for ax in made.axes for line in ax.lines):
            if line.get_marker() == "None" and np.isfinite(line.get_xydata()).all(1).sum() == 1:
                line.set(marker="o", markersize=4)
        data.attach(made, night)
        return made

    return drawn


def line_style(label: str) -> dict[str, Any]:
    """A network's colour and dashes; dots where its strength is not the paper's (`sr2Net ×16`)."""
    network, _, scale = label.partition(" ")
    patterns = SCALED if scale else DASHES
    dashes = next((patterns[kind] for kind in patterns if network.startswith(kind)), None)
    return {"color": COLORS.get(network, OTHER), "linestyle": (0, dashes) if dashes else "-"}


def in_words(label: str) -> str:
    """The label of a run with its fields in words: `prNet lambda_=1.0` becomes `prNet λ = 1`."""
    fields = re.compile(r" (\w+)=(\S+)")
    return fields.sub(lambda at: f" {_FIELDS.get(at[1], at[1])} = {at[2].removesuffix('.0')}", label)


def label_ends(ax: Axes, names: Sequence[str]) -> None:
    """Write the names of the networks at the right, each with a thin line to the end of its curve.

    The curves are the axes' first lines; names do not overlap.
    """
    low, high = ax.get_ylim()
    apart = 0.052 * (high - low)
    points = [np.asarray(line.get_xydata()) for line in ax.lines[: len(names)]]
    ends = [each[np.isfinite(each).all(1)][-1] for each in points]
    heights = np.array([y for _, y in ends])
    order, steps = np.argsort(heights), apart * np.arange(len(ends))
    nearest = isotonic_regression(heights[order] - steps).x.clip(low, high - steps[-1]) + steps
    for i, y in zip(order, nearest, strict=True):
        color = line_style(names[i])["color"]
        pointer = {"arrowstyle": "-", "color": color, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 1}
        where: dict[str, Any] = {"xytext": (1.02, y), "textcoords": ("axes fraction", "data"), "va": "center"}
        where["arrowprops"] = pointer | {"relpos": (0, 0.5)}
        ax.annotate(names[i], ends[i], **where, color=color, size=9.5, annotation_clip=False)


def handle(color: str = "0.4", **style: Any) -> Line2D:
    """A line or marker of a legend."""
    return Line2D([], [], color=color, **style)


def legend(
    figure: Figure, labels: Collection[str], *others: tuple[Artist, str], title: str = "", columns: int = 4
) -> None:
    """One legend above all panels: networks, then other artists; fewer columns where it is too wide."""
    entries = [*((handle(**line_style(label)), label) for label in labels), *others]
    made = figure.legend(
        *zip(*entries, strict=True),
        title=title,
        title_fontsize=11,
        alignment="left",
        loc="outside upper left",
        ncols=columns,
        columnspacing=1.4,
        handlelength=3,
    )
    if columns > 1 and made.get_window_extent().width > figure.bbox.width:
        made.remove()
        legend(figure, labels, *others, title=title, columns=columns - 1)
