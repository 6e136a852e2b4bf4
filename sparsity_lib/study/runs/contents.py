"""Contents of a run file: its variables, dimensions and units, from the observations of each epoch."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsity_lib.study.data import Split
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.runs.dimensions import (
    BINS,
    CENTERS,
    KEPT,
    KNOCKED_OUT,
    MAPS,
    MOMENTS,
    QUANTILES,
    SPLITS,
)

if TYPE_CHECKING:
    import xarray as xr


class Log:
    """Observations, epoch by epoch from -1 on: `{name: [tensor per epoch]}`; maps only at saved epochs."""

    def __init__(self, values: dict[str, list[Tensor]] | None = None) -> None:
        self.values = values or {}

    def append(self, epoch: int, record: Mapping[str, Tensor], last: bool) -> None:
        """Add an epoch's record; values that begin later are NaN before."""
        for name, value in record.items():
            if name.endswith(MAPS):
                if is_saved(epoch) or last:
                    self.values.setdefault(name, []).append(value)
            else:
                column = self.values.setdefault(name, [])
                if gap := epoch + 1 - len(column):  # nothing is trained before epoch 0
                    column.extend([torch.full_like(value, torch.nan)] * gap)
                column.append(value)

    def stacked(self) -> dict[str, Tensor]:
        """Values of each name, stacked with epochs as the first axis."""
        return {name: torch.stack(values) for name, values in self.values.items()}


def is_saved(epoch: int) -> bool:
    """Whether entropy maps are kept at this epoch: up to 10, then every fifth (and the last)."""
    return epoch <= 10 or epoch % 5 == 0


def as_tree(
    experiment: Experiment,
    log: Mapping[str, Tensor],
    layers: Mapping[str, nn.Module],
    shown: Split,
    classes: Sequence[str],
    moment_epochs: Sequence[int],
) -> "xr.DataTree":
    """The run file's contents, with names, dimensions and units as a reader will see them.

    `moment_epochs` are the indices of `dimensions.MOMENTS` along the log's epochs, from -1 on.
    """
    import xarray as xr

    groups: dict[str, dict[str, Any]] = {"": _shared(range(-1, experiment.epochs), shown, moment_epochs)}
    groups |= {layer: {} for layer in layers}
    for full_name, values in log.items():
        layer, _, quantity = full_name.rpartition("/")
        channels = channels_of(layers[layer]) if layer else 0
        name, variable = _variable(quantity, values, channels)
        groups[layer][name] = variable
    tree = xr.DataTree(xr.Dataset(groups.pop("")))
    for layer, variables in groups.items():
        attrs: dict[str, Any] = {"channels": channels_of(layers[layer]), "kind": type(layers[layer]).__name__}
        weight = getattr(layers[layer], "weight", None)
        if isinstance(weight, Tensor) and weight.dim() > 1:
            attrs["fan_in"] = weight[0].numel()
        tree[layer] = xr.DataTree(xr.Dataset(variables, attrs=attrs))
    tree.attrs = {"experiment": json.dumps(experiment.describe()), "classes": json.dumps(list(classes))}
    tree.attrs["layers"] = json.dumps(list(layers))
    return tree


def _shared(epochs: range, shown: Split, moment_epochs: Sequence[int]) -> dict[str, Any]:
    """Axes of the quantities, images and moments."""
    saved = [epoch for epoch in epochs if is_saved(epoch) or epoch == epochs[-1]]
    silenced = {"long_name": "share of the layer's channels set to 0, after the last epoch"}
    meaning = {"long_name": "of validation images; chosen: of the highest accuracy on monitor images"}
    pixels = shown.images.permute(0, 2, 3, 1).numpy()
    return {
        "epoch": ("epoch", np.array(epochs, "int32"), {"long_name": "epoch; -1 is before training"}),
        "saved_epoch": ("saved_epoch", np.array(saved, "int32")),
        "split": ("split", list(SPLITS), {"long_name": "held-out monitor images; as many training images"}),
        "center": ("center", list(CENTERS)),
        "knocked_out": ("knocked_out", np.array(KNOCKED_OUT), silenced),
        "quantile": ("quantile", np.array(QUANTILES)),
        "bin": ("bin", np.linspace(-1, 1, BINS).round(2)),
        "images": (("image", "image_y", "image_x", "image_channel"), pixels),
        "image_label": ("image", shown.labels.numpy().astype("int32")),
        "moment": ("moment", list(MOMENTS), meaning),
        "moment_epoch": ("moment", np.array([epochs[i] for i in moment_epochs], "int32")),
        "kept_moment": ("kept_moment", list(KEPT), {"long_name": "moments whose weights are kept"}),
    }


_UNITS = {"loss": "nats", "entropy": "nats", "seconds": "s", "quantile": "nats"}
_DIMS = {
    "entropy_quantile": ("split", "epoch", "quantile"),
    "correlation_histogram": ("center", "epoch", "bin"),
    "knockout_accuracy": ("knocked_out",),
    "image_loss": ("moment", "validation_image"),
    "image_correct": ("moment", "validation_image"),
    "channel_scaled_entropy": ("kept_moment",),
}


def _variable(
    quantity: str, values: Tensor, channels: int
) -> tuple[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]]:
    """A quantity's name in the file, its dimensions, values and attributes."""
    if quantity == "maps":
        highest = math.log(channels) or 255.0  # of one channel's, all are 0
        return "heatmap", _heatmap(values, 0.0, highest, "RFAV entropy by position")
    if quantity == "scale_free_maps":
        low, high = values.min().item(), values.max().item()  # it varies little: bytes are for that
        about = "entropy of the vector standardised over channels, by position"
        return "scale_free_heatmap", _heatmap(values, low, high, about)
    if quantity == "activations":
        axes = ("y", "x")[: values.dim() - 3] if values.dim() <= 5 else ()
        dims = ("kept_moment", "shown_image", "channel", *axes)
        return quantity, (dims, values.numpy(), {"long_name": "output of the layer, in float16's precision"})
    dims = _DIMS.get(quantity, ("split", "epoch") if values.dim() == 2 else ("epoch",))
    array = values.transpose(0, 1) if dims[1:2] == ("epoch",) else values  # the log has epochs first
    kind = {"correlation_histogram": "int32", "image_correct": "int8"}.get(quantity, "float32")
    units = next((unit for word, unit in _UNITS.items() if word in quantity), None)
    return quantity, (dims, array.numpy().astype(kind), {"units": units} if units else {})


def _heatmap(
    maps: Tensor, low: float, high: float, about: str
) -> tuple[tuple[str, ...], np.ndarray, dict[str, Any]]:
    """Entropies of `low` to `high` as bytes 0 to 255; readers of netCDF decode them to nats."""
    array = maps.reshape(*maps.shape[:2], *(maps.shape[2:] if maps.dim() == 4 else (-1, 1))).numpy()
    scale = (high - low) / 255 or 1.0
    attrs = {"units": "nats", "long_name": about, "scale_factor": scale, "add_offset": low}
    levels = ((array - low) / scale).round().clip(0, 255).astype("uint8")
    return ("saved_epoch", "image", "y", "x"), levels, attrs


def channels_of(layer: nn.Module) -> int:
    """Number of channels of a layer's output."""
    for name in ("out_channels", "out_features", "num_features", "num_channels"):
        if hasattr(layer, name):
            return int(getattr(layer, name))
    return int(layer.normalized_shape[-1])  # type: ignore[index]  # LayerNorm
