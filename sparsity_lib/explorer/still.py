"""The picture that stands for an explorer where no script runs."""

import io
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from sparsity_lib.explorer.payload import MEASURES, TITLES, Source

MAPS = 4  # of evenly spaced saved epochs, from before training to the last


class Still(NamedTuple):
    """A picture (PNG) and what it shows, in words."""

    png: bytes
    described: str


def still(run: Source, label: str, layer: dict[str, Any], measure: str, image: int, class_name: str) -> Still:
    """An image and a layer's maps of it over epochs; `layer` is its entry in the payload."""
    maps = run.layer(layer["name"])[MEASURES[measure]].isel(image=image).to_numpy()  # nats
    saved = run.root["saved_epoch"].to_numpy()
    steps = np.unique(np.linspace(0, len(saved) - 1, MAPS).round().astype(int))
    epochs = [str(epoch).replace("-", "−") for epoch in saved[steps]]
    norm = Normalize(*layer["scales"][measure])

    figure = Figure(figsize=(7.4, 1.9), dpi=100, layout="compressed", facecolor="white")
    title = f"{TITLES[measure]} of {layer['name']} over epochs: {label}"
    figure.suptitle(title, fontsize=11, parse_math=False)
    axes = figure.subplots(1, 1 + len(steps))
    pixels = run.root["images"].to_numpy()[image]
    axes[0].imshow(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=255)
    axes[0].set_title("image", fontsize=10)
    for axis, step, epoch in zip(axes[1:], steps, epochs, strict=True):
        axis.imshow(maps[step], norm=norm, cmap="viridis")
        axis.set_title(f"epoch {epoch}", fontsize=10)
    for axis in axes:
        axis.set_axis_off()
    bar = figure.colorbar(ScalarMappable(norm, "viridis"), ax=axes, aspect=12)
    bar.set_label(f"nats, of ln {layer['channels']}", fontsize=10)
    means = ", ".join(f"{maps[step].mean():.2f}" for step in steps)
    described = (
        f"{label}: maps of the {TITLES[measure].lower()} of layer {layer['name']} for image {image + 1}, "
        f"class {class_name}, at epochs {', '.join(epochs)}, in colours from {norm.vmin:.2f} to "
        f"{norm.vmax:.2f} nats. Their means are {means} nats."
    )
    png = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(png, format="png", metadata={"Software": None})  # equal bytes, whatever drew them
    return Still(png.getvalue(), described)
