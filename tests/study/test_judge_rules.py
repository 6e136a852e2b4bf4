"""The registered rules on values alone: directions, p values, intervals over images."""

import functools
import math
from typing import Any

import numpy as np
import pytest
from registered import SPREAD
from scipy.stats import ttest_1samp

from sparsity_lib.study.claims import Criterion
from sparsity_lib.study.claims.images import image_interval
from sparsity_lib.study.claims.judge import direction, p_values

S = np.array(SPREAD)


def criterion(kind: str = "difference", expected: int = 1, **fields: Any) -> Criterion:
    return Criterion(**{"kind": kind, "network": "a", "quantity": "accuracy", "expected": expected, **fields})


@pytest.mark.parametrize(
    ("hits", "n", "expected", "found"),
    [
        (5, 5, 1, "supported"),
        (0, 5, 1, "opposite"),
        (3, 5, 1, "inconclusive"),
        (0, 5, 0, "supported"),
        (5, 5, 0, "opposite"),
        (1, 20, 0, "inconclusive"),  # one run has it
        (0, 2, 0, "inconclusive"),  # two runs are too few
        (0, 0, 1, "inconclusive"),
    ],
)
def test_shares_are_judged_about_one_half(hits: int, n: int, expected: int, found: str) -> None:
    values = np.array([1.0] * hits + [0.0] * (n - hits))
    assert direction(criterion("share", expected), values, math.inf) == found


def test_a_lead_with_an_expected_sign_is_never_negligible() -> None:
    values = np.array([1.0, -1, 0, 2, -2])
    lead = functools.partial(criterion, "lead", quantity="entropy")
    assert direction(lead(0), values, 10) == "supported"
    assert direction(lead(1), values, 10) == "inconclusive"
    assert direction(lead(1), values + 5, 10) == "supported"
    assert direction(lead(1), values - 5, 10) == "inconclusive"  # not beyond the margin
    assert direction(lead(1), values - 15, 10) == "opposite"


def test_p_values_are_scipys_and_agree_with_directions() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        values, expected = rng.normal(rng.choice([0, 0.012, -0.012]), 0.008, 5), int(rng.integers(-1, 2))
        p = {
            (bound, way): ttest_1samp(values, bound, alternative=way).pvalue
            for bound in (-0.01, 0.0, 0.01)
            for way in ("greater", "less")
        }
        within = max(p[-0.01, "greater"], p[0.01, "less"])
        above, below = p[0.01, "greater"], p[-0.01, "less"]
        right = {1: p[0, "greater"], 0: within, -1: p[0, "less"]}[expected]
        wrong = {1: below, 0: min(above, below), -1: above}[expected]
        assert p_values(criterion(expected=expected), values, 0.01) == pytest.approx((right, wrong))
        found = direction(criterion(expected=expected), values, 0.01)
        if within < 0.05:
            assert found == ("negligible" if expected else "supported")
        elif expected and right < 0.025:
            assert found == "supported"
        else:
            assert found == ("opposite" if wrong < 0.025 else "inconclusive")
        seen.add((expected, found))
    assert len(seen) == 4 + 4 + 3


def test_image_intervals_resample_images_jointly() -> None:
    rng = np.random.default_rng(0)
    of_image = rng.standard_normal(400)
    copies, independent = np.tile(of_image, (5, 1)), rng.standard_normal((5, 400))
    wide, narrow = (np.diff(image_interval(each, 0.0))[0] for each in (copies, independent))
    assert wide == pytest.approx(2 * 1.96 / np.sqrt(400), rel=0.1)
    assert narrow == pytest.approx(wide / np.sqrt(5), rel=0.15)
    assert image_interval(copies, 7.0) == image_interval(copies, 7.0)
    low, high = image_interval(copies, 7.0)
    assert low < 7 < high
    assert high - low == pytest.approx(wide)
    assert np.isnan(image_interval(np.empty((0, 0)), 7.0)).all()
