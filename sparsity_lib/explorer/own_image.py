"""The explorer of images of your own, in a run's network or in any other."""

import html
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ipywidgets
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn

from sparsity_lib import ActivationMonitor, LayerStats
from sparsity_lib.explorer.explored import Explored, ExploredLayer, Maps, Seen, run_labels, seen_in
from sparsity_lib.explorer.widget import Explorer
from sparsity_lib.study import Run, trained_network
from sparsity_lib.study.data.pictures import FORMATS

IMAGES = 16  # shown at most
FILE_BYTES = 20_000_000  # of a file, at most
PIXELS = 50_000_000  # of an image, at most, 200 MB in memory: a small file may hold a huge one
SUFFIXES = ".bmp,.gif,.jpeg,.jpg,.png,.ppm,.tif,.tiff,.webp"
OUTLINED = 64 * 64  # pixels, at most: to find what positions see takes height + width forward passes

Picture = str | Path | io.BytesIO | Image.Image | np.ndarray


class ImageExplorer(ipywidgets.VBox):
    """Entropy maps of images of your own: choose a file, or call `show`.

    ```python
    sl.ImageExplorer(run)  # a run's network, where it was kept
    sl.ImageExplorer(model, size=(32, 32), channels=3)
    ```

    An image is made grey or RGB, cropped about its centre to the network's aspect, and scaled to its size,
    antialiased bilinear, as the study's data are. The latest of up to 16 images comes first; the last good
    ones stay where a file cannot be read. `explorer` is the part that shows the maps; what it shows is an
    attribute of it each, as of `HeatmapExplorer`, but there are no epochs.

    Args:
        network: a `study.Run` whose network was kept, or any module that maps `(N, C, H, W)`. It runs in
            evaluation mode; up to 64 x 64 pixels also height + width times at first, to find what its
            positions see, which is then outlined.
        size: height and width of what the module takes, in pixels; a run has its own.
        channels: 1 for grey, 3 for RGB; a run has its own.
        prepare: from uint8 `(N, C, H, W)` to what the module takes; by default divided by 255.
        layers: names, globs or modules, as for `ActivationMonitor`.
        classes: names of the module's outputs, which are taken as logits; by default numbers.

    Raises:
        ValueError: `size` or `channels` are missing or impossible, or given for a run; an unknown layer; as
            `StudyError`, a run's network that was not kept.
    """

    def __init__(
        self,
        network: Run | nn.Module,
        *,
        size: tuple[int, int] | None = None,
        channels: int | None = None,
        prepare: Callable[[Tensor], Tensor] | None = None,
        layers: Sequence[str | nn.Module] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        if isinstance(network, Run):
            if not all(given is None for given in (size, channels, prepare, classes)):
                raise ValueError("a run has its own size, channels, prepare and classes: give none of them")
            self._network = _of_run(network, layers)
        else:
            self._network = _of_module(network, size, channels, prepare, layers, classes)
        _, height, width = self._network.shape
        small = height * width <= OUTLINED
        self._seen = seen_in(self._network.model, self._network.shape) if small else {}
        self._images = torch.empty(0, *self._network.shape, dtype=torch.uint8)
        self.explorer = _Images(waiting="Waiting for an image.")
        self._upload = ipywidgets.FileUpload(accept=SUFFIXES, multiple=False, description="Your image")
        self._upload.observe(self._uploaded, "value")
        self._message = ipywidgets.HTML()
        super().__init__([self._upload, self._message, self.explorer])

    def __repr__(self) -> str:
        return f"ImageExplorer({self._network.label})"

    def show(self, image: Picture) -> None:
        """Show the maps of an image: a path, a Pillow image, uint8 `(H, W)` or `(H, W, C)`, or an open file.

        Raises `ValueError`, in one line, for what cannot be read as an image or is too large; nothing
        changes then.
        """
        _, *size = self._network.shape
        latest = _fitted(_pixels(image, "RGB" if self._network.shape[0] == 3 else "L"), size)
        images = torch.cat([latest, self._images])[:IMAGES]
        explored = _explored(self._network, images, self._seen)
        self._images = images
        self.explorer.show_latest(explored, self._network.setting)
        self._say(f"{explored.captions[0]}{self._left_out(explored)}")

    def _left_out(self, explored: Explored) -> str:
        """Which layers have no maps, if any: those that put out neither `(N, D, h, w)` nor `(N, D)`."""
        without = [name for name in self._network.monitor.layers if name not in explored.layers]
        return f"; there are no maps of {', '.join(without)}" if without else ""

    def _uploaded(self, change: dict[str, Any]) -> None:
        for file in change["new"]:
            try:
                self.show(io.BytesIO(file["content"]))
            except Exception as error:  # also whatever somebody's own module raises
                self._say(f"{file['name']}: {_first_line(error)}")

    def _say(self, text: str) -> None:
        self._message.value = f'<span role="status">{html.escape(text)}</span>'

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget for where a kernel runs, and HTML of the maps shown now for everywhere else."""
        return {**super()._repr_mimebundle_(**kwargs), "text/html": self.explorer.as_html()}


class _Images(Explorer):
    """The part that shows the maps."""

    def show_latest(self, explored: Explored, setting: str) -> None:
        """Show the first of the images, and else what was shown before."""
        begins = not self.data["runs"]
        with self.hold_sync():
            self._explore([explored], setting)
            self.image = 0
            if begins:
                self.layer, self.epoch = self._first_layer(), self._last_epoch()


class _Network(NamedTuple):
    """A module with what is needed to show it an image; `shape` is `(C, H, W)`."""

    model: nn.Module
    shape: tuple[int, int, int]
    prepare: Callable[[Tensor], Tensor]
    monitor: ActivationMonitor
    classes: Sequence[str] | None
    label: str
    setting: str


def _of_run(run: Run, layers: Sequence[str | nn.Module] | None) -> _Network:
    model, prepare = trained_network(run)
    monitor = ActivationMonitor(model, layers=layers or run.layers, maps=IMAGES)
    _, height, width, channels = run.root["images"].shape
    (label,), setting = run_labels([run.experiment])
    return _Network(model, (channels, height, width), prepare, monitor, run.classes, label, setting)


def _of_module(
    model: nn.Module,
    size: tuple[int, int] | None,
    channels: int | None,
    prepare: Callable[[Tensor], Tensor] | None,
    layers: Sequence[str | nn.Module] | None,
    classes: Sequence[str] | None,
) -> _Network:
    if not isinstance(model, nn.Module):
        raise ValueError(f"network is a study.Run or a torch module, not {type(model).__name__}")
    if size is None or len(size) != 2 or min(size) < 1:
        raise ValueError(f"size is the height and width that the module takes, in pixels, not {size!r}")
    if channels not in (1, 3):
        raise ValueError(f"channels is 1 for grey or 3 for RGB, not {channels!r}")
    shape = (channels, size[0], size[1])
    monitor = ActivationMonitor(model, layers=layers, maps=IMAGES)
    return _Network(model, shape, prepare or _in_unit_range, monitor, classes, type(model).__name__, "")


def _in_unit_range(images: Tensor) -> Tensor:
    return images / 255


def _explored(network: _Network, images: Tensor, seen: dict[str, Seen]) -> Explored:
    """Images uint8 `(N, C, H, W)` in the network: their maps, and what it takes them for."""
    outputs, stats = _observed(network, images)
    layers = {name: _layer(of_layer, seen.get(name)) for name, of_layer in stats.items()}
    if not layers:
        raise ValueError("none of the layers puts out (N, D, h, w) or (N, D): there are no maps to show")
    return Explored(
        label=network.label,
        pixels=images.movedim(1, -1).numpy(),
        captions=_predicted(outputs, network.classes, len(images)),
        layers=layers,
        epochs=[],
        saved=[0],
        loss=np.empty(0),
    )


def _observed(network: _Network, images: Tensor) -> tuple[Any, dict[str, LayerStats]]:
    """What the network puts out, and its layers' statistics, where they have maps of two axes or of none."""
    model = network.model
    modes = {module: module.training for module in model.modules()}
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    network.monitor.reset()
    try:
        model.eval()
        with torch.no_grad(), network.monitor:
            outputs = model(network.prepare(images.to(device)))
    finally:
        for module, training in modes.items():
            module.training = training
    stats = network.monitor.compute()
    shown = {name: s for name, s in stats.items() if s.maps is not None and s.maps.ndim in (1, 3)}
    for name, s in shown.items():
        if not all(np.isfinite(np.asarray(maps)).all() for maps in (s.maps, s.scale_free_maps)):
            raise ValueError(f"layer {name!r} puts out NaN or infinity: there is no map of that")
    return outputs, shown


def _layer(stats: LayerStats, seen: Seen | None) -> ExploredLayer:
    entropy, scale_free = np.asarray(stats.maps), np.asarray(stats.scale_free_maps)
    maps = {
        "entropy": _maps(entropy, entropy.min(), entropy.max()),
        "scale_free_entropy": _maps(scale_free, scale_free.min(), scale_free.max()),
    }
    return ExploredLayer(stats.channels, maps, means=dict.fromkeys(maps, np.empty(0)), seen=seen)


def _maps(maps: np.ndarray, low: float, high: float) -> Maps:
    """Maps `(image,)` or `(image, y, x)`, whose bytes go from low to high."""
    images, *size = maps.shape
    return Maps(maps.reshape(1, images, *(size or (1, 1))), float(low), float(high - low) / 255 or 1.0)


def _predicted(outputs: Any, classes: Sequence[str] | None, images: int) -> list[str]:
    if not (isinstance(outputs, Tensor) and outputs.dim() == 2 and outputs.shape[1] > 1):
        return ["your image"] * images
    names = classes or range(outputs.shape[1])
    if len(names) != outputs.shape[1]:
        raise ValueError(f"{len(names)} classes are named; the module puts out {outputs.shape[1]}")
    shares, indices = outputs.float().softmax(1).max(1)
    return [
        f"predicted {names[index]} ({share:.2f})"
        for index, share in zip(indices.tolist(), shares.tolist(), strict=True)
    ]


def _pixels(image: Picture, mode: str) -> Tensor:
    """uint8 `(1, C, H, W)`: 3 channels for RGB, 1 for L."""
    if isinstance(image, np.ndarray):
        image = _of_array(image)
    if isinstance(image, Image.Image):
        pixels = _converted(image, mode)
    else:
        with _open(image) as opened:
            pixels = _converted(opened, mode)
    return torch.from_numpy(pixels).reshape(1, *pixels.shape[:2], -1).movedim(-1, 1)


def _of_array(array: np.ndarray) -> Image.Image:
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if array.dtype != np.uint8 or not array.size or not (grey or (array.ndim == 3 and array.shape[2] == 3)):
        raise ValueError(f"an array is uint8 (H, W), (H, W, 1) or (H, W, 3), not {array.dtype} {array.shape}")
    return Image.fromarray(array.reshape(array.shape[:2]) if grey else array)


def _open(file: str | Path | io.BytesIO) -> Image.Image:
    if isinstance(file, io.BytesIO):
        size = file.getbuffer().nbytes
    else:
        try:
            size = Path(file).stat().st_size
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    if size > FILE_BYTES:
        raise ValueError(f"the file has {size / 1e6:.0f} MB; at most {FILE_BYTES / 1e6:.0f} are read")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound is lower
            return Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError:
        raise _too_large(f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels") from None
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        raise _unreadable(error) from None


def _converted(image: Image.Image, mode: str) -> np.ndarray:
    if image.width * image.height > PIXELS:
        raise _too_large(f"{image.width} x {image.height}")
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its pixels are of mode {image.mode}; store it with 8 bits a channel")
    try:
        return np.array(ImageOps.exif_transpose(image).convert(mode))  # upright, as it was taken
    except Exception as error:
        raise _unreadable(error) from None


def _too_large(found: str) -> ValueError:
    return ValueError(f"{found} is too many: an image may have at most {PIXELS / 1e6:.0f} million pixels")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]  # a bare assert says nothing


def _unreadable(error: Exception) -> ValueError:
    formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    told = "" if isinstance(error, Image.UnidentifiedImageError) else f": {_first_line(error)}"
    return ValueError(f"it cannot be read as an image ({formats}){told}")


def _fitted(image: Tensor, size: Sequence[int]) -> Tensor:
    """The largest part about the centre that has the aspect of `size` (height, width), scaled to it."""
    wanted_height, wanted_width = size
    height, width = image.shape[-2:]
    scale = min(height / wanted_height, width / wanted_width)
    part_height, part_width = (max(1, round(scale * wanted)) for wanted in size)
    top, left = (height - part_height) // 2, (width - part_width) // 2
    part = image[..., top : top + part_height, left : left + part_width]
    if part.shape[-2:] == (wanted_height, wanted_width):
        return part
    # as `study.data.pictures.scaled`, which makes squares
    return F.interpolate(part, size=(wanted_height, wanted_width), mode="bilinear", antialias=True)
