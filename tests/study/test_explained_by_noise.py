"""The share of entropy that noise of the same scale explains, on synthetic curves."""

import numpy as np
import pytest
import xarray as xr
from synthetic import CHANNELS, LAYERS, many, one

from sparsity_lib import functional as f
from sparsity_lib.study.analysis import explained_by_noise


def noisy(seed: int, spread: float = 0.0, label: str = "vanillaNet") -> xr.Dataset:
    """One run with the entropies of noise of its SDs, plus a residual of SD `spread`, a share of ln D."""
    run = one(label, seed)
    rng = np.random.default_rng(seed)
    entropy = run["entropy"].to_numpy().copy()
    for j, channels in enumerate(CHANNELS):
        sd = run["sd"].to_numpy()[:, j] * np.sqrt(channels / (channels - 1))
        residual = spread * np.log(channels) * rng.standard_normal(sd.shape)
        entropy[:, j] = f.noise_entropy(sd, int(channels)).numpy() + residual
    return run.assign(entropy=(run["entropy"].dims, entropy))


def test_entropies_of_noise_are_explained_wholly() -> None:
    (row,) = explained_by_noise.explained(many([noisy(0), noisy(1)])).to_dict("records")
    assert (row["sd"], row["seeds"]) == ("pooled", 2)
    assert row["n"] == 2 * 3 * 42  # norm1 has no entropy here
    for name in ("r2", "low", "high"):
        assert row[name] == pytest.approx(1, abs=1e-6)
    for name in ("rms", "bias"):
        assert row[name] == pytest.approx(0, abs=1e-6)


def test_residuals_lower_the_explained_share() -> None:
    curves = many([noisy(seed, spread=0.05) for seed in range(8)])
    row = explained_by_noise.explained(curves).iloc[0]
    shares = explained_by_noise.shares(curves)
    there = shares["observed"].notnull().to_numpy()
    observed, expected = (shares[name].to_numpy()[there] for name in ("observed", "pooled"))
    assert row["r2"] == pytest.approx(1 - np.mean((observed - expected) ** 2) / observed.var())
    assert row["rms"] == pytest.approx(0.05, rel=0.05)
    assert row["low"] < row["r2"] < row["high"] < 1
    assert row["high"] - row["low"] < 0.1
    repeated = explained_by_noise.explained(curves).iloc[0]
    assert (repeated["low"], repeated["high"]) == (row["low"], row["high"])


def test_the_interval_covers_seeds_and_not_values() -> None:
    of_one_run = [noisy(0, 0.05)] * 6
    copies = many([run.assign_coords(seed=("run", [seed])) for seed, run in enumerate(of_one_run)])
    row = explained_by_noise.explained(copies).iloc[0]
    assert row["low"] == pytest.approx(row["high"])
    single = explained_by_noise.explained(noisy(0, 0.05)).iloc[0]
    assert single["r2"] == pytest.approx(row["r2"])
    assert np.isnan([single["low"], single["high"]]).all()


def test_explained_shares_are_grouped_by_the_given_coordinates() -> None:
    runs = [noisy(0), noisy(1), noisy(0, 0.2, "dropNet"), noisy(1, 0.2, "dropNet")]
    table = explained_by_noise.explained(many(runs), by=["label", "layer"])
    assert len(table) == 2 * 3
    assert set(table["layer"]) == set(LAYERS) - {"norm1"}
    assert (table[table["label"] == "vanillaNet"]["rms"] < 1e-6).all()
    assert (table[table["label"] == "dropNet"]["rms"] > 0.1).all()
    by_label = explained_by_noise.explained(many(runs), by=["label"])
    assert by_label["n"].tolist() == [2 * 3 * 42] * 2


def test_noise_entropies_at_positions_are_compared_where_they_were_recorded() -> None:
    run = noisy(0, 0.05)
    curves = run.assign(noise_entropy=run["entropy"])
    by_kind = explained_by_noise.explained(curves).set_index("sd")
    assert by_kind.loc["positions", "r2"] == pytest.approx(1)
    assert by_kind.loc["pooled", "r2"] < 1
    older = one("vanillaNet", 1)
    mixed = explained_by_noise.explained(xr.concat([curves, older], "run")).set_index("sd")
    assert mixed.loc["positions", "n"] * 2 == mixed.loc["pooled", "n"]


def test_constant_entropy_has_no_explained_share() -> None:
    run = one(entropy=(3.0, 3.0)).sel(layer=["conv3"])
    assert np.isnan(explained_by_noise.explained(run).iloc[0]["r2"])


def test_layers_of_one_channel_are_left_out() -> None:
    run = noisy(0).assign(channels=(("run", "layer"), [[1.0, 32.0, 32.0, 64.0]]))
    assert set(explained_by_noise.explained(run, by=["layer"])["layer"]) == {"conv3", "fc1"}
