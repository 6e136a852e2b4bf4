"""Trainings on random images: costs do not depend on the content of images."""

from typing import Any

import torch

from sparsity_lib.study import Experiment
from sparsity_lib.study.data import Data, Split
from sparsity_lib.study.training.loop import Training

BATCH = 64


def random_data(
    images: int, device: torch.device, held_out: int = 1000, validation: int | None = None
) -> Data:
    """Random images and labels, as a data set of ten classes; `validation` is `held_out` by default."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
        return Split(pixels.to(device), torch.randint(0, 10, (count,), generator=generator).to(device))

    train = split(images)
    seen = Split(train.images[:held_out], train.labels[:held_out])
    classes = tuple(str(number) for number in range(10))
    validated = split(held_out if validation is None else validation)
    return Data("random", classes, "none", train, seen, split(held_out), validated)


def training(network: str, size: str, device: torch.device, data: Data, **fields: Any) -> Training:
    """A training that is past its first observation; not compiled unless the fields say so."""
    experiment = Experiment(network=network, size=size, **{"compiled": False} | fields)
    started = Training(experiment, device, data)
    started.epoch = 0
    return started
