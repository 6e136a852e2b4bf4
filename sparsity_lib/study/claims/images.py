"""Bootstrap intervals over validation images, for the results of primary claims."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from sparsity_lib.study.claims import Criterion
from sparsity_lib.study.claims.evidence import Runs

RESAMPLES = 2_000
_NOT_RECORDED = -1  # value of correctness where it is missing; losses are NaN there

# By quantity: variable with an outcome per image, its dimension of moments, and signs of the moments.
_OUTCOMES: dict[str, tuple[str, str, dict[str, int]]] = {
    "accuracy": ("image_correct", "moment", {"chosen": 1}),
    "val_loss_rise": ("image_loss", "kept_moment", {"last": 1, "lowest_loss": -1}),
}


def image_interval(outcomes: np.ndarray, value: float) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over runs and images; all runs share the resampled images.

    **Arguments:**

    - `outcomes`: `(runs, images)`, correctness or loss of each image, or its difference in a pair of runs.
    - `value`: result at which the interval is centred. It can differ from the mean of `outcomes`: the rise of
        the loss is computed from smoothed means minus a null, outcomes are known at two epochs only.

    **Returns:** the 2.5 % and 97.5 % quantiles of 2,000 resamples with a fixed seed; NaN without outcomes.
    """
    if not outcomes.size:
        return np.nan, np.nan
    means = outcomes.mean(0)
    random = np.random.RandomState(0)  # its stream is the same in all versions of NumPy
    draws = (random.randint(len(means), size=len(means)) for _ in range(RESAMPLES))
    low, high = np.quantile([means[drawn].mean() for drawn in draws], [0.025, 0.975])
    shift = value - float(means.mean())
    return float(low) + shift, float(high) + shift


def outcomes_of(
    test: Criterion, images: Sequence[xr.Dataset], pairs: Sequence[Runs], seeds: Sequence[int]
) -> np.ndarray:
    """`(runs, images)`: outcomes of each image for an accuracy, a rise of the loss, or their difference.

    Empty for other quantities, and where the outcomes of a run are not published.
    """
    if test.kind not in ("value", "difference") or test.quantity not in _OUTCOMES:
        return np.empty((0, 0))
    name, axis, signs = _OUTCOMES[test.quantity]
    found: dict[str, np.ndarray] = {}
    for part in images:
        of_images = part[name].transpose("run", axis, "validation_image").astype(float)
        of_images = of_images[(of_images > _NOT_RECORDED).all([axis, "validation_image"]).to_numpy()]
        outcomes = sum(sign * of_images.sel({axis: moment}).to_numpy() for moment, sign in signs.items())
        found |= dict(zip(of_images["run"].to_numpy().tolist(), np.asarray(outcomes), strict=True))
    try:
        of_pairs = [np.array([found[runs[seed]] for seed in seeds]) for runs in pairs]
    except KeyError:
        return np.empty((0, 0))
    return of_pairs[0] - of_pairs[1] if len(of_pairs) == 2 else of_pairs[0]
