"""What is explored: of each network its maps, curves and images, whatever they were read from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import xarray as xr
from torch import nn

from sparsity_lib.receptive import ReceptiveField, receptive_fields
from sparsity_lib.study import StudyError
from sparsity_lib.study.analysis.summary import moment_of_overfitting
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.runs.networks import built
from sparsity_lib.study.runs.results import label

MEASURES = {"entropy": "heatmap", "scale_free_entropy": "scale_free_heatmap"}  # by their names in a run
BINS = 67  # of correlations: 201 in the run, in threes

Seen = dict[str, Any]  # what the positions of a layer see, see `shares_seen`


class Maps(NamedTuple):
    """Maps `(saved_epoch, image, y, x)` in nats, which are stored as bytes: `low + step * byte`."""

    nats: np.ndarray
    low: float
    step: float


class Correlation(NamedTuple):
    """Shares of filter pairs by correlation, `(saved_epoch, BINS)` from -1 to 1, and their mean |c|."""

    shares: np.ndarray
    mean: np.ndarray


@dataclass(frozen=True, eq=False)
class ExploredLayer:
    """A layer's maps, and their means over all monitor images `(epoch,)` in nats, by measure."""

    channels: int
    maps: dict[str, Maps]
    means: dict[str, np.ndarray]
    correlation: Correlation | None = None
    seen: Seen | None = None


@dataclass(frozen=True, eq=False)
class Explored:
    """One network: the images shown, uint8 `(image, y, x, channel)`, and what was seen of it over epochs.

    `loss` is of each of `epochs`, `saved` are the epochs with maps; a network that is seen once has no
    epochs, and 0 as the one with maps.
    """

    label: str
    pixels: np.ndarray
    captions: list[str]
    layers: dict[str, ExploredLayer]
    epochs: list[int]
    saved: list[int]
    loss: np.ndarray
    onset: int | None = None
    judged: bool = False  # whether it can be told that there is no moment of overfitting


class Source(Protocol):
    """A `study.Run`, or something with the same contents."""

    experiment: Experiment
    layers: list[str]
    classes: list[str]

    @property
    def root(self) -> xr.Dataset: ...

    def layer(self, name: str) -> xr.Dataset: ...


def explored_runs(runs: Sequence[Source], images: int) -> tuple[list[Explored], str]:
    """The runs, each with so many of its images, and what their settings have in common."""
    labels, setting = run_labels([run.experiment for run in runs])
    shown = [explored(run, name, _seen(run), images) for run, name in zip(runs, labels, strict=True)]
    return shown, setting


def explored(run: Source, label: str, seen: Mapping[str, Seen], images: int) -> Explored:
    """One run, with so many of its images, the first, and what its layers' positions see."""
    first = {"image": slice(images)}
    root = run.root.isel(first)
    onset, judged = _onset(run)
    return Explored(
        label=label,
        pixels=root["images"].to_numpy(),
        captions=[f"class {run.classes[index]}" for index in root["image_label"].to_numpy()],
        layers={name: _layer(run.layer(name).isel(first), seen.get(name)) for name in run.layers},
        epochs=root["epoch"].to_numpy().tolist(),
        saved=root["saved_epoch"].to_numpy().tolist(),
        loss=root["val_loss"].to_numpy(),
        onset=onset,
        judged=judged,
    )


def run_labels(described: Sequence[Experiment]) -> tuple[list[str], str]:
    """One label per run, such as "sr1Net, seed 0", with whatever else tells it apart, and what all share."""
    columns = {
        "size": [f"size {e.size}" for e in described],
        "data": [e.dataset_name for e in described],
        "noise": [f"{100 * e.label_noise:g} % of labels redrawn" for e in described],
        "optimizer": [
            e.optimizer.upper() if e.optimizer == "sgd" else e.optimizer.title() for e in described
        ],
        "lr": [f"lr {e.learning_rate():g}" for e in described],
        "epochs": [f"{e.epochs} epochs" for e in described],
        "data_seed": [f"data seed {e.data_seed}" for e in described],
    }
    different = [name for name, values in columns.items() if len(set(values)) > 1]
    usual = {"data_seed": any(e.data_seed for e in described), "noise": any(e.label_noise for e in described)}
    labels = [
        ", ".join([label(e), *(columns[name][i] for name in different), f"seed {e.seed}"])
        for i, e in enumerate(described)
    ]
    count = Counter(labels)
    told = [
        name if count[name] == 1 else f"{name} ({e.digest})"
        for name, e in zip(labels, described, strict=True)
    ]
    common = [name for name in columns if name not in different and usual.get(name, True)]
    return told, ", ".join(columns[name][0] for name in common)


def seen_in(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, Seen]:
    """What positions see of an image `(channels, height, width)`, by layer; empty if it cannot be found."""
    try:
        fields = receptive_fields(model, shape)
    except ValueError:
        return {}
    return {name: shares_seen(field, shape[1:]) for name, field in fields.items()}


def shares_seen(field: ReceptiveField, image_size: tuple[int, int]) -> Seen:
    """What each row and each column of positions sees, first and last, in shares of image and of input."""

    def shares(spans: tuple[np.ndarray, np.ndarray], size: tuple[int, int]) -> list[list[list[float]]]:
        return [(span / n).round(4).tolist() for span, n in zip(spans, size, strict=True)]

    return {
        "image": shares((field.rows, field.columns), image_size),
        "input": shares((field.input_rows, field.input_columns), field.input_size),
    }


def _layer(layer: xr.Dataset, seen: Seen | None) -> ExploredLayer:
    there = {measure: maps for measure, maps in MEASURES.items() if maps in layer}
    return ExploredLayer(
        channels=int(layer.attrs["channels"]),
        maps={measure: _maps(layer[maps]) for measure, maps in there.items()},
        means={measure: layer[measure].sel(split="monitor").to_numpy() for measure in there},
        correlation=_correlation(layer),
        seen=seen,
    )


def _maps(maps: xr.DataArray) -> Maps:
    low, step = float(maps.encoding.get("add_offset", 0.0)), float(maps.encoding["scale_factor"])
    return Maps(maps.to_numpy(), low, step)


def _correlation(layer: xr.Dataset) -> Correlation | None:
    """At the saved epochs; None without filters."""
    if "correlation_histogram" not in layer:
        return None
    counts = layer["correlation_histogram"].sel(center="filters", epoch=layer["saved_epoch"].to_numpy())
    counts = counts.transpose("epoch", "bin")
    pairs = np.maximum(counts.sum("bin"), 1)
    mean = (counts * abs(counts["bin"])).sum("bin") / pairs
    shares = (counts / pairs).to_numpy().reshape(len(counts), BINS, -1).sum(2)
    return Correlation(shares, mean.to_numpy())


def _seen(run: Source) -> dict[str, Seen]:
    _, height, width, channels = run.root["images"].shape
    try:
        model = built(run)
    except (StudyError, ValueError):  # a network of somebody's own, not imported or changed since
        return {}
    return seen_in(model, (channels, height, width))


def _onset(run: Source) -> tuple[int | None, bool]:
    """The moment of overfitting by validation loss (T10), if there is one; and whether that can be told."""
    curves = run.root[[name for name in run.root if str(name).startswith("val_loss")]].expand_dims("run")
    if "val_loss_rise_low" not in curves or not np.isfinite(curves["val_loss"]).all():
        return None, False  # a training that goes on has no end to compare with
    epoch = moment_of_overfitting(curves.assign_coords(epochs=("run", [run.experiment.epochs])))
    return (int(epoch[0]) if np.isfinite(epoch[0]) else None), True
