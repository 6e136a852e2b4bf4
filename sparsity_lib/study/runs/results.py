"""Many runs at once: their curves as one data set, and the published ones in `results/<profile>/`."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import MACHINE_FIELDS, Experiment
from sparsity_lib.study.files import PROJECT, digest, note_read, read_with_checksum
from sparsity_lib.study.language import LanguageExperiment
from sparsity_lib.study.profiles import PROFILES, profile
from sparsity_lib.study.runs.dimensions import CENTERS, KEPT, KNOCKED_OUT, MOMENTS, SPLITS
from sparsity_lib.study.runs.file import PUBLISHED_NETWORK, Run, load
from sparsity_lib.study.runs.language import language_curves
from sparsity_lib.study.runs.netcdf import read_dataset

SUMS = "SHA256SUMS"
_ENDS = ("", "_low", "_high")
# Older runs lack some of them, as do runs without what they measure.
_BY_EPOCH = (
    *("train_loss", "train_accuracy", "val_loss", "val_accuracy", "temperature", "val_loss_calibrated"),
    *(f"val_{what}{end}" for what in ("loss_rise", "accuracy_drop", "loss_calibrated_rise") for end in _ENDS),
    *("coherence", "coherence_gate", "loss_gradient_norm", "shrinkage_norm", "nonzero_share"),
)
_BY_SPLIT = ("monitor_loss", "monitor_accuracy")
_BY_LAYER = (
    *("entropy", "scale_free_entropy", "sd", "perplexity_sparsity", "effective_rank", "zero_share"),
    *("noise_entropy", "dead_channels"),
)
_IDENTITY = (
    "network",
    "size",
    "seed",
    "label_noise",
    "lambda_conv_scale",
    "optimizer",
    "epochs",
    "data_seed",
)
_PROVENANCE = ("commit", "numerics", "data_digest", "seconds")
_DIMENSIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_BY_EPOCH, ("run", "epoch")),
    **dict.fromkeys(_BY_SPLIT, ("run", "split", "epoch")),
    **dict.fromkeys(_BY_LAYER, ("run", "layer", "split", "epoch")),
    "correlation": ("run", "layer", "center", "epoch"),
    "weight_norm": ("run", "layer", "epoch"),
    "knockout_accuracy": ("run", "layer", "knocked_out"),
    "channels": ("run", "layer"),
    "channel_scaled_entropy": ("run", "layer", "kept_moment"),
    "moment_epoch": ("run", "moment"),
}


def curves(which: Sequence[Run]) -> xr.Dataset:
    """The runs' curves in one data set with dimensions run, layer, split and epoch.

    ```python
    study.curves(runs)["entropy"].sel(layer="conv3", split="monitor")  # (run, epoch), in nats
    ```

    `correlation` is the mean absolute correlation of a layer's pairs of filters, for each centring of Eq. 6,
    `weight_norm` the length of its weights, and `knockout_accuracy` that on monitor images after the last
    epoch, with a share `knocked_out` of its channels set to 0. Values are NaN for layers and epochs that a
    run lacks. Coordinates of `run` name experiment, code, and in `label` the cell of a comparison. Curves of
    language models are made by `language_curves`.
    """
    if not which:
        raise StudyError("no runs to draw; train some with: python -m sparsity_lib.study run laptop")
    if isinstance(which[0].experiment, LanguageExperiment):
        return language_curves(which)
    longest = max((run.layers for run in which), key=len)
    layers = [*longest, *dict.fromkeys(name for run in which for name in run.layers if name not in longest)]
    epochs = max(run.experiment.epochs for run in which) + 1
    axes = {"layer": _text(layers), "split": _text(SPLITS), "center": _text(CENTERS)}
    axes |= {"moment": _text(MOMENTS), "kept_moment": _text(KEPT)}
    axes |= {"knocked_out": np.array(KNOCKED_OUT), "epoch": np.arange(-1, epochs - 1, dtype="int32")}
    sizes = {"run": len(which)} | {name: len(values) for name, values in axes.items()}
    arrays = {
        name: np.full([sizes[dim] for dim in dims], np.nan, "float32") for name, dims in _DIMENSIONS.items()
    }
    for i, run in enumerate(which):
        read_with_checksum(run.path)  # it may have been replaced meanwhile
        with h5py.File(run.path) as file:  # forty times faster than as labelled data
            _read(file, {name: values[i] for name, values in arrays.items()}, run.layers, layers)
    variables = {name: (dims, arrays[name]) for name, dims in _DIMENSIONS.items()}
    return xr.Dataset(variables, _identity(which) | axes)


def _read(file: h5py.File, into: dict[str, np.ndarray], own: Sequence[str], layers: Sequence[str]) -> None:
    """Put a run's curves into its part of the arrays; `own` are its layers, `layers` those of all runs."""
    of_layers = {name for name, dims in _DIMENSIONS.items() if "layer" in dims}
    for name in (into.keys() - of_layers) & file.keys():
        _put(file[name][...], into[name])
    for layer in own:
        j, group = layers.index(layer), file[layer]
        for name in of_layers & group.keys():
            _put(group[name][...], into[name][j])
        into["channels"][j] = channels = group.attrs["channels"].item()
        if "filter_norm_mean" in group:  # norms of batch norm have none
            mean, sd = (group[f"filter_norm_{of}"][...] for of in ("mean", "sd"))
            _put(np.sqrt(np.float32(channels) * (mean**2 + sd**2)), into["weight_norm"][j])
        if "correlation_histogram" in group:
            counts = group["correlation_histogram"][...]  # (center, epoch, bin)
            pairs = counts.sum(-1)
            _put(counts @ np.abs(file["bin"][...]) / np.maximum(pairs, 1), into["correlation"][j])


