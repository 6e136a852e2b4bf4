"""Grids of runs, filters and random filters, capacity, optimism, figures of scale: on synthetic curves."""

import numpy as np
import pytest
import xarray as xr
from refusals import refused
from synthetic import LAYERS, many, one
from test_figure_data import recorded

from sparsity_lib import functional, study
from sparsity_lib.study import analysis, data, figures, profiles
from sparsity_lib.study.analysis import capacity, comparison, random_filters
from sparsity_lib.study.runs.dimensions import CENTERS, KNOCKED_OUT

EPOCHS = np.arange(-1, 41)


def complete(label: str, seed: int, factor: float = 1.0) -> xr.Dataset:
    """A run with ranks, knock-outs, and filters that are random at first, then correlated `factor` times."""
    run = one(label, seed)
    shapes = random_filters.filter_shapes(study.Experiment())
    correlation = np.full((1, len(LAYERS), len(CENTERS), len(EPOCHS)), np.nan)
    for i, layer in enumerate(LAYERS):
        if layer in shapes:
            start = random_filters.random_correlation(*shapes[layer])
            correlation[0, i] = np.linspace(start, factor * start, len(EPOCHS))
    kept = np.where(label == "vanillaNet", 0.8 - 0.8 * np.array(KNOCKED_OUT) / 0.9, 0.8)
    rank = np.full((1, len(LAYERS), 2, len(EPOCHS)), 8.0 + seed / 10)
    return run.assign(
        correlation=(("run", "layer", "center", "epoch"), correlation),
        knockout_accuracy=(("run", "layer", "knocked_out"), np.tile(kept, (1, len(LAYERS), 1))),
        effective_rank=(("run", "layer", "split", "epoch"), rank),
    ).assign_coords(center=list(CENTERS), knocked_out=list(KNOCKED_OUT))


SR2 = "sr2Net ×16"
COMPLETE = many(
    [
        complete(label, seed, factor + 0.01 * seed)
        for label, factor in (("vanillaNet", 1.0), (SR2, 3.0))
        for seed in (0, 1, 2)
    ]
)


def test_missing_runs_and_quantities_are_refused_in_one_line() -> None:
    with refused("paper", "adam"):
        analysis.grid_runs(None, "paper", "adam")
    with refused("networks"):
        analysis.grid_runs(one(), "laptop")
    for measure, quantity in (
        (random_filters.correlations, "correlation"),
        (capacity.rank_share, "effective_rank"),
        (capacity.ablation_area, "knockout_accuracy"),
    ):
        with refused(quantity):
            measure(one())
        measure(many([COMPLETE, one("vanillaNet", 3)]))  # the run that lacks it is left out


def test_runs_of_a_grid_are_found_by_id() -> None:
    runs = [
        one(e.network, e.seed, label_noise=0.3).assign_coords(run=[e.id])
        for grid in ("networks", "200-epochs")
        for e in profiles.experiments("laptop", [100], [grid], published=True)
    ]
    found = analysis.grid_runs(many(runs), "laptop", "200-epochs")
    assert 0 < found.sizes["run"] < len(runs)
    assert set(found["run"].to_numpy()) == {run["run"].item() for run in runs[-found.sizes["run"] :]}


def test_filter_shapes_are_those_of_the_networks() -> None:
    shapes = random_filters.filter_shapes(study.Experiment(dataset="cifar100", size="xxl"))
    assert (shapes["conv1"], shapes["conv2"]) == ((256, 27), (256, 2304))
    loaded = data.load("digits")
    images = (loaded.train.images.shape[1], loaded.train.images.shape[2], len(loaded.classes))
    assert random_filters.IMAGES["digits"] == images


def test_random_directions_and_welch_bound_have_known_values() -> None:
    for filters, n in ((256, 27), (256, 2304)):
        expected = np.sqrt(2 / (np.pi * n))
        assert random_filters.random_correlation(filters, n) == pytest.approx(expected, rel=0.03)
    assert random_filters.welch_bound(256, 27) == pytest.approx(0.18, abs=0.005)
    assert random_filters.welch_bound(3, 2) == pytest.approx(0.5)  # three directions 120 degrees apart
    assert random_filters.welch_bound(27, 27) == 0


def test_filters_are_compared_with_random_ones() -> None:
    rows = random_filters.correlations(COMPLETE).set_index(["label", "layer", "moment"])
    assert rows.loc[("vanillaNet", "conv3", "end")]["mean"] == pytest.approx(
        1.01 * rows.loc[("vanillaNet", "conv3", "start")]["expected"], rel=1e-3
    )
    assert "norm1" not in rows.index.get_level_values("layer")
    found = random_filters.factor_over_random(COMPLETE, SR2, "conv3")
    assert (found.n, found.mean) == (3, pytest.approx(3.01, rel=1e-3))


def test_capacity_of_layers_is_recovered() -> None:
    area = capacity.ablation_area(COMPLETE)
    np.testing.assert_allclose(area.sel(layer="conv3"), [0.5] * 3 + [1] * 3, rtol=1e-6)
    share = capacity.rank_share(COMPLETE)
    np.testing.assert_allclose(share.sel(layer="conv1")[:3], (8 + np.arange(3) / 10) / 16, rtol=1e-6)
    assert capacity.compare_layers(area, SR2, "vanillaNet")["conv1"].mean == pytest.approx(0.5)
    assert capacity.describe_layers(share, SR2)["n"].tolist() == [3] * 3
    with refused():
        capacity.compare_layers(area, SR2, "dropNet")


def test_optimism_is_measured_in_points_and_ranks() -> None:
    def spiked(label: str, seed: int, top: float, rest: float) -> xr.Dataset:
        """A run that is accurate in one epoch, which the monitor images do not see."""
        accuracy = np.where(EPOCHS == 10, top, rest) + 0.001 * seed
        return one(label, seed, val_accuracy=accuracy, monitor_accuracy=np.where(EPOCHS == 20, 0.9, 0.5))

    runs = [spiked(*run) for s in range(3) for run in (("vanillaNet", s, 0.9, 0.5), ("normNet", s, 0.7, 0.7))]
    rows = comparison.optimism(many(runs)).set_index("network")
    assert rows.loc["vanillaNet", "mean"] == pytest.approx(40)
    assert rows.loc["normNet", "mean"] == pytest.approx(0)
    assert rows.loc["vanillaNet", ["rank by best", "rank by chosen"]].tolist() == [1, 2]


def test_noise_is_drawn_for_the_channels_of_the_layer() -> None:
    rows = recorded(figures.entropy_against_noise(many([one(seed=s) for s in range(7)]), "fc1"))
    noise = rows[rows["drawn"] == "Gaussian noise"]
    expected = functional.noise_entropy(noise["sd"].to_numpy(), 64) / np.log(64)
    np.testing.assert_allclose(noise["value"], expected, rtol=1e-4)
    lines = rows[(rows["drawn"] == "a run") & (rows["quantity"] == "entropy / ln D")]
    assert set(lines["seed"]) == set(range(figures.scale.SEEDS))


def test_residuals_are_those_of_both_kinds_of_sd_where_recorded() -> None:
    run = one()
    rows = recorded(figures.noise_residuals(run.assign(noise_entropy=run["entropy"])))
    assert set(rows["noise"]) == {"SD: pooled", "SD: positions"}
    assert (rows[rows["noise"] == "SD: positions"]["value"] == 0).all()
    assert len(figures.noise_residuals(run).axes) == 3  # conv1, conv3, fc1
