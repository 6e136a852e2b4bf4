"""Runs are told apart by what shrinks their weights; what is put in comes out, what is lacking is said."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from synthetic import many, shrunk

from sparsity_lib.study import Experiment, StudyError, figures
from sparsity_lib.study.analysis import coherent
from sparsity_lib.study.analysis.coherent import ALWAYS, DECAY, DELAYED, GATED, NONE, told

SEEDS = "100-102"
EXPERIMENTS = coherent.experiments("laptop", SEEDS)


def put_in(experiment: Experiment) -> xr.Dataset:
    """L1 is too strong from 0.003 on, unless it is delayed, which then halves the weights and gains 0.02.

    A gate at 0.001 loses 0.01; L2 gains as weight decay does, and fails nowhere.
    """
    seed = 0.01 * (experiment.seed - 100)
    of = coherent.described(experiment)
    if of["term"] != "L1":
        return shrunk(experiment, 0.8 + seed + 0.05 * (of["term"] != ""))
    if of["way"] == DELAYED:
        return shrunk(experiment, 0.82 + seed + 0.001 * experiment.seed, kept=0.5)
    if of["strength"] >= 0.003:
        return shrunk(experiment, 0.1, kept=0.01, guesses=True)
    return shrunk(experiment, 0.8 + seed - 0.01 * (of["way"] == GATED), kept=0.8)


@pytest.fixture(scope="module")
def curves() -> xr.Dataset:
    return coherent.gathered(many([put_in(experiment) for experiment in EXPERIMENTS]), EXPERIMENTS)


@pytest.fixture(scope="module")
def table(curves: xr.Dataset) -> pd.DataFrame:
    return coherent.outcomes(curves)


def test_experiments_are_told_apart_by_term_strength_and_way():
    cells = [tuple(coherent.described(e).values()) for e in EXPERIMENTS if e.seed == 100]
    assert (
        len(set(cells)) == len(cells) == 1 + 3 * (5 + 3) + 3
    )  # plain; three ways of L1 and L2; weight decay
    for term in ("L1", "L2"):
        assert {way for name, _, way in cells if name == term} == {ALWAYS, DELAYED, GATED}
    assert ("", 0.0, NONE) in cells
    assert (DECAY, 0.01, ALWAYS) in cells
    assert len(coherent.experiments("desktop", "100")) == 7 + 3  # plain, three ways of two L1; weight decay
    assert coherent.experiments("paper") == []


def test_fresh_runs_stand_in_for_cells_without_published_ones():
    plain, *others = EXPERIMENTS
    published = many([put_in(plain), put_in(others[0])])
    fresh = [experiment.model_copy(update={"seed": 0}) for experiment in (plain, others[1])]
    found = coherent.gathered(published, [*EXPERIMENTS, *fresh], instead=many([put_in(e) for e in fresh]))
    assert set(found["run"].to_numpy()) == {plain.id, others[0].id, fresh[1].id}
    for nothing in (None, published.isel(run=[])):
        with pytest.raises(StudyError, match="there are no runs with strong L1 or L2"):
            coherent.gathered(nothing, EXPERIMENTS)


def test_outcomes_are_of_the_last_network(table):
    delayed = coherent.cell(table, "L1", 0.001, DELAYED)
    assert delayed["compression"].tolist() == pytest.approx([2.0] * 3)
    assert delayed["accuracy"].tolist() == pytest.approx([0.92, 0.931, 0.942])
    assert not delayed["guesses"].any()
    failed = coherent.cell(table, "L1", 0.003, GATED)
    assert failed["guesses"].all()
    assert failed["compression"].tolist() == pytest.approx([100.0] * 3, rel=1e-5)
    assert failed["log_compression"].isna().all()  # that of a network without a use
    assert table[table["term"] == DECAY]["compression"].isna().all()
    assert failed["term_pull"].tolist() == [0.003] * 3


def test_a_run_that_diverged_fails_like_one_that_guesses(curves):
    lost = Experiment(
        network="vanillaNet", l2=1.0, rho=-1.0, dataset="digits", lr=0.1, label_noise=0.3, seed=9
    )
    found = coherent.outcomes(
        curves, {lost.id: "the loss is not finite", "another": ""}, [*EXPERIMENTS, lost]
    )
    (row,) = found[found["run"] == lost.id].to_dict("records")
    assert (row["term"], row["strength"], row["way"], row["guesses"]) == ("L2", 1.0, ALWAYS, True)
    assert np.isnan(row["accuracy"])
    assert len(found) == curves.sizes["run"] + 1
    assert "L2 1: 1 of 4 always on" not in told.levels(found)[1]  # a quarter is not half


def test_the_tolerance_level_is_the_least_strength_at_which_half_of_the_runs_guess(table):
    assert coherent.tolerance(table, "L1") == 0.003
    assert np.isnan(coherent.tolerance(table, "L2"))
    first, second = told.levels(table)
    assert first.startswith("L1: the tolerance level is 0.003, where 3 of 3 runs always on guess.")
    assert (
        "a norm of 0.003, 0.3 times that of the loss's gradient; at 0.001, with a norm of 0.001, 0.1" in first
    )
    assert second.startswith(
        "L2: no tolerance level was reached; of the runs always on guess 0 of 3 at 0.01, 0 "
    )
    assert told.rescues(table)[0] == "L1 0.003: 3 of 3 always on, 0 of 3 delayed and 3 of 3 gated runs guess."
    with pytest.raises(StudyError, match="nothing to rescue"):
        told.rescues(table[table["term"] != "L1"])


def test_pairs_are_of_the_same_seed(table):
    found = coherent.comparisons(table).set_index(["term", "strength", "way", "against", "quantity"])
    gated = found.loc[("L1", 0.001, GATED, ALWAYS, "accuracy"), "difference"]
    assert gated.mean == pytest.approx(-0.01)
    assert gated.sd == pytest.approx(0, abs=1e-6)
    factor = found.loc[("L1", 0.001, DELAYED, ALWAYS, "log_compression"), "difference"]
    assert np.exp(factor.mean) == pytest.approx(0.8 / 0.5)
    rescued = found.loc[("L1", 0.003, DELAYED, ALWAYS, "log_compression"), "difference"]
    assert (rescued.n, rescued.missing) == (0, 3)  # always on, all guess
    words = told.compared(coherent.comparisons(table), NONE)
    assert words.loc[("L1 0.001", GATED), "accuracy at the end"].startswith("−0.010\u00a0±\u00a00.000 (")
    assert words.loc[("L1 0.003", GATED), "guess"] == "3 of 3"
    assert words.loc[("L1 0.003", GATED), "compression"] == ""
    assert words.loc[("L1 0.001", DELAYED), "compression"].startswith("2.00\u00a0×/÷\u00a01.00 (")


def test_directions_are_said_where_there_is_something_to_compare(table):
    sentences = told.directions(table, [(GATED, ALWAYS), (DELAYED, NONE)])
    assert sentences == [
        "Gated against always on, accuracy at the end: clearly lower at L1 0.0003 and L1 0.001; not clearly "
        "different at L2 0.01, L2 0.1 and L2 1; both guess at L1 0.003, L1 0.01 and L1 0.03.",
        "Delayed against no regulariser, accuracy at the end: clearly higher at L1 0.0003, L1 0.001, L1 "
        "0.003, L1 0.01, L1 0.03, L2 0.01, L2 0.1 and L2 1.",
    ]
    *_, gated = told.most_compressed(table.query("term != 'L2'"))
    assert gated == "Gated: at every strength clearly less accurate than no regulariser, or some runs guess."
    assert "compression is highest at L1 0.0003, 2.00 (95 %" in told.most_compressed(table)[1]


def test_runs_that_guess_are_counted_where_others_of_their_cell_do_not(table):
    mixed = table.copy()
    mixed.loc[(mixed["term"] == "L2") & (mixed["way"] == GATED) & (mixed["seed"] == 100), "guesses"] = True
    (sentence,) = told.directions(mixed[mixed["term"] != "L1"], [(GATED, ALWAYS)])
    assert "not clearly different at L2 0.01 (1 of 3 runs guess, against 0 of 3), L2 0.1 (1 of 3" in sentence
    assert told.rescues(mixed)[0].startswith("L1 0.003")
    assert np.isnan(coherent.tolerance(mixed, "L2"))


def test_weight_decay_is_set_beside_l2_of_the_same_strength(table):
    weak, _, strong = told.decay(table)
    assert weak.startswith("Weight decay 0.0001, accuracy at the end, against no regulariser: higher, +0.050")
    assert "L2" not in weak
    assert "against L2 0.01 always on: no clear difference, " in strong


def test_the_gate_and_coherence_are_told_at_both_ends(curves):
    first, second, *_ = told.coherence(curves)
    assert first.startswith(
        "Without a regulariser, coherence is above zero (+0.30, 95 % interval +0.30 to +0.30"
    )
    assert "and below zero (−0.30" in first
    assert second == (
        "L1 0.0003, gated: the gate is open in 100 % of the steps of the first epoch, and in 0 % of those "
        "of the last 5 epochs."
    )


def test_what_is_lacking_is_said_in_one_line(table, curves):
    only_decay = table[table["term"] == DECAY]
    plain = table[table["way"] == NONE]
    for make, rows, said in (
        (told.levels, plain, "no runs with L1 or L2 always on"),
        (told.decay, plain, "no runs with weight decay"),
        (told.most_compressed, only_decay, "no pairs of runs with and without"),
        (coherent.comparisons, plain, "no runs with a regulariser"),
        (figures.strength_sweep, only_decay, "no runs with L1 or L2"),
        (figures.pulls, plain, "no runs always on"),
        (figures.accuracy_against_compression, only_decay, "no runs whose compression was measured"),
        (figures.paired_ways, coherent.comparisons(only_decay), "no runs with L1 or L2"),
        (told.coherence, curves.isel(run=(curves["way"] == ALWAYS).to_numpy()), "no plain or gated runs"),
        (
            figures.coherence_curves,
            curves.isel(run=(curves["way"] == NONE).to_numpy()),
            "no runs with L1 or L2",
        ),
    ):
        with pytest.raises(StudyError, match=f"there are {said}"):
            make(rows)


def test_one_seed_has_no_intervals_and_still_a_page():
    once = [experiment for experiment in EXPERIMENTS if experiment.seed == 100]
    runs = coherent.gathered(many([put_in(experiment) for experiment in once]), once)
    table = coherent.outcomes(runs)
    assert "+0.30 (one run)" in told.coherence(runs)[0]
    found = coherent.comparisons(table)
    assert told.compared(found, ALWAYS).loc[("L1 0.001", GATED), "accuracy at the end"] == "−0.010"
    with pytest.raises(StudyError, match="no pairs of runs"):
        told.directions(table, [(GATED, ALWAYS)])
    drawn = (figures.strength_sweep(table, table), figures.pulls(table), figures.paired_ways(found))
    assert all(figure.axes for figure in (*drawn, figures.coherence_curves(runs, runs)))
