"""Conclusions of the notebook on sparsity and scale; each test holds the numbers of a sentence."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from sparsity_lib import ActivationMonitor, LayerStats, study
from sparsity_lib.study import analysis
from sparsity_lib.study.analysis import capacity, comparison, explained_by_noise, random_filters, rescaling
from sparsity_lib.study.analysis.comparison import Description
from sparsity_lib.study.profiles import SCALE_FREE_STRENGTHS
from sparsity_lib.study.recipes import LAYERS, PLAIN, TARGETED
from sparsity_lib.study.runs import results

BASELINE = list(LAYERS[:-1])
CHANNELS = {"conv3": 32, "conv4": 32, "fc1": 64}
SETTINGS = ("cifar10-jpeg", "tiny32-100", "digits", "digits, redrawn")
PILOT = SETTINGS[:2]


@pytest.fixture(scope="module")
def groups() -> dict[str, xr.Dataset]:
    """The published runs of the networks, by setting."""
    found = [
        group
        for profile in ("desktop", "laptop")
        for _, group in analysis.settings(analysis.grid_runs(study.published(profile), profile))
    ]
    return dict(zip(SETTINGS, found, strict=True))


@pytest.fixture(scope="module")
def tables(groups: dict[str, xr.Dataset]) -> dict[str, pd.DataFrame]:
    return {name: analysis.summary(group) for name, group in groups.items()}


def labelled(name: str, network: str) -> str:
    return network if name in PILOT else f"{network} ×16"


def by_network_and_layer(curves: xr.Dataset) -> pd.Series:
    rows = explained_by_noise.explained(curves.sel(layer=BASELINE), by=["label", "layer"])
    return rows[rows["sd"] == "pooled"].set_index(["label", "layer"])["r2"]


def change(table: pd.DataFrame, quantity: str, layer: str) -> Description:
    """From the lowest validation loss to the end, in the plain network, as a share of ln D."""
    plain = table[table["label"] == PLAIN]
    moved = plain[f"{quantity}_end:{layer}"] - plain[f"{quantity}_best:{layer}"]
    return comparison.describe(moved / np.log(CHANNELS[layer]))


def test_a_penalty_on_the_pattern_does_not_reduce_the_rise_as_sparsityreg_does() -> None:
    parts = [study.published("laptop", name) for name in ("networks.nc", "scale-free.nc")]
    runs = analysis.grid_runs(results.joined(parts), "laptop", "scale-free")
    weak, middle, strong = (f"sfNet ×16 lambda_={strength:g}" for strength in SCALE_FREE_STRENGTHS["digits"])
    pattern = "scale_free_entropy_end:conv4"
    assert comparison.compare(runs, strong, PLAIN, pattern).low > 0.2
    for name in (weak, middle):
        assert abs(comparison.compare(runs, name, PLAIN, pattern).mean) < 0.05
    for name in (weak, middle, strong):
        rise = comparison.compare(runs, name, PLAIN, "val_loss_rise")
        assert rise.low < 0 < rise.high
        assert comparison.compare(runs, name, "sr2Net ×16", "val_loss_rise").low > 0
        accuracy = comparison.compare(runs, name, PLAIN, "chosen_accuracy")
        assert accuracy.low < 0 < accuracy.high
    own_scale = runs["channel_scaled_entropy"].sel(kept_moment="last")
    assert abs(capacity.compare_layers(own_scale, strong, weak)["conv4"].mean) < 0.02
    dead = runs["dead_channels"].sel(split="monitor", layer="conv4").set_index(run="label").isel(epoch=-1)
    assert (dead.sel(run=strong) == 1).sum() == 4  # nine of ten with those of CIFAR-10
    assert not dead.sel(run=weak).any()
    (run,) = (each for each in results.published_runs("laptop") if each.name.startswith("sfNet"))
    assert capacity.largest_share(study.load(run), "conv4") > 0.5
    assert comparison.compare(runs, "sr2Net ×16", PLAIN, "val_loss_rise").high < -0.2


def test_on_cifar10_the_reward_for_the_pattern_is_not_shown_to_reduce_the_rise() -> None:
    runs = analysis.grid_runs(study.published("desktop", "scale-free.nc"), "desktop", "scale-free")
    assert comparison.compare(runs, "sfNet", PLAIN, "scale_free_entropy_end:conv4").low > 0.3
    for quantity in ("val_loss_rise", "chosen_accuracy"):
        found = comparison.compare(runs, "sfNet", PLAIN, quantity)
        assert found.low < 0 < found.high
    for name in ("sr2Net", "varNet"):
        assert comparison.compare(runs, name, PLAIN, "val_loss_rise").high < -3
        assert comparison.compare(runs, name, PLAIN, "chosen_accuracy").low > 0
    dead = runs["dead_channels"].sel(split="monitor", layer="conv4").set_index(run="label").isel(epoch=-1)
    assert set(dead.sel(run="sfNet").to_numpy().tolist()) == {1, 2}
    assert sorted(dead.sel(run=PLAIN).to_numpy().tolist()) == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("name", ["cifar10-jpeg", "tiny32-100", "digits, redrawn"])
def test_at_unit_variance_entropy_hardly_changes(name: str, tables: dict[str, pd.DataFrame]) -> None:
    for layer in TARGETED:
        assert change(tables[name], "entropy", layer).high < -0.3
        free = change(tables[name], "scale_free_entropy", layer)
        assert free.low > -0.01
        assert abs(free.mean) < 0.03
        plain = tables[name][tables[name]["label"] == PLAIN]
        assert comparison.describe(plain[f"sd_end:{layer}"] / plain[f"sd_best:{layer}"]).low > 2


@pytest.mark.parametrize("name", PILOT)
def test_behind_batch_norm_entropy_falls_and_hardly_at_unit_variance(
    name: str, tables: dict[str, pd.DataFrame]
) -> None:
    normed = tables[name][tables[name]["label"] == "normNet"]

    def moved(quantity: str, layer: str) -> Description:
        after = normed[f"{quantity}_end:{layer}"] - normed[f"{quantity}_best:{layer}"]
        return comparison.describe(after / np.log(CHANNELS["conv4"]))

    assert moved("entropy", "conv4").low > 0
    assert moved("entropy", "norm2").high < -0.05
    assert abs(moved("scale_free_entropy", "norm2").mean) < 0.01


@pytest.mark.parametrize("name", SETTINGS)
def test_noise_explains_most_where_activations_are_large(name: str, groups: dict[str, xr.Dataset]) -> None:
    curves = groups[name].sel(layer=BASELINE)
    large = explained_by_noise.where_large(curves)
    assert bool(
        (explained_by_noise.shares(curves)["scale"] > 1).where(large["entropy"].notnull(), True).all()
    )
    row = explained_by_noise.explained(large).iloc[0]
    assert row["low"] > 0.9
    assert 0.1 * curves["entropy"].size / 2 < row["n"] < 0.5 * curves["entropy"].size / 2


@pytest.mark.parametrize("name", SETTINGS)
def test_noise_of_the_same_sd_explains_nearly_all(name: str, groups: dict[str, xr.Dataset]) -> None:
    row = explained_by_noise.explained(groups[name].sel(layer=BASELINE)).iloc[0]
    assert row["sd"] == "pooled"
    assert row["low"] > 0.96
    assert row["rms"] < 0.03
    assert abs(row["bias"]) < 0.01


@pytest.mark.parametrize("name", PILOT)
def test_noise_is_less_exact_at_large_scales(name: str, groups: dict[str, xr.Dataset]) -> None:
    shares = explained_by_noise.shares(groups[name].sel(layer=BASELINE))
    residual = (shares["observed"] - shares["pooled"]).set_index(run="label")
    scale = shares["scale"].set_index(run="label")
    above = residual.where(scale > 1.5)
    for layer in ("conv2", "conv3", "conv4", "fc1"):
        assert above.sel(run=PLAIN, layer=layer).mean() > 0.01
    assert above.sel(run="normNet", layer="fc1").mean() < -0.01
    below = residual.where(scale < 1)
    assert float(np.sqrt((below**2).mean())) < 0.01


def test_noise_explains_least_of_dropout_and_behind_batch_norm(groups: dict[str, xr.Dataset]) -> None:
    r2 = by_network_and_layer(groups["cifar10-jpeg"])
    assert r2["dropNet", "conv4"] < 0.75
    assert r2["normNet", "conv3"] < r2["normNet", "fc1"] < 0.3
    assert r2.idxmin() == ("normNet", "conv3")
    observed = explained_by_noise.shares(groups["cifar10-jpeg"].sel(layer=["conv3"]))["observed"]
    spread = {name: observed.set_index(run="label").sel(run=name).std() for name in ("normNet", PLAIN)}
    assert spread["normNet"] < 0.02 < 0.2 < spread[PLAIN]
    observed = explained_by_noise.shares(groups["cifar10-jpeg"])["observed"].set_index(run="label")
    for name, layer in (("dropNet", "conv4"), ("normNet", "fc1")):
        assert observed.sel(run=name, layer=layer).std() > 0.09
    others = r2.drop(["normNet"], level="label").drop([("dropNet", "conv4"), ("sr1Net", "conv1")])
    assert others.min() > 0.8


@pytest.mark.parametrize("name", SETTINGS)
def test_the_variance_penalty_is_equivalent(name: str, tables: dict[str, pd.DataFrame]) -> None:
    a, b = (labelled(name, network) for network in ("varNet", "sr2Net"))
    for quantity in ("best_accuracy", "chosen_accuracy", "last_five_accuracy"):
        twin = comparison.compare(tables[name], a, b, quantity)
        assert -0.01 < twin.low < twin.high < 0.01
    assert comparison.compare(tables[name], b, PLAIN, "chosen_accuracy").low > 0


def test_loss_rises_even_less_under_the_variance_penalty(tables: dict[str, pd.DataFrame]) -> None:
    rise = {
        name: comparison.compare(table, *(labelled(name, n) for n in ("varNet", "sr2Net")), "val_loss_rise")
        for name, table in tables.items()
    }
    assert -0.05 < rise["cifar10-jpeg"].low < rise["cifar10-jpeg"].high < 0
    for name in SETTINGS[1:]:
        assert rise[name].low < 0 < rise[name].high


@pytest.mark.parametrize("name", PILOT)
def test_conv1_is_no_further_from_random_filters_than_conv2(name: str, groups: dict[str, xr.Dataset]) -> None:
    curves = groups[name]
    factors = {layer: random_filters.factor_over_random(curves, PLAIN, layer) for layer in BASELINE}
    assert factors["conv2"].mean > factors["conv1"].mean > 1.4
    assert factors["conv1"].mean > factors["conv4"].mean
    rows = random_filters.correlations(curves).set_index(["label", "layer", "moment"])["mean"]
    assert rows[PLAIN, "conv1", "end"] > 1.5 * max(rows[PLAIN, layer, "end"] for layer in BASELINE[1:])
    start = [rows[PLAIN, layer, "start"] / factor for layer, factor in random_of(curves).items()]
    assert 0.9 < min(start) < max(start) < 1.1


def random_of(curves: xr.Dataset) -> dict[str, float]:
    rows = random_filters.correlations(curves).groupby("layer")["expected"].first()
    return rows.to_dict()


@pytest.mark.parametrize("name", PILOT)
def test_smaller_activations_use_more_directions(name: str, groups: dict[str, xr.Dataset]) -> None:
    rank, kept = capacity.rank_share(groups[name]), capacity.ablation_area(groups[name])
    wider = capacity.compare_layers(rank, "sr2Net", PLAIN)
    assert wider["conv3"].low > 0.1
    assert wider["fc1"].high < 0
    assert capacity.compare_layers(rank, "varNet", "sr2Net")["conv3"].high > 0
    assert capacity.compare_layers(rank, "normNet", "sr2Net")["conv4"].low > 0.3
    needed = capacity.compare_layers(kept, "sr2Net", PLAIN)
    assert all(abs(each.mean) < 0.08 for each in needed.values())


def test_silencing_channels_shows_little_on_photographs(groups: dict[str, xr.Dataset]) -> None:
    curves = groups["cifar10-jpeg"]
    needed = capacity.compare_layers(capacity.ablation_area(curves), "sr2Net", PLAIN)
    clear = [layer for layer, each in needed.items() if each.direction]
    assert clear == ["conv3", "conv4"]
    assert max(abs(each.mean) for each in needed.values()) < 0.04
    twin = capacity.compare_layers(capacity.rank_share(curves), "varNet", "sr2Net")
    assert twin["conv3"].low > 0


def test_the_best_epoch_is_optimistic(groups: dict[str, xr.Dataset]) -> None:
    rows = pd.concat([comparison.optimism(groups[name]) for name in PILOT])
    assert 0.2 < rows["mean"].min() < rows["mean"].max() < 1.2
    assert (rows["rank by best"] != rows["rank by chosen"]).sum() == 7
    assert len(rows) == 14


def test_filters_of_fc1_end_more_alike_under_the_penalties_those_of_conv3_less(
    groups: dict[str, xr.Dataset],
) -> None:
    photographs = groups["cifar10-jpeg"]
    for network in ("sr2Net", "varNet"):
        plain, penalised = (
            {n: random_filters.factor_over_random(photographs, name, n) for n in ("conv3", "fc1")}
            for name in (PLAIN, network)
        )
        assert penalised["fc1"].low > plain["fc1"].high
        assert penalised["conv3"].high < plain["conv3"].low


def test_noise_at_each_position_explains_slightly_more_on_cifar100() -> None:
    curves = analysis.grid_runs(study.published("registered"), "registered").sel(layer=BASELINE)
    r2 = explained_by_noise.explained(curves).set_index("sd")["r2"]
    assert r2.min() > 0.96
    assert 0 < r2["positions"] - r2["pooled"] < 0.02
    rows = explained_by_noise.explained(curves, by=["label", "layer"]).set_index(["label", "layer", "sd"])[
        "r2"
    ]
    assert rows["dropNet", "conv4", "pooled"] < 0.6
    assert rows["dropNet", "conv4", "positions"] > 0.98
    assert rows[PLAIN, "conv2", "positions"] < rows[PLAIN, "conv2", "pooled"]


def test_rescaling_restores_the_entropies_of_a_published_network_and_no_logit_changes() -> None:
    kept = [study.load(path) for path in results.published_runs("registered")]
    (run,) = (run for run in kept if run.experiment.network == PLAIN)
    (lowest, prepare), (last, _) = (study.trained_network(run, moment) for moment in ("lowest_loss", "last"))
    images = torch.from_numpy(run.root["images"].to_numpy()).movedim(-1, 1)
    assert len(images) == 4
    wanted, was = monitored(lowest, prepare(images)), monitored(last, prepare(images))
    sds = {layer: wanted[layer].sd for layer in TARGETED}
    rescaled = rescaling.to_scales(last, images, prepare, sds)
    now = monitored(rescaled, prepare(images))
    for layer in TARGETED:
        best, after, restored = (each[layer].entropy for each in (wanted, was, now))
        assert best - after > 0.8
        assert abs(restored - best) < (best - after) / 5
    torch.testing.assert_close(rescaled(prepare(images)), last(prepare(images)), rtol=1e-4, atol=1e-4)


def monitored(model: nn.Module, inputs: Tensor) -> dict[str, LayerStats]:
    with torch.no_grad(), ActivationMonitor(model, list(TARGETED)) as monitor:
        model(inputs)
    return dict(monitor.compute())
