"""Entropy on training and on held-out images, and its rank correlation with overfitting.

The *level* is the entropy on held-out images; the *gap* is the entropy on as many training images minus the
level. Both are in nats, by layer.
"""

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import rankdata

from sparsity_lib.study.analysis import LAST, hidden_layers, trained
from sparsity_lib.study.analysis.onset import excess_rise
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.recipes import TARGETED

LEAST_SEEDS = 5  # ranks of fewer show little
REGISTERED_MARGIN = 0.05  # of ln D; smaller changes of entropy count as none in the registration


def gap_and_level(curves: xr.Dataset) -> xr.Dataset:
    """Compute `gap` and `level` (run, layer, epoch), in nats, for layers among conv1 to fc1."""
    entropy = curves["entropy"].sel(layer=hidden_layers(curves))
    held_out = entropy.sel(split="monitor", drop=True)
    return xr.Dataset({"gap": entropy.sel(split="train", drop=True) - held_out, "level": held_out})


def rank_correlations(curves: xr.Dataset, resamples: int = 1000) -> dict[str, float]:
    """Rank correlations of the gap and of the level at the end with the rise of the validation loss.

    Spearman's correlation, with ranks among the runs of each network; its absolute value is averaged over the
    layers that TSR penalises. The end is the mean of the last five epochs; the rise is `excess` of
    `onset_table`.

    **Arguments:** `curves`: runs of one setting; seeds that some network lacks are left out. `resamples`:
    number of bootstrap resamples of the seeds, drawn with a fixed seed; runs of a seed stay together.

    **Returns:** mean absolute correlation for `gap` and `level`, their `difference`, and its 95 % bootstrap
    interval over seeds, `low` to `high`.

    **Raises:** `StudyError` for fewer than five seeds.
    """
    after = trained(curves)
    both = gap_and_level(after)
    layers = [layer for layer in TARGETED if layer in both["layer"]]
    ends = both.where(both["epoch"] >= curves["epochs"] - LAST).mean("epoch").transpose("layer", "run")
    places = _places(curves, resamples)
    rise = excess_rise(curves).to_numpy()[places]
    size = {
        name: np.mean([abs(_spearman(end[places], rise)) for end in ends[name].sel(layer=layers).values], 0)
        for name in ("gap", "level")
    }
    size["difference"] = size["gap"] - size["level"]
    low, high = np.quantile(size["difference"][1:], (0.025, 0.975))
    return {name: float(each[0]) for name, each in size.items()} | {"low": float(low), "high": float(high)}


def _places(curves: xr.Dataset, resamples: int) -> np.ndarray:
    # (1 + resamples, network, seed): places of runs; the first row has the seeds themselves
    runs = pd.DataFrame({name: curves[name].to_numpy() for name in ("label", "seed")}).reset_index()
    wide = runs.pivot(index="label", columns="seed", values="index").dropna(axis="columns").astype(int)
    seeds = wide.shape[1]
    if seeds < LEAST_SEEDS:
        raise StudyError(f"seeds with runs of all networks: {seeds}; ranks need at least {LEAST_SEEDS}")
    again = np.random.default_rng(0).integers(seeds, size=(resamples, seeds))
    return wide.to_numpy()[:, np.vstack([np.arange(seeds), again])].swapaxes(0, 1)


def _spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # a, b (resample, network, seed) -> (resample,), within networks; 0 where all ranks are equal
    a, b = (rankdata(values, axis=-1) for values in (a, b))
    a, b = (values - values.mean(-1, keepdims=True) for values in (a, b))
    product, squares = (a * b).sum((1, 2)), (a**2).sum((1, 2)) * (b**2).sum((1, 2))
    return np.divide(product, np.sqrt(squares), out=np.zeros(len(a)), where=squares > 0)
