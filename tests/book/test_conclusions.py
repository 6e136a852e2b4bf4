"""Conclusions of notebooks 01 to 04; each test holds the numbers of a sentence."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from sparsity_lib import study
from sparsity_lib.study import analysis
from sparsity_lib.study.analysis import comparison, onset, random_filters

PLAIN, SR1, SR2, SR3, VAR = "vanillaNet", "sr1Net ×16", "sr2Net ×16", "sr3Net ×16", "varNet ×16"
LATER = ("conv3", "conv4", "fc1")
NOISY, CLEAN = 0.3, 0.0
SEEDS = 20


@pytest.fixture(scope="module")
def curves() -> xr.Dataset:
    """The published runs of the laptop's networks."""
    published = study.published("laptop")
    labels = [PLAIN, "dropNet", "normNet", SR1, "sr2Net", SR2, SR3, VAR]
    return analysis.only(published, label=labels, size="s", optimizer="sgd", epochs=100, others="")


@pytest.fixture(scope="module")
def table(curves: xr.Dataset) -> pd.DataFrame:
    """Their summary."""
    return analysis.summary(curves)


@pytest.fixture(scope="module")
def overfitting(curves: xr.Dataset) -> pd.Series:
    """Runs that overfit, by label noise and network."""
    return onset.onset_table(curves).groupby(["label_noise", "label"])["epoch"].count()


@pytest.fixture(scope="module")
def long() -> xr.Dataset:
    """The runs over 200 epochs, which recorded correlations of filters; labels redrawn."""
    published = study.published("laptop", "200-epochs.nc")
    assert published is not None
    return published


def correlations(runs: xr.Dataset, layer: str, epoch: int = 99) -> pd.DataFrame:
    """One row per run: `correlation`, mean |c| of the layer's filters."""
    found = runs["correlation"].sel(center="filters", layer=layer, epoch=epoch)
    return analysis.summary(runs).assign(correlation=found.to_numpy())


def runs_of(table: pd.DataFrame, label: str, noise: float) -> pd.DataFrame:
    found = table[(table["label"] == label) & (table["label_noise"] == noise)]
    assert len(found) == SEEDS
    return found


def compare(table: pd.DataFrame, a: str, b: str, quantity: str, noise: float) -> comparison.Description:
    return comparison.compare(table[table["label_noise"] == noise], a, b, quantity)


def change(runs: pd.DataFrame, quantity: str, layer: str, since: str = "best") -> comparison.Description:
    return comparison.describe(runs[f"{quantity}_end:{layer}"] - runs[f"{quantity}_{since}:{layer}"])


def test_monitoring_entropy_falls_with_overfitting_in_the_plain_network(
    table: pd.DataFrame, overfitting: pd.Series
) -> None:
    plain = runs_of(table, PLAIN, NOISY)
    assert comparison.describe(plain["val_loss_rise"]).low > 0
    assert overfitting[NOISY, PLAIN] > SEEDS / 2
    for layer in LATER:
        assert change(plain, "entropy", layer).high < -1
        assert abs(change(plain, "scale_free_entropy", layer).mean) < 0.05
    assert (plain["sd_end:conv3"] > 2 * plain["sd_best:conv3"]).all()


def test_monitoring_entropy_falls_as_far_where_the_rise_is_within_the_fluctuations(
    curves: xr.Dataset, table: pd.DataFrame
) -> None:
    plain = runs_of(table, PLAIN, NOISY)
    counted = onset.onset_table(curves)["epoch"].notna()[plain.index]
    fall = plain["entropy_end:conv3"] - plain["entropy_best:conv3"]
    assert abs(fall[counted].mean() - fall[~counted].mean()) < 0.2
    assert plain["val_loss_rise"][~counted].min() > 0.2


def test_monitoring_entropy_and_overfitting_occur_separately(
    table: pd.DataFrame, overfitting: pd.Series
) -> None:
    assert overfitting[NOISY, "normNet"] > SEEDS / 2
    assert overfitting[NOISY, "dropNet"] == 0
    for network in ("dropNet", "normNet"):
        for layer in ("conv3", "conv4"):
            assert abs(change(runs_of(table, network, NOISY), "entropy", layer).mean) < 0.05
    norm = runs_of(table, "normNet", NOISY)
    for network in ("dropNet", "normNet"):
        assert 0 < comparison.describe(runs_of(table, network, NOISY)["val_loss_rise"]).high < 0.1
    assert comparison.describe(norm["entropy_best:fc1"] - norm["entropy_start:fc1"]).high < -1.5
    assert -0.3 < change(norm, "entropy", "fc1").high < 0
    assert overfitting[CLEAN, PLAIN] == 0
    clean = runs_of(table, PLAIN, CLEAN)
    assert change(clean, "entropy", "conv3", "start").high < -1
    assert change(clean, "entropy", "conv3").high < -0.2
    until_lowest = comparison.describe(clean["entropy_best:conv3"] - clean["entropy_start:conv3"])
    assert until_lowest.high < 2 * change(clean, "entropy", "conv3").low
    assert clean["val_loss_rise"].max() < onset.LEAST_RISE


