"""When perplexity sparsity rises, and what warnings are worth on runs on which nothing was chosen."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from synthetic import many, one, valley

from sparsity_lib.study import StudyError, figures, profiles
from sparsity_lib.study.analysis import warning
from sparsity_lib.study.analysis.warning import detection, rules, told, transfer

EPOCHS = 41
FLAT = np.linspace(1.5, 1, EPOCHS + 1)  # a loss that falls to the end: no moment of overfitting


def run(seed: int = 0, onset: int | None = 20, rises: int | None = 15, **fields: object) -> xr.Dataset:
    """A run whose loss is lowest at `onset`, and whose sparsity and SD are larger from `rises` on."""
    curves = one(seed=seed, val_loss=FLAT if onset is None else valley(onset), **fields)
    epoch = xr.DataArray(np.arange(-1, EPOCHS), dims="epoch")
    later = epoch >= (EPOCHS if rises is None else rises)
    like = curves["entropy"]
    for name, low, high in (("perplexity_sparsity", 0.1, 0.5), ("sd", 1.0, 3.0)):
        values = xr.where(later, high, low).broadcast_like(like).transpose(*like.dims)
        curves[name] = values.where(like.notnull())
    full = xr.where(later, 0.5, 0.9) * np.log(curves["channels"])
    curves["entropy"] = full.broadcast_like(like).transpose(*like.dims).where(like.notnull())
    return curves


def risen(curves: xr.Dataset, signal: str = "perplexity sparsity") -> pd.DataFrame:
    found = warning.rises(curves)
    return found[found["signal"] == signal].set_index("seed")


@pytest.mark.parametrize("signal", ["perplexity sparsity", "SD"])
@pytest.mark.parametrize(("rises", "shortly"), [(15, 1), (19, 1), (20, 0), (9, 1), (8, 0), (None, 0)])
def test_a_rise_is_shortly_before_if_it_is_known_at_most_ten_epochs_before(
    signal: str, rises: int | None, shortly: int
) -> None:
    of_run = risen(run(rises=rises), signal).loc[0]
    assert of_run["rose"] == pytest.approx(np.nan if rises is None else rises + 1, nan_ok=True)
    assert of_run["shortly"] == shortly


def test_only_convolutions_count() -> None:
    curves = run(rises=None)
    curves["perplexity_sparsity"] = curves["perplexity_sparsity"].where(curves["layer"] != "fc1", 0.9)
    assert warning.feature_layers(curves) == ["conv1", "conv3"]
    np.testing.assert_allclose(warning.feature_sparsity(curves), 0.1)


def test_chance_is_another_run_or_one_epoch() -> None:
    """Each moment is 5 after its own rise; others' rises fit where they are near."""
    found = risen(many([run(seed, onset, onset - 6) for seed, onset in enumerate((20, 24, 35))]))
    assert found["shortly"].tolist() == [1, 1, 1]
    assert found["by_others"].tolist() == [0.5, 0.5, 0]
    assert found["by_constant"].tolist() == [0, 1, 0]  # 5 before 29.5, 27.5 and 22
    assert np.isnan(risen(run())["by_others"]).all()


def test_the_table_counts_runs_that_overfit_and_others() -> None:
    curves = many([run(0), run(1), run(2, rises=None), run(3, onset=None), run(4, onset=None, rises=None)])
    row = warning.rise_table(warning.rises(curves), ["label"]).iloc[0]
    counts = ["runs", "overfit", "others", "before", "shortly", "false", "lead_n"]
    assert row[counts].tolist() == [5, 3, 2, 2, 2, 1, 2]
    assert row["lead"] == 4


