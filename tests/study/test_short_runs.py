"""Every figure and table is made of runs of one and of two epochs: with one point where there is one."""

import io
from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure
from synthetic import language_models, many, shrunk

from sparsity_lib import study
from sparsity_lib.study import figures
from sparsity_lib.study.analysis import choices, comparison
from sparsity_lib.study.analysis.early_warning.detectors import watch
from sparsity_lib.study.analysis.other_papers import coherence
from sparsity_lib.study.analysis.other_papers import language_models as of_language

NETWORKS = ("vanillaNet", "normNet", "sr2Net", "sr3Net")


@cache
def made(epochs: int) -> list[study.Run]:
    """Real runs, two seeds of each network."""
    return [
        study.train(study.Experiment(network=network, seed=seed, epochs=epochs, limit=60, held_out=40))
        for network in NETWORKS
        for seed in (0, 1)
    ]


@cache
def runs(epochs: int) -> xr.Dataset:
    return study.curves(made(epochs))


def cut(curves: xr.Dataset, epochs: int) -> xr.Dataset:
    """The curves as if training had ended then."""
    short = curves.isel(epoch=slice(epochs + 1))
    return (
        short.assign_coords(epochs=("run", [epochs] * curves.sizes["run"]))
        if "epochs" in curves.coords
        else short
    )


@cache
def shrinking(epochs: int) -> xr.Dataset:
    which = coherence.experiments("laptop", "0-2")
    made_up = [shrunk(e, 0.8 + 0.01 * e.seed, kept=0.5 + 0.1 * e.seed, guesses=e.l1 > 0.003) for e in which]
    return cut(coherence.gathered(many(made_up), which), epochs)


@cache
def outcomes(epochs: int) -> pd.DataFrame:
    return choices.outcomes(cut(choices.load("laptop")[0], epochs), choices.experiments("laptop"))


@cache
def models(epochs: int) -> xr.Dataset:
    return cut(language_models(), epochs)


# By figure or table, for so many epochs.
MADE: dict[str, Callable[[int], object]] = {
    "accuracies": lambda n: figures.accuracies(runs(n), runs(n)),
    "accuracy_table": lambda n: figures.accuracy_table(runs(n), runs(n)),
    "accuracy_against_compression": lambda n: figures.accuracy_against_compression(
        coherence.outcomes(shrinking(n))
    ),
    "architectures": lambda n: figures.architectures(made(n)[0]),
    "coherence_curves": lambda n: figures.coherence_curves(shrinking(n)),
    "correlation_histograms": lambda n: figures.correlation_histograms(made(n)[0]),
    "detectors_in_runs": lambda n: figures.detectors_in_runs(watch(runs(n)), NETWORKS),
    "capacity": lambda n: figures.capacity(runs(n)),
    "entropy_curves": lambda n: figures.entropy_curves(runs(n), runs(n)),
    "entropy_table": lambda n: figures.entropy_table(runs(n)),
    "gap_curves": lambda n: figures.gap_curves(runs(n)),
    "heatmap_strip": lambda n: figures.heatmap_strip(made(n)[0]),
    "language_curves": lambda n: figures.language_curves(models(n)),
    "language_sparsity": lambda n: figures.language_sparsity(of_language.outcomes(models(n))),
    "filter_correlations": lambda n: figures.filter_correlations(runs(n)),
    "loss_curves": lambda n: figures.loss_curves(runs(n), runs(n)),
    "noise_curve": lambda n: figures.noise_curve(runs(n)),
    "noise_residuals": lambda n: figures.noise_residuals(runs(n)),
    "paired_differences": lambda n: figures.paired_differences(
        comparison.comparison_table(runs(n), [("normNet", "vanillaNet")], comparison.QUANTITIES)
    ),
    "pulls": lambda n: figures.pulls(coherence.outcomes(shrinking(n))),
    "reading_effects": lambda n: figures.reading_effects(outcomes(n)),
    "receptive_field": lambda n: figures.receptive_field(made(n)[0]),
    "response_curve": lambda n: figures.response_curve(outcomes(n)),
    "strength_sweep": lambda n: figures.strength_sweep(coherence.outcomes(shrinking(n))),
    "trained_correlations": lambda n: figures.trained_correlations(
        outcomes(n).assign(**{"correlation:filters": 0.2, "correlation:components": 0.3})
    ),
    "tuned_baselines": lambda n: figures.tuned_baselines(outcomes(n)),
    "validation_against_training": lambda n: figures.validation_against_training(runs(n)),
    "warning_leads": lambda n: figures.warning_leads({"digits": watch(runs(n))}),
}
# Made of no run's epochs.
OTHERS_MADE = {"decorrelation_descents", "noise_variances", "penalty_ratios", "widths_table"}
# Runs that short have nothing of which these are made, which is one line.
NOTHING = {
    "accuracy_against_compression": "learned anything",
}


def test_every_figure_and_table_is_tried() -> None:
    assert MADE.keys() | OTHERS_MADE == set(figures.__all__)


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("name", MADE)
def test_short_runs_are_drawn(name: str, epochs: int) -> None:
    if name in NOTHING:
        with pytest.raises(study.StudyError, match=NOTHING[name]):
            MADE[name](epochs)
        return
    shown = MADE[name](epochs)
    if isinstance(shown, Figure):
        shown.savefig(io.BytesIO())  # drawing it raises and warns of nothing
        lines = [
            line for ax in shown.axes for line in ax.lines if np.isfinite(line.get_xydata()).all(1).sum() == 1
        ]
        assert all(line.get_marker() != "None" for line in lines), "a line of one point cannot be seen"
    else:
        assert isinstance(shown, pd.DataFrame)
        assert len(shown)
