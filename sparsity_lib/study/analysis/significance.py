"""Intervals and tests of one value a run or pair: t, Wilson, Holm, power. `comparison` pairs runs by seed."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest, nct, t

ALPHA, POWER = 0.05, 0.80


def interval(values: np.ndarray, level: float) -> tuple[float, float]:
    """Student's t interval of the mean; (NaN, NaN) for fewer than two values."""
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    half = float(t.ppf((1 + level) / 2, n - 1)) * float(values.std(ddof=1)) / math.sqrt(n)
    return float(values.mean()) - half, float(values.mean()) + half


def one_sided(values: np.ndarray, bound: float, side: int) -> float:
    """p of the t test that the mean lies above `bound` (`side` 1) or below it (-1).

    NaN for fewer than two values.
    """
    n = len(values)
    if n < 2:
        return math.nan
    error = max(float(values.std(ddof=1)) / math.sqrt(n), 1e-12)  # equal values: sure, not undefined
    return float(t.sf(side * (float(values.mean()) - bound) / error, n - 1))


def pooled_sd(groups: Iterable[np.ndarray]) -> tuple[float, int]:
    """SD within groups of values, and its degrees of freedom; (NaN, 0) if no group has two values."""
    several = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    squares = sum(float(group.var(ddof=1)) * (len(group) - 1) for group in several)
    return (math.sqrt(squares / freedom), freedom) if freedom else (math.nan, 0)


def holm(p: Sequence[float], family: int) -> list[float]:
    """Holm's corrected p values of a family, of which those not given count as 1."""
    order = np.argsort(p)
    corrected, so_far = [math.nan] * len(p), 0.0
    for rank, i in enumerate(order):
        so_far = max(so_far, min(1.0, (family - rank) * p[i]))
        corrected[i] = so_far
    return corrected


def detectable(sd: float, n: int) -> float:
    """The effect that a two-sided t test at 5 % of n values with this SD shows with 80 % power."""
    if n < 2 or not sd > 0:
        return math.nan
    critical = t.ppf(1 - ALPHA / 2, n - 1)

    def lacking(shift: float) -> float:
        return float(nct.sf(critical, n - 1, shift)) - POWER  # the other tail adds nothing at 80 %

    enough = float(critical)
    while lacking(enough) < 0:
        enough *= 1.5
    return float(brentq(lacking, 0, enough)) * sd / math.sqrt(n)


def wilson(values: np.ndarray) -> tuple[float, float]:
    """Wilson's 95 % interval of the share of ones; of one value at least."""
    found = binomtest(int(values.sum()), len(values)).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
