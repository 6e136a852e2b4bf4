"""Layers' statistics, entropy maps and filter correlations in TensorBoard, for any torch model.

The writer is the caller's, such as `torch.utils.tensorboard.SummaryWriter`; nothing here imports TensorBoard.
"""

import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from sparsity_lib import functional
from sparsity_lib._settings import one_of
from sparsity_lib._viridis import VIRIDIS
from sparsity_lib._weights import filters_of, has_filters
from sparsity_lib.monitor import ActivationMonitor

__all__ = ["write_to_tensorboard"]

SCALARS = (  # fields of LayerStats; each is a group of charts
    "entropy",
    "noise_entropy",
    "scale_free_entropy",
    "perplexity_sparsity",
    "sd",
    "zero_share",
    "dead_channels",
    "effective_rank",
)
GREY = np.uint8(128)
EDGES = np.arange(-201, 202, 2) / 200  # of 201 bins about -1.00, -0.99 ... 1.00 (TSR, Figure 7)


@runtime_checkable
class Writer(Protocol):
    """The interface of a writer: three methods of `torch.utils.tensorboard.SummaryWriter`."""

    def add_scalar(self, tag: str, value: float, step: int, /) -> Any:
        """Add one value of a curve."""

    def add_image(self, tag: str, image: np.ndarray, step: int, /, *, dataformats: str) -> Any:
        """Add a picture, uint8 `(height, width, 3)` with `dataformats="HWC"`."""

    def add_histogram(self, tag: str, values: np.ndarray, step: int, /, bins: Any) -> Any:
        """Add values, counted between the edges `bins`."""


def write_to_tensorboard(
    writer: Writer, monitor: ActivationMonitor, step: int, *, center: functional.Center | None = "filters"
) -> None:
    """Write what the monitor saw since its last reset, and its layers' filters as they are now.

    ```python
    writer = SummaryWriter("boards/mine")
    with sl.ActivationMonitor(model, maps=16) as monitor:
        model(x)
    sl.write_to_tensorboard(writer, monitor, epoch)
    ```

    Tags are `quantity/layer`, so that a quantity's layers stand side by side:

    - scalars: `entropy`, `noise_entropy`, `scale_free_entropy`, `perplexity_sparsity`, `sd`, `zero_share`,
        `dead_channels` and `effective_rank`, as in `LayerStats`; what is not a number is left out.
    - images: `entropy_maps`, those that the monitor keeps, one pixel per position, in one sheet with white
        lines between them. The colours are the same at every step: from dark, 0, to yellow, ln D; grey where
        a mask leaves positions out.
    - histograms: `filter_correlation`, of each pair of a layer's filters once, where `DecorrReg` knows them.

    **Arguments:**

    - `writer`: anything with the `add_scalar`, `add_image` and `add_histogram` of a `SummaryWriter`; one
        writer, with a folder of its own, per set of images.
    - `monitor`: what it keeps of `maps` is drawn; it is not reset.
    - `step`: the place on TensorBoard's axis, such as the epoch.
    - `center`: what is subtracted from filters: `"filters"`, the mean over filters of each component;
        `"components"`, each filter's own mean; `"none"`. `None`: no histograms. They cost O(D^2) memory.

    **Raises:** before anything is written: `RuntimeError` as `monitor.compute`; `ValueError` for an unknown
    `center`, or for maps or weights that are not finite; `TypeError` for another kind of writer or monitor.
    """
    if not isinstance(writer, Writer):
        raise TypeError(
            "writer must have add_scalar, add_image and add_histogram, as a SummaryWriter has; "
            f"{type(writer).__name__} lacks them"
        )
    if not isinstance(monitor, ActivationMonitor):
        raise TypeError(f"monitor must be an ActivationMonitor, not {type(monitor).__name__}")
    if center is not None:
        one_of("center", center, functional.CENTERS)
    stats = monitor.compute()
    correlations = {
        name: None if center is None else _correlations(name, monitor._modules[name], center)
        for name in stats
    }
    sheets = {
        name: None if s.maps is None else map_sheet(name, s.maps, s.channels, math.isfinite(s.entropy))
        for name, s in stats.items()
    }
    for name, of_layer in stats.items():
        scalars = {field: getattr(of_layer, field) for field in SCALARS}
        write_layer(writer, name, step, scalars, sheets[name], correlations[name])


def write_layer(
    writer: Writer,
    layer: str,
    step: int,
    scalars: Mapping[str, float],
    sheet: np.ndarray | None,
    correlations: np.ndarray | None,
) -> None:
    """Write one layer's values by quantity, its maps from `map_sheet`, its pairs' correlations `(pairs,)`."""
    for quantity, value in scalars.items():
        if not math.isnan(value):
            writer.add_scalar(f"{quantity}/{layer}", value, step)
    if sheet is not None:
        writer.add_image(f"entropy_maps/{layer}", sheet, step, dataformats="HWC")
    if correlations is not None:
        writer.add_histogram(f"filter_correlation/{layer}", correlations, step, bins=EDGES)


def map_sheet(layer: str, maps: np.ndarray, channels: int, masked: bool = False) -> np.ndarray:
    """Entropy maps `(n, *spatial)` in nats, in colours from 0 to ln D, as one picture.

    A map with one spatial axis is a row; of more than two, all but the last are stacked. `masked`: NaN is
    grey, as it stands for positions that a mask leaves out.

    **Raises:** `ValueError` naming the layer if another entropy is not finite.
    """
    if not (masked or np.isfinite(maps).all()):
        raise ValueError(f"layer {layer!r} has entropies that are not finite")
    highest = math.log(channels) or 1.0
    pixels = (np.nan_to_num(maps) * (255 / highest)).round().clip(0, 255).astype(np.uint8)
    coloured = np.where(np.isnan(maps)[..., None], GREY, VIRIDIS[pixels])
    return sheet(coloured.reshape(len(maps), -1, maps.shape[-1] if maps.ndim > 1 else 1, 3))


def sheet(pictures: np.ndarray) -> np.ndarray:
    """Pictures uint8 `(n, height, width, 3)` in one, about as wide as high, with white lines between them."""
    n, height, width, _ = pictures.shape
    height, width = height + 1, width + 1  # a line below and to the right of each
    columns = min(n, math.ceil(math.sqrt(n * height / width)))
    rows = -(-n // columns)
    cells = np.full((rows * columns, height, width, 3), 255, np.uint8)
    cells[:n, :-1, :-1] = pictures
    grid = cells.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, 3)[:-1, :-1]


@torch.no_grad()
def _correlations(layer: str, module: nn.Module, center: functional.Center) -> np.ndarray | None:
    """Values of each pair of filters once, `(pairs,)`; None for a layer without two filters."""
    if not has_filters(module) or len(filters := filters_of(module)) < 2:
        return None
    correlation = functional.filter_correlation(filters, center)
    below = correlation[torch.ones_like(correlation, dtype=torch.bool).tril(-1)]
    if not below.isfinite().all():
        raise ValueError(f"layer {layer!r} has weights that are not finite")
    return below.clamp(-1, 1).cpu().numpy()
