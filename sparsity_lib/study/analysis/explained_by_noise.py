"""Comparison of activation entropy with the entropy of Gaussian noise of the same scale.

`curves` are from `study.curves(runs)`; values are those on the held-out monitor images.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib import functional

KINDS = ("pooled", "positions")  # of SD
RESAMPLES = 2_000  # of the seeds, with replacement; registered


def shares(curves: xr.Dataset) -> xr.Dataset:
    """Entropies of runs and of noise of the same scale, as shares of ln D, without fitted parameters.

    **Returns:** dimensions run, layer and epoch; NaN where a run lacks the layer or epoch, or D is 1:

    - `observed`: entropy of the layer; `scale_free`: its scale-free entropy.
    - `scale`: SD s over channels, positions and samples, s^2 = D/(D - 1) times the population variance
        `sd`^2; not a share of ln D.
    - `pooled`: `functional.noise_entropy` at s.
    - `positions`: mean over positions of the noise entropy at the SD over channels of the position
        (`LayerStats.noise_entropy`), where the runs recorded it.
    """
    seen = curves.sel(split="monitor")
    channels = seen["channels"].where(seen["channels"] > 1).astype(float)
    scale = seen["sd"] * np.sqrt(channels / (channels - 1))
    entropies = {"observed": seen["entropy"], "scale_free": seen["scale_free_entropy"]}
    entropies["pooled"] = xr.apply_ufunc(_noise_entropy, scale, channels)
    if "noise_entropy" in curves:
        entropies["positions"] = seen["noise_entropy"]
    of_ln_d = {name: values / np.log(channels) for name, values in entropies.items()}
    return xr.Dataset(of_ln_d | {"scale": scale})


def explained(curves: xr.Dataset, by: Sequence[str] = ()) -> pd.DataFrame:
    """Share of the variance of entropy that noise of the same scale explains.

    ```python
    layers = curves.sel(layer=["conv1", "conv2", "conv3", "conv4", "fc1"])  # without norms
    explained(layers)  # all together
    explained(layers, by=["dataset", "label", "layer"])
    ```

    **Arguments:**

    - `curves`: all layers and all epochs count, including the one before training.
    - `by`: names by which to group: coordinates of the runs, such as `"label"`, and `"layer"`.

    **Returns:** one row per group and kind of SD, `"pooled"` or `"positions"` as in `shares`:

    - `r2`: 1 - SS_res/SS_tot of H/ln D, with SS_tot about the mean of the group; at most 1, negative where
        that mean fits better; NaN without variation.
    - `low`, `high`: 95 % bootstrap interval over seeds, all runs of a seed together; NaN for one seed.
    - `rms`: root mean square of the residual; `bias`: its mean, positive where the entropy of the network is
        higher; both as shares of ln D.
    - `n`: number of values; `seeds`: number of seeds.
    """
    entropies = shares(curves)
    rows = []
    for kind in [name for name in KINDS if name in entropies]:
        sums = _sums(entropies["observed"], entropies[kind])
        if sums.empty:
            continue  # none of these runs recorded it
        for keys, group in sums.groupby(list(by), sort=False) if by else [((), sums)]:
            rows.append(dict(zip(by, keys, strict=True)) | {"sd": kind} | _explained(group))
    return pd.DataFrame(rows)


def where_large(curves: xr.Dataset) -> xr.Dataset:
    """Curves with entropies only where the SD of the layer, `scale` of `shares`, exceeds 1; NaN elsewhere.

    Small activations have an entropy near ln D for any pattern, so that noise explains it trivially.
    """
    return curves.assign(entropy=curves["entropy"].where(shares(curves)["scale"] > 1))


def _noise_entropy(sd: np.ndarray, channels: np.ndarray) -> np.ndarray:
    sd, channels = np.broadcast_arrays(sd, channels)
    entropy = np.full(sd.shape, np.nan)
    for d in np.unique(channels[np.isfinite(channels)]):
        here = channels == d
        entropy[here] = functional.noise_entropy(sd[here], int(d)).numpy()
    return entropy


def _sums(observed: xr.DataArray, expected: xr.DataArray) -> pd.DataFrame:
    """One row per run and layer: sums over epochs from which R^2 is computed."""
    residual = observed - expected
    known = residual.notnull()
    value = (observed - observed.mean()).where(known)  # any constant would do; the mean avoids cancellation
    sums = {
        "n": known,
        "value": value,
        "value_square": value**2,
        "residual": residual,
        "residual_square": residual**2,
    }
    table = xr.Dataset({name: each.sum("epoch") for name, each in sums.items()}).to_dataframe().reset_index()
    return table[table["n"] > 0]


def _explained(sums: pd.DataFrame) -> dict[str, float]:
    columns = ["n", "value", "value_square", "residual", "residual_square"]
    by_seed = sums.groupby("seed")[columns].sum().to_numpy(float)
    n, *_, residual, square = by_seed.sum(0)
    seeds, low, high = len(by_seed), np.nan, np.nan
    if seeds > 1:
        times = np.random.default_rng(0).multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
        low, high = np.nanquantile(_r2(times @ by_seed), [0.025, 0.975])
    return {
        "r2": float(_r2(by_seed.sum(0))),
        "low": float(low),
        "high": float(high),
        "rms": float(np.sqrt(square / n)),
        "bias": float(residual / n),
        "n": int(n),
        "seeds": seeds,
    }


def _r2(sums: np.ndarray) -> np.ndarray:
    """R^2 from sums `(..., 5)`."""
    n, value, value_square, _, residual_square = np.moveaxis(sums, -1, 0)
    total = value_square - value**2 / n
    return 1 - residual_square / np.where(total > 1e-12 * value_square, total, np.nan)
