"""Entropy on training images against entropy on held-out ones, and the relation of each to overfitting.

The *gap* is the entropy on training images minus that on as many held-out ones, the *level* is the latter;
both in nats, by layer.
"""

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import rankdata

from sparsity_lib.study.analysis.onset import onset_table
from sparsity_lib.study.analysis.summary import LAST, penalised_layers, trained
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.recipes import TARGETED

FEWEST = 5  # seeds: ranks of fewer show little
MARGIN = 0.05  # of ln D: within it, the registration counts a change of entropy as none


def gap_and_level(curves: xr.Dataset) -> xr.Dataset:
    """`gap` and `level` (run, layer, epoch), in nats, of conv1 to fc1 as far as the runs have them."""
    entropy = curves["entropy"].sel(layer=penalised_layers(curves))
    held_out = entropy.sel(split="monitor", drop=True)
    return xr.Dataset({"gap": entropy.sel(split="train", drop=True) - held_out, "level": held_out})


def rank_correlations(curves: xr.Dataset, resamples: int = 1000) -> dict[str, float]:
    """Agreement of the gap and of the level at the end with the rise of the validation loss.

    Spearman's rank correlation within networks, each run ranked among its network's own; its size (without
    sign) is averaged over the layers that TSR penalises. The end is the last five epochs, the rise that of
    `onset_table`, minus the null's mean.

    **Arguments:** `curves`: one setting's runs; the seeds that not all networks have are left out.
    `resamples`: of the seeds, all networks of a seed together; drawn with a fixed seed.

    **Returns:** mean size for `gap` and `level`, their `difference`, and its 95 % bootstrap interval over
    seeds, `low` to `high`.

    **Raises:** `StudyError` for fewer than five seeds, or where the runs have none of these layers.
    """
    after = trained(curves)
    signs = gap_and_level(after)
    layers = [layer for layer in TARGETED if layer in signs["layer"]]
    if not layers:
        raise StudyError(f"these runs have none of the layers {', '.join(TARGETED)}")
    ends = signs.where(signs["epoch"] >= curves["epochs"] - LAST).mean("epoch").transpose("layer", "run")
    places = _places(curves, resamples)
    rise = onset_table(curves)["excess"].to_numpy()[places]
    size = {
        sign: np.mean([abs(_spearman(of[places], rise)) for of in ends[sign].sel(layer=layers).values], 0)
        for sign in ("gap", "level")
    }
    size["difference"] = size["gap"] - size["level"]
    low, high = np.quantile(size["difference"][1:], (0.025, 0.975))
    return {name: float(each[0]) for name, each in size.items()} | {"low": float(low), "high": float(high)}


def _places(curves: xr.Dataset, resamples: int) -> np.ndarray:
    # (1 + resamples, network, seed): places of runs, first as they are, then with resampled seeds
    runs = pd.DataFrame({name: curves[name].to_numpy() for name in ("label", "seed")}).reset_index()
    wide = runs.pivot(index="label", columns="seed", values="index").dropna(axis="columns").astype(int)
    seeds = wide.shape[1]
    if seeds < FEWEST:
        raise StudyError(f"seeds with runs of all networks: {seeds}; ranks need at least {FEWEST}")
    again = np.random.default_rng(0).integers(seeds, size=(resamples, seeds))
    return wide.to_numpy()[:, np.vstack([np.arange(seeds), again])].swapaxes(0, 1)


def _spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # a, b (resample, network, seed) -> (resample,), within networks; 0 where all ranks are equal
    a, b = (rankdata(values, axis=-1) for values in (a, b))
    a, b = (values - values.mean(-1, keepdims=True) for values in (a, b))
    product, squares = (a * b).sum((1, 2)), (a**2).sum((1, 2)) * (b**2).sum((1, 2))
    return np.divide(product, np.sqrt(squares), out=np.zeros(len(a)), where=squares > 0)