def test_monitoring_loss_of_norm_net_has_an_early_peak(curves: xr.Dataset) -> None:
    norm = analysis.only(curves, label="normNet", label_noise=NOISY)
    loss = analysis.smoothed(norm["val_loss"].sel(epoch=slice(0, None)))
    valley, peak = loss.sel(epoch=slice(0, 15)).min("epoch"), loss.sel(epoch=slice(16, 45)).max("epoch")
    assert float((peak - valley).min()) > 0.1
    assert (analysis.best_epoch(norm) > 30).all()


def test_sr1_weakens_overfitting_and_does_not_stop_it(table: pd.DataFrame, overfitting: pd.Series) -> None:
    assert 0 < overfitting[NOISY, SR1] < overfitting[NOISY, PLAIN]
    assert compare(table, SR1, PLAIN, "val_loss_rise", NOISY).high < 0
    assert comparison.describe(runs_of(table, SR1, NOISY)["val_loss_rise"]).low > 0.1
    assert abs(compare(table, SR1, PLAIN, "min_val_loss", NOISY).mean) < 0.02
    assert compare(table, SR1, PLAIN, "min_val_loss", CLEAN).high < -0.02
    assert overfitting[CLEAN].sum() == 0  # though the mean rise of sr2Net is above zero
    assert runs_of(table, SR2, CLEAN)["val_loss_rise"].mean() > 0
    for noise in (NOISY, CLEAN):
        assert compare(table, SR1, PLAIN, "chosen_accuracy", noise).low > 0
    assert compare(table, SR1, PLAIN, "entropy_end:conv3", NOISY).low > 1
    scale_free = compare(table, SR1, PLAIN, "scale_free_entropy_end:conv3", NOISY)
    assert -0.05 < scale_free.low < 0 < scale_free.high < 0.05


def test_sr1_loss_peaks_and_levels_off(table: pd.DataFrame, long: xr.Dataset) -> None:
    sr1 = runs_of(table, SR1, NOISY)
    assert comparison.describe(sr1["val_loss_peak"] - sr1["val_loss_rise"]).low > onset.LEAST_RISE
    assert compare(table, SR1, PLAIN, "val_loss_peak", NOISY).high < 0
    late = analysis.late_change(analysis.only(long, label=SR1))
    found = comparison.describe(late[late["seed"] != 100])
    assert found.low < 0 < found.high < 0.05


def test_sr1_fails_in_one_run_with_correct_labels(table: pd.DataFrame) -> None:
    clean = table[table["label_noise"] == CLEAN]
    failed = clean[clean["last_five_accuracy"] < 0.2]
    assert failed["label"].tolist() == [SR1]
    assert failed["last_val_loss"].iloc[0] == pytest.approx(np.log(10), abs=0.01)
    assert failed["chosen_accuracy"].iloc[0] > 0.9
    assert table[table["label_noise"] == NOISY]["last_five_accuracy"].min() > 0.5
    assert (table["label"] == SR1).sum() == 2 * SEEDS


def test_sr1_filters_end_more_alike_in_fc1_and_less_in_conv3(long: xr.Dataset) -> None:
    fc1, conv3 = (
        comparison.compare(correlations(long, layer), SR1, PLAIN, "correlation") for layer in ("fc1", "conv3")
    )
    assert fc1.n == conv3.n == 5
    assert conv3.high < 0 < fc1.low
    for layer in ("fc1", "conv3"):
        start = correlations(long, layer, -1)
        assert comparison.compare(start, SR1, PLAIN, "correlation").sd == 0
        change = correlations(long, layer)["correlation"] - start["correlation"]
        assert comparison.describe(change[start["label"] == SR1]).low > 0


def test_sr2_overfits_less_than_sr1_and_is_not_more_accurate(
    table: pd.DataFrame, overfitting: pd.Series
) -> None:
    counts = [overfitting[NOISY, name] for name in (SR2, SR1, PLAIN)]
    assert counts == sorted(counts)
    assert overfitting[NOISY, SR2] < overfitting[NOISY, "sr2Net"]
    for other in (PLAIN, SR1):
        assert compare(table, SR2, other, "val_loss_rise", NOISY).high < 0
        assert compare(table, SR2, other, "last_five_accuracy", NOISY).low > 0
    assert compare(table, SR2, PLAIN, "chosen_accuracy", NOISY).low > 0
    assert compare(table, SR2, SR1, "chosen_accuracy", NOISY).high < 0
    for quantity, noise in (("chosen_accuracy", CLEAN), ("best_accuracy", NOISY)):
        found = compare(table, SR2, SR1, quantity, noise)
        assert found.low < 0 < found.high


