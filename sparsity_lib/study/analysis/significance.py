"""Intervals and tests for one value per run or pair: t, Wilson, Holm, power."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest, nct, t

ALPHA, POWER = 0.05, 0.80


def interval(values: np.ndarray, level: float) -> tuple[float, float]:
    """t interval of the mean; (NaN, NaN) for fewer than two values."""
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    half = float(t.ppf((1 + level) / 2, n - 1)) * float(values.std(ddof=1)) / math.sqrt(n)
    return float(values.mean()) - half, float(values.mean()) + half


def one_sided(values: np.ndarray, bound: float, side: int) -> float:
    """p of the one-sided t test that the mean lies above `bound` (`side` 1) or below it (-1).

    NaN for fewer than two values.
    """
    n = len(values)
    if n < 2:
        return math.nan
    error = max(float(values.std(ddof=1)) / math.sqrt(n), 1e-12)  # equal values give p 0 or 1, not NaN
    return float(t.sf(side * (float(values.mean()) - bound) / error, n - 1))


def pooled_sd(groups: Iterable[np.ndarray]) -> tuple[float, int]:
    """SD within groups of values, and its degrees of freedom; (NaN, 0) if no group has two values."""
    several = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    squares = sum(float(group.var(ddof=1)) * (len(group) - 1) for group in several)
    return (math.sqrt(squares / freedom), freedom) if freedom else (math.nan, 0)


def holm(p: Sequence[float], family: int) -> list[float]:
    """p values with Holm's correction for a family of tests; tests that are not given count as p = 1."""
    order = np.argsort(p)
    corrected, so_far = [math.nan] * len(p), 0.0
    for rank, i in enumerate(order):
        so_far = max(so_far, min(1.0, (family - rank) * p[i]))
        corrected[i] = so_far
    return corrected


def detectable(sd: float, n: int) -> float:
    """Effect that a two-sided t test at 5 % detects with 80 % power, for n values with this SD."""
    if n < 2 or not sd > 0:
        return math.nan
    critical = t.ppf(1 - ALPHA / 2, n - 1)

    def excess_power(shift: float) -> float:
        return float(nct.sf(critical, n - 1, shift)) - POWER  # the other tail is negligible at 80 %

    largest = float(critical)
    while excess_power(largest) < 0:
        largest *= 1.5
    return float(brentq(excess_power, 0, largest)) * sd / math.sqrt(n)


def wilson(values: np.ndarray) -> tuple[float, float]:
    """Wilson's 95 % interval of the share of ones, for at least one value."""
    found = binomtest(int(values.sum()), len(values)).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
