"""The still picture of an explorer where no script runs."""

import io
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from sparsity_lib.explorer.payload import TITLES
from sparsity_lib.explorer.recording import Recording

MAPS = 4  # of evenly spaced saved epochs, from before training to the last


class Still(NamedTuple):
    """A picture (PNG) and what it shows, in words."""

    png: bytes
    described: str


def still(shown: Recording, layer: str, measure: str, image: int, scale: tuple[float, float]) -> Still:
    """An image and a layer's maps of it over epochs, in colours from one end of the scale to the other."""
    maps = shown.layers[layer].maps[measure][:, image]
    steps = np.unique(np.linspace(0, len(maps) - 1, MAPS).round().astype(int))
    epochs = [str(shown.saved[step]).replace("-", "−") for step in steps]
    over_epochs = len(shown.saved) > 1
    norm = Normalize(*scale)

    figure = Figure(figsize=(7.4, 1.9), dpi=100, layout="compressed", facecolor="white")
    title = f"{TITLES[measure]} of {layer}{' over epochs' if over_epochs else ''}: {shown.label}"
    figure.suptitle(title, fontsize=11, parse_math=False)
    axes = figure.subplots(1, 1 + len(steps))
    pixels = shown.images[image]
    axes[0].imshow(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=255)
    axes[0].set_title("image", fontsize=10)
    for axis, step, epoch in zip(axes[1:], steps, epochs, strict=True):
        axis.imshow(maps[step], norm=norm, cmap="viridis")
        axis.set_title(f"epoch {epoch}" if over_epochs else "map", fontsize=10)
    for axis in axes:
        axis.set_axis_off()
    bar = figure.colorbar(ScalarMappable(norm, "viridis"), ax=axes, aspect=12)
    bar.set_label(f"nats, of ln {shown.layers[layer].channels}", fontsize=10)
    means = ", ".join(f"{maps[step].mean():.2f}" for step in steps)
    several = ("maps", f", at epochs {', '.join(epochs)}", "Their means are")
    what, when, mean = several if over_epochs else ("map", "", "Its mean is")
    described = (
        f"{shown.label}: {what} of the {TITLES[measure].lower()} of layer {layer} for image {image + 1}, "
        f"{shown.captions[image]}{when}, in colours from {norm.vmin:.2f} to {norm.vmax:.2f} nats. "
        f"{mean} {means} nats."
    )
    png = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(png, format="png", metadata={"Software": None})  # equal bytes, whatever drew them
    return Still(png.getvalue(), described)
