"""How the ledgers decide from a value a run, or a pair: direction, p, Holm's correction, what n can show."""

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest, nct, t

ALPHA, POWER = 0.05, 0.80


class Expectation(Protocol):
    """The part of a claim's criterion that decides: its kind, and the sign expected, 0 for no effect."""

    @property
    def kind(self) -> str: ...
    @property
    def expected(self) -> int: ...


def direction(test: Expectation, values: np.ndarray, margin: float) -> str:
    """The first rule of the ledgers that applies: negligible, supported, opposite or inconclusive."""
    if test.kind == "share":
        low, high, hits = *wilson(values), int(values.sum())
        if test.expected:
            supported, opposite = low > 0.5, high < 0.5
        else:
            supported, opposite = hits == 0 and high < 0.5, low > 0.5
        return "supported" if supported else "opposite" if opposite else "inconclusive"
    low90, high90 = interval(values, 0.90)
    if -margin < low90 and high90 < margin:
        return "negligible" if test.expected else "supported"
    low, high = interval(values, 0.95)
    side = int(low > 0) - int(high < 0)
    if not side:
        return "inconclusive"
    return "supported" if side == test.expected else "opposite"


def interval(values: np.ndarray, level: float) -> tuple[float, float]:
    """Student's t interval of the mean; (NaN, NaN) for fewer than two values."""
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    half = float(t.ppf((1 + level) / 2, n - 1)) * float(values.std(ddof=1)) / math.sqrt(n)
    return float(values.mean()) - half, float(values.mean()) + half


def p_value(test: Expectation, values: np.ndarray, margin: float) -> float:
    """Of a two-sided t test against 0, or the larger of the two one-sided ones against the margins.

    NaN for shares and for fewer than two values.
    """
    if test.kind == "share":
        return math.nan
    if test.expected:
        return 2 * min(one_sided(values, 0, 1), one_sided(values, 0, -1))
    return max(one_sided(values, -margin, 1), one_sided(values, margin, -1))


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
