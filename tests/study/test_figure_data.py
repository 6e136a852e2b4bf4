"""Figures and their data: the recorded values are those drawn, also of runs of one and two epochs."""

import io
from collections.abc import Callable
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
from synthetic import language_models, many, shrunk
from test_figures import SEEDS

from sparsity_lib import study
from sparsity_lib.study import analysis, figures
from sparsity_lib.study.analysis import choices, comparison, decorrelation
from sparsity_lib.study.analysis.early_warning.detectors import detector_inputs
from sparsity_lib.study.analysis.other_papers import coherence, sparseout_noise, sparsity
from sparsity_lib.study.analysis.other_papers import language_models as of_language
from sparsity_lib.study.figures import data
from sparsity_lib.study.runs import results

# Pictures: drawings have no numbers, and those of the histograms would outweigh a page.
WITHOUT = {"architectures", "correlation_histograms"}
# Figures with a horizontal value axis, except in panels whose horizontal axis has categories.
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
def short_run(network: str) -> study.Run:
    """A real run of one epoch."""
    return study.train(study.Experiment(network=network, epochs=1, limit=60, held_out=40))


def cut(curves: xr.Dataset, epochs: int | None) -> xr.Dataset:
    """The curves as if training had ended after that many epochs; unchanged if None."""
    if epochs is None:
        return curves
    short = curves.isel(epoch=slice(epochs + 1))
    planned = {"epochs": ("run", [epochs] * curves.sizes["run"])} if "epochs" in curves.coords else {}
    return short.assign_coords(planned)


# The runs and tables drawn, from runs of so many epochs; from published runs of full length if None.


@cache
def runs(epochs: int | None = None) -> xr.Dataset:
    """Three networks of the laptop's published runs, five seeds each, in all settings."""
    networks = analysis.grid_runs(study.published("laptop"), "laptop")
    labels = ["vanillaNet", "normNet", "sr3Net ×16"]
    return cut(analysis.only(networks, label=labels, seed=list(range(100, 105))), epochs)


def detail(epochs: int | None) -> xr.Dataset:
    """The setting with redrawn labels."""
    return analysis.settings(runs(epochs))[-1][1]


def measured(name: str, epochs: int | None) -> xr.Dataset:
    """The laptop's runs with redrawn labels in which this was measured."""
    networks = analysis.grid_runs(study.published("laptop"), "laptop")
    return cut(analysis.runs_with(analysis.settings(networks)[-1][1], name), epochs)


@cache
def outcomes(epochs: int | None) -> pd.DataFrame:
    """The laptop's readings, with correlations where its curves lack them."""
    table = choices.outcomes(cut(choices.load("laptop")[0], epochs), choices.experiments("laptop"))
    return table.assign(**{"correlation:filters": 0.2, "correlation:components": 0.3})


@cache
def shrinking(epochs: int | None) -> xr.Dataset:
    """Made-up runs of all strengths and ways of L1 and L2; L1 fails from 0.01 on."""
    which = [e for e in coherence.experiments("laptop") if e.seed in (100, 101)]
    made = [shrunk(e, 0.01 * e.seed - 0.2, kept=0.1 * e.seed - 9.5, guesses=e.l1 > 0.003) for e in which]
    return cut(coherence.runs_with_shrinkage(many(made), which), epochs)


@cache
def models(epochs: int | None) -> xr.Dataset:
    return cut(language_models(), epochs)


def file(network: str, epochs: int | None = None) -> study.Run:
    """The first run of a network with a file."""
    if epochs is not None:
        return short_run(network)
    files = results.published_runs("laptop")
    return study.load(next(path for path in files if path.name.startswith(network)))


def pairs(epochs: int | None) -> pd.DataFrame:
    return comparison.comparison_table(
        sparsity.outcomes(runs(epochs)), [("normNet", "vanillaNet")], ["min_val_loss", "sparsity"]
    )


