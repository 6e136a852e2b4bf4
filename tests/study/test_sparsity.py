"""Sparsity at the end of training."""

import numpy as np
import pytest
from synthetic import one

from sparsity_lib.study.analysis.other_papers import sparsity


def test_sparsity_is_the_mean_of_the_convolutions_at_the_end() -> None:
    conv, dense = (0.2, 0.5), 0.9
    curves = one(perplexity_sparsity=conv)
    last = {"split": "monitor", "epoch": int(curves["epochs"][0]) - 1}
    curves["perplexity_sparsity"].loc[{"layer": "fc1", **last}] = dense
    curves["sd"].loc[{"layer": ["conv1", "conv3"], **last}] = np.e
    found = sparsity.outcomes(curves)
    assert found["sparsity"].item() == pytest.approx(conv[1])
    assert found["log_sd"].item() == pytest.approx(1)
    assert found["setting"].item() == "digits, s"
