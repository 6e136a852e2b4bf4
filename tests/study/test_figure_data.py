"""A figure's data are the numbers that it draws, under names that a reader understands."""

import io
from functools import cache

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from IPython.core.formatters import DisplayFormatter
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from synthetic import language_models, many, one, shrunk, valley

from sparsity_lib import study
from sparsity_lib.study import figures
from sparsity_lib.study.analysis import choices, comparison, filters
from sparsity_lib.study.analysis import summary as analysis
from sparsity_lib.study.analysis.early_warning.detectors import watch
from sparsity_lib.study.analysis.other_papers import coherence, sparseout_noise, sparsity
from sparsity_lib.study.analysis.other_papers import language_models as of_language
from sparsity_lib.study.figures import data
from sparsity_lib.study.runs import results

SEEDS = [
    one(label, seed, val_loss=valley(20) + 0.1 * seed, entropy=(3.0, 1.0 + seed))
    for label in ("vanillaNet", "normNet")
    for seed in (0, 1, 2)
]
# Pictures: drawings have no numbers, and those of the histograms would outweigh a page.
WITHOUT = {"architectures", "correlation_histograms"}
# Figures whose values go from left to right, but for a panel with words below it.
SIDEWAYS = {
    "accuracies",
    "decorrelation_descents",
    "language_sparsity",
    "paired_differences",
    "reading_effects",
    "trained_correlations",
    "tuned_baselines",
    "warning_leads",
}


@cache
def runs() -> xr.Dataset:
    """Three networks of the laptop's published runs, five seeds each, in all settings."""
    networks = analysis.of_grid(study.published("laptop"), "laptop")
    return analysis.only(networks, label=["vanillaNet", "normNet", "sr3Net ×16"], seed=list(range(100, 105)))


@cache
def detail() -> xr.Dataset:
    """The setting with redrawn labels."""
    return analysis.settings(runs())[-1][1]


@cache
def outcomes() -> pd.DataFrame:
    """The laptop's readings, with correlations where its curves lack them."""
    _, table = choices.load("laptop")
    return table.assign(**{"correlation:filters": 0.2, "correlation:components": 0.3})


def measured(name: str) -> xr.Dataset:
    """The laptop's runs with redrawn labels in which this was measured."""
    networks = analysis.of_grid(study.published("laptop"), "laptop")
    return analysis.having(analysis.settings(networks)[-1][1], name)


@cache
def shrinking() -> xr.Dataset:
    """Made-up runs of all strengths and ways of L1 and L2; L1 fails from 0.01 on."""
    which = coherence.experiments("laptop", "0-2")
    runs = [shrunk(e, 0.8 + 0.01 * e.seed, kept=0.5 + 0.1 * e.seed, guesses=e.l1 > 0.003) for e in which]
    return coherence.gathered(many(runs), which)


def file(network: str) -> study.Run:
    """The first of the laptop's published runs of a network whose file is kept."""
    files = results.published_runs("laptop")
    return study.load(next(path for path in files if path.name.startswith(network)))


