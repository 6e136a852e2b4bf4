"""Recording: what the explorers draw of one network's training, as plain numpy arrays."""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor, nn

from sparsity_lib._receptive_fields import ReceptiveField, receptive_fields
from sparsity_lib.monitor import LayerStats

MEASURES = {"entropy": "maps", "scale_free_entropy": "scale_free_maps"}  # by their names in LayerStats


@dataclass(frozen=True, eq=False)
class RecordedLayer:
    """Maps and averages of one layer's output, by measure: `"entropy"` and `"scale_free_entropy"`.

    **Fields:**

    - `channels`: D.
    - `maps`: `(saved_epoch, image, y, x)` in nats; y and x have length 1 without spatial axes.
    - `means`: averages over all samples and positions, `(epoch,)` in nats.
    - `activations`: `(detailed_epoch, image, channel, y, x)` of the first images, if known.
    """

    channels: int
    maps: dict[str, np.ndarray]
    means: dict[str, np.ndarray]
    activations: np.ndarray | None = None


@dataclass(eq=False)
class Recording:
    """Entropy maps and curves of one network's training, for `HeatmapExplorer`.

    A training loop fills it, once an epoch:

    ```python
    recording = sl.Recording(images, "my network")  # the images to show, (8, H, W, C) uint8
    for epoch in range(epochs):
        train_one_epoch(model)
        model.eval()
        with torch.no_grad(), sl.ActivationMonitor(model, maps=len(images)) as monitor:
            loss = cross_entropy(model(x), y).item()  # the validation images, those to show first
        recording.add(epoch, monitor.compute(), loss)
    sl.HeatmapExplorer(recording, layer="conv2")
    ```

    **Fields:**

    - `images`: images shown, `(N, H, W, C)` uint8, C = 1 for grey or 3 for RGB.
    - `label`: the network's name on the page.
    - `captions`: a caption for each image; by default `"unlabelled"`.
    - `fields`: receptive fields by layer (`receptive_fields(model, (C, H, W))`), outlined on the image.
    - `layers`: maps and averages by layer.
    - `epochs`: epochs of the curves, increasing; -1 is before training.
    - `saved`: epochs that have maps.
    - `detailed`: epochs of which the layers' activations are known, whose channels are drawn.
    - `loss`: validation loss, `(epoch,)` in nats; NaN is not drawn.
    - `onset`: moment of overfitting, an epoch marked on the curves.
    - `judged`: whether the absence of an onset is a finding, which the page then states.

    **Raises:** `ValueError` for images of another shape or type, or another number of captions.
    """

    images: np.ndarray
    label: str = "network"
    captions: Sequence[str] = ()
    fields: Mapping[str, ReceptiveField] = field(default_factory=dict)
    layers: dict[str, RecordedLayer] = field(default_factory=dict)
    epochs: list[int] = field(default_factory=list)
    saved: list[int] = field(default_factory=list)
    detailed: list[int] = field(default_factory=list)
    loss: np.ndarray = field(default_factory=lambda: np.empty(0))
    onset: int | None = None
    judged: bool = False

    def __post_init__(self) -> None:
        images = np.asarray(self.images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
            raise ValueError(
                f"images are uint8 (N, H, W, C) with C = 1 or 3, not {images.dtype} {images.shape}"
            )
        self.images = images
        self.captions = list(self.captions) or ["unlabelled"] * len(images)
        if len(self.captions) != len(images):
            raise ValueError(f"there are {len(self.captions)} captions for {len(images)} images")

    def add(
        self,
        epoch: int,
        stats: Mapping[str, LayerStats],
        loss: float = math.nan,
        channels: Mapping[str, Tensor | np.ndarray] | None = None,
    ) -> None:
        """Append an epoch: the layers' statistics, the validation loss in nats, and activations if wanted.

        `stats` is `ActivationMonitor.compute()`, whose first samples are the recording's images. Later epochs
        than the first may lack maps (`ActivationMonitor(model, maps=0)`): they have curves alone. Layers
        whose outputs have one spatial axis, or more than two, are left out. `channels` are outputs of layers
        for the first n images, `(n, D)` or `(n, D, h, w)`, n the same each time; a page grows with them.

        **Raises:** `ValueError` if the epoch does not follow the last one; for a layer that is missing, or
        whose maps are of other images or sizes, masked or not finite; if no layer can be drawn; for
        `channels` of another shape than the maps', or not finite. The recording is unchanged then.
        """
        epoch = operator.index(epoch)  # numpy's numbers have no place in JSON
        if self.epochs and epoch <= self.epochs[-1]:
            raise ValueError(f"epoch {epoch} does not follow epoch {self.epochs[-1]}, the recording's last")
        layers = self.layers or {
            name: _empty(layer)
            for name, layer in stats.items()
            if layer.maps is not None and layer.maps.ndim in (1, 3)
        }
        if not layers:
            raise ValueError(
                "no layer has maps (N,) or (N, h, w); ActivationMonitor(model, maps=N) "
                "keeps those of outputs (N, D) and (N, D, h, w)"
            )
        if missing := [name for name in layers if name not in stats]:
            raise ValueError(f"there are no statistics of {', '.join(missing)} at epoch {epoch}")
        channels = channels or {}
        detailed = {name for name, layer in layers.items() if layer.activations is not None}
        if channels and channels.keys() != (detailed or channels.keys() & layers.keys()):
            raise ValueError(f"channels are of {', '.join(detailed or layers)}, not of {', '.join(channels)}")
        saved = all(stats[name].maps is not None for name in layers)
        grown = {}
        for name, layer in layers.items():
            maps = _maps(name, layer, stats[name], len(self.images)) if saved else {}
            grown[name] = _grown(layer, stats[name], maps)
            if name in channels:
                grown[name] = _detailed(name, grown[name], channels[name])
        self.loss = np.append(self.loss, float(loss))
        self.layers = grown
        self.epochs.append(epoch)
        if saved:
            self.saved.append(epoch)
        if channels:
            self.detailed.append(epoch)


def _empty(stats: LayerStats) -> RecordedLayer:
    """A layer of no epochs."""
    images, *size = np.asarray(stats.maps).shape
    maps = np.empty((0, images, *(size or (1, 1))), np.float32)
    return RecordedLayer(stats.channels, dict.fromkeys(MEASURES, maps), dict.fromkeys(MEASURES, np.empty(0)))


def _maps(name: str, layer: RecordedLayer, stats: LayerStats, images: int) -> dict[str, np.ndarray]:
    """An epoch's maps by measure, `(1, image, y, x)`."""
    found = {}
    for measure, attribute in MEASURES.items():
        maps = np.asarray(getattr(stats, attribute))
        if len(maps) != images:
            raise ValueError(
                f"layer {name!r} has maps of {len(maps)} images, the recording shows {images}: "
                f"use ActivationMonitor(model, maps={images})"
            )
        _, _, *size = layer.maps[measure].shape
        if (maps.shape[1:] or (1, 1)) != tuple(size):
            raise ValueError(
                f"layer {name!r} has maps of {maps.shape[1:]} positions, and {tuple(size)} before"
            )
        if math.isfinite(stats.entropy) and np.isnan(maps).any():
            raise ValueError(
                f"layer {name!r} has a mask, which leaves its maps incomplete: monitor without mask="
            )
        if not np.isfinite(maps).all():
            raise ValueError(f"layer {name!r} puts out NaN or infinity: there is no map of that")
        found[measure] = maps.reshape(1, images, *size)
    return found


def _grown(layer: RecordedLayer, stats: LayerStats, maps: Mapping[str, np.ndarray]) -> RecordedLayer:
    """The layer with an epoch more, and with its maps if there are any."""
    joined = {measure: np.concatenate([layer.maps[measure], more]) for measure, more in maps.items()}
    means = {measure: np.append(layer.means[measure], getattr(stats, measure)) for measure in MEASURES}
    return replace(layer, maps=layer.maps | joined, means=means)


def _detailed(name: str, layer: RecordedLayer, outputs: Tensor | np.ndarray) -> RecordedLayer:
    """The layer with its activations of an epoch more."""
    values = np.asarray(
        outputs.detach().cpu().float() if isinstance(outputs, Tensor) else outputs, np.float32
    )
    before, (images, *size) = layer.activations, layer.maps["entropy"].shape[1:]
    first = range(1, images + 1) if before is None else (before.shape[1],)
    expected = (layer.channels, *size)
    flat = expected[:1] if size == [1, 1] else expected
    if len(values) not in first or values.shape[1:] not in (expected, flat):
        wanted = ", ".join(map(str, expected))
        raise ValueError(
            f"channels of layer {name!r} are (n, {wanted}) of the first images, not {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"channels of layer {name!r} hold NaN or infinity, which cannot be drawn")
    more = values.reshape(1, len(values), *expected)
    return replace(layer, activations=more if before is None else np.concatenate([before, more]))


def known_fields(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, ReceptiveField]:
    """Receptive fields for an image `(C, H, W)`, by layer; empty where they cannot be found."""
    try:
        return receptive_fields(model, shape)
    except ValueError:
        return {}
