"""ImageExplorer: entropy maps of images of your own in any network."""

import html
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn

import sparsity_lib
from sparsity_lib.explorer.recording import Recording, known_fields
from sparsity_lib.explorer.widget import Explorer
from sparsity_lib.monitor import ActivationMonitor, LayerStats

IMAGES = 16  # shown at most
FILE_BYTES = 20_000_000  # of a file, at most
PIXELS = 50_000_000  # of an image, at most, 200 MB in memory: a small file may hold a huge one
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # Pillow's others run programs, or are rare
SUFFIXES = ".bmp,.gif,.jpeg,.jpg,.png,.ppm,.tif,.tiff,.webp"
OUTLINED = 64 * 64  # pixels, at most: to find what positions see takes height + width forward passes

Picture = str | Path | io.BytesIO | Image.Image | np.ndarray


class ImageExplorer(ipywidgets.VBox):
    """Entropy maps of images of your own: choose a file, or call `show`.

    ```python
    sl.ImageExplorer(model, size=(32, 32), channels=3)
    ```

    An image is made grey or RGB, cropped about its centre to the network's aspect, and scaled to its size,
    antialiased bilinear. The latest of up to 16 images comes first; the last good ones stay where a file
    cannot be read. `explorer` is the part that shows the maps; what it shows is an attribute of it each, as
    of `HeatmapExplorer`, but there are no epochs.

    **Arguments:**

    - `model`: any module that maps `(N, C, H, W)`. It runs in evaluation mode; up to 64 x 64 pixels also
        height + width times at first, to find receptive fields, which are then outlined.
    - `size`: height and width of what the model takes, in pixels.
    - `channels`: 1 for grey, 3 for RGB.
    - `prepare`: from uint8 `(N, C, H, W)` to what the model takes; by default divided by 255.
    - `layers`: names, globs or modules, as for `ActivationMonitor`.
    - `classes`: names of the model's outputs, which are taken as logits; by default numbers.
    - `label`: the network's name on the page; by default the name of the model's class.
    - `setting`: a line about the network, shown next to its label.

    **Raises:** `ValueError` where `size` or `channels` are missing or impossible, and for an unknown layer;
    `TypeError` for a model that is not a torch module.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        size: tuple[int, int] | None = None,
        channels: int | None = None,
        prepare: Callable[[Tensor], Tensor] | None = None,
        layers: Sequence[str | nn.Module] | None = None,
        classes: Sequence[str] | None = None,
        label: str | None = None,
        setting: str = "",
    ) -> None:
        if type(model).__module__.startswith("sparsity_lib.study."):  # a run, until version 0.3
            of_run = sparsity_lib._of_run(model)
            return self.__init__(**of_run | ({"layers": layers} if layers else {}))  # type: ignore[misc]
        if not isinstance(model, nn.Module):
            raise TypeError(f"model is a torch module, not {type(model).__name__}")
        if size is None or len(size) != 2 or min(size) < 1:
            raise ValueError(f"size is the height and width that the module takes, in pixels, not {size!r}")
        if channels not in (1, 3):
            raise ValueError(f"channels is 1 for grey or 3 for RGB, not {channels!r}")
        self._model, self._shape = model, (channels, size[0], size[1])
        self._prepare, self._classes = prepare or (lambda images: images / 255), classes
        self._label, self._setting = label or type(model).__name__, setting
        self._monitor = ActivationMonitor(model, layers=layers, maps=IMAGES)
        small = size[0] * size[1] <= OUTLINED
        self._fields = known_fields(model, self._shape) if small else {}
        self._images = torch.empty(0, *self._shape, dtype=torch.uint8)
        self.explorer = _Images(waiting="Waiting for an image.")
        self._upload = ipywidgets.FileUpload(accept=SUFFIXES, multiple=False, description="Your image")
        self._upload.observe(self._uploaded, "value")
        self._message = ipywidgets.HTML()
        super().__init__([self._upload, self._message, self.explorer])

    def __repr__(self) -> str:
        return f"ImageExplorer({self._label})"

    def show(self, image: Picture) -> None:
        """Show the maps of an image: a path, a Pillow image, uint8 `(H, W)` or `(H, W, C)`, or an open file.

        Raises `ValueError`, in one line, for what cannot be read as an image or is too large; nothing
        changes then.
        """
        channels, *size = self._shape
        latest = _fitted(_pixels(image, "RGB" if channels == 3 else "L"), size)
        images = torch.cat([latest, self._images])[:IMAGES]
        outputs, stats = self._observed(images)
        captions = _predicted(outputs, self._classes, len(images))
        recording = Recording(images.movedim(1, -1).numpy(), self._label, captions, self._fields)
        recording.add(0, stats)
        self._images = images
        self.explorer.show_latest(recording, self._setting)
        without = [name for name in stats if name not in recording.layers]
        self._say(captions[0] + (f"; there are no maps of {', '.join(without)}" if without else ""))

    def _observed(self, images: Tensor) -> tuple[Any, dict[str, LayerStats]]:
        """The model's outputs for uint8 images `(N, C, H, W)`, and its layers' statistics."""
        modes = {module: module.training for module in self._model.modules()}
        device = next((parameter.device for parameter in self._model.parameters()), torch.device("cpu"))
        self._monitor.reset()
        try:
            self._model.eval()
            with torch.no_grad(), self._monitor:
                outputs = self._model(self._prepare(images.to(device)))
        finally:
            for module, training in modes.items():
                module.training = training
        return outputs, self._monitor.compute()

    def _uploaded(self, change: dict[str, Any]) -> None:
        for file in change["new"]:
            try:
                self.show(io.BytesIO(file["content"]))
            except Exception as error:  # also whatever a user's module raises
                self._say(f"{file['name']}: {_first_line(error)}")

    def _say(self, text: str) -> None:
        self._message.value = f'<span role="status">{html.escape(text)}</span>'

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget for where a kernel runs, and HTML of the maps shown now for everywhere else."""
        return {**super()._repr_mimebundle_(**kwargs), "text/html": self.explorer.as_html()}


class _Images(Explorer):
    """The part that shows the maps."""

    _sentence = (
        "A still picture. Where scripts run, this shows the image's entropy at each position, layer by layer."
    )

    def show_latest(self, recording: Recording, setting: str) -> None:
        """Show the first of the images, and else what was shown before."""
        begins = not self.data["runs"]
        with self.hold_sync():
            self._explore([recording], setting)
            self.image = 0
            if begins:
                self.layer, self.epoch = self._first_layer(), self._last_epoch()


def _predicted(outputs: Any, classes: Sequence[str] | None, images: int) -> list[str]:
    if not (isinstance(outputs, Tensor) and outputs.dim() == 2 and outputs.shape[1] > 1):
        return ["your image"] * images
    names = range(outputs.shape[1]) if classes is None else classes
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
    return (str(error) or type(error).__name__).splitlines()[0]  # a bare assert has no message


def _unreadable(error: Exception) -> ValueError:
    formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    reason = "" if isinstance(error, Image.UnidentifiedImageError) else f": {_first_line(error)}"
    return ValueError(f"it cannot be read as an image ({formats}){reason}")


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
    return F.interpolate(part, size=(wanted_height, wanted_width), mode="bilinear", antialias=True)
