"""The data sets by name."""

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from sparsity_lib.study import files
from sparsity_lib.study.data import DATASETS, FOLDER, cifar, folders
from sparsity_lib.study.data.cache import Content, Source, cached, digest_of
from sparsity_lib.study.data.pictures import scaled
from sparsity_lib.study.errors import StudyError

_SOURCES: dict[str, Callable[[Path], Source]] = {
    "cifar10": lambda root: cifar.source(cifar.CIFAR10, root),
    "cifar100": lambda root: cifar.source(cifar.CIFAR100, root),
    "tiny-imagenet": folders.tiny_imagenet,
    "cifar10-jpeg": folders.cifar10_jpeg,
    "tiny32-100": folders.tiny32_100,
}

_DIGITS_TRAIN = 1000


def read(dataset: str, image_size: int | None, root: Path | str | None) -> tuple[str, str, Content]:
    """A whole data set's name, digest and content, each image a square of `image_size` pixels if given.

    Raises `StudyError` for a name that is unknown, and for data that are missing or damaged.
    """
    if dataset == "digits":
        return "digits", *_digits(image_size)
    root = files.folder("data", "SPARSITY_DATA") if root is None else Path(root)
    if dataset.startswith(FOLDER):
        source = folders.own_folder(dataset.removeprefix(FOLDER))
    elif dataset in _SOURCES:
        source = _SOURCES[dataset](root)
    else:
        raise StudyError(f"unknown data set '{dataset}': there are {', '.join(DATASETS)} and {FOLDER}PATH")
    return source.name, *cached(source, image_size, root / "cache")


def folder_digest(dataset: str) -> str:
    """The digest of the images in the folder of a data set `folder:PATH`."""
    source = folders.own_folder(dataset.removeprefix(FOLDER))
    return digest_of(source, files.folder("data", "SPARSITY_DATA") / "cache")


def _digits(image_size: int | None) -> tuple[str, Content]:
    """scikit-learn's digits: 1,797 images of 8 x 8 with values v from 0 to 16, stored as round(255 v/16)."""
    found = importlib.util.find_spec("sklearn")  # without importing it, which takes a second
    if found is None or found.origin is None:
        raise StudyError("the digits are scikit-learn's, which is not installed; pip install scikit-learn")
    table = np.loadtxt(Path(found.origin).with_name("datasets") / "data/digits.csv.gz", delimiter=",")
    images = np.rint(table[:, :-1] * 255 / 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = table[:, -1].astype(np.int64)
    content = Content(
        images=scaled(torch.from_numpy(images), image_size),
        labels=labels,
        classes=tuple(str(digit) for digit in range(10)),
        train_count=_DIGITS_TRAIN,
        has_own_split=False,
    )
    return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest(), content
