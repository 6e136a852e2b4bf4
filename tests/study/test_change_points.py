"""The causal change-point of entropies and of perplexity sparsity."""

import numpy as np
import pytest
import xarray as xr
from synthetic import one

from sparsity_lib.study.analysis.early_warning.change_points import change_point, layer_means, warning_counts

EPOCHS = 41


def with_quantity(values: np.ndarray, name: str = "entropy") -> xr.Dataset:
    """A run with these values in every layer at epochs 0, 1, ...; entropies are shares of ln D."""
    run = one("vanillaNet")
    full = np.log(run["channels"]) if name == "entropy" else 1
    by_epoch = full * xr.DataArray(np.r_[values[0], values], dims="epoch")
    run[name] = (run[name] * 0 + by_epoch).transpose(*run[name].dims)
    return run


def step(at: int, to: float = 0.5) -> np.ndarray:
    """1 before epoch `at`, then `to`."""
    return np.where(np.arange(EPOCHS) < at, 1.0, to)


@pytest.mark.parametrize("at", [6, 7, 20, 39])
def test_a_step_is_found_one_epoch_later(at: int) -> None:
    assert change_point(with_quantity(step(at)), ["conv3"], 0.05).item() == at + 1


def test_changes_that_are_small_short_early_or_rises_are_not_found() -> None:
    spike = step(41)
    spike[20] = 0.1
    for share in (step(20, 0.96), spike, step(2), step(20, 1.4)):
        assert np.isnan(change_point(with_quantity(share), ["conv3"], 0.05).item())


def test_change_points_are_causal() -> None:
    rng = np.random.default_rng(0)
    share = step(12) + 0.3 * rng.random(EPOCHS)
    found = int(change_point(with_quantity(share), ["conv3"], 0.05).item())
    share[found + 1 :] = rng.random(EPOCHS - found - 1)
    assert change_point(with_quantity(share), ["conv3"], 0.05).item() == found


def test_layers_are_averaged_as_shares_of_their_own_ln_d() -> None:
    run = with_quantity(step(20))
    np.testing.assert_allclose(layer_means(run, "entropy", ["conv1", "fc1"]).sel(epoch=3), 1)


def test_changes_of_perplexity_sparsity_are_rises() -> None:
    name = "perplexity_sparsity"
    rises = with_quantity(1 - step(20), name)
    assert layer_means(rises, name, ["conv1", "fc1"]).sel(epoch=30).item() == 0.5
    assert change_point(rises, ["conv1", "conv3"], 0.05, name).item() == 21
    for values in (step(20), 1 - step(20, 1 - 0.9 * 0.05), 1 - step(2)):
        assert np.isnan(change_point(with_quantity(values, name), ["conv3"], 0.05, name).item())


def test_warning_counts_sum_to_the_runs() -> None:
    nan = np.nan
    onset = [20, 20, 20, nan, nan, 20]
    changed = [10, 20, nan, 10, nan, 30]
    counts = warning_counts(onset, changed, ["b", "b", "b", "a", "a", "a"])
    assert list(counts.index) == ["b", "a", "all"]
    assert counts.loc["all"].tolist() == [6, 1, 3, 1, 1]
    assert (counts.drop(columns="runs").sum(axis=1) == counts["runs"]).all()
