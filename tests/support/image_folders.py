"""Small data sets on disk, and the splits and contents of loaded ones."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from sparsity_lib.study import data

TINY_WNIDS = [f"n{number:08d}" for number in range(102)]


def splits_of(loaded: data.Data) -> tuple[data.Split, data.Split, data.Split]:
    return loaded.train, loaded.monitor, loaded.validation


def contents(split: data.Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


def noise_image(seed: int, height: int = 8, width: int = 8, mode: str = "RGB") -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def png_without_pixels(width: int, height: int) -> bytes:
    """A PNG file that declares this size and has no pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    parts = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def make_folder(folder: Path, *, held_out: str = "val", **picture: object) -> Path:
    """Two classes, 6 training and 4 held-out PNG files each, all different."""
    for number, (part, name, index) in enumerate(
        (part, name, index)
        for part, count in (("train", 6), (held_out, 4))
        for name in ("ant", "bee")
        for index in range(count)
    ):
        path = folder / part / name / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise_image(number, **picture).save(path)
    return folder


def make_tiny(folder: Path) -> Path:
    """Tiny ImageNet's layout: 102 classes, 1 training and 1 held-out JPEG file each, one of them grey."""
    annotations = []
    for number, wnid in enumerate(TINY_WNIDS):
        images = folder / "train" / wnid / "images"
        images.mkdir(parents=True)
        noise_image(number, 64, 64, "L" if number == 0 else "RGB").save(images / f"{wnid}_0.JPEG")
        (folder / "val" / "images").mkdir(parents=True, exist_ok=True)
        noise_image(1000 + number, 64, 64).save(folder / "val" / "images" / f"val_{number}.JPEG")
        annotations.append(f"val_{number}.JPEG\t{wnid}\t0\t0\t62\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(reversed(annotations)))
    (folder / "wnids.txt").write_text("\n".join(TINY_WNIDS))
    (folder / "words.txt").write_text("".join(f"{wnid}\tword {wnid}, synonym\n" for wnid in TINY_WNIDS))
    return folder
