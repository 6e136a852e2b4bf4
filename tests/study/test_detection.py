"""Rules that warn of overfitting: when they do, how they are judged, and how their parameters are chosen."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from synthetic import many, one, valley

from sparsity_lib.study import StudyError
from sparsity_lib.study.analysis.comparison import describe
from sparsity_lib.study.analysis.summary import smoothed, trained
from sparsity_lib.study.analysis.timing import change_point
from sparsity_lib.study.analysis.warning.detection import (
    against,
    balanced,
    by_seed,
    choose,
    choose_and_judge,
    judge,
    sweep,
    table,
)
from sparsity_lib.study.analysis.warning.rules import RULES, known_rules

EPOCHS = 41
FLAT = np.linspace(1.5, 1, EPOCHS + 1)  # a loss that falls to the end: no moment of overfitting
ENTROPY = {"entropy": 0.05}


def run(seed: int = 0, onset: int | None = 20, falls: int | None = 15, **fields: object) -> xr.Dataset:
    """A run whose loss is lowest at `onset` and whose entropies fall from `falls` on, to half of ln D."""
    loss = FLAT if onset is None else valley(onset)
    curves = one(seed=seed, val_loss=loss, **fields)
    epoch = xr.DataArray(np.arange(-1, EPOCHS), dims="epoch")
    share = xr.where(epoch < (EPOCHS if falls is None else falls), 0.9, 0.5)
    like = curves["entropy"]
    full = share * np.log(curves["channels"])
    curves["entropy"] = full.broadcast_like(like).transpose(*like.dims).where(like.notnull())
    curves["perplexity_sparsity"] = (1 - share).broadcast_like(like).transpose(*like.dims)
    return curves


def told(curves: xr.Dataset, parameters: dict[str, float] | None = None, **options: int) -> pd.Series:
    judged = judge(curves, parameters or ENTROPY, **options)
    assert len(judged) == 1
    return judged.iloc[0]


@pytest.mark.parametrize(
    ("onset", "falls", "outcome", "right"),
    [
        (20, 15, "hit", 1),
        (20, 24, "hit", 1),
        (30, 8, "early", 0),
        (12, 30, "late", 0),
        (20, None, "missed", 0),
        (None, 15, "false alarm", 0),
        (None, None, "quiet", 1),
    ],
)
def test_a_warning_is_judged_by_the_moment_of_overfitting(
    onset: int | None, falls: int | None, outcome: str, right: int
) -> None:
    of_run = told(run(onset=onset, falls=falls))
    assert (of_run["outcome"], of_run["right"]) == (outcome, right)
    if onset and falls:
        assert of_run["lead"] == onset - (falls + 1)


def test_within_says_how_near_a_hit_must_be() -> None:
    assert [told(run(), within=within)["outcome"] for within in (3, 4, 5)] == ["early", "hit", "hit"]


def test_the_rule_on_entropies_is_that_of_the_claims() -> None:
    curves = many([run(seed, falls=falls) for seed, falls in enumerate((6, 15, None))])
    expected = change_point(curves, ["conv3", "fc1"], 0.05)  # synthetic runs have no conv4
    np.testing.assert_array_equal(judge(curves, ENTROPY)["warned"], expected)


def test_the_first_layer_warns_before_the_mean_of_the_layers() -> None:
    curves = run(falls=None)
    late = curves["epoch"] >= 20
    curves["entropy"] = curves["entropy"].where(~late | (curves["layer"] != "fc1"), 0.8 * curves["entropy"])
    parameters = {"entropy, first layer": 0.1, "entropy": 0.1}
    assert judge(curves, parameters)["warned"].tolist() == pytest.approx([21, np.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("rule", "parameter", "warned"),
    [
        ("perplexity sparsity", 0.3, 16),
        ("constant epoch", 35, 35),
        ("constant epoch", 60, np.nan),
        ("never", 0, np.nan),
        ("validation loss", 3, 23),
        ("loss on other images", 3, 23),
        ("training loss", 1.5, 11),  # the loss, falling by 0.05 an epoch, is 1.45 there
        ("SD", np.log(2), 25),
        ("weight norm", np.log(2), 32),  # from 1 at epoch 20 to 3 at 40, it is above 2 from 31 on
    ],
)
def test_other_rules_warn_when_they_should(rule: str, parameter: float, warned: float) -> None:
    curves = run()
    doubled = np.where(np.arange(-1, EPOCHS) < 24, 1.0, 2.1)
    curves["sd"] = curves["sd"] * 0 + xr.DataArray(doubled, dims="epoch")
    assert told(curves, {rule: parameter})["warned"] == pytest.approx(warned, nan_ok=True)


def test_a_rule_is_left_out_where_a_run_lacks_what_it_needs() -> None:
    older, newer = run(0), run(1)
    older["weight_norm"] = older["weight_norm"] * np.nan
    for curves in (many([older, newer]), many([older, newer]).drop_vars("weight_norm")):
        assert set(RULES) - set(known_rules(curves)) == set(RULES) - set(choose(curves)) == {"weight norm"}
        with pytest.raises(StudyError, match="has no weight_norm, which the rule 'weight norm' needs"):
            judge(curves, {"weight norm": 1.0})
    assert "weight norm" not in set(choose_and_judge(newer, older)["rule"])


def test_weights_that_are_all_zero_do_not_grow() -> None:
    curves = run()
    curves["weight_norm"] = curves["weight_norm"].where(curves["epoch"] < 10, 0.0)
    assert np.isnan(told(curves, {"weight norm": 0.01})["warned"])


@pytest.mark.parametrize("name", [name for name in RULES if name != "never"])
def test_no_rule_uses_a_later_epoch(name: str) -> None:
    """Whatever comes after a warning, it is given; each rule warns somewhere in the middle of this run."""
    rng = np.random.default_rng(0)
    curves = run(scale_free_entropy=(2.5, 1.0))
    parameter = 1.5 if name == "training loss" else RULES[name].choices[-1]
    warned = RULES[name].on(curves)(parameter).item()
    assert 4 <= warned < EPOCHS - 5
    known = curves["epoch"] <= warned
    other = curves.map(lambda v: v.where(known, rng.random()) if "epoch" in v.dims else v)
    assert RULES[name].on(other)(parameter).item() == warned


def test_what_is_lost_is_that_at_the_warning_or_at_the_end_or_where_the_watched_loss_was_lowest() -> None:
    loss = smoothed(trained(run())["val_loss"]).isel(run=0)
    for rule, parameter, kept in [("constant epoch", 30, 30), ("never", 0, 40), ("validation loss", 10, 20)]:
        excess = told(run(), {rule: parameter})["excess_loss"]
        assert excess == pytest.approx(loss.sel(epoch=kept).item() - loss.min().item())


def test_chance_is_the_warning_of_another_run_of_the_same_network() -> None:
    moments = ((20, 19), (20, 19), (35, 34), (None, None))
    judged = judge(many([run(seed, *both) for seed, both in enumerate(moments)]), ENTROPY)
    assert judged["right"].tolist() == [1, 1, 1, 1]
    np.testing.assert_allclose(judged["right_by_chance"], [1 / 3, 1 / 3, 0, 0])
    assert np.isnan(told(run())["right_by_chance"])


def test_shorter_runs_do_not_warn_after_their_end() -> None:
    short = one(seed=1, val_loss=valley(20)[:31], val_accuracy=np.full(31, 0.5))
    for name in ("entropy", "perplexity_sparsity"):
        short[name] = run()[name].isel(epoch=slice(31))
    curves = many([run(), short])
    late = {"constant epoch": 35, "validation loss": 15}
    judged = judge(curves, late)
    assert judged.loc[judged["seed"] == 1, "warned"].isna().all()
    assert judged.loc[judged["seed"] == 0, "warned"].tolist() == [35, 35]


def test_parameters_are_chosen_on_some_runs_and_judged_on_others() -> None:
    """Where the moment is at 10, the constant epoch is best near it, and does badly where it is at 35."""
    early, late = (
        many([run(seed, onset, onset - 2) for seed in seeds]) for onset, seeds in ((10, (0, 1)), (35, (2, 3)))
    )
    chosen = choose(early)
    assert set(chosen) == set(RULES)
    assert chosen["constant epoch"] == 20  # the most cautious of those that hit
    assert choose(early, by="excess_loss")["constant epoch"] == 10
    judged = choose_and_judge(early, late)
    outcomes = judged.groupby("rule")["outcome"].unique()
    assert outcomes["constant epoch"].tolist() == ["early"]
    assert outcomes["entropy"].tolist() == ["hit"]
    assert outcomes["never"].tolist() == ["missed"]
    with pytest.raises(StudyError, match="is among the runs to choose on and those to judge on"):
        choose_and_judge(early, many([early, late]))


def test_the_table_counts_outcomes_and_balances_both_kinds_of_runs() -> None:
    curves = many([run(0, 20, 15), run(1, 20, 15), run(2, 20, None), run(3, None, 15)])
    judged = judge(curves, ENTROPY | {"never": 0})
    rows = table(judged).set_index("rule")
    counts = ["runs", "overfit", "hit", "missed", "false alarm", "quiet", "lead_n"]
    assert rows.loc["entropy", counts].tolist() == [4, 3, 2, 1, 1, 0, 2]
    assert rows.loc["entropy", "balanced"] == pytest.approx((2 / 3 + 0) / 2)
    assert rows.loc["never", "balanced"] == 0.5
    assert rows.loc["entropy", "lead"] == 4
    assert len(table(judged, by=["seed"])) == 8
    assert balanced(judged[judged["seed"] < 2]) == pytest.approx(0.5)  # one rule hits, the other misses


def test_rules_are_compared_run_by_run() -> None:
    judged = judge(
        many([run(seed, 20, falls) for seed, falls in enumerate((15, 15, None))]), ENTROPY | {"never": 0}
    )
    row = against(judged, "never").iloc[0]
    expected = describe([1, 1, 0])
    assert (row["rule"], row["n"], row["mean"]) == ("entropy", 3, pytest.approx(2 / 3))
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))


def test_an_interval_takes_runs_of_one_seed_together() -> None:
    values, seeds = np.array([1.0, 2.0, 4.0, 3.0, 5.0, 7.0]), np.array([0, 1, 2, 0, 1, 2])
    expected = describe([2.0, 3.5, 5.5])
    assert by_seed(values, seeds) == pytest.approx((expected.low, expected.high))
    assert np.isnan(by_seed(values, seeds * 0)).all()


def test_the_sweep_has_every_choice_of_every_rule() -> None:
    found = sweep(many([run(0), run(1, None, None)]))
    assert len(found) == sum(len(rule.choices) for rule in RULES.values())
    for name, rule in RULES.items():
        assert found.loc[found["rule"] == name, "parameter"].tolist() == list(rule.choices)


def test_what_cannot_be_judged_is_told_in_a_line() -> None:
    judged = judge(run(), ENTROPY)
    with pytest.raises(StudyError, match="no rule to judge; known: entropy,"):
        judge(run(), {})
    with pytest.raises(StudyError, match="unknown rule 'luck'; known: entropy,"):
        judge(run(), {"luck": 1})
    with pytest.raises(StudyError, match="there are no trained epochs"):
        judge(run().isel(run=[]), ENTROPY)
    with pytest.raises(StudyError, match="vanillaNet has no layer that SparsityReg would act on"):
        judge(run().sel(layer=["conv1", "norm1"]), ENTROPY)
    with pytest.raises(StudyError, match="the rule 'never' was not judged; judged: entropy"):
        against(judged, "never")
    with pytest.raises(StudyError, match="unknown quantity 'onset'; known: right"):
        against(judged, "entropy", "onset")
    with pytest.raises(StudyError, match="unknown criterion 'luck'"):
        choose(run(), by="luck")
