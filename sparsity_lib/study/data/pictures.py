"""Image files to tensors."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from sparsity_lib.study import files
from sparsity_lib.study.errors import StudyError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # the others run programs, or are rare

_GREY = ("1", "L", "LA")  # Pillow's names of modes
_DEEP = ("I", "F")  # modes of more than 8 bits a channel, which converting to 8 would clip


def scaled(images: Tensor, size: int | None) -> Tensor:
    """uint8 images (N, C, H, W) as squares of `size` pixels, antialiased bilinear; unchanged for None."""
    if size is None or images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def read_all(paths: Sequence[Path], size: int | None, mode: str | None = "RGB") -> Tensor:
    """Image files to uint8 (N, C, H, W), upright: 3 channels for `mode="RGB"`, 1 for "L".

    For None, 1 channel if all of the files are grey, else 3. Raises `StudyError` naming the file that cannot
    be read, or whose size differs from the first one's.
    """
    wanted = mode or ("L" if all(_is_grey(path) for path in paths) else "RGB")
    first = scaled(_read(paths[0], wanted), size)
    images = torch.empty(len(paths), *first.shape[1:], dtype=torch.uint8)
    for index, full_size in enumerate(decoded(paths, wanted)):
        image = scaled(full_size, size)
        if image.shape != first.shape:
            raise StudyError(
                f"images differ in size: {_pixels(first)} in {paths[0]}, {_pixels(image)} in {paths[index]}; "
                "give image_size= to scale them"
            )
        images[index] = image[0]
    return images


def decoded(paths: Sequence[Path], mode: str) -> Iterator[Tensor]:
    """Image files as uint8 (1, C, H, W), one after the other, with a progress bar.

    Raises `StudyError` naming the file that cannot be read.
    """
    # Threads would not be faster: Python's own work dominates for small images.
    for path in tqdm(paths, "decoding", unit=" images", disable=None, leave=False, delay=1):
        yield _read(path, mode)


def _read(path: Path, mode: str) -> Tensor:
    with _open(path) as image:
        if image.mode.startswith(_DEEP):
            raise StudyError(f"{path} has pixels of mode {image.mode}; store it with 8 bits a channel")
        try:
            pixels = np.array(_upright(image).convert(mode))
        except Exception as error:  # a damaged file makes Pillow raise almost anything
            raise _unreadable(path, error) from None
    return torch.from_numpy(pixels).reshape(1, *pixels.shape[:2], -1).movedim(-1, 1)


def _upright(image: "Image.Image") -> "Image.Image":
    """The image turned by the orientation in its EXIF data; unchanged where these are damaged."""
    from PIL import ImageOps

    with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
        image = ImageOps.exif_transpose(image)
    return image


def _is_grey(path: Path) -> bool:
    with _open(path) as image:
        return image.mode in _GREY


def _open(path: Path) -> "Image.Image":
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # of more than 89 million pixels
            return Image.open(path, formats=FORMATS)
    except Exception as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> StudyError:
    if isinstance(error, OSError) and error.errno:
        return files.unreadable(path, error)
    return StudyError(f"{path} (SHA-256 {files.digest(path)}) cannot be read as an image: {error}")


def _pixels(image: Tensor) -> str:
    return f"{image.shape[-2]} x {image.shape[-1]}"
