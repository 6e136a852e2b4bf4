"""What an explorer shows, as JSON: curves, and maps at their native size, packed.

Maps are bytes, `low + step * byte` nats, as differences from epoch to epoch, gzipped, in base64; images are
bytes and histograms 16-bit words, gzipped, in base64. Equal runs give equal text.
"""

import base64
import gzip
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
import xarray as xr

from sparsity_lib._viridis import VIRIDIS
from sparsity_lib.receptive import ReceptiveField, receptive_fields
from sparsity_lib.study import StudyError, networks
from sparsity_lib.study.analysis import moment_of_overfitting
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.results import label

MEASURES = {"entropy": "heatmap", "scale_free_entropy": "scale_free_heatmap"}  # by their names in a run
TITLES = {"entropy": "Entropy", "scale_free_entropy": "Scale-free entropy"}
ENDS = (1, 99)  # percentiles of a layer's values at which its colours end: one outlier must not take them all
LEVELS = 48  # of scale-free maps: theirs vary in every bit, and a page is to be small
BINS = 67  # of correlations: 201 in the run, in threes

Layers = dict[str, xr.Dataset]


class Source(Protocol):
    """What can be explored: a `study.Run`, or something with the same contents."""

    experiment: Experiment
    layers: list[str]
    classes: list[str]

    @property
    def root(self) -> xr.Dataset: ...

    def layer(self, name: str) -> xr.Dataset: ...


def payload(runs: Sequence[Source], most_images: int = 8) -> dict[str, Any]:
    """The runs as the explorer's module reads them: `{runs, images, measures, setting, colours}`.

    Of so many images, the first of the run's.

    `images` holds each set of images once, `runs[i]["images"]` says which is the run's. Layers of the same
    name and number of channels D share one colour scale in nats, by measure.
    """
    first = {"image": slice(most_images)}
    groups = [{name: run.layer(name).isel(first) for name in run.layers} for run in runs]
    measures = [m for m, maps in MEASURES.items() if all(maps in g for of in groups for g in of.values())]
    scales = _scales(groups, measures)
    names, setting = run_labels(runs)
    images: list[dict[str, Any]] = []
    packed = []
    for run, name, layers in zip(runs, names, groups, strict=True):
        if (shown := _images(run.root.isel(first), run.classes)) not in images:
            images.append(shown)
        seen = _seen(run, shown["height"], shown["width"])
        packed.append(
            {
                "label": name,
                "images": images.index(shown),
                "epochs": run.root["epoch"].to_numpy().tolist(),
                "saved": run.root["saved_epoch"].to_numpy().tolist(),
                "loss": _curve(run.root["val_loss"]),
                "onset": _onset(run),
                "layers": [
                    _layer(layer, group, scales[_kind(layer, group)], seen.get(layer))
                    for layer, group in layers.items()
                ],
            }
        )
    colours = _base64(VIRIDIS)
    titles = {measure: TITLES[measure] for measure in measures}
    return {"runs": packed, "images": images, "measures": titles, "setting": setting, "colours": colours}


def run_labels(runs: Sequence[Source]) -> tuple[list[str], str]:
    """One label per run, such as "sr1Net, seed 0", with whatever else tells it apart, and what all share."""
    described = [run.experiment for run in runs]
    columns = {
        "size": [f"size {e.size}" for e in described],
        "data": [e.dataset_name for e in described],
        "noise": [f"{100 * e.label_noise:g} % of labels redrawn" for e in described],
        "epochs": [f"{e.epochs} epochs" for e in described],
    }
    different = [name for name, values in columns.items() if len(set(values)) > 1]
    labels = [
        ", ".join([label(e), *(columns[name][i] for name in different), f"seed {e.seed}"])
        for i, e in enumerate(described)
    ]
    count = Counter(labels)
    told = [
        name if count[name] == 1 else f"{name} ({e.digest})"
        for name, e in zip(labels, described, strict=True)
    ]
    return told, ", ".join(values[0] for name, values in columns.items() if name not in different)


def bytes_of(maps: xr.DataArray) -> np.ndarray:
    """A layer's maps as they are stored: uint8 (saved_epoch, image, y, x)."""
    low, step = _encoding(maps)
    return ((maps.to_numpy() - low) / step).round().clip(0, 255).astype(np.uint8)


def _encoding(maps: xr.DataArray) -> tuple[float, float]:
    return float(maps.encoding.get("add_offset", 0.0)), float(maps.encoding["scale_factor"])


def _kind(name: str, layer: xr.Dataset) -> tuple[str, int]:
    return name, int(layer.attrs["channels"])


