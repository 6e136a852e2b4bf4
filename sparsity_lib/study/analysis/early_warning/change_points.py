"""Registered change-point of each run: means over layers, the epoch of the change, and counts of warnings.

The rules are those of `claims/registration.yaml` and, for perplexity sparsity, of
`claims/registration-other-papers.yaml`. Values are those of held-out images.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from sparsity_lib.entropy_drop import collapse_epochs
from sparsity_lib.study.analysis import trained

# Registered settings; the defaults of `sparsity_lib.entropy_drop` may change.
BASELINE = 5  # epochs, 0 to 4, with which later ones are compared
PATIENCE = 2  # epochs in a row

PERPLEXITY = "perplexity_sparsity"  # in [0, 1]; rises where entropies fall


def layer_means(curves: xr.Dataset, quantity: str, layers: Sequence[str]) -> xr.DataArray:
    """(run, epoch): mean of a quantity over layers, on held-out images.

    Entropies and SDs are divided by ln D of each layer, perplexity sparsity is not.
    """
    values = curves[quantity].sel(split="monitor", layer=list(layers))
    if quantity != PERPLEXITY:
        values = values / np.log(curves["channels"].sel(layer=list(layers)))
    return values.mean("layer", skipna=False)


def change_point(
    curves: xr.Dataset, layers: Sequence[str], margin: float, quantity: str = "entropy"
) -> xr.DataArray:
    """(run): epoch at which a fall of the entropy is detected; NaN where it does not fall.

    The change-point is the second of the first two epochs in a row, from epoch 5 on, with an entropy below
    the lowest one of epochs 0 to 4 by more than `margin`, a share of ln D. Perplexity sparsity has to rise
    above the highest value instead. Later epochs and losses are not used.
    """
    values = layer_means(trained(curves), quantity, layers).transpose("run", "epoch")
    falling = (-values if quantity == PERPLEXITY else values).to_numpy()
    epochs = collapse_epochs(falling, margin=margin, reference=BASELINE, patience=PATIENCE)
    return values.isel(epoch=0, drop=True).copy(data=epochs)


def warning_counts(onset: ArrayLike, changed: ArrayLike, network: ArrayLike) -> pd.DataFrame:
    """Numbers of hits, misses and false alarms: a row per network, in order of appearance, and one for `all`.

    **Arguments:** `onset`, `changed`: `(runs,)`, epochs, NaN for none; `network`: `(runs,)`, labels.

    **Returns:** columns `runs`; `hits`, runs with a change-point before the onset; `misses`, runs with an
    onset and no change-point before it; `false_alarms`, runs with a change-point and no onset;
    `true_negatives`, runs with neither.
    """
    onsets, changes = np.asarray(onset, float), np.asarray(changed, float)
    overfits, hits = np.isfinite(onsets), changes < onsets
    found = {
        "runs": np.ones(len(onsets), dtype=bool),
        "hits": hits,
        "misses": overfits & ~hits,
        "false_alarms": ~overfits & np.isfinite(changes),
        "true_negatives": ~overfits & ~np.isfinite(changes),
    }
    counts = pd.DataFrame(found).groupby(np.asarray(network), sort=False).sum()
    return pd.concat([counts, counts.sum().to_frame("all").T]).rename_axis("network")
