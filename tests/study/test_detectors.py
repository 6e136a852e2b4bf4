"""Detectors of overfitting on runs with known onsets, and on data sets other than those of the margin."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from refusals import refused
from synthetic import many, one, valley

from sparsity_lib.study import profiles
from sparsity_lib.study.analysis.early_warning import detectors

EPOCHS = 41
FLAT = np.linspace(1.5, 1, EPOCHS + 1)  # a loss that falls to the end: no moment of overfitting


def run(seed: int = 0, onset: int | None = 20, falls: int | None = 15, **fields: object) -> xr.Dataset:
    """A run with the lowest loss at `onset`; entropies fall, sparsity and SD rise from `falls` on."""
    curves = one(seed=seed, val_loss=FLAT if onset is None else valley(onset), limit=0, **fields)
    later = xr.DataArray(np.arange(-1, EPOCHS), dims="epoch") >= (EPOCHS if falls is None else falls)
    full = np.log(curves["channels"])
    for name, before, after in (
        ("entropy", 0.9 * full, 0.5 * full),
        ("perplexity_sparsity", 0.1, 0.5),
        ("sd", full, 3 * full),
    ):
        like = curves[name]
        values = xr.where(later, after, before).broadcast_like(like).transpose(*like.dims)
        curves[name] = values.where(like.notnull())
    return curves


def moments(*runs: xr.Dataset, detector: str = "entropy", margin: float | None = None) -> pd.DataFrame:
    return detectors.detector_inputs(many(runs)).moments(detector, margin)


@pytest.mark.parametrize("detector", list(detectors.DEFAULT_MARGINS))
def test_warnings_come_one_epoch_after_the_change(detector: str) -> None:
    found = moments(run(0), run(1, falls=None), run(2, onset=None), detector=detector)
    np.testing.assert_array_equal(found["changed"], [16, np.nan, 16])
    np.testing.assert_array_equal(found["onset"], [20, 20, np.nan])
    np.testing.assert_array_equal(found["lead"], [4, np.nan, np.nan])


def test_sparsity_is_that_of_convolutions_and_entropy_that_of_targeted_layers() -> None:
    curves = run(falls=None)
    late = curves["epoch"] >= 10
    curves["perplexity_sparsity"] = curves["perplexity_sparsity"].where(~late | (curves["layer"] != "fc1"), 1)
    curves["entropy"] = curves["entropy"].where(~late | (curves["layer"] != "conv1"), 0)
    watched = detectors.detector_inputs(curves)
    assert np.isnan([watched.moments(name)["changed"].item() for name in detectors.DEFAULT_MARGINS]).all()


def test_larger_margins_warn_less() -> None:
    watched = detectors.detector_inputs(run())
    assert [watched.moments("entropy", margin)["changed"].item() for margin in (0.05, 0.39)] == [16, 16]
    assert np.isnan(watched.moments("entropy", 0.41)["changed"].item())


def test_hits_precede_the_onset() -> None:
    nan = np.nan
    onsets, changes = np.array([20, 20, 20, 20, nan, nan]), np.array([10, 20, 30, nan, 10, nan])
    np.testing.assert_array_equal(detectors.correct(onsets, changes), [1, 0, 0, 0, 0, 1])
    table = pd.DataFrame({"onset": onsets, "changed": changes})
    assert detectors.balanced_accuracy(table) == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert detectors.balanced_accuracy(table.iloc[4:]) == 0.5
    assert detectors.balanced_accuracy(table.assign(changed=nan)) == 0.5
    assert detectors.balanced_accuracy(table.assign(changed=1.0)) == 0.5


def test_warnings_of_another_run_are_of_the_same_network() -> None:
    """Each warning comes 5 epochs before its own moment; it hits another's if that is not much earlier."""
    table = pd.DataFrame({"network": ["a", "a", "a", "b"], "onset": [20.0, 24, 35, 50]})
    table["changed"] = table["onset"] - 5
    expected = [1 - 1 / 2, 1 - 1 / 2, 1 - 1, np.nan]
    np.testing.assert_allclose(detectors.accuracy_over_other_runs(table), expected)


