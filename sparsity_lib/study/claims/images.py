"""Intervals over validation images of primary claims: how far other images would have moved a result."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from sparsity_lib.study.claims import Criterion
from sparsity_lib.study.claims.evidence import Evidence, Runs
from sparsity_lib.study.errors import StudyError

RESAMPLES = 2_000
_AT_ONCE = 100  # resamples, to spare memory

# By quantity: the outcome of each image, and the moments whose values are added and subtracted.
_OUTCOMES: dict[str, tuple[str, dict[str, int]]] = {
    "accuracy": ("image_correct", {"chosen": 1}),
    "val_loss_rise": ("image_loss", {"last": 1, "lowest_loss": -1}),
}


def image_interval(outcomes: ArrayLike, value: float | None = None) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over runs and images; images are resampled jointly for all runs.

    **Arguments:**

    - `outcomes`: `(runs, images)`, of each run or pair a difference of correctness or of loss in each image.
    - `value`: result at which the interval is centred, in place of the mean of `outcomes`. A rise of the loss
        is one of smoothed means, minus a null; images' outcomes are known at the lowest and the last epoch.

    **Returns:** the 2.5 % and 97.5 % quantiles of 2,000 resamples with a fixed seed; NaN without outcomes.

    **Raises:** `StudyError` for an array that is not two-dimensional.
    """
    array = np.asarray(outcomes, dtype=float)
    if array.ndim != 2:
        raise StudyError(f"outcomes of images have the shape {array.shape}: give one row per run")
    if not array.size:
        return np.nan, np.nan
    of_image = array.mean(0)
    random = np.random.RandomState(0)  # its stream is the same in all versions of NumPy
    pieces = [
        of_image[random.randint(len(of_image), size=(_AT_ONCE, len(of_image)))].mean(1)
        for _ in range(RESAMPLES // _AT_ONCE)
    ]
    low, high = np.quantile(np.concatenate(pieces), [0.025, 0.975])
    shift = 0.0 if value is None else value - float(of_image.mean())
    return float(low) + shift, float(high) + shift


def outcomes_of(
    test: Criterion, evidence: Evidence, pairs: Sequence[Runs], seeds: Sequence[int]
) -> np.ndarray:
    """`(runs, images)`: outcomes behind a difference of accuracies or a rise of the loss.

    Empty for other quantities, and where a run's images were not published.
    """
    nothing = np.empty((0, 0))
    if test.kind not in ("value", "difference") or test.quantity not in _OUTCOMES:
        return nothing
    name, signs = _OUTCOMES[test.quantity]
    total: np.ndarray | float = 0.0
    for sign, runs in zip((1, -1), pairs, strict=False):
        found: dict[str, np.ndarray] = {}
        for part in evidence.of(runs[seed] for seed in seeds):
            if name not in part:
                return nothing
            outcomes = sum(s * part[name].sel(moment=moment).astype(float) for moment, s in signs.items())
            assert isinstance(outcomes, xr.DataArray)
            by_run = outcomes.transpose("run", "validation_image").to_numpy()
            found |= dict(zip(part["run"].to_numpy().tolist(), by_run, strict=True))
        total = total + sign * np.array([found[runs[seed]] for seed in seeds])
    return np.asarray(total)