def _put(values: np.ndarray, into: np.ndarray) -> None:
    """Copy the values of a run; a shorter run leaves the last epochs unchanged."""
    into[..., : values.shape[-1]] = values


def _identity(which: Sequence[Run]) -> dict[str, tuple[str, np.ndarray] | np.ndarray]:
    described = [run.experiment for run in which]
    columns: dict[str, list[Any]] = {name: [getattr(e, name) for e in described] for name in _IDENTITY}
    columns |= {"dataset": [e.dataset_name for e in described], "lr": [e.learning_rate() for e in described]}
    columns |= {"label": [label(e) for e in described], "others": [others(e) for e in described]}
    columns |= {"limit": [e.limit or 0 for e in described]}  # 0: all
    columns |= {name: [run.provenance[name] for run in which] for name in _PROVENANCE}
    columns |= {"compiled": [run.provenance["compiled"] for run in which]}
    coordinates = {
        name: ("run", _text(values) if isinstance(values[0], str) else np.array(values))
        for name, values in columns.items()
    }
    return {"run": _text([run.id for run in which])} | coordinates


def _text(values: Sequence[str]) -> np.ndarray:
    return np.array(values, dtype=object)


def label(experiment: Experiment) -> str:
    """The network's name, and fields of the network and its penalties that differ from their defaults.

    Examples: `sr2Net ×16`, with the factor on the conv layers' lambda; `sr2Net reduction=mean`.
    """
    strengths = experiment.strengths()
    # By lambda_conv_scale, on conv layers.
    scaled = [layer for kind in ("sparsity", "variance", "scale_free") for layer in strengths[kind]]
    parts = [experiment.network]
    if experiment.lambda_conv_scale != 1 and any(layer.startswith("conv") for layer in scaled):
        parts.append(f"×{experiment.lambda_conv_scale:g}")
    relevant = {
        "activations": bool(scaled or strengths["perplexity"]),
        "correlations": bool(strengths["decorrelation"]),
        "norms": experiment.architecture.startswith("norm"),
        "noise": experiment.architecture.startswith(("drop", "sparseout")),
        "weights": True,
    }
    shown = [name for kind, names in _IN_LABEL.items() if relevant[kind] for name in names]
    return " ".join(parts + _unusual(experiment, shown))


def others(experiment: Experiment) -> str:
    """Values other than the defaults, as `batch_size=128 init=pytorch`; pairs of runs share them."""
    own = {"lr", "dataset", "limit", *MACHINE_FIELDS, *_IDENTITY}.union(*_IN_LABEL.values())
    return " ".join(_unusual(experiment, [name for name in type(experiment).model_fields if name not in own]))


# Fields that `label` shows, by what they are about.
_IN_LABEL = {
    "activations": (
        *("lambda_", "sparsity", "variance", "scale_free", "perplexity"),
        *("reduction", "activation", "include_bias"),
    ),
    "correlations": ("kappa", "decorrelation", "center", "decorrelation_penalty"),
    "norms": ("norm_placement", "batch_norm"),
    "noise": ("dropout_placement", "dropout", "q", "sparseout_gradient"),
    "weights": ("l1", "l2", "rho", "delay"),
}


def _unusual(experiment: Experiment, names: Sequence[str]) -> list[str]:
    values = {name: getattr(experiment, name) for name in names}
    return [
        f"{name}={json.dumps(value) if isinstance(value, dict) else value}"
        for name, value in values.items()
        if value != type(experiment).model_fields[name].default
    ]


def folder_of(name: str) -> Path:
    """The folder of a profile's published runs."""
    profile(name)
    found = PROJECT / "results" / name
    note_read(found / SUMS)
    return found