DRAW = {
    "accuracies": lambda: figures.accuracies(runs(), study.published("laptop")),
    "accuracy_against_compression": lambda: figures.accuracy_against_compression(
        coherence.outcomes(shrinking())
    ),
    "architectures": lambda: figures.architectures(file("vanillaNet")),
    "coherence_curves": lambda: figures.coherence_curves(shrinking()),
    "correlation_histograms": lambda: figures.correlation_histograms(file("vanillaNet"), layers=["conv1"]),
    "detectors_in_runs": lambda: figures.detectors_in_runs(watch(detail()), ["normNet", "vanillaNet"]),
    "decorrelation_descents": lambda: figures.decorrelation_descents(
        filters.descents(filters=8, shape=(1, 3, 3))
    ),
    "capacity": lambda: figures.capacity(measured("knockout_accuracy")),
    "entropy_curves": lambda: figures.entropy_curves(detail(), runs()),
    "gap_curves": lambda: figures.gap_curves(detail()),
    "heatmap_strip": lambda: figures.heatmap_strip(file("normNet")),
    "language_curves": lambda: figures.language_curves(language_models()),
    "language_sparsity": lambda: figures.language_sparsity(of_language.outcomes(language_models())),
    "filter_correlations": lambda: figures.filter_correlations(measured("correlation")),
    "loss_curves": lambda: figures.loss_curves(runs()),
    "noise_curve": lambda: figures.noise_curve(detail()),
    "noise_residuals": lambda: figures.noise_residuals(detail()),
    "noise_variances": lambda: figures.noise_variances(sparseout_noise.variances(draws=50)),
    "paired_differences": lambda: figures.paired_differences(
        comparison.comparison_table(
            sparsity.outcomes(runs()), [("normNet", "vanillaNet")], ["min_val_loss", "sparsity"]
        )
    ),
    "penalty_ratios": lambda: figures.penalty_ratios(sparseout_noise.logistic_increases(draws=50)),
    "pulls": lambda: figures.pulls(coherence.outcomes(shrinking())),
    "reading_effects": lambda: figures.reading_effects(outcomes()),
    "receptive_field": lambda: figures.receptive_field(file("vanillaNet")),
    "response_curve": lambda: figures.response_curve(outcomes()),
    "strength_sweep": lambda: figures.strength_sweep(coherence.outcomes(shrinking())),
    "trained_correlations": lambda: figures.trained_correlations(outcomes()),
    "tuned_baselines": lambda: figures.tuned_baselines(outcomes()),
    "validation_against_training": lambda: figures.validation_against_training(runs()),
    "warning_leads": lambda: figures.warning_leads({"digits": watch(detail())}),
}


def digits(numbers: ArrayLike) -> list[str]:
    """The numbers as they are recorded; missing ones are not drawn."""
    return [f"{x:.6g}" for x in np.asarray(numbers, float) if np.isfinite(x)]


def series(numbers: ArrayLike) -> str:
    """The numbers one after the other, to look for some of them among others in the same order."""
    return "," + "".join(f"{each}," for each in digits(numbers))


def recorded(figure: Figure) -> pd.DataFrame:
    """A figure's data as a reader gets them."""
    text = data.csv(figure)
    assert text is not None
    return pd.read_csv(io.StringIO(text))


def test_every_figure_is_tested() -> None:
    made = [name for name in figures.__all__ if getattr(figures, name).__annotations__["return"] is Figure]
    assert sorted(DRAW) == sorted(made)


@pytest.mark.parametrize("name", DRAW)
def test_drawn_values_are_recorded(name: str) -> None:
    before = dict(mpl.rcParams)
    figure = DRAW[name]()
    figure.savefig(buffer := io.BytesIO(), dpi=40)
    assert buffer.getvalue().startswith(b"\x89PNG")
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before
    assert to_rgb(figure.get_facecolor()) == (1, 1, 1)  # legible on a dark page
    assert (data.csv(figure) is None) == (name in WITHOUT)
    if name in WITHOUT:
        return
    table = recorded(figure)
    assert next(iter(table)) == "drawn"
    assert table[table.columns.intersection(["value", "low", "high"])].notna().any(axis=1).all()
    keys = table.columns.difference(["value", "low", "high"], sort=False)
    assert not table.duplicated(keys.to_list()).any(), "two numbers under one name"
    assert not [name for name in table if name.startswith("_") or name.lower() != name]
    for ax in figure.axes:
        values = 0 if name in SIDEWAYS and not ax.xaxis.have_units() else 1
        for line in ax.lines:
            if line.get_marker() != "None" or len(line.get_xdata()) > 2:  # else a guide
                assert series(line.get_data(orig=False)[values]) in series(table["value"]), line
        for dots in (each for each in ax.collections if isinstance(each, PathCollection)):
            assert series(np.asarray(dots.get_offsets())[:, values]) in series(table["value"]), dots
        for band in (each for each in ax.collections if isinstance(each, PolyCollection)):
            outline = pd.DataFrame(np.concatenate([path.vertices for path in band.get_paths()]))
            heights = outline.groupby(0)[1]
            assert set(digits(heights.min())) <= set(digits(table["low"])), band
            assert set(digits(heights.max())) <= set(digits(table["high"])), band


