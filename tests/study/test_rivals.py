"""Networks in pairs of the same seed: what is told of them, and what is not."""

import numpy as np
import pytest
from synthetic import many, one, valley

from sparsity_lib import study
from sparsity_lib.study import profiles
from sparsity_lib.study.analysis import rivals


def runs(**shifts: float):
    """Three seeds of vanillaNet, and of others whose loss is as much higher as told."""
    given = {"vanillaNet": 0.0, **shifts}
    return many(
        [
            one(label, seed, val_loss=valley(20) + shift + 0.01 * seed * (1 + shift))
            for label, shift in given.items()
            for seed in (0, 1, 2)
        ]
    )


def test_differences_are_of_pairs_and_in_every_quantity():
    found = rivals.differences(rivals.outcomes(runs(dropNet=0.5)), "vanillaNet")
    assert set(found["quantity"]) == set(rivals.QUANTITIES)
    assert set(found["label"]) == {"dropNet"}
    loss = found.set_index("quantity").loc["min_val_loss"]
    assert loss["mean"] == pytest.approx(0.505)  # 0.5, and half of 0.00, 0.01 and 0.02
    assert loss["sd"] == pytest.approx(0.005)
    assert (loss["n"], loss["dropped"]) == (3, 0)


def test_a_direction_is_named_only_where_the_interval_excludes_zero():
    found = rivals.differences(rivals.outcomes(runs(dropNet=0.5, normNet=-0.5, sr2Net=0.0)), "vanillaNet")
    (told,) = rivals.told(found, "vanillaNet", ["min_val_loss"])
    higher, lower, neither = told.split("; ")
    assert "higher with dropNet (+0.505" in higher
    assert "lower with normNet (−0.505" in lower
    assert "not clearly different with sr2Net (0.000" in neither


def test_without_the_reference_there_is_nothing_to_compare():
    with pytest.raises(study.StudyError, match="no runs to set beside those of dropNet"):
        rivals.differences(rivals.outcomes(runs()), "dropNet")
    with pytest.raises(study.StudyError, match="no runs to set beside those of vanillaNet"):
        rivals.differences(rivals.outcomes(runs()), "vanillaNet")


def test_sparsity_is_that_of_convolutions_at_the_end():
    conv, dense = (0.2, 0.5), (0.9, 0.9)
    curves = one(perplexity_sparsity=conv)
    last = {"split": "monitor", "epoch": int(curves["epochs"][0]) - 1}
    curves["perplexity_sparsity"].loc[{"layer": "fc1", **last}] = dense[1]
    assert rivals.outcomes(curves)["sparsity"].item() == pytest.approx(conv[1])


def test_means_have_a_row_for_each_network():
    table = rivals.means(rivals.outcomes(runs(dropNet=0.5)))
    assert [network for _, network in table.index] == ["vanillaNet", "dropNet"]
    assert list(table["n"]) == [3, 3]
    assert table["lowest validation loss (nats)"].iloc[1].startswith("1.515 ± ")


def test_stored_runs_are_those_of_the_grid_and_what_was_alike():
    found = rivals.stored("laptop", "sparseout", ["dropNet"])
    assert {name.split()[0] for name in np.unique(found["label"])} == {"sparseoutNet", "dropNet"}
    assert set(np.unique(found["label_noise"])) == {0.3}
    assert set(np.unique(found["epochs"])) == {100}
    assert len(np.unique(found["run"])) == found.sizes["run"]
    with pytest.raises(study.StudyError, match="no runs of the grid nowhere are published for the profile"):
        rivals.stored("laptop", "nowhere")


def test_networks_beside_are_those_of_the_other_grids():
    queue = {experiment.digest for experiment in profiles.experiments("laptop")}
    found = rivals.selected("laptop", "sparseout", ["vanillaNet", "dropNet"])
    assert {e.digest for e in found} <= queue
    assert {e.network for e in found} == {"sparseoutNet", "vanillaNet", "dropNet"}
    assert len(found) == 2 + 2
    assert (
        len(rivals.selected("laptop", "sparseout", seeds=0))
        == len(rivals.selected("laptop", "sparseout", seeds="0"))
        == 4
    )
    (one_seed,) = {e.seed for e in rivals.selected("laptop", "perplexity", ["normNet"], seeds="7")}
    assert one_seed == 7
