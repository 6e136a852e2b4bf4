"""Runs as they are published: numbers rounded, run files trimmed, each validation image at a few moments."""

from collections.abc import Iterable, Sequence

import h5py
import numpy as np
import xarray as xr

from sparsity_lib.study.runs import results
from sparsity_lib.study.runs.dimensions import KEPT, MOMENTS
from sparsity_lib.study.runs.file import Run

DIGITS = 5  # significant digits of published numbers
LOSS_DIGITS = 2  # of one image's loss
PUBLISHED_IMAGES = 4  # a published run file has the maps of this many images
LEVEL = 5  # published maps have every fifth of 256 levels, the lowest and the highest among them
# Epochs are chosen by these, and rounding would make ties: they stay as they are.
EXACT = frozenset({"val_loss", "val_loss_calibrated", "val_accuracy", "monitor_loss", "monitor_accuracy"})
OUTCOMES = "outcomes"  # the group of a published file with each validation image
_LEFT_OUT = ("activations", "image_correct", "image_loss")  # these are in the weights and in the grid's file


def rounded(values: np.ndarray, digits: int = DIGITS) -> np.ndarray:
    """Floating-point values rounded to so many significant decimal digits, in a form that compresses well.

    Each becomes the nearest multiple of the largest power of two that is at most one unit of the last digit:
    the error is at most half a unit of that digit, as after decimal rounding, and the last bits are 0 (Digit
    Rounding, Delaunay et al. 2019, Geosci. Model Dev. 12, 4099). Zeros, infinities and NaN stay.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        unit = 10 ** (np.floor(np.log10(np.abs(values.astype("float64")))) - (digits - 1))
        step = np.exp2(np.floor(np.log2(unit)))
        near = (np.round(values / step) * step).astype(values.dtype)
    return np.where(np.isfinite(near), near, values)


def rounded_dataset(dataset: xr.Dataset) -> xr.Dataset:
    """The data set with its floating-point variables rounded, but for EXACT; coordinates stay."""
    return dataset.assign(
        {
            name: values.copy(data=rounded(values.to_numpy()))
            for name, values in dataset.data_vars.items()
            if values.dtype.kind == "f" and name not in EXACT
        }
    )


def trimmed(tree: xr.DataTree) -> xr.DataTree:
    """A run file's contents, read without decoding its bytes, as they are published.

    Maps are of the first PUBLISHED_IMAGES images, in steps of LEVEL; numbers are rounded. Activations, which
    follow from the weights, and outcomes of validation images, which the grid's file has, are left out.
    """

    def trim(dataset: xr.Dataset) -> xr.Dataset:
        dataset = rounded_dataset(dataset.drop_vars(_LEFT_OUT, errors="ignore"))
        for name in {"heatmap", "scale_free_heatmap"} & dataset.keys():
            levels = (dataset[name].to_numpy().astype("int16") + LEVEL // 2) // LEVEL * LEVEL
            dataset[name] = dataset[name].copy(data=levels.astype("uint8"))
        return dataset

    return tree.isel(image=slice(PUBLISHED_IMAGES), missing_dims="ignore").map_over_datasets(trim)


def outcomes_of_run(run: Run) -> xr.Dataset | None:
    """The data of `published_outcomes` of one run; None for older runs."""
    with h5py.File(run.path) as file:  # much quicker than as labelled data
        if "image_correct" not in file:
            return None
        loss = file["image_loss"][...][[MOMENTS.index(moment) for moment in KEPT]]
        values = {
            "image_correct": (("run", "moment", "validation_image"), file["image_correct"][...][None]),
            "image_loss": (
                ("run", "kept_moment", "validation_image"),
                rounded(loss, LOSS_DIGITS)[None],
                {"units": "nats"},
            ),
        }
    return xr.Dataset(values, {"run": [run.id]})


def published_outcomes(name: str, file: str) -> xr.Dataset | None:
    """Each validation image in the runs of one of a profile's published files; None where there is none.

    **Returns:** `image_correct`, int8 (run, moment, validation_image): 1 or 0, and -1 where it was not kept;
    `image_loss`, float32 (run, kept_moment, validation_image): nats to two digits, NaN where it was not
    kept.
    """
    curves, outcomes = (
        results.load_curves(results.folder_of(name) / file, part) for part in (None, OUTCOMES)
    )
    if curves is None or outcomes is None:
        return None
    return outcomes.assign_coords({axis: curves[axis] for axis in ("run", "moment", "kept_moment")})


def outcomes_dataset(parts: Iterable[xr.Dataset | None], order: Sequence[str]) -> xr.Dataset | None:
    """The outcomes of runs in this order as one data set, the latest of each; None without any."""
    axes = ("moment", "kept_moment")
    known = [part.reset_coords(drop=True).drop_vars(axes, errors="ignore") for part in parts if part]
    if not known:
        return None
    nothing = {"image_correct": np.int8(-1), "image_loss": np.float32(np.nan)}
    together = xr.concat(known, "run", join="outer", fill_value=nothing).drop_duplicates("run", keep="last")
    return together.reindex(run=list(order), fill_value=nothing).drop_vars("run")