def test_sr2_loss_has_a_peak_that_the_rule_does_not_count(curves: xr.Dataset, table: pd.DataFrame) -> None:
    sr2 = runs_of(table, SR2, NOISY)
    assert comparison.describe(sr2["val_loss_peak"] - sr2["val_loss_rise"]).low > 0.1
    assert compare(table, SR2, PLAIN, "val_loss_peak", NOISY).high < 0
    assert compare(table, SR2, SR1, "val_loss_peak", NOISY).direction == 0
    by_pilot = analysis.pilot_onset(analysis.only(curves, label_noise=NOISY)).to_series()
    mostly = by_pilot.notna().groupby(analysis.only(curves, label_noise=NOISY)["label"].to_numpy()).mean()
    assert mostly.min() > 0.5
    assert compare(table, "sr2Net", PLAIN, "val_loss_rise", NOISY).high < 0


def test_a_variance_penalty_overfits_as_little_as_sr2(table: pd.DataFrame, overfitting: pd.Series) -> None:
    rise = compare(table, VAR, SR2, "val_loss_rise", NOISY)
    assert -0.05 < rise.low < 0 < rise.high < 0.05
    assert abs(overfitting[NOISY, VAR] - overfitting[NOISY, SR2]) <= 2
    assert compare(table, SR2, PLAIN, "sd_end:conv3", NOISY).high < -1
    assert abs(compare(table, VAR, SR2, "entropy_end:conv3", NOISY).mean) < 0.01
    for name in (SR2, VAR):
        found = compare(table, name, PLAIN, "scale_free_entropy_end:conv3", NOISY)
        assert -0.05 < found.low < found.high < 0.05


def test_sr3_does_not_differ_from_sr2(table: pd.DataFrame, overfitting: pd.Series) -> None:
    for quantity in ("chosen_accuracy", "min_val_loss", "val_loss_rise", "val_loss_peak"):
        for noise in (NOISY, CLEAN):
            found = compare(table, SR3, SR2, quantity, noise)
            assert found.low < 0 < found.high
    assert compare(table, SR3, PLAIN, "chosen_accuracy", NOISY).low > 0
    assert overfitting[NOISY, SR3] <= overfitting[NOISY, SR2] < overfitting[NOISY, PLAIN]


def test_sr3_correlations_of_conv1_shrink_and_stay_near_those_of_random_filters(long: xr.Dataset) -> None:
    before, end = correlations(long, "conv1", -1), correlations(long, "conv1")
    end["change"] = end["correlation"] - before["correlation"]
    mean = end.groupby("label")["correlation"].mean()
    random = random_filters.random_correlation(16, 9)
    change = {name: comparison.describe(end[end["label"] == name]["change"]) for name in (SR3, SR2, PLAIN)}
    assert change[SR3].high < 0
    assert all(change[name].low < 0 < change[name].high for name in (SR2, PLAIN))
    less_alike = comparison.compare(end, SR3, SR2, "correlation")
    assert less_alike.n == 5
    assert less_alike.low < 0 < less_alike.high
    assert mean[SR3] > 0.9 * random
    assert before["correlation"].mean() < 1.2 * random
    conv2_before, conv2 = (correlations(long, "conv2", epoch) for epoch in (-1, 99))
    near = random_filters.random_correlation(16, 144)
    assert conv2_before["correlation"].mean() == pytest.approx(near, rel=0.1)
    assert conv2.groupby("label")["correlation"].mean()[PLAIN] > 1.3 * near


def test_sr3_leaves_conv1_more_correlated_than_random_filters_on_photographs() -> None:
    pilot = analysis.grid_runs(study.published("desktop", "networks.nc"), "desktop")
    photographs = analysis.only(pilot, dataset="cifar10-jpeg")
    plain, sr2, sr3 = (
        random_filters.factor_over_random(photographs, name, "conv1") for name in (PLAIN, "sr2Net", "sr3Net")
    )
    assert 1 < sr3.low < sr3.high < plain.low
    assert 1 < sr2.low < sr2.high < plain.low
    of_conv1 = photographs["correlation"].sel(center="filters", layer="conv1", epoch=99)
    end = analysis.summary(photographs).assign(correlation=of_conv1.to_numpy())
    assert comparison.compare(end, "sr3Net", "sr2Net", "correlation").direction == 0
