"""Contents of an explorer, as JSON: curves, and maps at their native size, packed.

Maps are bytes, `low + step * byte` nats, as differences from epoch to epoch, gzipped, in base64; so are the
bytes of images and of activations. Equal runs give equal text.
"""

import base64
import gzip
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from sparsity_lib._viridis import VIRIDIS
from sparsity_lib.explorer.recording import MEASURES, RecordedLayer, Recording

TITLES = {"entropy": "Entropy", "scale_free_entropy": "Scale-free entropy"}
ENDS = (1, 99)  # percentiles of a layer's values at which its colours end: one outlier must not take them all
NARROWEST = 0.05  # colours, of ln D
LEVELS = 48  # of scale-free maps: theirs vary in every bit, and a page is to be small
STEPS = 15  # of an activation, from 0 to the largest of its vector


def payload(shown: Sequence[Recording], setting: str, waiting: str = "") -> dict[str, Any]:
    """The networks as the explorer's module reads them.

    They are `{runs, images, measures, setting, colours, waiting}`. `images` holds each set of images once,
    `runs[i]["images"]` names the run's. Layers of the same name and number of channels D share the ends
    of stretched colours in nats, by measure. `waiting` is shown as long as there are no runs.
    """
    measures = [m for m in MEASURES if all(m in layer.maps for one in shown for layer in one.layers.values())]
    scales = _scales(shown, measures)
    images: list[dict[str, Any]] = []
    packed = []
    for one in shown:
        if (pictures := packed_images(one.images, one.captions)) not in images:
            images.append(pictures)
        packed.append(
            {
                "label": one.label,
                "images": images.index(pictures),
                "epochs": one.epochs,
                "saved": one.saved,
                "detailed": one.detailed,
                "loss": _curve(one.loss),
                "onset": None if one.onset is None else int(one.onset),
                "judged": one.judged,
                "layers": [
                    _layer(name, layer, scales[name, layer.channels], _seen(one, name))
                    for name, layer in one.layers.items()
                ],
            }
        )
    return {
        "runs": packed,
        "images": images,
        "measures": {measure: TITLES[measure] for measure in measures},
        "setting": setting,
        "colours": base64_of(VIRIDIS),
        "waiting": waiting,
    }


def _scales(shown: Sequence[Recording], measures: Sequence[str]) -> dict[tuple[str, int], dict[str, Any]]:
    """The two ends of stretched colours in nats, by layer and measure; the upper one of entropy is ln D."""
    together = defaultdict(list)
    for one in shown:
        for name, layer in one.layers.items():
            together[name, layer.channels].append(layer)
    scales: dict[tuple[str, int], dict[str, Any]] = {}
    for kind, layers in together.items():
        scales[kind] = {}
        for measure in measures:
            values = np.concatenate([layer.maps[measure].ravel() for layer in layers])
            low, high = np.percentile(values, ENDS, method="lower").tolist()
            most = math.log(kind[1])
            if measure == "entropy":
                high = most
            # Bytes go from 0 to ln D: a narrower scale would show their steps, and not the network.
            scales[kind][measure] = [min(low, high - (NARROWEST * most or 0.01)), high]
    return scales


def _layer(
    name: str, layer: RecordedLayer, scales: dict[str, Any], seen: dict[str, Any] | None
) -> dict[str, Any]:
    _, _, height, width = layer.maps["entropy"].shape
    return {
        "name": name,
        "channels": layer.channels,
        "height": height,
        "width": width,
        "scales": scales,
        "maps": {measure: _maps(layer, measure) for measure in scales},
        "means": {measure: _curve(layer.means[measure]) for measure in scales},
        "activations": _activations(layer.activations),
        "seen": seen,
    }


def _maps(layer: RecordedLayer, measure: str) -> dict[str, Any]:
    maps = layer.maps[measure]
    if measure == "entropy":
        low, step = 0.0, (math.log(layer.channels) or 255.0) / 255  # all are 0 with one channel
    else:  # it varies little: the levels are for that
        low, step = float(maps.min()), float(maps.max() - maps.min()) / (LEVELS - 1) or 1.0
    levels = ((maps - low) / step).round().clip(0, 255).astype(np.uint8)
    differences = np.diff(levels, axis=0, prepend=np.zeros_like(levels[:1]))  # modulo 256
    return {"low": low, "step": step, "bytes": packed(differences)}


def _seen(one: Recording, name: str) -> dict[str, Any] | None:
    """The part that each row and column of positions sees, first and last, as shares of image and input."""
    if not (field := one.fields.get(name)):
        return None

    def shares(spans: tuple[np.ndarray, np.ndarray], size: tuple[int, ...]) -> list[list[list[float]]]:
        return [(span / n).round(4).tolist() for span, n in zip(spans, size, strict=True)]

    return {
        "image": shares((field.rows, field.columns), one.images.shape[1:3]),
        "input": shares((field.input_rows, field.input_columns), field.input_size),
    }


def _activations(activations: np.ndarray | None) -> dict[str, Any] | None:
    """A signed byte for each activation, `largest / steps * byte`, and a word for each vector's `largest`."""
    if activations is None or not activations.size:
        return None
    vectors = np.moveaxis(activations, 2, -1)  # (epoch, image, y, x, channel)
    largest = np.abs(vectors).max(-1)
    top = float(largest.max()) or 1.0
    shares = np.divide(vectors, largest[..., None], out=np.zeros_like(vectors), where=largest[..., None] > 0)
    return {
        "images": activations.shape[1],
        "top": float(f"{top:.6g}"),
        "steps": STEPS,
        "levels": packed(np.rint(STEPS * shares).astype(np.int8)),
        "largest": packed(np.rint(largest * (65535 / top)).astype("<u2")),
    }


def packed_images(images: np.ndarray, captions: Sequence[str]) -> dict[str, Any]:
    """Images (N, H, W, C) uint8 with their captions."""
    _, height, width, channels = images.shape
    size = {"height": height, "width": width, "channels": channels}
    return {"captions": list(captions), "pixels": packed(images), **size}


def _curve(values: np.ndarray) -> list[float | None]:
    # four decimals are finer than a curve's line; JSON has no NaN
    return [round(value, 4) if math.isfinite(value) else None for value in values.tolist()]


def packed(values: np.ndarray) -> str:
    """The values' bytes, gzipped, in base64."""
    return base64_of(np.frombuffer(gzip.compress(values.tobytes(), mtime=0), np.uint8))


def base64_of(values: np.ndarray) -> str:
    """The values' bytes in base64."""
    return base64.b64encode(values.tobytes()).decode("ascii")
