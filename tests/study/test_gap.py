"""The gap between entropy on training and on held-out images, and overfitting, on curves made up."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from synthetic import curve, many, one, valley

from sparsity_lib.study import StudyError, figures
from sparsity_lib.study.analysis import gap

EPOCHS = np.arange(-1, 41)


def overfitted(driver: str, seed: int, label: str = "vanillaNet") -> xr.Dataset:
    """A run whose loss rises the more the larger its gap, or the lower its level; the other is a shuffle."""
    shuffled = float(np.random.default_rng(seed).random())
    strong, other = seed / 12, shuffled
    wide, deep = (strong, other) if driver == "gap" else (other, strong)
    run = one(label, seed, val_loss=valley(20, slope=0.02 + 0.05 * strong), entropy=(3.0, 2.0 - deep))
    apart = xr.DataArray([0.0, -0.1 * wide], {"split": ["monitor", "train"]}, "split")
    return run.assign(entropy=run["entropy"] + apart)


@pytest.mark.parametrize("driver", ["gap", "level"])
def test_what_drives_overfitting_is_found(driver):
    runs = many([overfitted(driver, seed) for seed in range(12)])
    table = gap.told_by(runs, resamples=200).set_index(["layer", "outcome", "scope", "sign"])
    assert abs(table.loc[("conv3", "val_loss_rise", "all", driver)]["rho"]) == pytest.approx(1)
    told = gap.decisive(runs, resamples=200)
    assert (told["low"] > 0) if driver == "gap" else (told["high"] < 0)
    assert told[driver] == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_decided_where_nothing_drives(seed):
    rng = np.random.default_rng(seed)
    drawn = [
        (one("vanillaNet", s, val_loss=valley(20, 0.02 + 0.05 * a), entropy=(3.0, 2 - b)), c)
        for s, (a, b, c) in enumerate(rng.random((8, 3)))
    ]
    splits = {"split": ["monitor", "train"]}
    runs = [r.assign(entropy=r["entropy"] + xr.DataArray([0, -c / 10], splits, "split")) for r, c in drawn]
    told = gap.decisive(many(runs), resamples=200)
    assert told["low"] < 0 < told["high"]


def test_networks_do_not_count_within_networks():
    runs = [overfitted("level", seed, label) for label in ("vanillaNet", "dropNet") for seed in range(5)]
    table = gap.told_by(many(runs), resamples=20).set_index(["layer", "outcome", "scope", "sign"])
    assert table.loc[("fc1", "val_loss_rise", "within", "level")]["rho"] == pytest.approx(-1)


def test_all_runs_of_a_few_networks_have_no_interval():
    table = gap.told_by(many([overfitted("level", seed) for seed in range(5)]), resamples=20)
    known = table.set_index("scope")[["low", "high"]].notna()
    assert known.loc["within"].all(axis=None)
    assert not known.loc["all"].any(axis=None)


@pytest.mark.parametrize("compare", [gap.told_by, gap.decisive])
def test_few_seeds_have_no_rank_correlations(compare):
    runs = [one("vanillaNet", s) for s in range(5)] + [one("dropNet", s) for s in range(4)]
    with pytest.raises(StudyError, match="seeds with runs of all networks: 4; ranks need at least 5"):
        compare(many(runs))


def test_departures_are_causal():
    values = xr.DataArray(np.zeros((4, 42)), {"epoch": EPOCHS}, ("run", "epoch"))
    values[0, 11:] = -0.3  # from epoch 10 on
    values[1, 11:] = 0.3
    values[2, 11] = -0.3  # a single epoch
    values[3, 11:] = -0.1
    np.testing.assert_equal(gap.departure(values, 0.2).to_numpy(), [11, 11, np.nan, np.nan])


def test_timing_is_against_the_moment_of_overfitting():
    entropy = curve(3.0, 3.0, 1.0, at=10)  # leaves the margin soon after epoch 10; the loss rises from 20 on
    runs = many([one("vanillaNet", s) for s in range(3)])
    runs["entropy"] = runs["entropy"].where(False, xr.DataArray(entropy, dims="epoch"))
    table = gap.timing(runs).set_index(["layer", "margin", "sign"])
    level = table.loc[("conv3", 0.05, "level")]
    assert (level["runs"], level["before"]) == (3, 3)
    assert table.loc[("conv3", 0.05, "gap")]["departs"] == 0
    shown = figures.timing_table(gap.timing(runs)).loc[("5 % of ln D", "level", "conv3")]
    assert shown[["before the moment", "at all"]].tolist() == ["3 of 3", "3 of 3"]
    with pytest.raises(StudyError, match="none of these runs has a moment of overfitting"):
        gap.timing(one(val_loss=curve(3.0, 2.0, 1.0, at=20)))


def test_false_departures_and_chance_are_told():
    """Departures that follow each network's onsets exactly; one run departs and does not overfit."""
    onsets = {"vanillaNet": (12, 16, 20), "dropNet": (22, 26, 30)}
    runs = []
    for label, epochs in onsets.items():
        for seed, at in enumerate(epochs):
            entropy = np.where(at - 4 > EPOCHS, 3.0, 2.0)
            runs.append(one(label, seed, val_loss=valley(at)))
            runs[-1]["entropy"] = runs[-1]["entropy"].where(False, xr.DataArray(entropy, dims="epoch"))
    falling = one("vanillaNet", 3, val_loss=curve(3.0, 2.0, 1.0, at=20))
    falling["entropy"] = runs[0]["entropy"].isel(run=0, drop=True)
    table = gap.timing(many([*runs, falling])).set_index(["margin", "sign", "layer"])
    level = table.loc[(0.05, "level", "fc1")]
    assert (level["runs"], level["others"], level["before"], level["false"]) == (6, 1, 6, 1)
    assert level["sd"] == pytest.approx(0, abs=1e-6)
    assert level["sd_constant"] == pytest.approx(4)
    assert level["sd_others"] > 4
    assert np.isnan(table.loc[(0.05, "gap", "fc1")]["sd"])


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.gap_curves(many([one(seed=s) for s in range(3)])),
        lambda: figures.gap_or_level(gap.told_by(many([one(seed=s) for s in range(5)]), resamples=20)),
    ],
)
def test_every_figure_can_be_drawn_and_leaves_nothing_behind(draw):
    assert isinstance(draw(), Figure)
    assert plt.get_fignums() == []
