"""Data sets as uint8 tensors, with the same division for all runs of one `data_seed`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DATASETS", "Data", "Split", "load"]

DATASETS = ("digits", "cifar10", "cifar100", "tiny-imagenet", "cifar10-jpeg", "tiny32-100")
FOLDER = "folder:"  # prefix of the path of a user's own images


@dataclass(frozen=True)
class Split:
    """Images uint8 (N, C, H, W) and their labels int64 (N,)."""

    images: "Tensor"
    labels: "Tensor"


@dataclass(frozen=True)
class Data:
    """A data set in memory. `train`, `monitor` and `validation` have no image in common.

    `train_monitor` is a part of `train` as large as `monitor` (or all of it). `digest` is a SHA-256 of
    the whole data set as it is stored, whatever part of it is used.
    """

    name: str
    classes: tuple[str, ...]
    digest: str
    train: Split
    train_monitor: Split
    monitor: Split
    validation: Split


def load(
    dataset: str,
    *,
    limit: int | None = None,
    held_out: int | None = None,
    image_size: int | None = None,
    label_noise: float = 0.0,
    data_seed: int = 0,
    root: Path | str | None = None,
) -> Data:
    """Load a data set, from the cache if it was decoded before.

    `dataset` is one of `DATASETS` or `"folder:PATH"`, PATH holding `train/<class>/` and `val/<class>/`
    (or `test/<class>/`). `limit` keeps that many training images, in proportion to the classes, and
    `held_out` of the others; `image_size` (pixels) scales images to a square, antialiased bilinear;
    `label_noise` is the share of training labels redrawn uniformly over all classes (held-out labels are
    never changed); `data_seed` determines all these choices. `root` is the folder of the data: by default
    the folder that the environment variable SPARSITY_DATA names, or else the project's `data`.

    Monitor and validation images are divided by reading T8. Raises `StudyError` for a name, number or file
    that cannot be used.
    """
    import torch  # here, for names of data sets alone need no torch

    from sparsity_lib.study.data import sources, splits

    name, digest, content = sources.read(dataset, image_size, root)
    images, labels = content.images, content.labels
    division = splits.split_indices(
        labels,
        content.train_count,
        has_own_split=content.has_own_split,
        limit=limit,
        data_seed=data_seed,
        held_out_limit=held_out,
    )
    train = division["train"]
    labels[train] = splits.with_label_noise(labels[train], len(content.classes), label_noise, data_seed)
    parts = {
        part: Split(_rows(images, indices), torch.from_numpy(labels[indices]))
        for part, indices in division.items()
    }
    return Data(name, content.classes, digest, **parts)


def _rows(images: "Tensor", indices: np.ndarray) -> "Tensor":
    """The images at these indices; a view where indices are consecutive, which saves memory."""
    start, stop = int(indices[0]), int(indices[0]) + len(indices)
    if np.array_equal(indices, np.arange(start, stop)):
        return images[start:stop]
    return images[indices]
