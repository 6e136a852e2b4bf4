"""One change at a time: runs are named by it, paired by seed, and told by what is put in."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from synthetic import QUICK, claim, curve, many, one, valley

import sparsity_lib as sl
from sparsity_lib import functional, study
from sparsity_lib.study import StudyError, claims, figures, profiles
from sparsity_lib.study.analysis import readings
from sparsity_lib.study.analysis import summary as analysis
from sparsity_lib.study.analysis.comparison import describe
from sparsity_lib.study.analysis.readings import filters, rules, told
from sparsity_lib.study.analysis.summary import OnsetRule
from sparsity_lib.study.claims import Cell, Claim, Criterion, verdicts

EXPERIMENTS = readings.experiments("laptop", "0-3")
NAMES = {e.id: readings.name_of(e, 16.0) for e in EXPERIMENTS}


def made_up(experiment: study.Experiment, accuracy: float, seed_effect: float = 0.01) -> xr.Dataset:
    """The curves of a run that is `accuracy` all along, higher at higher seeds; monitor images see half."""
    level = np.full(42, accuracy + seed_effect * experiment.seed)
    run = one(
        experiment.network,
        experiment.seed,
        val_accuracy=level,
        monitor_accuracy=level / 2,
        label_noise=experiment.label_noise,
        numerics="core 0",
    )
    return targeted(run.assign_coords(run=[experiment.id]))


def targeted(runs: xr.Dataset) -> xr.Dataset:
    """The same runs with the layers that are targeted: conv4 is as conv3."""
    conv4 = runs.sel(layer=["conv3"]).assign_coords(layer=["conv4"])
    layers = [runs.sel(layer=["conv1", "conv3", "fc1"]), conv4]
    return xr.concat(layers, "layer", data_vars="minimal")


def gains(experiment: study.Experiment) -> float:
    """What is put in: sr2Net gains 0.03, T1 takes 0.02 of it; T6 gives 0.1 to vanillaNet and sr2Net alike."""
    name = NAMES[experiment.id]
    put_in = {"T1: after the ReLU": -0.02, "T6: PyTorch's initialisation": 0.1, "λ = 0.01": 0.02}
    put_in |= {"dropout 0.5": 0.05, "weight decay 0.01": -0.1}
    return 0.5 + 0.03 * (experiment.network == "sr2Net") + put_in.get(name, 0)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return readings.outcomes(many([made_up(e, gains(e)) for e in EXPERIMENTS]), EXPERIMENTS)


def test_every_cell_of_the_grid_has_a_name_of_its_own():
    grid = [e for e in readings.experiments("laptop") if e.seed == 100]
    cells = {(e.network, readings.name_of(e, 16.0)) for e in grid}
    assert len(cells) == len(grid) == len(profiles.grid("readings", "laptop").cells) + 7
    named = {name for _, name in cells}
    assert {"", "T1: after the ReLU", "T2: mean over positions", "λ = 0.1", "without fc1"} <= named
    assert "T3: no mean, T4: local" in named
    assert readings.name_of(study.Experiment(network="sr2Net")) == ""
    assert readings.name_of(study.Experiment(network="sr2Net", reduction="mean")) == "T2: mean over positions"


@pytest.mark.parametrize("profile", ["laptop", "desktop"])
def test_what_changes_is_beside_what_does_not(profile):
    """The network itself and its reference, in one setting."""
    trained = readings.experiments(profile)
    names = {e.id: readings.name_of(e, max(e.lambda_conv_scale for e in trained)) for e in trained}
    unchanged = {(e.network, e.seed) for e in trained if not names[e.id]}
    for experiment in trained:
        asked = {experiment.network, readings.changes.REFERENCE.get(experiment.network, "vanillaNet")}
        assert {(network, experiment.seed) for network in asked} <= unchanged
    settings = {(e.dataset, e.size, e.limit, e.held_out, e.epochs, e.learning_rate()) for e in trained}
    assert len(settings) == 1


def test_what_two_grids_have_is_in_the_queue_once():
    queue = [
        experiment.id for experiment in profiles.experiments("desktop", grids=["readings", "perplexity"])
    ]
    apart = [
        e.id for grid in ("readings", "perplexity") for e in profiles.experiments("desktop", grids=[grid])
    ]
    assert len(queue) == len(set(queue)) < len(apart)
    assert set(queue) == set(apart)


def test_a_profile_without_the_grid_has_no_experiments_and_no_rows():
    assert readings.experiments("paper") == []
    nothing = readings.outcomes(None, [])
    assert nothing.empty
    assert readings.outcomes(one(), EXPERIMENTS).empty  # none of these runs
    for ask in (
        readings.effects,
        readings.statements,
        readings.strengths,
        readings.tuned,
        readings.unit_variance,
        readings.correlations,
        told.provenance,
        told.overfitting,
        figures.response_curve,
    ):
        with pytest.raises(StudyError, match="there are no runs"):
            ask(nothing)
    with pytest.raises(StudyError, match="no runs"):
        readings.onsets(None, [])
    assert plt.get_fignums() == []


def test_the_mean_over_sixteen_positions_is_the_sum_at_a_sixteenth():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1))
    x, losses = torch.randn(5, 3, 4, 4), []
    for strength, reduction in ((0.001, "sum"), (0.016, "mean")):
        with sl.SparsityReg(model, {"0": strength}, reduction=reduction) as penalty:
            model(x)
            losses.append(penalty())
    torch.testing.assert_close(*losses)


def test_effects_are_what_was_put_in_and_pairs_take_out_the_seed(table):
    found = readings.effects(table).query("quantity == 'chosen_accuracy'")
    mean = {(row.reading, row.network): row.difference.mean for row in found.itertuples()}
    assert mean["T1: after the ReLU", "sr2Net"] == pytest.approx(-0.02)
    assert mean["T6: PyTorch's initialisation", "vanillaNet"] == pytest.approx(0.1)
    assert mean["T6: PyTorch's initialisation", "sr2Net"] == pytest.approx(0)  # of its difference
    assert mean["T7: standardised inputs", "sr2Net"] == pytest.approx(0)
    assert all(row.difference.sd == pytest.approx(0, abs=1e-9) for row in found.itertuples())
    assert all(row.difference.n == 4 for row in found.itertuples())


def test_a_statement_turns_only_where_the_direction_does(table):
    shifted = table.copy()
    t1 = shifted["change"] == "T1: after the ReLU"
    shifted.loc[t1, "chosen_accuracy"] -= 0.05
    found = readings.statements(shifted).query("quantity == 'chosen_accuracy'").set_index("reading")
    assert found.loc["T1: after the ReLU", "direction_usual"] == 1
    assert found.loc["T1: after the ReLU", "direction_changed"] == -1
    count, *turned = told.statements(readings.statements(shifted))
    (sentence,) = (each for each in turned if each.startswith("T1: after the ReLU"))
    assert "higher by our reading, +0.030" in sentence
    assert "lower by this one, −0.040" in sentence
    assert f"{len(readings.statements(shifted)) - len(turned)} of " in count


def test_the_best_strength_is_chosen_on_other_images_with_as_many_tries(table):
    found = readings.tuned(table)
    assert found.groupby("family").size().to_dict() == dict.fromkeys(found["family"].unique(), 3)
    assert found.groupby("family")["chosen"].sum().eq(1).all()
    ours = found[found["family"] == "SparsityReg"]
    assert ours["strength"].tolist() == [1e-4, 1e-3, 1e-2]  # the paper's, and its neighbours
    assert found[found["chosen"]].set_index("family")["strength"]["dropout"] == 0.5
    misled = table.copy()
    misled.loc[misled["change"] == "dropout 0.1", "monitor_accuracy"] = 1.0
    chosen = readings.tuned(misled).query("chosen").set_index("family")
    assert chosen["strength"]["dropout"] == 0.1
    assert chosen["difference"]["dropout"].mean == pytest.approx(0)  # judged on the validation images
    said = told.contenders(table, found)
    assert any("dropout 0.5 against SparsityReg 0.01: " in sentence for sentence in said)


def test_strengths_are_in_order_and_without_the_cell_that_lacks_fc1(table):
    mine = readings.strengths(table)
    assert mine["strength"].unique().tolist() == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    assert "without fc1" not in set(mine["change"])
    *_, last = told.responses(table)
    assert last.startswith("sr2Net without fc1, against sr2Net: ")
    assert "higher at λ = " in told.clear_strengths(table, "chosen_accuracy")


@pytest.mark.parametrize(
    ("entropy", "twin", "said"),
    [
        ((3.0, 2.0), (2.5, 2.5), "by 1.00 nats, of which nothing remains"),
        ((3.0, 2.0), (2.5, 2.25), "by 1.00 nats, of which 25 % remains"),
        ((2.0, 3.0), (2.5, 2.5), "does not clearly fall"),
    ],
)
def test_what_remains_of_a_fall_at_unit_variance(entropy, twin, said):
    runs = many([one(seed=s, entropy=entropy, scale_free_entropy=twin) for s in (0, 1)])
    summed = analysis.summary(targeted(runs)).assign(change="")
    found = readings.unit_variance(summed)
    assert said in told.at_unit_variance(found)[0]
    assert len(told.unit_variance(found)) == 3


def test_moments_are_counted_by_every_rule():
    falling = curve(3.0, 2.0, 1.0, at=20)
    runs = many([one(), one(seed=1), one(seed=2, val_loss=falling)])
    found = readings.onsets(runs, runs["run"].to_numpy().tolist())
    assert len(found) == 8
    assert set(found["n"]) == {3}
    assert set(found["found"]) == {2}
    assert set(found["median"]) == {20}
    assert told.summary(readings.outcomes(None, []), found, []) == told.onsets_agree(found)
    assert told.onsets(found).loc["2 %, σ = 4", "vanillaNet"] == "2 of 3 (20)"
    assert "found in 2 of 3 runs; the median" in told.onsets_agree(found)[0]


def test_published_curves_gain_fresh_runs_and_lacking_correlations(tiny_runs):
    every = study.curves(tiny_runs)
    old = study.curves(tiny_runs[:3]).drop_vars(["correlation", "center"])
    together = readings.gathered(old, tiny_runs[1:])
    assert together["run"].to_numpy().tolist() == every["run"].to_numpy().tolist()
    kept = together["correlation"]
    assert kept.isel(run=0).isnull().all()  # whose file is not there
    np.testing.assert_array_equal(
        kept.isel(run=slice(1, None)), every["correlation"].isel(run=slice(1, None))
    )
    assert readings.gathered(old, []) is old
    assert readings.gathered(None, tiny_runs).sizes["run"] == len(tiny_runs)


def test_the_printed_penalty_is_at_its_floor_whatever_pairs_are():
    table = readings.against_floor(64)
    assert (table["penalty"] >= table["floor"] - 1e-3).all()
    assert (table["penalty"][["random", "two opposite clusters"]] < 0.95 * -32).all()
    assert table.loc["two opposite clusters", "mean |c|"] > 0.9
    assert table.loc["a common pattern, unequal norms", "penalty"] > 0


def test_descent_lowers_what_it_descends_and_steps_are_matched():
    for weight in filters.starts(16, (1, 3, 3)).values():
        for center in functional.CENTERS:
            for penalty in ("absolute", "squared"):
                moved = filters.descend(weight, center, penalty, steps=20)
                before, after = (functional.decorrelation(w, center, penalty) for w in (weight, moved))
                assert after < before
            one_step = filters.descend(weight, center, "local", steps=1, step=0.1)
            assert (one_step - weight).norm() == pytest.approx(0.1 * float(weight.norm()), rel=1e-4)


def test_a_low_mean_needs_a_pair_that_is_alike(tiny_run):
    filters_of_conv1 = int(tiny_run.layer("conv1").attrs["channels"])
    copies = torch.eye(9).repeat(2, 1)[:filters_of_conv1]  # at right angles, but for pairs that are equal
    mean = filters.mean_absolute(copies, "none")
    bound = filters.largest_at_least(mean, tiny_run, "filters")
    assert mean < bound <= filters.pairs(copies, "none").max()
    found = readings.descents(filters=8, shape=(1, 3, 3))
    assert found["alike"].between(0, 1).all()
    clusters = told.alike(found).loc[("two opposite clusters", "filters")]
    assert clusters["signed"] == "100.0 %"


def test_floors_of_trained_filters_come_from_the_histograms(tiny_runs):
    found = readings.trained_floors(tiny_runs[:2])
    assert (found["penalty, before"] > found["floor, −D/2"] - 0.5).all()  # bins are rounded
    assert found["mean |c|, end"].between(0, 1).all()
    with pytest.raises(StudyError, match="no run files"):
        readings.trained_floors([])


def test_figures_show_every_row(table):
    kept = table.assign(**{"correlation:filters": 0.2, "correlation:components": 0.3})
    drawn = {
        "effects": figures.reading_effects(readings.effects(table)),
        "tuned": figures.tuned_baselines(readings.tuned(table)),
        "response": figures.response_curve(table),
        "trained": figures.trained_correlations(readings.correlations(kept)),
        "descents": figures.decorrelating(readings.descents(filters=8, shape=(1, 3, 3))),
        "scale": figures.entropy_against_sd(many([one(seed=s) for s in (0, 1)]), ["conv3", "fc1"]),
    }
    assert plt.get_fignums() == []
    assert all(isinstance(each, Figure) for each in drawn.values())
    rows = [label.get_text() for label in drawn["effects"].axes[0].get_yticklabels()]
    assert "T6: PyTorch's initialisation, vanillaNet" in rows
    assert len(rows) == len(set(rows)) == len(readings.effects(table)) / 2
    assert "least (0.200, n = 4)" in told.nearest_to_none(readings.correlations(kept), [])[0]


def test_cells_of_tables_are_words():
    assert told.cell(describe([0.1, 0.2, 0.3])) == "+0.200 (−0.048 to +0.448)"
    assert told.cell(describe([0.1])) == "+0.100"
    assert told.cell(describe([np.nan])) == ""


def test_one_seed_has_neither_spread_nor_interval(table):
    alone = table[table["seed"] == 0]
    for shown in (
        told.effects(readings.effects(alone)),
        told.tuned(readings.tuned(alone)),
        told.unit_variance(readings.unit_variance(alone)),
        told.overfitting(alone),
    ):
        assert "nan" not in shown.to_string().lower()
    assert "nan" not in " ".join(told.contenders(alone, readings.tuned(alone))).lower()


def test_of_one_seed_nothing_is_stated(table):
    alone = table[table["seed"] == 0]
    for state in (readings.statements, lambda one: told.clear_strengths(one, "chosen_accuracy")):
        with pytest.raises(StudyError, match="two seeds"):
            state(alone)
    said = " ".join(told.summary(alone, pd.DataFrame({"label": []}), []))
    assert "no clear difference" not in said
    assert "statements" not in said
    assert "1 seed;" in told.provenance(alone)


def planned(test: Criterion, cell: Cell, loss: Callable[[int], np.ndarray]) -> xr.Dataset:
    """The runs that a test needs in a cell; `loss` gives those of the first network, and of the second."""
    runs = []
    for which, experiments in enumerate(claims.needed(test, cell).values()):
        for experiment in experiments:
            losses = loss(which) + 0.001 * experiment.seed
            falling = {"entropy": (3.0, 2.0 - which), "scale_free_entropy": (2.5, 2.0)}
            run = targeted(one(experiment.network, experiment.seed, val_loss=losses, **falling))
            conv2 = run.sel(layer=["conv1"]).assign_coords(layer=["conv2"])
            conv2["entropy"] = conv2["entropy"] / 2
            run = xr.concat([run, conv2], "layer", data_vars="minimal")
            alike = run["weight_norm"] / (1 + np.arange(run.sizes["layer"]))[:, None]
            run["correlation"] = alike.expand_dims(center=["components"])
            runs.append(run.assign_coords(run=[experiment.id]))
    return many(runs)


SHARE = Criterion(kind="share", network="dropNet", quantity="onset_loss", expected=1)
RISE = Criterion(kind="value", network="dropNet", quantity="val_loss_rise", expected=1)
OTHER = OnsetRule(0.0, 0.02)


def by_every_rule(found: list[Claim], *runs: xr.Dataset) -> list[dict[OnsetRule, verdicts.Judgement]]:
    of_these = claims.load().model_copy(update={"claims": tuple(found)})
    return readings.judged_by_rule([of_these], verdicts.judge_all, runs)


def rising(rise: float) -> Callable[[int], np.ndarray]:
    return lambda _: curve(3.0, 1.0, 1.0 + rise, at=20)


def test_a_claim_that_turns_by_another_rule_is_named_with_the_rules() -> None:
    accuracy = Criterion(kind="value", network="dropNet", quantity="accuracy", expected=1)
    opposed = SHARE.model_copy(update={"expected": 0})
    found = [
        claim(SHARE, QUICK, name="more"),
        claim(opposed, QUICK, name="none"),
        claim(accuracy, QUICK, name="other"),
    ]
    of_two = (
        "Of 2 outcomes that rest on the rule (a claim on one set of runs), {} come out in more than one way"
    )
    (alike,) = told.judged_by_rule(by_every_rule(found, planned(SHARE, QUICK, rising(1.0))))
    assert alike == f"{of_two.format('none')}; of the 0 of primary claims none."
    # Beyond 2 % of the lowest loss and within the bootstrap's interval: only the fixed rise counts it.
    counted, turned = told.judged_by_rule(by_every_rule(found, planned(SHARE, QUICK, rising(0.04))))
    assert counted.startswith(of_two.format(2))
    rules_of_5 = "by 2 % with σ = 0, 1 and 2"
    assert turned == (
        "How many runs of dropNet have a moment of overfitting (cifar10-jpeg, s, 2,000 images, 60 epochs): 0 "
        "by our rule, 0 to 5 by all, of 5 runs. "
        f"“It is so”: opposite by ours (which decides its row of the ledger), supported {rules_of_5}; "
        f"“It is so”: supported by ours (which decides its row of the ledger), opposite {rules_of_5}."
    )
    with pytest.raises(StudyError, match="no claim that rests on the moment of overfitting has all of its"):
        by_every_rule(found)


def test_a_count_that_moves_within_its_outcome_is_told_too() -> None:
    rises = (1.0, 1.0, 1.0, 0.04, 0.0)
    runs = many([planned(SHARE, QUICK, rising(rise)).isel(run=[i]) for i, rise in enumerate(rises)])
    (_, said) = told.judged_by_rule(by_every_rule([claim(SHARE, QUICK, name="more")], runs))
    assert said == (
        "A count can move and its outcome stay: most of all how many runs of dropNet have a moment of "
        "overfitting (cifar10-jpeg, s, 2,000 images, 60 epochs), 3 by our rule, 3 to 4 by all, of 5 runs."
    )


def test_a_cell_that_only_another_rule_finds_runs_in_is_no_outcome() -> None:
    lead = Criterion(kind="lead", network="dropNet", quantity="entropy", layer=("conv1",), expected=1)
    there = planned(lead, QUICK, rising(1.0))
    long = Cell(dataset="tiny32-100", size="s", limit=10_000, kind="conceptual")
    part = planned(lead, long, rising(0.04)).isel(run=slice(2))
    (found,) = by_every_rule([claim(lead, QUICK, long, name="leads")], there, part)
    assert {judged.cell for judged in found.values()} == {QUICK}


def test_a_lead_that_only_some_rules_find_is_told_with_their_number() -> None:
    lead = Criterion(kind="lead", network="dropNet", quantity="entropy", layer=("conv1",), expected=1)
    runs = planned(lead, QUICK, rising(0.04))  # falling entropies, and an onset by 2 % alone
    _, said = told.judged_by_rule(by_every_rule([claim(lead, QUICK)], runs))
    assert ": no value by our rule, " in said
    assert " epochs by 3 rules. “It is so”: inconclusive by ours (which decides" in said


def test_a_rise_moves_with_the_smoothing_and_primary_claims_are_corrected_together() -> None:
    def uneven(_: int) -> np.ndarray:
        return valley(20, slope=0.02) + 0.3 * np.cos(2.1 * np.arange(42))

    other = Criterion(
        kind="difference", network="dropNet", against="vanillaNet", quantity="accuracy", expected=1
    )
    found = [claim(RISE, QUICK, primary=True, name="rise"), claim(other, QUICK, primary=True, name="not run")]
    runs = planned(RISE, QUICK, uneven)
    (by_rule,) = by_every_rule(found, runs)
    (full, _) = verdicts.judge_all(claims.load().model_copy(update={"claims": tuple(found)}), [runs])
    ours, other = by_rule[verdicts.OURS], by_rule[OTHER]
    assert (ours.direction, ours.holm, ours.effect) == (full.direction, full.holm, full.effect)
    assert ours.holm == pytest.approx(2 * ours.p)
    assert other.effect.mean > ours.effect.mean + 0.01  # the deepest single epoch against a smoothed one
    assert ours.smallest == full.smallest > 0


def test_the_laptop_is_judged_by_the_rule_that_is_given() -> None:
    cell = claims.laptop_cell(claim(SHARE, QUICK, name="more"))
    asked = claims.load().model_copy(update={"claims": (claim(SHARE, QUICK, name="more"),)})
    runs = planned(SHARE, cell, rising(0.04))
    by_rule = [verdicts.on_the_laptop(asked, runs, rule)[0] for rule in (verdicts.OURS, OTHER)]
    assert [judged.effect.mean for judged in by_rule] == [0, 1]


def test_the_claims_that_rest_on_the_rule_are_those_that_move_with_it() -> None:
    def uneven(which: int) -> np.ndarray:  # so that each smoothing has another minimum
        return valley(20, slope=0.02) + 0.3 * np.cos(2.1 * np.arange(42) + which)

    asked = {}  # one claim of each sort
    for ledger in (claims.load(), claims.load(claims.ADDED)):
        for each in ledger.claims:
            test = each.test
            cells = [cell for cell in each.cells if test and all(claims.needed(test, cell).values())]
            if cells:
                asked.setdefault((test.kind, test.quantity, test.since), (ledger, each, cells[0]))
    moved, still = set(), set()
    for sort, (ledger, its, cell) in asked.items():
        runs = [planned(its.test, cell, uneven)]
        judged = [
            verdicts.judge(its, cell, verdicts.Runs(runs, ledger, rule))
            for rule in (OnsetRule(0.0), OnsetRule(4.0, 0.5))
        ]
        assert all(each.effect.n + each.effect.missing for each in judged)
        effects = {str(each.effect) for each in judged}
        (moved if len(effects) > 1 else still).add((*sort, rules.rests_on(its.test)))
    assert len(moved) > 3
    assert len(still) > 3
    assert not {each for each in still if each[-1]}
    assert not {each for each in moved if not each[-1]}
