"""Cache of decoded data sets: uint8 arrays on disk, named by the digest of the data set.

A record (JSON) next to each array holds labels, classes and the array's SHA-256. The record is written last:
an array without a record is incomplete and is made again.
"""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparsity_lib.study import files
from sparsity_lib.study.errors import StudyError, Unusable

_DECODING = 3  # increased when the same files decode to other arrays: earlier copies are not used


@dataclass(frozen=True)
class Content:
    """Contents of a data set: images uint8 (N, C, H, W), labels int64 (N,), indices into `classes`."""

    images: Tensor
    labels: np.ndarray
    classes: tuple[str, ...]
    train_count: int  # images for training
    has_own_split: bool = True  # whether those come first, or are still to be drawn


@dataclass(frozen=True)
class Source:
    """A data set as files below `folder`, and how they are decoded.

    `decode` takes the wanted image size in pixels (None is the images' own). `digest` is the digest of the
    content if it is known in advance, which `decode` checks; None is the digest of the files `paths`.
    """

    name: str
    folder: Path
    paths: list[str]
    decode: Callable[[int | None], Content]
    digest: str | None = None


def cached(source: Source, image_size: int | None, folder: Path) -> tuple[str, Content]:
    """The digest and the content of a data set, decoded now if `folder` has no intact copy of it.

    Raises `StudyError` for a file that is missing or cannot be read or written.
    """
    kind = source.name.split(":")[0]
    with files.lock(folder / kind, "decoded"):  # a second process waits instead of decoding too
        digest = source.digest or _digest(source, folder)
        size = f"-{image_size}px" if image_size else ""
        path = folder / f"{kind}-{digest[:16]}{size}-{_DECODING}.npy"
        try:
            return digest, _read(path)
        except Unusable as error:  # damaged, or not there
            for damaged in (_record_of(path), path) if _record_of(path).exists() else ():
                if damaged.exists():
                    files.set_aside(damaged, error)
        _write(path, source.decode(image_size))
        return digest, _read(path)


def digest_of(source: Source, folder: Path) -> str:
    """SHA-256 of the data set's files, remembered in `folder`; `StudyError` for one that cannot be read."""
    with files.lock(folder / source.name.split(":")[0], "decoded"):
        return _digest(source, folder)


def _write(path: Path, content: Content) -> None:
    images = np.ascontiguousarray(content.images.numpy())
    with files.atomic_write(path) as partial, partial.open("wb") as file:
        # As np.save does, but a full disk raises the system's own error.
        header = np.lib.format.header_data_from_array_1_0(images)
        np.lib.format.write_array_header_1_0(file, header)
        file.write(images.data)
    record = {
        "labels": content.labels.tolist(),
        "classes": list(content.classes),
        "train_count": content.train_count,
        "sha256": files.digest(path),
    }
    files.write_with_checksum(_record_of(path), json.dumps(record).encode())


def _read(path: Path) -> Content:
    """The arrays, mapped into memory. Raises `Unusable` if they are damaged, or `Unreadable`."""
    record = json.loads(bytes(files.read_with_checksum(_record_of(path))))
    if files.digest(path) != record["sha256"]:
        raise Unusable(f"{path} is damaged: its SHA-256 is not the one that was written")
    # "c": changes stay in memory, and only the pages in use are read.
    images = np.load(path, mmap_mode="c", allow_pickle=False)
    return Content(
        images=torch.from_numpy(images),
        labels=np.array(record["labels"], dtype=np.int64),
        classes=tuple(record["classes"]),
        train_count=record["train_count"],
    )


def _record_of(path: Path) -> Path:
    return path.with_suffix(".json")


def _digest(source: Source, folder: Path) -> str:
    """SHA-256 of the files' names and bytes, computed again when names, sizes or times change."""
    remembered = folder / f"digest-{_fingerprint(source)[:16]}"
    with contextlib.suppress(Unusable):
        return bytes(files.read_with_checksum(remembered)).decode()
    digest = hashlib.sha256()
    for name in sorted(source.paths):
        content = files.content_of(source.folder / name)
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    files.write_with_checksum(remembered, digest.hexdigest().encode())
    return digest.hexdigest()


def _fingerprint(source: Source) -> str:
    """SHA-256 of the files' names, sizes and times of change: quick, and valid on this machine alone."""
    folder = str(source.folder.resolve())
    lines = [folder]
    try:
        for name in source.paths:
            found = os.stat(f"{folder}/{name}")
            if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for a writer
                raise StudyError(f"cannot read {folder}/{name}: it is not a regular file")
            lines.append(f"{name}\t{found.st_size}\t{found.st_mtime_ns}\t{found.st_ctime_ns}")
    except FileNotFoundError as error:
        raise StudyError(f"{source.name}: {error.filename} is missing; unpack the data set again") from None
    except OSError as error:  # a link to itself, a folder without permission
        raise StudyError(f"cannot read {error.filename}: {error.strerror}") from None
    return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()