def test_the_rise_around_a_moment_is_held_against_other_moments() -> None:
    """Sparsity that grows as the square of the time since the moment grows faster the later it is."""
    curves = many([run(seed, onset) for seed, onset in enumerate((20, 24))])
    since = np.maximum(curves["epoch"] + 1, 0) / 50
    like = curves["perplexity_sparsity"]
    curves["perplexity_sparsity"] = (
        (since**2).broadcast_like(like).transpose(*like.dims).where(like.notnull())
    )
    found = warning.speeds(curves).set_index(["seed", "start"])
    assert found.loc[(0, -10), "rise"] == pytest.approx((21**2 - 11**2) / 2500, abs=1e-3)
    assert found.loc[(0, -10), "elsewhere"] == pytest.approx(found.loc[(1, -10), "rise"])
    assert np.isnan(found.loc[(1, 10), "rise"]) == (EPOCHS <= 24 + 20)
    compared = warning.acceleration(found.reset_index()).set_index("against")
    assert compared.loc["earlier", "low"] > 0
    assert compared.loc["elsewhere", "mean"] == pytest.approx(0)
    (sentence,) = told.speeds(found.reset_index(), compared.reset_index())
    assert ", more than in the 10 before these (" in sentence
    assert "not clearly more or less than around the moments" in sentence


def test_what_there_is_nothing_of_is_told_in_a_line() -> None:
    with pytest.raises(StudyError, match="these runs have no convolution; there are fc1"):
        warning.rises(run().sel(layer=["fc1"]))
    with pytest.raises(StudyError, match="none of these runs has a moment of overfitting"):
        warning.speeds(run(onset=None))
    with pytest.raises(StudyError, match="no profile has published runs"):
        warning.every_run({})
    with pytest.raises(StudyError, match="no published runs to choose"):
        warning.transfers({})
    with pytest.raises(StudyError, match="no run of vanillaNet overfits"):
        warning.blinded(detection.judge(run(onset=None), {"entropy": 0.05}))


@pytest.fixture(scope="module")
def published() -> Iterator[dict[str, xr.Dataset]]:
    """Two networks of six seeds with clean labels and with redrawn ones, which alone overfit; few rules."""
    curves = many(
        [
            run(seed, onset, falls, label=label, label_noise=noise)
            for seed in range(6)
            for noise, onset in ((0.0, None), (0.3, 20 + seed))
            for label, falls in (("vanillaNet", 14 + seed), ("sr2Net", None))
        ]
    )
    few = {name: rules.RULES[name] for name in ("entropy", "constant epoch", "never")}
    fewer = {name: replace(rule, choices=rule.choices[::4]) for name, rule in few.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "of_grid", _of_grid)
        patch.setattr(rules, "RULES", fewer)
        yield {"laptop": curves}


@pytest.fixture(scope="module")
def ways(published: dict[str, xr.Dataset]) -> list[warning.Transfer]:
    return warning.transfers(published)


def everything(of: dict[str, xr.Dataset]) -> xr.Dataset:
    return of["laptop"]


def _of_grid(curves: xr.Dataset | None, profile: str, grid: str = "networks") -> xr.Dataset:
    assert profile in profiles.PROFILES
    if curves is None or grid != "networks":
        raise StudyError("none")
    return curves


def test_each_run_is_judged_once_by_what_other_seeds_chose(ways: list[warning.Transfer]) -> None:
    assert [way.name for way in ways] == list(warning.PLANS)[:4]  # there are no runs for the others
    assert [way.chosen_on for way in ways] == [12, 24, 12, 12]
    (clean,) = (way.judged for way in ways if way.name == "redrawn → clean labels")
    assert clean["onset"].isna().all()
    for way in ways:
        assert not way.judged.duplicated(["run", "rule"]).any()
        assert way.judged.groupby("rule")["run"].nunique().nunique() == 1


def test_of_one_training_one_run_is_stored() -> None:
    """Though its numbers may differ by rounding, it was trained longer, or its gradients were recorded."""
    first, loss = run(), valley(20, epochs=61)
    longer = one(val_loss=loss, val_accuracy=2 - loss, epochs=61)
    twins = [run(), run(label="vanillaNet rho=-1.0"), longer]
    twins[0]["val_loss"] = twins[0]["val_loss"] + 1e-6
    others = [run(1), run(label="sr2Net"), run(label_noise=0.3), run(label="vanillaNet rho=0.0")]
    curves = many([first, *twins, *others]).drop_vars("run")
    kept = transfer._each_once(curves)
    assert kept.sizes["run"] == 5
    np.testing.assert_array_equal(kept["val_loss"][0], curves["val_loss"][0])


