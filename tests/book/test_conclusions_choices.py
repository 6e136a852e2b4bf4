"""Conclusions of the page on choices; each test holds the numbers of a sentence."""

from collections.abc import Callable

import pandas as pd
import pytest

from sparsity_lib import study
from sparsity_lib.study import analysis
from sparsity_lib.study.analysis import choices, comparison, decorrelation

T2, T6 = "T2: mean over positions", "T6: PyTorch's initialisation"
PER_CONVOLUTION = "dropNet T5: dropout per convolution"

Compare = Callable[[str, str, str], comparison.Description]


@pytest.fixture(scope="module")
def digits() -> pd.DataFrame:
    return choices.load("laptop")[1]


@pytest.fixture(scope="module")
def photographs() -> pd.DataFrame:
    return choices.load("desktop")[1]


@pytest.fixture(scope="module")
def on_digits(digits: pd.DataFrame) -> Compare:
    return lambda a, b, quantity: comparison.compare(digits, a, b, quantity)


@pytest.fixture(scope="module")
def on_photographs(photographs: pd.DataFrame) -> Compare:
    return lambda a, b, quantity: comparison.compare(photographs, a, b, quantity)


def clear(table: pd.DataFrame) -> set[tuple[str, str]]:
    """(reading, quantity) of the effects that remain after Holm's correction."""
    effects = choices.effects(table)
    found = effects[effects["holm"] < 0.05]
    return set(zip(found["reading"], found["quantity"], strict=True))


def test_findings_keep_their_sign_under_all_readings(digits: pd.DataFrame, photographs: pd.DataFrame) -> None:
    for table in (digits, photographs):
        found = choices.findings(table)
        assert len(found) >= 39
        assert (found["ours_direction"] * found["other_direction"] >= 0).all()
        assert 0 < (found["ours_direction"] != found["other_direction"]).sum() < 10


def test_effects_that_remain_after_correction(digits: pd.DataFrame, photographs: pd.DataFrame) -> None:
    assert clear(digits) == {
        (T2, "val_loss_rise"),
        (T2, "entropy_drop"),
        (T6, "entropy_drop"),
        ("T4: absolute", "entropy_drop"),
        ("T4: squared", "chosen_accuracy"),
    }
    dropout = "T5: dropout per convolution"
    assert clear(photographs) == {(dropout, "val_loss_rise"), (dropout, "entropy_drop")}


def test_strength_per_position_and_initialisation_matter(digits: pd.DataFrame, on_digits: Compare) -> None:
    rise_of_literal = on_digits(f"sr2Net {T2}", "sr2Net", "val_loss_rise")
    assert rise_of_literal.low > 0.1
    assert f"{rise_of_literal.mean:.2f}" == "0.16"
    gain = on_digits("sr2Net", "vanillaNet", "chosen_accuracy")
    assert f"{gain:+.3f}" == "+0.013 (+0.006 to +0.020)"
    literal = on_digits(f"sr2Net {T2}", "vanillaNet", "chosen_accuracy")
    assert f"{literal:+.3f}" == "+0.003 (−0.003 to +0.010)"
    paired = on_digits(f"sr2Net {T2}", "sr2Net", "chosen_accuracy")
    assert f"{paired:+.3f}" == "−0.010 (−0.016 to −0.003)"
    assert on_digits(f"vanillaNet {T6}", "vanillaNet", "entropy_drop").high < -0.2
    same_seeds = digits[digits["seed"].isin(digits.loc[digits["label"] == f"vanillaNet {T6}", "seed"])]
    ours, other = (
        {
            quantity: comparison.compare(same_seeds, f"sr2Net{reading}", f"vanillaNet{reading}", quantity)
            for quantity in ("val_loss_rise", "chosen_accuracy")
        }
        for reading in ("", f" {T6}")
    )
    rise, other_rise = ours["val_loss_rise"], other["val_loss_rise"]
    assert rise.high < other_rise.low < other_rise.high < 0
    assert [f"{each.mean:.2f}" for each in (rise, other_rise)] == ["-0.30", "-0.07"]
    gains = [f"{each['chosen_accuracy']:+.3f}" for each in (ours, other)]
    assert gains == ["+0.017 (−0.005 to +0.039)", "+0.021 (+0.004 to +0.038)"]
    rises = same_seeds.groupby("label")["val_loss_rise"].mean()
    assert [f"{rises[name]:.2f}" for name in (f"vanillaNet {T6}", "vanillaNet")] == ["0.20", "0.38"]
    assert other_rise.mean / rises[f"vanillaNet {T6}"] == pytest.approx(-1 / 3, abs=0.03)
    assert rise.mean / rises["vanillaNet"] == pytest.approx(-4 / 5, abs=0.03)
    fall = same_seeds.groupby("label")["entropy_drop"].mean()
    assert fall[f"vanillaNet {T6}"] / fall["vanillaNet"] == pytest.approx(0.4, abs=0.02)


