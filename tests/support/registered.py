"""Synthetic curves of registered cells, with known effects."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from sparsity_lib.study.claims import Cell, registered_ids
from sparsity_lib.study.runs.dimensions import KEPT, MOMENTS

CHANNELS = {"conv1": 16, "conv2": 16, "conv3": 32, "conv4": 32, "fc1": 64}
SMALL = Cell(dataset="cifar100", size="s", kind="direct")
LENET = Cell(dataset="cifar10", kind="close")
SPREAD = (-0.004, 0.003, 0.001, -0.002, 0.002)  # of five seeds, their mean is 0
IMAGES = 200


def runs_of(label: str, cell: Cell, ids: dict[int, str] | None = None, **effects: Any) -> xr.Dataset:
    """Runs of a label in a cell, five seeds for the paper's networks; `effects` are numbers or one per seed.

    - `accuracy` (0.35): the same at all epochs; `best` (0.01): how much higher it is in epoch 20.
    - `loss` (3.0): the lowest, in epoch `at` (30); `rise` and `calibrated_rise` (0.5): from it to the end.
    - `fall`, `scale_free_fall` (0.2, 0.0): of entropies from epoch `at` on, as shares of ln D; `late` (0): a
        further one of conv3, conv4 and fc1; `noise` (0.001): SD of entropies about those of noise.
    - `changed` (NaN): the epoch at which all entropies begin to fall instead.
    - `correlation` (0.05), of conv1 `first` (0.15).
    """
    known = dict(ids or registered_ids(label, cell))
    seeds = np.array(list(known))

    def effect(name: str, default: float) -> np.ndarray:
        return np.broadcast_to(np.asarray(effects.pop(name, default), float), len(seeds))[:, None]

    epochs = np.arange(-1, cell.epochs)
    random = np.random.default_rng(zlib.crc32(f"{label} {cell.title}".encode()))
    at = effect("at", 30.0)
    after = np.clip((epochs - at) / (cell.epochs - 3 - at), 0, 1)  # the last five epochs are nearly the end
    bowl = effect("loss", 3.0) + 1.5 * np.clip(1 - epochs / at, 0, None) ** 2
    jitter = 0.01 * random.standard_normal((2, *bowl.shape))
    val_loss = bowl + effect("rise", 0.5) * after + jitter[0]
    calibrated = bowl + effect("calibrated_rise", 0.5) * after + jitter[1]
    accuracy = effect("accuracy", 0.35) + effect("best", 0.01) * (epochs == 20)
    began = effect("changed", np.nan)
    after = np.where(np.isnan(began), after, np.clip((epochs - began) / 20, 0, 1))
    late = effect("late", 0.0) * after
    fall, free = effect("fall", 0.2) * after, effect("scale_free_fall", 0.0) * after
    spread = effect("noise", 0.001)
    shape = ("run", "layer", "split", "epoch")
    names = ("entropy", "scale_free_entropy", "noise_entropy")
    layers: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for number, (layer, channels) in enumerate(CHANNELS.items()):
        own = late if layer in ("conv3", "conv4", "fc1") else 0
        expected = 0.95 - 0.02 * number - fall - own
        jitters = spread * random.standard_normal((2, *expected.shape))
        shares = (expected + jitters[0], 0.9 - free + jitters[1], expected)
        for values, share in zip(layers.values(), shares, strict=True):
            values.append(np.stack([share, share], 1) * np.log(channels))
    first, others = effect("first", 0.15), effect("correlation", 0.05)
    correlation = np.stack([first if layer == "conv1" else others for layer in CHANNELS], 1)
    ends = np.stack([val_loss[:, -5:].mean(1, keepdims=True) - val_loss] * 2)
    assert not effects, effects
    variables: dict[str, Any] = {name: (shape, np.stack(values, 1)) for name, values in layers.items()}
    variables |= {
        "sd": (shape, np.ones_like(variables["entropy"][1])),
        "channels": (("run", "layer"), np.tile(list(CHANNELS.values()), (len(seeds), 1)).astype(float)),
        "correlation": (
            ("run", "layer", "center", "epoch"),
            np.broadcast_to(correlation[:, :, None], (len(seeds), len(CHANNELS), 2, len(epochs))),
        ),
        "val_loss": (("run", "epoch"), val_loss),
        "val_loss_calibrated": (("run", "epoch"), calibrated),
        "val_loss_rise_low": (("run", "epoch"), ends[0] - 0.02),
        "val_accuracy": (("run", "epoch"), accuracy),
        "monitor_loss": (("run", "split", "epoch"), np.stack([val_loss, val_loss], 1)),
        "monitor_accuracy": (("run", "split", "epoch"), np.stack([np.ones_like(accuracy)] * 2, 1)),
    }
    same = {"network": label.split()[0], "size": cell.size or "full", "dataset": cell.dataset, "label": label}
    same |= {"limit": cell.limit or 0, "epochs": cell.epochs, "optimizer": cell.optimizer}
    coordinates = {name: ("run", [value] * len(seeds)) for name, value in same.items()}
    axes = {"layer": list(CHANNELS), "split": ["monitor", "train"], "center": ["filters", "components"]}
    return xr.Dataset(
        variables, coordinates | axes | {"run": list(known.values()), "seed": ("run", seeds), "epoch": epochs}
    )


def together(runs: Sequence[xr.Dataset]) -> xr.Dataset:
    """Runs of the same length as one data set, as a grid is published."""
    return xr.concat(runs, "run", join="outer")


def cell_of(networks: dict[str, dict[str, Any]], cell: Cell = SMALL) -> xr.Dataset:
    """The runs of several networks of a cell, by their effects."""
    return together([runs_of(label, cell, **effects) for label, effects in networks.items()])


def images_of(runs: xr.Dataset) -> xr.Dataset:
    """Published outcomes of validation images; their means are the runs' accuracies and losses."""
    random = np.random.default_rng(0)
    size = (runs.sizes["run"], len(MOMENTS), IMAGES)
    accuracy = runs["val_accuracy"].isel(epoch=-1).to_numpy()
    loss = np.stack([runs["val_loss"].min("epoch").to_numpy(), runs["val_loss"].isel(epoch=-1).to_numpy()])
    correct = np.arange(IMAGES) < np.round(accuracy * IMAGES)[:, None, None]
    losses = loss.T[..., None] + 0.3 * random.standard_normal((runs.sizes["run"], len(KEPT), IMAGES))
    correct = random.permuted(np.broadcast_to(correct, size), axis=2)
    return xr.Dataset(
        {
            "image_correct": (("run", "moment", "validation_image"), correct.astype("int8")),
            "image_loss": (("run", "kept_moment", "validation_image"), losses.astype("float32")),
        },
        {"run": runs["run"], "label": runs["label"], "moment": list(MOMENTS), "kept_moment": list(KEPT)},
    )
