"""Strong L1 and L2: cells, outcomes, and errors for missing runs."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from refusals import refused
from synthetic import many, shrunk

from sparsity_lib.study import Experiment, figures
from sparsity_lib.study.analysis import comparison
from sparsity_lib.study.analysis.other_papers import coherence
from sparsity_lib.study.analysis.other_papers.coherence import ALWAYS, DELAYED, GATED, NONE, WEIGHT_DECAY

SEEDS = range(100, 103)
EXPERIMENTS = [e for e in coherence.experiments("laptop") if e.seed in SEEDS]


def synthetic_run(experiment: Experiment) -> xr.Dataset:
    """L1 is too strong from 0.003 on, unless it is delayed, which then halves the weights and gains 0.02.

    A gate at 0.001 loses 0.01; L2 gains as weight decay does, and fails nowhere.
    """
    seed = 0.01 * (experiment.seed - 100)
    of = coherence.shrinkage_of(experiment)
    if of["term"] != "L1":
        return shrunk(experiment, 0.8 + seed + 0.05 * (of["term"] != ""))
    if of["way"] == DELAYED:
        return shrunk(experiment, 0.82 + seed + 0.001 * experiment.seed, kept=0.5)
    if of["strength"] >= 0.003:
        return shrunk(experiment, 0.1, kept=0.01, guesses=True)
    return shrunk(experiment, 0.8 + seed - 0.01 * (of["way"] == GATED), kept=0.8)


@pytest.fixture(scope="module")
def curves() -> xr.Dataset:
    return coherence.runs_with_shrinkage(
        many([synthetic_run(experiment) for experiment in EXPERIMENTS]), EXPERIMENTS
    )


@pytest.fixture(scope="module")
def table(curves: xr.Dataset) -> pd.DataFrame:
    return coherence.outcomes(curves)


def test_experiments_are_described_by_term_strength_and_way():
    cells = [tuple(coherence.shrinkage_of(e).values()) for e in EXPERIMENTS if e.seed == 100]
    assert (
        len(set(cells)) == len(cells) == 1 + 3 * (5 + 3) + 3
    )  # plain; three ways of L1 and L2; weight decay
    for term in ("L1", "L2"):
        assert {way for name, _, way in cells if name == term} == {ALWAYS, DELAYED, GATED}
    assert ("", 0.0, NONE) in cells
    assert (WEIGHT_DECAY, 0.01, ALWAYS) in cells
    on_photographs = [e for e in coherence.experiments("desktop") if e.seed == 100]
    assert len(on_photographs) == 7 + 3  # plain, three ways of two L1; weight decay
    assert coherence.experiments("paper") == []


def test_runs_of_other_experiments_are_left_out():
    plain, other, *_ = EXPERIMENTS
    curves = many([synthetic_run(plain), synthetic_run(other)])
    assert set(coherence.runs_with_shrinkage(curves, [plain])["run"].to_numpy()) == {plain.id}
    for nothing in (None, curves.isel(run=[])):
        with refused("L1", "L2"):
            coherence.runs_with_shrinkage(nothing, EXPERIMENTS)


def test_outcomes_are_of_the_last_network(table):
    delayed = table[table["label"] == coherence.label_of("L1", 0.001, DELAYED)]
    assert delayed["compression"].tolist() == pytest.approx([2.0] * 3)
    assert delayed["accuracy"].tolist() == pytest.approx([0.92, 0.931, 0.942])
    assert not delayed["guesses"].any()
    failed = table[table["label"] == coherence.label_of("L1", 0.003, GATED)]
    assert failed["guesses"].all()
    assert failed["compression"].tolist() == pytest.approx([100.0] * 3, rel=1e-5)
    assert failed["log_compression"].isna().all()  # that of a network without a use
    assert table[table["term"] == WEIGHT_DECAY]["compression"].isna().all()
    assert failed["term_gradient"].tolist() == [0.003] * 3


def test_a_run_that_diverged_fails_like_one_that_guesses(curves):
    lost = Experiment(
        network="vanillaNet", l2=1.0, rho=-1.0, dataset="digits", lr=0.1, label_noise=0.3, seed=9
    )
    published = many([synthetic_run(experiment) for experiment in EXPERIMENTS]).assign_attrs(
        diverged=json.dumps({lost.id: "the loss is not finite", "another": ""})
    )
    found = coherence.outcomes(coherence.runs_with_shrinkage(published, [*EXPERIMENTS, lost]))
    (row,) = found[found["run"] == lost.id].to_dict("records")
    assert (row["label"], row["guesses"], row["seed"]) == ("L2 1, always on", True, 9)
    assert np.isnan(row["accuracy"])
    assert len(found) == curves.sizes["run"] + 1
    assert np.isnan(coherence.failure_strength(found, "L2"))  # a quarter is not half


def test_the_tolerance_level_is_the_least_strength_at_which_half_of_the_runs_guess(table):
    assert coherence.failure_strength(table, "L1") == 0.003
    assert np.isnan(coherence.failure_strength(table, "L2"))


def test_cells_have_the_means_of_runs(table):
    cells = coherence.cell_table(table)
    delayed = cells.loc[("L1", 0.003, DELAYED)]
    assert (delayed["n"], delayed["guess"]) == (3, 0)
    assert delayed["accuracy"] == pytest.approx(0.931)
    assert delayed["compression"] == pytest.approx(2)
    assert delayed["regulariser's gradient"] / delayed["loss's gradient"] == pytest.approx(0.3)
    failed = cells.loc[("L1", 0.003, GATED)]
    assert failed["guess"] == 3
    assert np.isnan(failed["compression"])
    assert np.isnan(failed["learners' accuracy"])
    assert delayed["learners' accuracy"] == delayed["accuracy"]


def test_pairs_are_of_the_same_seed_and_of_cells_that_learn(table):
    gated = comparison.compare(table, "L1 0.001, gated", "L1 0.001, always on", "accuracy")
    assert gated.mean == pytest.approx(-0.01)
    assert gated.sd == pytest.approx(0, abs=1e-6)
    factor = comparison.compare(table, "L1 0.001, delayed", "L1 0.001, always on", "log_compression")
    assert np.exp(factor.mean) == pytest.approx(0.8 / 0.5)
    rescued = comparison.compare(table, "L1 0.003, delayed", "L1 0.003, always on", "log_compression")
    assert rescued.n == 0  # always on, all guess
    pairs = coherence.pairs(table)
    assert ("L1 0.003, delayed", NONE) in pairs
    assert ("L1 0.003, gated", NONE) not in pairs
    found = comparison.comparison_table(table, pairs, ["accuracy"]).set_index("networks")
    assert found.loc["L1 0.001, gated minus L1 0.001, always on", "high"] < 0
    assert found.loc["L2 0.1, gated minus L2 0.1, delayed", "low"] <= 0


def test_coherence_and_gates_are_averaged_at_both_ends(curves):
    table = coherence.coherence_table(curves)
    plain, gated = table.loc[("", 0.0, NONE)], table.loc[("L1", 0.0003, GATED)]
    assert plain[["coherence, first", "coherence, last"]].tolist() == pytest.approx([0.3, -0.3])
    assert gated[["open, first", "open, last"]].tolist() == [1, 0]
    assert set(table.index.get_level_values("way")) == {NONE, GATED}


def test_missing_runs_are_refused_in_one_line(table, curves):
    only_decay = table[table["term"] == WEIGHT_DECAY]
    plain = table[table["way"] == NONE]
    for make, rows in (
        (figures.strength_sweep, only_decay),
        (figures.gradient_norms, plain),
        (figures.accuracy_against_compression, only_decay),
        (figures.coherence_curves, curves.isel(run=(curves["way"] == NONE).to_numpy())),
    ):
        with refused():
            make(rows)


def test_figures_of_one_seed_have_no_intervals():
    once = [experiment for experiment in EXPERIMENTS if experiment.seed == 100]
    runs = coherence.runs_with_shrinkage(many([synthetic_run(experiment) for experiment in once]), once)
    table = coherence.outcomes(runs)
    assert np.isnan(coherence.coherence_table(runs)["low, first"]).all()
    assert np.isnan(comparison.compare(table, "L1 0.001, gated", NONE, "accuracy").low)
    drawn = (figures.strength_sweep(table), figures.gradient_norms(table), figures.coherence_curves(runs))
    assert all(figure.axes for figure in drawn)
