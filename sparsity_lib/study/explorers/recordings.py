"""Recordings of runs, for the library's explorers, and their labels."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray as xr

from sparsity_lib._receptive_fields import ReceptiveField
from sparsity_lib.explorer.recording import RecordedLayer, Recording, known_fields
from sparsity_lib.study.analysis import onset
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.runs.dimensions import KEPT
from sparsity_lib.study.runs.file import Run
from sparsity_lib.study.runs.networks import initial_network, trained_network
from sparsity_lib.study.runs.results import label
from sparsity_lib.study.training.observation import layer_outputs

MAPS = {"entropy": "heatmap", "scale_free_entropy": "scale_free_heatmap"}  # names in a run, by measure
DETAILED = 4  # images, at most, whose channels are drawn
MOST = 2**16  # activations of a layer and an image, at most


def recordings_of(runs: Sequence[Run], images: int = 8) -> tuple[list[Recording], str]:
    """A recording of each run with its first `images` images, and the settings that all runs share.

    If a run has fewer images (published runs have four), all runs are shown with that number.
    """
    if images < 1:
        raise ValueError(f"images = {images}: show at least one")
    images = min(images, *(run.root.sizes["image"] for run in runs))
    labels, setting = run_labels([run.experiment for run in runs])
    shown = [recording(run, name, _fields(run), images) for run, name in zip(runs, labels, strict=True)]
    return shown, setting


def recording(run: Run, label: str, fields: Mapping[str, ReceptiveField], images: int) -> Recording:
    """A recording of one run with its first `images` images."""
    first = {"image": slice(images)}
    root = run.root.isel(first)
    moment, judged = _moment(run)
    detailed, activations = _activations(run, root["images"].to_numpy()[:DETAILED])
    return Recording(
        images=root["images"].to_numpy(),
        label=label,
        captions=[f"class {run.classes[index]}" for index in root["image_label"].to_numpy()],
        fields=fields,
        layers={name: _layer(run.layer(name).isel(first), activations.get(name)) for name in run.layers},
        epochs=root["epoch"].to_numpy().tolist(),
        saved=root["saved_epoch"].to_numpy().tolist(),
        detailed=detailed,
        loss=root["val_loss"].to_numpy(),
        onset=moment,
        judged=judged,
    )


def run_labels(described: Sequence[Experiment]) -> tuple[list[str], str]:
    """One label per run, such as "sr1Net, seed 0", with the settings that differ, and the shared settings."""
    columns = {
        "size": [f"size {e.size}" for e in described],
        "data": [e.dataset_name for e in described],
        "noise": [f"{100 * e.label_noise:g} % of labels redrawn" for e in described],
        "optimizer": [{"sgd": "SGD", "adam": "Adam"}[e.optimizer] for e in described],
        "lr": [f"lr {e.learning_rate():g}" for e in described],
        "epochs": [f"{e.epochs} epochs" for e in described],
        "data_seed": [f"data seed {e.data_seed}" for e in described],
    }
    different = [name for name, values in columns.items() if len(set(values)) > 1]
    usual = {"data_seed": any(e.data_seed for e in described), "noise": any(e.label_noise for e in described)}
    labels = [
        ", ".join([label(e), *(columns[name][i] for name in different), f"seed {e.seed}"])
        for i, e in enumerate(described)
    ]
    count = Counter(labels)
    names = [
        name if count[name] == 1 else f"{name} ({e.digest})"
        for name, e in zip(labels, described, strict=True)
    ]
    common = [name for name in columns if name not in different and usual.get(name, True)]
    return names, ", ".join(columns[name][0] for name in common)


def _layer(layer: xr.Dataset, activations: np.ndarray | None) -> RecordedLayer:
    recorded = {measure: maps for measure, maps in MAPS.items() if maps in layer}
    return RecordedLayer(
        channels=int(layer.attrs["channels"]),
        maps={measure: layer[maps].to_numpy() for measure, maps in recorded.items()},
        means={measure: layer[measure].sel(split="monitor").to_numpy() for measure in recorded},
        activations=activations,
    )


def _activations(run: Run, images: np.ndarray) -> tuple[list[int], dict[str, np.ndarray]]:
    """The epochs whose networks are kept, and layers' outputs there, `(epoch, image, channel, y, x)`.

    `images` are uint8 `(N, H, W, C)`. Both are empty where no network is kept; outputs of another shape than
    the run's maps are left out.
    """
    try:
        networks = [trained_network(run, moment) for moment in KEPT]
    except StudyError:
        return [], {}
    kept: dict[str, list[np.ndarray]] = {name: [] for name in run.layers}
    for model, prepare in networks:
        outputs = layer_outputs(model, run.layers, prepare(torch.from_numpy(images).movedim(-1, 1)))
        for name, values in outputs.items():
            layer = run.layer(name)
            shape = (int(layer.attrs["channels"]), *layer["heatmap"].shape[2:])
            if values.shape[1] == shape[0] and values[0].numel() == math.prod(shape):
                kept[name].append(values.reshape(len(values), *shape).numpy())
    epochs = run.root["moment_epoch"].sel(moment=list(KEPT)).to_numpy().tolist()
    return epochs, {name: np.stack(each) for name, each in kept.items() if each and each[0][0].size <= MOST}


def _fields(run: Run) -> dict[str, ReceptiveField]:
    _, height, width, channels = run.root["images"].shape
    try:
        model = initial_network(run)
    except (StudyError, ValueError):  # a network of the user's own, not imported or changed since
        return {}
    return known_fields(model, (channels, height, width))


def _moment(run: Run) -> tuple[int | None, bool]:
    """The moment of overfitting by validation loss (T10), or None, and whether the rule applies.

    The rule needs a finished training of at least `onset.LEAST_EPOCHS` epochs.
    """
    curves = run.root.sel(epoch=slice(0, None))
    if "val_loss_rise_low" not in curves or not np.isfinite(curves["val_loss"]).all():
        return None, False
    found = onset.detect_onset(curves["val_loss"].to_numpy(), curves["val_loss_rise_low"].to_numpy())
    return (int(found.epoch) if np.isfinite(found.epoch) else None), bool(np.isfinite(found.null_95))