def test_the_epoch_of_the_accuracy_can_reverse_a_comparison(on_digits: Compare) -> None:
    best, chosen, last = (
        on_digits("normNet", "vanillaNet", f"{epoch}_accuracy") for epoch in ("best", "chosen", "last_five")
    )
    assert (best.direction, chosen.direction, last.direction) == (-1, 0, 1)
    for epoch in ("best", "chosen", "last_five"):
        assert on_digits("sr2Net", "vanillaNet", f"{epoch}_accuracy").low > 0
    assert best.n == 20


def test_dropout_per_convolution_overfits_less_on_photographs(on_photographs: Compare) -> None:
    assert on_photographs(PER_CONVOLUTION, "dropNet", "val_loss_rise").high < -0.4


def test_absolute_correlations_are_the_reading_nearest_to_none(photographs: pd.DataFrame) -> None:
    conv1 = photographs.groupby("label")["correlation:filters"].mean()
    readings = conv1[conv1.index.str.startswith("sr3Net")]
    assert len(readings) == 12
    assert readings.idxmin() == "sr3Net T4: absolute"
    assert readings.min() < 0.05
    assert comparison.compare(photographs, "sr3Net", "sr2Net", "correlation:filters").low > 0
    own_mean = photographs.groupby("label")["correlation:components"].mean()["vanillaNet"]
    assert [conv1["vanillaNet"], own_mean] == pytest.approx([0.26, 0.23], abs=0.005)  # as T19 has it
    squared = comparison.compare(photographs, "sr3Net T4: squared", "sr3Net", "chosen_accuracy")
    assert squared.direction == 0
    found = decorrelation.descents(filters=16).set_index(["filters", "center", "penalty"])
    signed, absolute = (found.loc["two opposite clusters", "filters", of] for of in ("signed", "absolute"))
    assert (signed["after"] > 0.95, signed["alike"]) == (True, 1)
    assert (absolute["after"] < 0.5, absolute["alike"] < 0.1) == (True, True)


def test_the_gain_depends_on_the_learning_rate() -> None:
    by_rate = choices.learning_rates()
    for rate, runs in by_rate.groupby("lr"):
        gain = comparison.compare(runs, "sr2Net", "vanillaNet", "chosen_accuracy")
        assert gain.n == 3
        assert gain.direction == (1 if rate in (0.03, 0.1) else 0)
        assert runs.groupby("network")["chosen_accuracy"].mean().idxmax() == "normNet"
        plain = runs[runs["network"] == "vanillaNet"]
        rise, fall = plain["val_loss_rise"].mean(), plain["entropy_drop"].mean()
        assert min(rise / 2, fall / 0.5) > 1 if rate in (0.03, 0.1) else max(rise / 0.3, fall / 0.15) < 1
    chosen = by_rate[by_rate["chosen"]]
    rates = chosen.groupby("network")["lr"].unique().explode()
    assert rates[["sr2Net", "normNet"]].tolist() == [0.1, 0.1]
    assert rates[["vanillaNet", "dropNet"]].tolist() == [0.03, 0.03]
    own = [
        comparison.compare(chosen.drop(columns="lr"), name, than, "chosen_accuracy")
        for name, than in (("normNet", "sr2Net"), ("sr2Net", "vanillaNet"), ("dropNet", "vanillaNet"))
    ]
    assert min(each.low for each in own) > 0


