"""The causal change-point of entropies and of perplexity sparsity."""

import numpy as np
import pytest
import xarray as xr
from refusals import refused
from synthetic import one

from sparsity_lib.study.analysis.early_warning.change_points import change_point, of_layers

EPOCHS = 41


def with_entropy(share: np.ndarray, seed: int = 0, **fields: object) -> xr.Dataset:
    """A run with this share of ln D as every layer's entropy at epochs 0, 1, ..."""
    run = one("vanillaNet", seed, **fields)
    full = np.log(run["channels"]) * xr.DataArray(np.r_[share[0], share], dims="epoch")
    run["entropy"] = run["entropy"] * 0 + full.broadcast_like(run["entropy"].isel(split=0))
    return run


def step(at: int, to: float = 0.5) -> np.ndarray:
    """1 before epoch `at`, then `to`."""
    return np.where(np.arange(EPOCHS) < at, 1.0, to)


@pytest.mark.parametrize("at", [6, 7, 20, 39])
def test_a_step_is_found_one_epoch_later(at: int) -> None:
    assert change_point(with_entropy(step(at)), ["conv3"], 0.05).item() == at + 1


def test_changes_that_are_small_short_early_or_rises_are_not_found() -> None:
    spike = step(41)
    spike[20] = 0.1
    for share in (step(20, 0.96), spike, step(2), step(20, 1.4)):
        assert np.isnan(change_point(with_entropy(share), ["conv3"], 0.05).item())


def test_change_points_are_causal() -> None:
    rng = np.random.default_rng(0)
    share = step(12) + 0.3 * rng.random(EPOCHS)
    found = int(change_point(with_entropy(share), ["conv3"], 0.05).item())
    share[found + 1 :] = rng.random(EPOCHS - found - 1)
    assert change_point(with_entropy(share), ["conv3"], 0.05).item() == found


def test_layers_are_averaged_as_shares_of_their_own_ln_d() -> None:
    run = with_entropy(step(20))
    np.testing.assert_allclose(of_layers(run, "entropy", ["conv1", "fc1"]).sel(epoch=3), 1)
    with refused("conv9"):
        of_layers(run, "entropy", ["conv9"])


def with_sparsity(values: np.ndarray) -> xr.Dataset:
    """A run with this perplexity sparsity in every layer at epochs 0, 1, ..."""
    run = one("vanillaNet")
    by_epoch = xr.DataArray(np.r_[values[0], values], dims="epoch")
    run["perplexity_sparsity"] = run["perplexity_sparsity"] * 0 + by_epoch
    return run


def test_changes_of_perplexity_sparsity_are_rises() -> None:
    rises = with_sparsity(1 - step(20))
    assert of_layers(rises, "perplexity_sparsity", ["conv1", "fc1"]).sel(epoch=30).item() == 0.5
    assert change_point(rises, ["conv1", "conv3"], 0.05, "perplexity_sparsity").item() == 21
    for values in (step(20), 1 - step(20, 1 - 0.9 * 0.05), 1 - step(2)):
        assert np.isnan(change_point(with_sparsity(values), ["conv3"], 0.05, "perplexity_sparsity").item())
