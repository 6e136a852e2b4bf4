"""Means of entropies, SDs and perplexity sparsity over layers, and the registered change-point of each run.

The rules are those of `claims/registration.yaml` and, for perplexity sparsity, of
`claims/registration-other-papers.yaml`. Everything takes `study.curves(runs)`; values are of held-out images.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from sparsity_lib.entropy_drop import collapse_epochs
from sparsity_lib.study.analysis.summary import trained
from sparsity_lib.study.errors import StudyError

# The claims' settings; `sparsity_lib.entropy_drop` has them as its defaults, which may change.
BASELINE = 5  # epochs, 0 to 4, with which later ones are compared
PATIENCE = 2  # epochs in a row

PERPLEXITY = "perplexity_sparsity"  # in [0, 1]; rises where entropies fall


def of_layers(curves: xr.Dataset, quantity: str, layers: Sequence[str]) -> xr.DataArray:
    """(run, epoch): the quantity of held-out images, its mean over the layers.

    Entropies and SDs are over each layer's ln D, perplexity sparsity is as it is. Raises `StudyError` for
    layers that the runs lack.
    """
    known = [str(layer) for layer in curves["layer"].to_numpy()]
    if unknown := [layer for layer in layers if layer not in known]:
        raise StudyError(f"no layer '{unknown[0]}' in these runs; there are {', '.join(known)}")
    values = curves[quantity].sel(split="monitor", layer=list(layers))
    if quantity != PERPLEXITY:
        values = values / np.log(curves["channels"].sel(layer=list(layers)))
    return values.mean("layer", skipna=False)


def change_point(
    curves: xr.Dataset, layers: Sequence[str], margin: float, quantity: str = "entropy"
) -> xr.DataArray:
    """(run): the epoch at which the entropy is known to have fallen; NaN where it does not fall.

    The second of the first two epochs in a row, from epoch 5 on, at which it lies below the lowest of its
    values in epochs 0 to 4 by more than `margin`, a share of ln D. Perplexity sparsity has to rise
    above the highest. No later epoch and no loss is used.
    """
    values = of_layers(trained(curves), quantity, layers).transpose("run", "epoch")
    falling = (-values if quantity == PERPLEXITY else values).to_numpy()
    epochs = collapse_epochs(falling, margin=margin, reference=BASELINE, patience=PATIENCE)
    return values.isel(epoch=0, drop=True).copy(data=epochs)
