"""The gap between entropy on training and on held-out images, and overfitting, on synthetic curves."""

import numpy as np
import pytest
import xarray as xr
from refusals import refused
from synthetic import many, one, valley

from sparsity_lib.study.analysis.early_warning import gap


def overfitted(driver: str, seed: int, label: str = "vanillaNet") -> xr.Dataset:
    """A run with a loss that rises with its gap or with the fall of its level; the other is random."""
    strong, other = seed / 12, float(np.random.default_rng(seed).random())
    wide, deep = (strong, other) if driver == "gap" else (other, strong)
    run = one(label, seed, val_loss=valley(20, slope=0.02 + 0.05 * strong), entropy=(3.0, 2.0 - deep))
    apart = xr.DataArray([0.0, -0.1 * wide], {"split": ["monitor", "train"]}, "split")
    return run.assign(entropy=run["entropy"] + apart)


def test_gap_and_level_are_of_the_penalised_layers() -> None:
    found = gap.gap_and_level(overfitted("gap", 6))
    assert found["layer"].to_numpy().tolist() == ["conv1", "conv3", "fc1"]
    np.testing.assert_allclose(found["gap"], -0.05)
    np.testing.assert_allclose(found["level"].sel(epoch=0), 3)


@pytest.mark.parametrize("driver", ["gap", "level"])
def test_rank_correlations_find_the_driver_of_overfitting(driver: str) -> None:
    found = gap.rank_correlations(many([overfitted(driver, seed) for seed in range(12)]), resamples=200)
    assert (found["low"] > 0) if driver == "gap" else (found["high"] < 0)
    assert found[driver] == pytest.approx(1)
    assert found["difference"] == pytest.approx(found["gap"] - found["level"])


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_contains_zero_without_a_driver(seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = [
        (one("vanillaNet", s, val_loss=valley(20, 0.02 + 0.05 * a), entropy=(3.0, 2 - b)), c)
        for s, (a, b, c) in enumerate(rng.random((8, 3)))
    ]
    splits = {"split": ["monitor", "train"]}
    runs = [r.assign(entropy=r["entropy"] + xr.DataArray([0, -c / 10], splits, "split")) for r, c in drawn]
    found = gap.rank_correlations(many(runs), resamples=200)
    assert found["low"] < 0 < found["high"]


def test_runs_are_ranked_within_networks() -> None:
    runs = [overfitted("level", seed, label) for label in ("vanillaNet", "dropNet") for seed in range(5)]
    runs[5:] = [run.assign(entropy=run["entropy"] + 5) for run in runs[5:]]
    assert gap.rank_correlations(many(runs), resamples=20)["level"] == pytest.approx(1)


def test_few_seeds_and_other_layers_have_no_rank_correlations() -> None:
    runs = [one("vanillaNet", s) for s in range(5)] + [one("dropNet", s) for s in range(4)]
    with refused(4, 5):
        gap.rank_correlations(many(runs))