def _scales(groups: Sequence[Layers], measures: Sequence[str]) -> dict[tuple[str, int], dict[str, Any]]:
    """The colour scale's two ends in nats, by layer and measure; the upper one of entropy is ln D."""
    together = defaultdict(list)
    for layers in groups:
        for name, layer in layers.items():
            together[_kind(name, layer)].append(layer)
    scales: dict[tuple[str, int], dict[str, Any]] = {}
    for kind, having in together.items():
        scales[kind] = {}
        for measure in measures:
            values = np.concatenate([layer[MEASURES[measure]].to_numpy().ravel() for layer in having])
            low, high = np.percentile(values, ENDS, method="lower").tolist()
            if measure == "entropy":
                high = math.log(kind[1])
            scales[kind][measure] = [min(low, high - 0.004), high]  # a scale has two ends
    return scales


def _layer(
    name: str, layer: xr.Dataset, scales: dict[str, Any], seen: dict[str, Any] | None
) -> dict[str, Any]:
    _, _, height, width = layer["heatmap"].shape
    return {
        "name": name,
        "channels": int(layer.attrs["channels"]),
        "height": height,
        "width": width,
        "scales": scales,
        "maps": {measure: _maps(layer[MEASURES[measure]]) for measure in scales},
        "means": {measure: _curve(layer[measure].sel(split="monitor")) for measure in scales},
        "correlation": _correlation(layer),
        "seen": seen,
    }


def _maps(maps: xr.DataArray) -> dict[str, Any]:
    low, step = _encoding(maps)
    levels = bytes_of(maps)
    if maps.name == MEASURES["scale_free_entropy"]:
        levels = np.rint(levels * ((LEVELS - 1) / 255)).astype(np.uint8)
        step *= 255 / (LEVELS - 1)
    differences = np.diff(levels, axis=0, prepend=np.zeros_like(levels[:1]))  # modulo 256
    return {"low": low, "step": step, "bytes": _packed(differences)}


def _correlation(layer: xr.Dataset) -> dict[str, Any] | None:
    """Shares of filter pairs by correlation at the saved epochs, and their mean |c|; None without filters."""
    if "correlation_histogram" not in layer:
        return None
    counts = layer["correlation_histogram"].sel(center="filters", epoch=layer["saved_epoch"].to_numpy())
    counts = counts.transpose("epoch", "bin")
    pairs = np.maximum(counts.sum("bin"), 1)
    mean = (counts * abs(counts["bin"])).sum("bin") / pairs
    shares = (counts / pairs).to_numpy().reshape(len(counts), BINS, -1).sum(2)
    top = float(shares.max()) or 1.0
    words = np.rint(shares * (65535 / top)).astype("<u2")
    return {"bins": BINS, "top": round(top, 6), "mean": _curve(mean), "shares": _packed(words)}


def _seen(run: Source, height: int, width: int) -> dict[str, dict[str, Any]]:
    channels = run.root.sizes["image_channel"]
    try:
        with torch.random.fork_rng(devices=[]):  # building draws initial weights
            model = networks.build(run.experiment, channels, (height, width), len(run.classes))
        fields = receptive_fields(model, (channels, height, width))
    except (StudyError, ValueError):  # a network of somebody's own, whose code is not here or has changed
        return {}
    return {name: shares_seen(field, (height, width)) for name, field in fields.items()}


def shares_seen(field: ReceptiveField, image_size: tuple[int, int]) -> dict[str, Any]:
    """What each row and each column of positions sees, first and last, in shares of image and of input."""

    def shares(spans: tuple[np.ndarray, np.ndarray], size: tuple[int, int]) -> list[list[list[float]]]:
        return [(span / n).round(4).tolist() for span, n in zip(spans, size, strict=True)]

    return {
        "image": shares((field.rows, field.columns), image_size),
        "input": shares((field.input_rows, field.input_columns), field.input_size),
    }


def _onset(run: Source) -> int | None:
    """The moment of overfitting by validation loss (T10), if there is one."""
    curves = run.root[[name for name in run.root if str(name).startswith("val_loss")]].expand_dims("run")
    if "val_loss_rise_low" not in curves or not np.isfinite(curves["val_loss"]).all():
        return None  # a training that goes on has no end to compare with
    epoch = moment_of_overfitting(curves.assign_coords(epochs=("run", [run.experiment.epochs])))
    return int(epoch[0]) if np.isfinite(epoch[0]) else None


def _images(root: xr.Dataset, classes: Sequence[str]) -> dict[str, Any]:
    pixels = root["images"].to_numpy()  # (image, y, x, channel)
    return pictured(pixels, [classes[label] for label in root["image_label"].to_numpy()])


def pictured(pixels: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """A set of images, uint8 `(image, y, x, channel)`, each with its class's name."""
    _, height, width, channels = pixels.shape
    size = {"height": height, "width": width, "channels": channels}
    return {"classes": list(classes), "pixels": _packed(pixels), **size}


def _curve(values: xr.DataArray) -> list[float | None]:
    # four decimals are finer than a curve's line; JSON has no NaN
    return [round(value, 4) if math.isfinite(value) else None for value in values.to_numpy().tolist()]


def _packed(values: np.ndarray) -> str:
    return _base64(np.frombuffer(gzip.compress(values.tobytes(), mtime=0), np.uint8))


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")
