"""Sparsity at the end of training, and differences of it between networks."""

import numpy as np
import pytest
from synthetic import many, one, valley

from sparsity_lib.study.analysis import comparison
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
    assert sparsity.convolutions("a network of one's own") == []


def test_a_table_of_outcomes_is_compared_like_curves() -> None:
    shifts = {"vanillaNet": 0.0, "dropNet": 0.5, "normNet": 0.0}
    curves = many(
        [
            one(label, seed, val_loss=valley(20) + shift + 0.01 * seed * (1 + shift))
            for label, shift in shifts.items()
            for seed in (0, 1, 2)
        ]
    )
    pairs = [("dropNet", "vanillaNet"), ("normNet", "vanillaNet"), ("sr2Net", "vanillaNet")]
    found = comparison.comparison_table(sparsity.outcomes(curves), pairs, ["min_val_loss", "sparsity"])
    both = found[found["quantity"] == "min_val_loss"]
    assert both.equals(comparison.comparison_table(curves, pairs, ["min_val_loss"]))
    assert both["mean"].tolist() == pytest.approx([0.505, 0])  # 0.5, and half of 0.00, 0.01 and 0.02
    assert both["n"].tolist() == [3, 3]
    assert both["direction"].tolist() == ["higher", ""]