def test_counts_of_overfitting_depend_on_the_rule() -> None:
    found = choices.overfitting_by_rule(*choices.load("laptop"))
    assert (found["n"] == 20).all()
    counts = found.set_index(["rule", "network"])["overfit"]
    assert counts["registered", "sr2Net ×16"] == 1
    of_simpler_rules = counts.unstack().drop("registered")
    assert of_simpler_rules["sr2Net ×16"].agg(["min", "max"]).tolist() == [10, 20]
    assert (of_simpler_rules["vanillaNet"] == 20).all()
    assert (found.groupby("network")["overfit"].idxmin().map(found["rule"]) == "registered").all()
    simpler = choices.overfitting_by_rule(*choices.load("desktop")).query("rule != 'registered'")
    assert (simpler["overfit"] == simpler["n"]).all()


def test_the_papers_strength_is_a_good_one_on_photographs(
    on_digits: Compare, on_photographs: Compare
) -> None:
    for strength in ("0.0001", "0.1"):
        assert on_photographs(f"sr2Net λ = {strength}", "sr2Net", "chosen_accuracy").high < 0
    assert on_photographs("sr2Net λ = 0.01", "sr2Net", "chosen_accuracy").direction == 0
    assert on_photographs("sr2Net λ = 0.01", "sr2Net", "val_loss_rise").high < 0
    assert on_photographs("sr2Net λ = 1e-05", "sr2Net", "chosen_accuracy").high < 0
    for strength in ("1e-05", "0.0001", "0.01", "0.1"):
        assert on_digits(f"sr2Net λ = {strength}", "sr2Net", "chosen_accuracy").direction == 0


@pytest.mark.parametrize(
    ("profile", "directions"),
    [
        ("laptop", {"dropout": 1, "weight decay": 0, "label smoothing": 0}),
        ("desktop", {"dropout": 0, "weight decay": -1, "label smoothing": -1}),
    ],
)
def test_tuned_baselines_less_tuned_sparsity_reg(
    profile: str, directions: dict[str, int], request: pytest.FixtureRequest
) -> None:
    table = request.getfixturevalue({"laptop": "digits", "desktop": "photographs"}[profile])
    labels = choices.tuned(table).query("chosen").set_index("family")["label"]
    found = {
        family: comparison.compare(table, labels[family], labels["SparsityReg"], "chosen_accuracy").direction
        for family in directions
    }
    assert found == directions
    if profile == "desktop":
        assert comparison.compare(table, "normNet", labels["SparsityReg"], "chosen_accuracy").low > 0


def test_no_effect_is_clear_at_the_strength_that_gives_size_s_the_reward_of_xxl() -> None:
    runs = choices.on_cifar10("readings")
    assert runs.groupby("label").size().to_dict() == dict.fromkeys(
        ("vanillaNet", "sr2Net", "sr2Net λ = 0.0018"), 5
    )
    for quantity in ("chosen_accuracy", "val_loss_rise", "entropy_drop"):
        assert comparison.compare(runs, "sr2Net λ = 0.0018", "sr2Net", quantity).direction == 0
    assert comparison.compare(runs, "sr2Net", "vanillaNet", "chosen_accuracy").low > 0.03
    assert comparison.compare(runs, "sr2Net", "vanillaNet", "val_loss_rise").high < -2.5


def test_a_seed_on_another_processor_differs_like_another_seed() -> None:
    runs = choices.on_cifar10("readings").set_index("run")
    published = study.published("desktop", "scale-free.nc")
    there = analysis.summary(published).set_index("run")["chosen_accuracy"]
    repeated = pd.DataFrame({"here": runs["chosen_accuracy"], "there": there}).dropna()
    assert len(repeated) == 10
    between_runs = (repeated["here"] - repeated["there"]).pow(2).mean() ** 0.5
    variances = repeated.groupby(runs.loc[repeated.index, "network"])[["here", "there"]].var()
    assert between_runs > 0.8 * (2 * variances.mean(axis=None)) ** 0.5
    same = [each["val_loss"].sel(run=repeated.index) for each in (study.published("registered"), published)]
    drift = abs(same[0] / same[1] - 1)
    assert drift.sel(epoch=-1).max() == 0 < drift.sel(epoch=0).max() < 1e-3
    assert drift.sel(epoch=10).median() > 0.01