def networks() -> dict[str, detectors.DetectorInputs]:
    """Two data sets of two networks, six seeds; the plain network overfits in one of them."""
    sets = {}
    for name, overfits in (("clean", False), ("noisy", True)):
        runs = [
            run(seed, 14 + seed if overfits and label == "vanillaNet" else None, falls, label=label)
            for seed in range(6)
            for label, falls in (("vanillaNet", 8 + seed), ("sr2Net", None))
        ]
        sets[name] = detectors.detector_inputs(many(runs))
    return sets


@pytest.mark.parametrize(
    ("onsets", "changes", "matters"),
    [
        ([np.nan, np.nan], [5, np.nan], False),  # no run overfits
        ([20, np.nan], [np.nan, np.nan], False),  # no run warns
        ([20, 30], [5, 15], False),  # each warning comes before each onset
        ([5, 6], [20, 30], False),
        ([20, np.nan], [5, np.nan], True),
        ([20, 30], [25, 10], True),
    ],
)
def test_exchanging_warnings_matters_only_where_it_can_change_the_count(
    onsets: list[float], changes: list[float], matters: bool
) -> None:
    runs = pd.DataFrame({"network": "vanillaNet", "onset": onsets, "changed": changes})
    assert detectors.exchange_matters(runs).to_dict() == {"vanillaNet": matters}
    counts = {detectors.correct(runs["onset"], np.array(each)).sum() for each in (changes, changes[::-1])}
    assert len(counts) == 1 + matters


def test_margins_are_chosen_on_data_sets_with_both_kinds_of_runs() -> None:
    table = detectors.transfers(networks())
    assert set(table["chosen_on"]) == {"noisy"}
    assert set(table["applied_to"]) == {"clean"}
    entropy = table.set_index("detector").loc["entropy"]
    assert entropy["margin"] == 0.3  # the largest below 0.4, the fall, of several that score 1
    noisy = networks()["noisy"]
    tried = [noisy.moments("entropy", margin) for margin in detectors.MARGINS_TRIED["entropy"]]
    assert [detectors.balanced_accuracy(each) for each in tried].count(1) > 1
    assert entropy["balanced"] == 0.5  # six false alarms of twelve
    assert entropy["over_another_run"] == 0


def test_outcomes_are_counted_by_detector_and_data_set() -> None:
    table = detectors.outcomes(networks()).set_index(["detector", "data"])
    counts = ["runs", "hits", "misses", "false_alarms", "true_negatives"]
    for detector in detectors.DEFAULT_MARGINS:
        assert table.loc[(detector, "noisy"), counts].tolist() == [12, 6, 0, 0, 6]
        assert table.loc[(detector, "clean"), counts].tolist() == [12, 0, 0, 6, 6]
    assert table.loc[("entropy", "noisy"), "balanced"] == 1


def test_lead_times_are_of_data_sets_in_which_runs_overfit() -> None:
    table = detectors.lead_times(networks())
    assert table["data"].tolist() == ["noisy"] * 3
    first = table.iloc[0]
    assert (first["n"], first["lead"]) == (6, 5)
    assert first["p_within"] == first["p_of_seeds"] == pytest.approx(1 / 720)


def test_data_sets_are_the_published_grids_of_both_papers() -> None:
    sets = detectors.data_sets("laptop", "paper")
    assert list(sets) == ["digits", "digits, 30 % of labels redrawn"]
    ids = {e.id for e in profiles.experiments("laptop", grids=["networks", "perplexity"], published=True)}
    runs = [run for watched in sets.values() for run in watched.curves["run"].to_numpy().tolist()]
    assert sorted(runs) == sorted(ids)


def test_runs_without_the_detectors_quantity_are_one_line() -> None:
    with refused():
        detectors.detector_inputs(run().isel(run=[]))
    with refused("nonsense", "laptop"):
        detectors.data_sets("laptop", "nonsense")
    with refused("paper"):
        detectors.data_sets("paper")