# Figures by name, from runs of so many epochs.
DRAW: dict[str, Callable[[int | None], Figure]] = {
    "accuracies": lambda n: figures.accuracies(runs(n), runs(n)),
    "accuracy_against_compression": lambda n: figures.accuracy_against_compression(
        coherence.outcomes(shrinking(n))
    ),
    "architectures": lambda n: figures.architectures(file("vanillaNet", n)),
    "coherence_curves": lambda n: figures.coherence_curves(shrinking(n)),
    "correlation_histograms": lambda n: figures.correlation_histograms(
        file("vanillaNet", n), layers=["conv1"]
    ),
    "detectors_in_runs": lambda n: figures.detectors_in_runs(
        detector_inputs(detail(n)), ["normNet", "vanillaNet"]
    ),
    "capacity": lambda n: figures.capacity(measured("knockout_accuracy", n)),
    "entropy_curves": lambda n: figures.entropy_curves(detail(n), runs(n)),
    "gap_curves": lambda n: figures.gap_curves(detail(n)),
    "heatmap_strip": lambda n: figures.heatmap_strip(file("normNet", n)),
    "language_curves": lambda n: figures.language_curves(models(n)),
    "language_sparsity": lambda n: figures.language_sparsity(of_language.outcomes(models(n))),
    "filter_correlations": lambda n: figures.filter_correlations(measured("correlation", n)),
    "learning_rates": lambda n: figures.learning_rates(outcomes(n).query("change == ''")),
    "loss_curves": lambda n: figures.loss_curves(runs(n), runs(n)),
    "entropy_against_noise": lambda n: figures.entropy_against_noise(detail(n)),
    "noise_residuals": lambda n: figures.noise_residuals(detail(n)),
    "paired_differences": lambda n: figures.paired_differences(pairs(n)),
    "gradient_norms": lambda n: figures.gradient_norms(coherence.outcomes(shrinking(n))),
    "reading_effects": lambda n: figures.reading_effects(outcomes(n)),
    "receptive_field": lambda n: figures.receptive_field(file("vanillaNet", n)),
    "response_curve": lambda n: figures.response_curve(outcomes(n)),
    "strength_sweep": lambda n: figures.strength_sweep(coherence.outcomes(shrinking(n))),
    "trained_correlations": lambda n: figures.trained_correlations(outcomes(n)),
    "tuned_baselines": lambda n: figures.tuned_baselines(outcomes(n)),
    "validation_against_training": lambda n: figures.validation_against_training(runs(n)),
    "warning_leads": lambda n: figures.warning_leads({"digits": detector_inputs(detail(n))}),
}
WITHOUT_RUNS: dict[str, Callable[[None], Figure]] = {
    "decorrelation_descents": lambda _: figures.decorrelation_descents(
        decorrelation.descents(filters=4, shape=(1, 2, 2))
    ),
    "noise_variances": lambda _: figures.noise_variances(sparseout_noise.variances(draws=50)),
    "penalty_ratios": lambda _: figures.penalty_ratios(sparseout_noise.logistic_increases(draws=50)),
}
TABLES: dict[str, Callable[[int], pd.DataFrame]] = {
    "accuracy_table": lambda n: figures.accuracy_table(runs(n), runs(n)),
    "difference_table": lambda n: figures.difference_table(
        runs(n), [("normNet", "vanillaNet")], ["min_val_loss"]
    ),
    "entropy_table": lambda n: figures.entropy_table(runs(n)),
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


def test_figures_and_tables_are_all_tested() -> None:
    tested = {**DRAW, **WITHOUT_RUNS, **TABLES, "widths_table": None}
    assert sorted(tested) == sorted(figures.__all__)


@pytest.mark.parametrize("name", [*DRAW, *WITHOUT_RUNS])
def test_drawn_values_are_recorded(name: str) -> None:
    before = dict(mpl.rcParams)
    figure = (DRAW | WITHOUT_RUNS)[name](None)
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


@pytest.mark.parametrize("name", DRAW)
def test_runs_of_one_epoch_are_drawn_with_a_marker_at_single_points(name: str) -> None:
    if name == "accuracy_against_compression":  # runs that short have learned nothing
        with pytest.raises(study.StudyError):
            DRAW[name](1)
        return
    figure = DRAW[name](1)
    figure.savefig(io.BytesIO(), dpi=40)
    lines = [line for ax in figure.axes for line in ax.lines]
    single = [line for line in lines if np.isfinite(line.get_xydata()).all(1).sum() == 1]
    assert all(line.get_marker() != "None" for line in single)


@pytest.mark.parametrize("name", TABLES)
def test_runs_of_one_epoch_have_rows_in_tables(name: str) -> None:
    assert len(TABLES[name](1))


@pytest.mark.parametrize("published", [None, many(SEEDS)])
def test_loss_curves_record_the_mean_and_the_range_of_seeds(
    published: xr.Dataset | None,
) -> None:
    table = recorded(figures.loss_curves(many(SEEDS[:2] + SEEDS[3:]), published))
    kinds = table[table["network"] == "vanillaNet"].set_index("epoch").groupby("drawn")
    losses = analysis.smoothed(analysis.trained(many(SEEDS[:2]))["val_loss"])
    band = losses
    if published is not None:
        band = analysis.smoothed(analysis.trained(many(SEEDS[:3]))["val_loss"])
    (between,) = kinds.groups.keys() - {"mean"}
    assert ("published" in between) == (published is not None)
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
    assert (table["drawn"] == "median moment of overfitting").sum() == 3  # networks


def test_maps_that_would_outweigh_a_page_are_not_offered(
    tiny_run: study.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures.maps, "MOST_POSITIONS", 127)
    assert data.csv(figures.heatmap_strip(tiny_run)) is None


def test_a_notebook_shows_the_picture_and_carries_the_data() -> None:
    formatter = DisplayFormatter()
    formatter.formatters["image/png"].for_type(Figure, lambda figure: b"picture")
    figure = figures.loss_curves(many(SEEDS))
    shown, _ = formatter.format(figure)
    assert shown["text/csv"] == data.csv(figure)
    assert {"image/png", "text/plain"} <= set(shown)
    assert "text/csv" not in formatter.format(figures.architectures(file("vanillaNet")))[0]