def test_a_rule_that_was_not_judged_everywhere_says_where(ways: list[warning.Transfer]) -> None:
    judged = ways[1].judged.replace({"rule": {"never": "weight norm"}})
    right = np.where(judged["rule"] == "weight norm", judged["seed"] > 0, judged["right"] * 0.0)
    summary = told.summary([ways[1], warning.Transfer("with norms", 24, judged.assign(right=right))])
    assert any("weight norm 1 (0) of 1" in sentence for sentence in summary)


def test_choosing_is_done_once_for_the_same_runs(
    published: dict[str, xr.Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(transfer, "choose", lambda curves: calls.append(1) or {"never": 0.0, "entropy": 0.05})
    monkeypatch.setitem(warning.PLANS, "again", warning.PLANS["all networks: other seeds"])
    assert len(warning.transfers(published)) == 5
    assert len(calls) == 8


def test_nothing_is_chosen_on_seeds_that_are_judged(
    published: dict[str, xr.Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    def later(of: dict[str, xr.Dataset]) -> xr.Dataset:
        return of["laptop"].isel(run=of["laptop"]["seed"].to_numpy() > 2)

    monkeypatch.setattr(
        transfer, "PLANS", {"all": [(everything, everything)], "later": [(everything, later)]}
    )
    (way,) = warning.transfers(published)
    assert (way.name, way.chosen_on) == ("later", 12)  # of 24, those of three of the six seeds


def test_a_network_that_is_not_warned_of_is_set_against_the_plain_one(
    published: dict[str, xr.Dataset],
) -> None:
    judged = detection.judge(published["laptop"], {"entropy": 0.05})
    table = warning.blinded(judged).set_index("label")
    assert table.loc["sr2Net", ["overfit", "warned", "n", "mean"]].tolist() == [6, 0, 6, -1]
    lines = told.blinded(table.reset_index())
    assert "6 of 6 runs of vanillaNet" in lines[0]
    assert lines[1] == "sr2Net: 0 of 6, the opposite in every pair of seeds (−100 points, n = 6)."
    assert told.blind(table.reset_index()).endswith("than in vanillaNet in sr2Net.")
    few = table.reset_index().assign(n=5)
    assert told.blind(few).startswith("In no network")
    assert told.blind(table.loc[["vanillaNet"]].reset_index()).startswith("In no network")


def test_one_seed_gives_no_direction(ways: list[warning.Transfer]) -> None:
    single = [warning.Transfer("one seed", 1, ways[0].judged[ways[0].judged["seed"] == 0])]
    assert told.rivals(single[0]).endswith("the runs are of one seed, or all agree.")
    assert "there are too few runs" in told.against_chance(single[0])
    assert (
        "clearly more often right than another run's in 0, and clearly less often in 0"
        in told.summary(single)[0]
    )
    with pytest.raises(StudyError, match="nothing was judged"):
        told.summary([])


def test_every_rise_and_outcome_is_told(published: dict[str, xr.Dataset]) -> None:
    curves = published["laptop"]
    first, second, *_ = told.rise(warning.rises(curves))
    assert first.startswith(
        "vanillaNet, perplexity sparsity: of 6 runs that overfit it has risen before that in 6"
    )
    assert "it rises too in 6 of 6 that do not overfit" in first
    assert second.startswith("vanillaNet, SD: of 6 runs")
    lines = told.outcomes(detection.judge(curves, {"entropy": 0.05}))
    assert "of 12 runs that overfit 6 are warned of within 10 epochs of the moment" in lines[0]
    assert "of 12 that do not overfit 6 are warned of" in lines[0]
    assert "24 of the profile laptop." in told.stored(published)


def test_tables_are_in_words(published: dict[str, xr.Dataset], ways: list[warning.Transfer]) -> None:
    shown = figures.rise_table(warning.rise_table(warning.rises(published["laptop"]), ["label"]))
    row = shown.loc[("vanillaNet", "perplexity sparsity")].str.replace("\u00a0", " ")
    assert row["overfit"] == "6 of 12"
    assert row["risen without overfitting"] == "6 of 6"
    assert row["lead (epochs)"] == "+5.0"  # no width: all runs agree
    table = figures.warning_table(ways)
    assert len(table) == 4 * len(rules.RULES)
    assert table.loc[("all networks: other seeds", "never"), "right (%)"] == "50"
