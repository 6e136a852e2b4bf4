"""Holm's correction, and the effect that so many runs can show."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from sparsity_lib.study.analysis.significance import detectable, holm


def test_holm_counts_the_claims_that_were_not_run() -> None:
    assert holm([0.01, 0.04, 0.03], 3) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.01], 6) == pytest.approx([0.06])
    assert holm([], 6) == []


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_the_smallest_effect_is_found_in_80_percent(n: int) -> None:
    rng, sd = np.random.default_rng(n), 0.3
    values = rng.normal(detectable(sd, n), sd, (20_000, n))
    assert (ttest_1samp(values, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.01)
    assert math.isnan(detectable(0.0, n))
    assert math.isnan(detectable(sd, 1))