def published(name: str, file: str | None = None) -> xr.Dataset | None:
    """The curves of a profile's published runs, or None if there are none.

    ```python
    study.published("laptop")["val_loss"]  # (run, epoch), in nats
    ```

    `file` is one of `profile(name).files()`; by default all grids are joined, except deep networks'.
    """
    if file is not None:
        return load_curves(folder_of(name) / file)
    grids = profile(name).grids
    files = [file for file, grid in profile(name).files().items() if not grids[grid].deep]
    parts = [part for file in files if (part := published(name, file)) is not None]
    return joined(parts) if parts else None


def load_curves(path: Path, group: str | None = None) -> xr.Dataset | None:
    """A published file's curves, or a group of it; None if it is not there, `StudyError` if it is damaged."""
    if not path.exists():
        return None
    found = as_listed(path).stat()
    read = _read_published(path, group, found.st_size, found.st_mtime_ns)
    return None if read is None else read.copy()


@functools.lru_cache(maxsize=64)
def _read_published(path: Path, group: str | None, size: int, changed_ns: int) -> xr.Dataset | None:
    """The file's content, read once for as long as its size and its time of change stay."""
    with h5py.File(path) as file:
        return None if group is not None and group not in file else read_dataset(file, group)


def as_listed(path: Path) -> Path:
    """The published file if its digest is listed or there is no list; else `StudyError` naming the file."""
    sums = listed_sums(path.parent)
    if sums is None:
        return path
    if path.name not in sums:
        raise _damaged(path.with_name(SUMS), f"it does not list {path.name}")
    found = path.stat()
    if _sha256(path, found.st_size, found.st_mtime_ns) != sums[path.name]:
        raise _damaged(path, f"its SHA-256 is not the one in {SUMS}")
    return path


def listed_sums(folder: Path) -> dict[str, str] | None:
    """The SHA-256 of each published file of the folder by name, as listed there; None without a list."""
    sums = folder / SUMS
    if not sums.exists():
        return None
    lines = sums.read_text(encoding="utf-8", errors="replace").splitlines()
    return {line[66:]: line[:64] for line in lines}


@functools.cache
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    """The file's digest, computed once for as long as its size and its time of change stay."""
    return digest(path)


def _damaged(path: Path, why: str) -> StudyError:
    return StudyError(f"{path} is damaged ({why}); get the published file again: git checkout -- {path}")


def published_parts(name: str) -> list[xr.Dataset]:
    """The curves of all of a profile's published runs: `published(name)`, and the grids of deep networks."""
    grids = profile(name).grids
    deep = [file for file, grid in profile(name).files().items() if grids[grid].deep]
    together = [published(name), *(published(name, file) for file in deep)]
    return [part for part in together if part is not None]


def published_runs(name: str) -> list[Path]:
    """Paths of the published run files, which have the first seeds, whose maps are shown.

    Raises `StudyError` naming a damaged file.
    """
    files = profile(name).files()
    kept = (path for path in folder_of(name).glob("*.nc") if path.name not in files)
    return sorted(as_listed(path) for path in kept if not path.name.endswith(PUBLISHED_NETWORK))


def published_run(experiment: Experiment) -> Run | None:
    """The published run file of the experiment's settings, whatever its seed; None if there is none."""
    for seed in {grid.published_seeds[0] for each in PROFILES.values() for grid in each.grids.values()}:
        same = experiment.model_copy(update={"seed": seed})
        for path in (PROJECT / "results").glob(f"*/{same.id}.nc"):
            return load(as_listed(path))
    return None


def by_network(which: Sequence[Run]) -> dict[str, Run]:
    """The first run of each network by name; the laptop's published run where a network has none."""
    runs = [*map(load, published_runs("laptop")), *reversed(which)]
    return {run.experiment.network: run for run in runs}


def published_seconds(name: str) -> dict[str, float]:
    """Seconds that each of a profile's published runs took, by id."""
    found: dict[str, float] = {}
    for path in (folder_of(name) / file for file in profile(name).files()):
        if path.exists():
            with h5py.File(as_listed(path)) as file:  # much quicker than labelled
                ids = (b"".join(np.atleast_1d(letters)).decode() for letters in file["run"][...])
                found |= zip(ids, file["seconds"][...].tolist(), strict=True)
    return found


def published_ids(name: str) -> set[str]:
    """The ids of all of a profile's published runs."""
    return set(published_seconds(name))


def diverged(published: xr.Dataset) -> dict[str, str]:
    """Runs of the published profile whose loss became infinite or NaN: the message by id."""
    found: dict[str, str] = json.loads(published.attrs.get("diverged", "{}"))
    return found


def joined(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Several data sets of curves as one; layers are in the order in which they first occur.

    A value that some of them lack is NaN.
    """
    layers = dict.fromkeys(name for part in parts for name in part["layer"].to_numpy().tolist())
    together = xr.concat(parts, "run", join="outer")
    together = together.sel(layer=list(layers))  # the outer join sorts the names
    lost = {run: where for part in parts for run, where in diverged(part).items()}
    return together.assign_attrs(diverged=json.dumps(lost))