@pytest.mark.parametrize("published", [None, many(SEEDS)])
def test_loss_curves_record_the_mean_of_these_seeds_and_whose_range_the_band_is(
    published: xr.Dataset | None,
) -> None:
    table = recorded(figures.loss_curves(many(SEEDS[:2] + SEEDS[3:]), published))
    kinds = table[table["network"] == "vanillaNet"].set_index("epoch").groupby("drawn")
    losses = analysis.smoothed(analysis.trained(many(SEEDS[:2]))["val_loss"])
    whose, band = "these", losses
    if published is not None:
        whose, band = "the published", analysis.smoothed(analysis.trained(many(SEEDS[:3]))["val_loss"])
    between = f"lowest and highest of {whose} seeds"
    assert set(kinds.groups) == {"mean", between}
    mean, ends = kinds.get_group("mean"), kinds.get_group(between)
    for drawn, expected in (
        (mean["value"], losses.mean("run")),
        (ends["low"], band.min("run")),
        (ends["high"], band.max("run")),
    ):
        np.testing.assert_allclose(drawn, expected.dropna("epoch"), rtol=1e-5)
    assert mean[["low", "high"]].isna().all(axis=None)
    assert ends["value"].isna().all()
    assert (set(mean["runs"]), set(ends["runs"])) == ({2}, {band.sizes["run"]})
    assert mean.index[0] == ends.index[0] == 0
    assert set(table["setting"]) == {"digits, s"}
    assert set(table["quantity"]) == {"validation loss (nats), smoothed (sigma 2 epochs)"}


def test_entropy_curves_are_recorded_by_layer_and_quantity() -> None:
    table = (
        recorded(figures.entropy_curves(many(SEEDS))).set_index(["quantity", "layer", "network"]).sort_index()
    )
    last = table.loc[("entropy (nats)", "conv3", "vanillaNet")].query("epoch == epoch.max()")
    last = last.set_index("drawn")
    ends = last.loc["lowest and highest of these seeds"]
    assert (last.loc["mean", "value"], ends["low"], ends["high"]) == (2, 1, 3)
    assert set(table.loc[("SD of activations", "norm1", "normNet")]["drawn"]) == {"mean"}
    limits = table[table["drawn"] == "ln D"]["value"]
    assert limits[("entropy (nats)", "conv3")].item() == pytest.approx(np.log(32), rel=1e-5)
    assert (table["drawn"] == "median moment of overfitting").sum() == 2


def test_maps_are_recorded_by_position(tiny_run: study.Run) -> None:
    table = recorded(figures.heatmap_strip(tiny_run, image=2, epochs=[-1, 11], layers=["conv1"]))
    pixels = table[table["drawn"] == "image"]["value"].to_numpy().reshape(8, 8)
    np.testing.assert_array_equal(pixels, tiny_run.root["images"].isel(image=2)[..., 0])
    maps = table[table["epoch"] == 11].set_index(["row", "column"])["value"]
    kept = tiny_run.layer("conv1")["heatmap"].sel(saved_epoch=11).isel(image=2)
    assert maps[3, 5] == pytest.approx(float(kept[3, 5]), rel=1e-5)
    assert maps.size == kept.size


def test_maps_that_would_outweigh_a_page_are_not_offered(
    tiny_run: study.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures.maps, "MOST_POSITIONS", 127)
    assert data.csv(figures.heatmap_strip(tiny_run, epochs=[-1, 11], layers=["conv1"])) is None


def test_a_notebook_shows_the_picture_and_carries_the_data() -> None:
    formatter = DisplayFormatter()
    formatter.formatters["image/png"].for_type(Figure, lambda figure: b"picture")
    figure = figures.loss_curves(many(SEEDS))
    shown, _ = formatter.format(figure)
    assert shown["text/csv"] == data.csv(figure)
    assert {"image/png", "text/plain"} <= set(shown)
    assert "text/csv" not in formatter.format(figures.architectures(file("vanillaNet")))[0]


def test_series_of_different_lengths_are_refused() -> None:
    axes = Figure().subplots()
    with pytest.raises(ValueError, match="shape mismatch"):
        data.record(axes, "mean", epoch=[1, 2, 3], value=[1.0, 2.0])
