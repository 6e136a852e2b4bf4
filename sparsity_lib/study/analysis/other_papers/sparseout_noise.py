"""Noise of Sparseout: its variance, and the penalty to which it is equivalent."""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from sparsity_lib.functional import sparseout
from sparsity_lib.study.analysis.comparison import describe

QS = (1.0, 1.5, 2.0, 2.5, 3.0)
P = 0.25
MAGNITUDES = np.geomspace(0.05, 5, 9).tolist()
SHIFTS = np.geomspace(0.05, 2, 9).tolist()  # SDs of the logit's shift
FEATURES = 50


def variances(draws: int = 20_000) -> pd.DataFrame:
    """Variance of `draws` noisy activations of each magnitude, and its expected value |a|^q p/(1 - p).

    **Returns:** columns q, magnitude, measured, expected.
    """
    activations = torch.tensor(MAGNITUDES, dtype=torch.float64)
    tables = []
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        for q in QS:
            measured = sparseout(activations.expand(draws, -1), P, q=q).var(0).numpy()
            columns = {"measured": measured, "expected": (activations**q * P / (1 - P)).numpy()}
            tables.append(pd.DataFrame({"q": q, "magnitude": MAGNITUDES} | columns))
    return pd.concat(tables, ignore_index=True)


def logistic_increases(draws: int = 20_000) -> pd.DataFrame:
    """Increase of a logistic model's loss by noise, divided by its approximation by an Lq penalty.

    Features are normal numbers after a ReLU. Weights w are normal numbers, scaled so that the noise shifts
    the logit z with the SD `shift`. The approximation is s(z) (1 - s(z)) p/(1 - p) sum |a|^q w² / 2, with the
    logistic function s. The part of the loss that is linear in the shift has mean 0 and is subtracted from
    each draw, so that fewer draws suffice.

    **Returns:** columns q, shift, ratio (1: as in the approximation), and its 95 % interval, low to high.
    """
    rows = []
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        a = torch.randn(FEATURES, dtype=torch.float64).relu()
        direction = torch.randn(FEATURES, dtype=torch.float64)
        for q in QS:
            noise = sparseout(a.expand(draws, -1), P, q=q) - a
            unit = (P / (1 - P) * (a**q * direction**2).sum()).sqrt()
            for shift in SHIFTS:
                w = direction * shift / unit
                z, moved = a @ w, noise @ w
                slope = z.sigmoid()
                increase = F.softplus(z + moved) - F.softplus(z) - slope * moved
                found = describe((increase / (slope * (1 - slope) * shift**2 / 2)).numpy())
                rows.append((q, shift, found.mean, found.low, found.high))
    return pd.DataFrame(rows, columns=["q", "shift", "ratio", "low", "high"])
