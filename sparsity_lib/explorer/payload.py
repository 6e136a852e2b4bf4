"""What an explorer shows, as JSON: curves, and maps at their native size, packed.

Maps are bytes (0 to 255 for 0 to ln D), as differences from epoch to epoch, gzipped, in base64; images are
bytes, gzipped, in base64. Equal runs give equal text.
"""

import base64
import gzip
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from sparsity_lib._viridis import VIRIDIS
from sparsity_lib.study import Run
from sparsity_lib.study.results import label

LOWEST = 1  # percentile of a layer's bytes at which its colours begin: one outlier must not take them all


def payload(runs: Sequence[Run]) -> dict[str, Any]:
    """The runs as the explorer's module reads them: `{runs, images, colours}`.

    `images` holds each set of images once, `runs[i]["images"]` says which is the run's. Layers of the same
    name and number of channels D share one colour scale, from their byte `low` to 255, which is ln D.
    """
    groups = [{name: run.layer(name) for name in run.layers} for run in runs]
    lows = _lows(groups)
    images: list[dict[str, Any]] = []
    packed = []
    for run, name, layers in zip(runs, run_labels(runs), groups, strict=True):
        if (shown := _images(run)) not in images:
            images.append(shown)
        packed.append(
            {
                "label": name,
                "images": images.index(shown),
                "epochs": run.root["epoch"].to_numpy().tolist(),
                "saved": run.root["saved_epoch"].to_numpy().tolist(),
                "loss": _curve(run.root["val_loss"]),
                "layers": [
                    _layer(layer, group, lows[_kind(layer, group)]) for layer, group in layers.items()
                ],
            }
        )
    return {"runs": packed, "images": images, "colours": _base64(VIRIDIS)}


def run_labels(runs: Sequence[Run]) -> list[str]:
    """One label per run, such as "sr1Net, size s, digits, noise 0.3, seed 0"; equal ones get digests."""
    described = [run.experiment for run in runs]
    labels = [
        f"{label(e)}, size {e.size}, {e.dataset_name}, noise {e.label_noise:g}, seed {e.seed}"
        for e in described
    ]
    count = Counter(labels)
    return [
        name if count[name] == 1 else f"{name} ({e.digest})"
        for name, e in zip(labels, described, strict=True)
    ]


def map_bytes(layer: xr.Dataset) -> np.ndarray:
    """A layer's maps as they are stored: uint8 (saved_epoch, image, y, x), 255 for ln D."""
    highest = math.log(layer.attrs["channels"]) or 1.0
    return (layer["heatmap"].to_numpy() * (255 / highest)).round().clip(0, 255).astype(np.uint8)


def _kind(name: str, layer: xr.Dataset) -> tuple[str, int]:
    return name, int(layer.attrs["channels"])


def _lows(groups: Sequence[dict[str, xr.Dataset]]) -> dict[tuple[str, int], int]:
    maps = defaultdict(list)
    for layers in groups:
        for name, layer in layers.items():
            maps[_kind(name, layer)].append(map_bytes(layer).ravel())
    # never 255: a scale has two ends
    return {
        kind: min(254, int(np.percentile(np.concatenate(found), LOWEST, method="lower")))
        for kind, found in maps.items()
    }


def _layer(name: str, layer: xr.Dataset, low: int) -> dict[str, Any]:
    maps = map_bytes(layer)
    differences = np.diff(maps, axis=0, prepend=np.zeros_like(maps[:1]))  # modulo 256
    return {
        "name": name,
        "channels": int(layer.attrs["channels"]),
        "height": maps.shape[2],
        "width": maps.shape[3],
        "low": low,
        "entropy": _curve(layer["entropy"].sel(split="monitor")),
        "maps": _packed(differences),
    }


def _images(run: Run) -> dict[str, Any]:
    pixels = run.root["images"].to_numpy()  # (image, y, x, channel)
    _, height, width, channels = pixels.shape
    return {
        "classes": [run.classes[label] for label in run.root["image_label"].to_numpy()],
        "height": height,
        "width": width,
        "channels": channels,
        "pixels": _packed(pixels),
    }


def _curve(values: xr.DataArray) -> list[float | None]:
    # four decimals are finer than a curve's line; JSON has no NaN
    return [round(value, 4) if math.isfinite(value) else None for value in values.to_numpy().tolist()]


def _packed(values: np.ndarray) -> str:
    return _base64(np.frombuffer(gzip.compress(values.tobytes(), mtime=0), np.uint8))


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")
