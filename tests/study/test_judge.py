"""The judge of the second registration, on curves with known effects."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from registered import LENET, SMALL, SPREAD, cell_of, images_of, runs_of, together
from scipy.stats import t

from sparsity_lib.study import claims
from sparsity_lib.study.analysis.early_warning.change_points import change_point
from sparsity_lib.study.analysis.early_warning.permutation_tests import p_of_runs, p_of_seeds
from sparsity_lib.study.analysis.onset import onset, onset_table, rise_after_minimum
from sparsity_lib.study.analysis.significance import detectable
from sparsity_lib.study.claims import Cell
from sparsity_lib.study.claims.judge import judge
from sparsity_lib.study.profiles import STUDY_NETWORKS

LEDGER, OTHERS = claims.load(claims.REGISTRATION), claims.load(claims.REGISTRATION_OTHER_PAPERS)
MEDIUM = Cell(dataset="cifar100", size="m", kind="close")
LARGE = Cell(dataset="cifar100", size="xxl", kind="direct")
LONG = Cell(dataset="cifar100", size="s", epochs=200, kind="conceptual")
ADAM = Cell(dataset="cifar100", size="s", optimizer="adam", kind="conceptual")
SUBSET = Cell(dataset="cifar10", size="s", limit=2000, epochs=60, kind="conceptual")
WORDS = {"supported", "opposite", "negligible", "inconclusive", "not run", ""}
S = np.array(SPREAD)


@functools.cache
def usual() -> xr.Dataset:
    """The seven networks at size s on CIFAR-100, equal except for the noise."""
    return cell_of({label: {"accuracy": 0.35 + S * (1 + i / 7)} for i, label in enumerate(STUDY_NETWORKS)})


@functools.cache
def judged() -> pd.DataFrame:
    """The judge's table of these networks, all claims."""
    return judge(LEDGER, usual())


def with_runs(changed: dict[str, dict[str, Any]]) -> xr.Dataset:
    """The same, some networks replaced by runs with these effects."""
    kept = usual().isel(run=~usual()["label"].isin(list(changed)).to_numpy())
    return together([kept, *(runs_of(label, SMALL, **effects) for label, effects in changed.items())])


def row(claim: str, curves: xr.Dataset | Sequence[xr.Dataset], cell: Cell = SMALL) -> pd.Series:
    """The judge's row of a claim in a cell; Holm's correction is over this claim alone."""
    alone = LEDGER.model_copy(update={"claims": tuple(each for each in LEDGER.claims if each.id == claim)})
    table = judge(alone, curves)
    place = (table["dataset"] == cell.dataset) & (table["size"] == (cell.size or "full"))
    place &= (table["epochs"] == cell.epochs) & (table["optimizer"] == cell.optimizer)
    (found,) = (each for _, each in table[place].iterrows())
    return found


def test_claims_without_runs_have_no_verdict() -> None:
    for ledger in (LEDGER, OTHERS):
        table = judge(ledger, [])
        assert len(table) == sum(len(claim.cells) for claim in ledger.claims)
        assert set(table["direction"]) == set(table["status"]) == {"not run"}
        assert set(table["verdict"]) == {""}
        assert (table["planned"] >= 2).all()
        assert (table["n"] == 0).all()
        assert table.loc[table["primary"], "holm"].eq(1).all()


def test_conceptual_cells_have_directions_and_no_verdict() -> None:
    lenet = row("lenet-no-gain", cell_of({"LeNet": {}, "srLeNet": {}}, LENET), LENET)
    table = pd.concat([judged(), lenet.to_frame().T])
    assert set(table["direction"]) <= WORDS
    assert set(table["verdict"]) <= {"supported", "contradicted", "inconclusive", ""}
    finished = table[table["status"] == "complete"]
    assert (finished.loc[finished["kind"] == "conceptual", "verdict"] == "").all()
    assert (finished.loc[finished["kind"] == "conceptual", "direction"] != "").all()
    assert (finished.loc[finished["kind"] != "conceptual", "verdict"] != "").all()
    assert set(finished.loc[finished["claim"] == "lenet-no-gain", "verdict"]) == {"supported"}
    assert set(finished["kind"]) == {"direct", "close", "conceptual"}


def test_numbers_are_hidden_until_all_seeds_are_trained() -> None:
    effects = {"vanillaNet": {}, "sr2Net": {"accuracy": 0.4}}
    whole = cell_of(effects)
    part = whole.isel(run=~((whole["label"] == "sr2Net") & (whole["seed"] == 103)).to_numpy())
    found, before = row("no-gain-when-small", whole), row("no-gain-when-small", part)
    assert (found["status"], found["n"], found["verdict"]) == ("complete", 5, "contradicted")
    assert (before["status"], before["n"], before["planned"]) == ("4 of 5", 4, 5)
    assert (before["direction"], before["verdict"]) == ("", "")
    assert np.isnan(before[["mean", "low", "p", "image_low", "best", "smallest"]].astype(float)).all()
    assert before["holm"] == 1


def test_other_seeds_and_settings_are_ignored() -> None:
    more = {seed: f"sr2Net-s-cifar100-s{seed}-0" for seed in range(105, 115)}
    others = runs_of("sr2Net", SMALL, ids=more, accuracy=0.9)
    assert row("no-gain-when-small", [usual(), others])["mean"] == pytest.approx(0, abs=1e-6)


def test_a_diverged_run_is_left_out_with_its_pair_and_counted() -> None:
    noted = cell_of({"vanillaNet": {"accuracy": 0.35}, "sr2Net": {"accuracy": 0.35 + S}})
    lost = str(noted["run"][noted["label"] == "sr2Net"][0].item())
    seen = noted.copy(deep=True)
    seen["val_loss"][(noted["run"] == lost).to_numpy(), 50:] = np.nan
    absent = noted.isel(run=(noted["run"] != lost).to_numpy()).assign_attrs(
        diverged=f'{{"{lost}": "epoch 3"}}'
    )
    for curves in (seen, absent):
        found = row("no-gain-when-small", curves)
        assert (found["status"], found["n"], found["diverged"]) == ("complete", 4, 1)
        assert found["mean"] == pytest.approx(S[1:].mean(), abs=1e-6)
        assert row("loss-rises", curves)["diverged"] == 0


def test_holms_correction_is_over_six_claims_of_which_unfinished_ones_count_as_one() -> None:
    table = judged()
    primary = table[table["primary"]]
    assert len(primary) == 6
    assert (primary["status"] == "complete").sum() == 5
    p = np.sort(primary["p"].fillna(1))
    expected = np.minimum(1, np.maximum.accumulate(p * np.arange(6, 0, -1)))
    np.testing.assert_allclose(np.sort(primary["holm"]), expected)
    assert table.loc[~table["primary"], "holm"].isna().all()
    unmoved = primary[primary["claim"] == "not-only-scale"].iloc[0]  # "negligible" needs no correction
    assert (unmoved["holm"], unmoved["verdict"]) == (1, "contradicted")
    assert ((table["p"] - 2 * table[["p_supported", "p_opposite"]].min(axis=1)).dropna() < 1e-12).all()


def test_primary_claims_alone_need_the_corrected_p() -> None:
    better = {"sr2Net": {"accuracy": 0.35 + np.array([0.008, 0.03, 0.045, 0.05, 0.06])}, "vanillaNet": {}}
    others = {"sr1Net": {"accuracy": 0.35}}
    table = judge(LEDGER, cell_of(better | others)).set_index(["claim", "size"])
    found = table.loc[("no-gain-when-small", "s")]
    assert found["uncorrected"] == "opposite"
    assert 0.005 < found["p_opposite"] < 0.025
    assert found["direction"] == found["verdict"] == "inconclusive"
    assert table.loc[("targeting-helps", "s"), ["uncorrected", "verdict"]].tolist() == ["supported"] * 2


def test_large_networks_are_judged_at_xxl_else_at_m_and_never_at_s() -> None:
    effects = {"vanillaNet": {"accuracy": 0.35}, "sr2Net": {"accuracy": 0.4 + S}}
    small, medium, large = (cell_of(effects, cell) for cell in (SMALL, MEDIUM, LARGE))
    for curves, verdicts in (
        ([small], ["", "", ""]),
        ([small, medium], ["", "supported", ""]),
        ([small, medium, large], ["", "", "supported"]),
        ([small, medium, large.isel(run=slice(8))], ["", "supported", ""]),
    ):
        rows = [row("sr-more-accurate", curves, cell) for cell in (SMALL, MEDIUM, LARGE)]
        assert [each["verdict"] for each in rows] == verdicts
        assert all(each["direction"] == "supported" for each in rows if each["status"] == "complete")
    for cell in (SMALL, MEDIUM, LARGE):  # a claim about all sizes
        assert row("targeting-helps", [small, medium, large], cell)["direction"] == "not run"
        assert row("sr2-safe", [small, medium, large], cell)["verdict"] == "contradicted"


def test_effects_are_those_of_the_registered_quantities() -> None:
    curves = with_runs({"vanillaNet": {"fall": 0.1, "late": 0.15, "scale_free_fall": 0.03, "at": 25.0}})
    plain = curves.isel(run=(curves["label"] == "vanillaNet").to_numpy())
    table = judge(LEDGER, curves)
    table = table[table["status"] == "complete"].set_index("claim")
    for claim, quantity in (("loss-rises", "val_loss"), ("loss-rises-calibrated", "val_loss_calibrated")):
        excess = onset_table(plain, quantity)["excess"]
        assert table.loc[claim, "mean"] == pytest.approx(excess.mean())
        assert table.loc[claim, "sd"] == pytest.approx(excess.std())
    lowest, _ = rise_after_minimum(plain["val_loss"].to_numpy()[:, 1:])
    assert lowest == pytest.approx(25, abs=3)
    share = (plain["entropy"].sel(split="monitor") / np.log(plain["channels"])).mean("layer").to_numpy()
    assert table.loc["entropy-falls", "mean"] == pytest.approx(-0.25, abs=0.01)
    assert table.loc["entropy-falls-everywhere", "mean"] == pytest.approx(-0.1, abs=0.01)
    assert table.loc["late-layers-fall-most", "mean"] == pytest.approx(-0.15, abs=0.01)
    assert table.loc["not-only-scale", "mean"] == pytest.approx(-0.03, abs=0.005)
    best = share[np.arange(5), lowest + 1]
    assert (share[:, -1] - best).mean() == pytest.approx(-0.1 - 0.15 * 3 / 5, abs=0.01)
    assert table.loc["conv1-most-correlated", "mean"] == pytest.approx(0.1)
    assert table.loc["dropout-raises-entropy", "mean"] == pytest.approx(-0.1 + 0.15 * 3 / 5, abs=0.01)
    low = plain["val_loss"].isel(epoch=slice(1, None)).min("epoch").mean()
    dropout = curves.isel(run=(curves["label"] == "dropNet").to_numpy())["val_loss"].min("epoch").mean()
    assert table.loc["dropout-lower-loss", "mean"] == pytest.approx(float(dropout - low))


def test_changes_are_judged_between_epochs_and_sizes_and_as_shares() -> None:
    adam = cell_of({"normNet": {"changed": 0.0}, "sr2Net": {}, "sr3Net": {}}, ADAM)  # falls 0.2 in 20 epochs
    assert row("adam-induces-sparsity", adam, ADAM)["mean"] == pytest.approx(-0.05, abs=0.003)
    fall = row("norm-entropy-stays", with_runs({"normNet": {"changed": 0.0, "fall": 0.4}}))
    assert fall["mean"] == pytest.approx(-0.38, abs=0.003)
    both = [usual(), runs_of("sr1Net", MEDIUM, accuracy=0.45)]
    gain = row("sr1-gains-from-size", both, MEDIUM)
    assert (gain["mean"], gain["verdict"]) == (pytest.approx(0.1), "supported")
    assert gain["paper"] == pytest.approx(0.4917 - 0.2663)
    none = with_runs({"dropNet": {"rise": 0.0}, "sr1Net": {"rise": [0.5, 0.5, 0.5, 0.0, 0.0]}})
    safe = row("dropout-small-safe", none)
    assert (safe["mean"], safe["verdict"]) == (0, "supported")
    some = row("sr1-safe", none)
    assert (some["mean"], some["verdict"]) == (pytest.approx(0.6), "inconclusive")
    assert 0.1 < some["low"] < 0.5 < some["high"] < 0.95
    assert np.isnan([some["sd"], some["low90"], some["p"]]).all()
    long = runs_of("sr2Net", LONG, rise=0.0)
    assert row("sr2-safe-for-200-epochs", long, LONG)["direction"] == "inconclusive"  # two runs


def test_warnings_depend_on_their_own_run() -> None:
    onsets = np.array([30.0, 36, 42, 48, 54])
    coupled = {
        label: {"at": onsets + i, "changed": onsets + i - 16} for i, label in enumerate(STUDY_NETWORKS)
    }
    mixed = {label: {"at": onsets + i, "changed": 14.0} for i, label in enumerate(STUDY_NETWORKS)}
    warned, ordered = (row("entropy-warns", cell_of(effects)) for effects in (coupled, mixed))
    for found, word in ((warned, "warning"), (ordered, "order of events")):
        assert (found["direction"], found["verdict"], found["warning"]) == ("supported", "supported", word)
        assert found["n"] == 5
    assert (
        max(warned["p_overall"], warned["p_within"]) < 0.05 < min(ordered["p_overall"], ordered["p_within"])
    )
    lagging = row("entropy-warns", usual())
    assert (lagging["direction"], lagging["warning"]) == ("opposite", "")
    alone = row("entropy-warns", cell_of({"vanillaNet": coupled["vanillaNet"]}))
    assert (alone["direction"], alone["warning"]) == ("supported", "")
    assert np.isnan(alone["p_overall"])  # the cell's other networks are not finished


def test_runs_without_a_change_or_an_onset_have_no_lead_and_are_counted() -> None:
    found = row("entropy-warns", with_runs({"vanillaNet": {"rise": [0.5, 0.5, 0.5, 0.0, 0.5], "fall": 0.1}}))
    assert (found["n"], found["without"], found["status"]) == (4, 1, "complete")
    none = row("entropy-warns", with_runs({"vanillaNet": {"fall": 0.0}}))
    assert (none["n"], none["without"], none["direction"]) == (0, 5, "inconclusive")


def test_the_permutation_tests_are_over_the_cells_networks() -> None:
    onsets = np.array([30.0, 36, 42, 48, 54])
    curves = cell_of(
        {label: {"at": onsets + i, "changed": onsets - 20 + i % 3} for i, label in enumerate(STUDY_NETWORKS)}
    )
    found = row("entropy-warns", curves)
    changed = change_point(curves, ["conv3", "conv4", "fc1"], 0.05)
    assert (found["p_overall"], found["p_within"]) == p_of_runs(onset(curves), changed, curves["label"])
    assert found["p_of_seeds"] == p_of_seeds(onset(curves), changed, curves["label"], curves["seed"])
    assert found["p_within"] < found["p_of_seeds"]  # runs of a seed are copies here


def test_the_papers_value_is_compared_with_one_more_run_by_the_pooled_sd() -> None:
    scales = np.arange(1, 8) / 4
    curves = cell_of(
        {label: {"accuracy": 0.34 + scale * S} for label, scale in zip(STUDY_NETWORKS, scales, strict=True)}
    )
    found = row("no-gain-when-small", curves)
    sd = S.std(ddof=1) * np.sqrt((scales**2).mean())
    half = t.ppf(0.975, 7 * 4) * sd * np.sqrt(2) * np.sqrt(1 + 1 / 5)
    assert found["predicted_high"] == pytest.approx(half, rel=1e-4)
    assert found["predicted_low"] == pytest.approx(-half, rel=1e-4)
    own = abs(scales[4] - scales[0]) * S.std(ddof=1) * t.ppf(0.975, 4) * np.sqrt(1.2)
    assert found["unpooled_high"] == pytest.approx(own, rel=1e-4)
    assert found["paper"] == pytest.approx(0.3460 - 0.3486)
    assert (found["inside"], found["inside_unpooled"]) == (True, True)
    assert found["distance"] == pytest.approx(0.26, abs=1e-3)
    far = row("norm-best-of-three", curves)  # the paper's difference is 11 points
    assert (far["inside"], far["best"]) == (False, pytest.approx(0, abs=1e-6))
    assert pd.isna(row("sr-more-accurate", curves)["inside"])  # conceptual
    assert found["smallest"] == pytest.approx(detectable(sd * np.sqrt(2), 5), rel=1e-4)


def test_image_intervals_are_of_primary_claims_alone() -> None:
    images = images_of(usual())
    table = judge(LEDGER, usual(), [images])
    primary = table[table["primary"] & (table["status"] == "complete")].set_index("claim")
    assert table.loc[~table["primary"], "image_low"].isna().all()
    assert primary["image_low"].isna().to_dict() == {
        "loss-rises": False,
        "entropy-falls": True,
        "not-only-scale": True,
        "sr2-safe": False,
        "no-gain-when-small": False,
    }
    there = primary.dropna(subset="image_low")
    assert (there["image_low"] < there["mean"]).all()
    assert (there["image_high"] > there["mean"]).all()
    correct = images["image_correct"].sel(moment="chosen").groupby("label").mean("run").astype(float)
    spread = float((correct.sel(label="sr2Net") - correct.sel(label="vanillaNet")).std() / np.sqrt(200))
    width = primary.loc["no-gain-when-small", ["image_low", "image_high"]].diff().iloc[-1]
    assert width == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert judged()["image_low"].isna().all()
    images["image_correct"][0, 0, 0] = -1  # not kept
    images["image_loss"][0, 0, 0] = np.nan
    some = judge(LEDGER, usual(), [images]).set_index("claim").query("primary")
    assert images["label"][0] == "vanillaNet"
    assert some["image_low"].notna().to_dict() == there["image_low"].reindex(some.index).notna().to_dict() | {
        "loss-rises": False,
        "no-gain-when-small": False,
    }


def test_other_papers_claims_have_directions_alone() -> None:
    labels = ("vanillaNet", "dropNet", "normNet", "sr2Net")
    parts = [
        cell_of({label: {} for label in labels}, SUBSET),
        runs_of("sparseoutNet q=3.0", SUBSET, accuracy=0.4),
    ]
    parts.append(runs_of("prNet lambda_=1.0", SUBSET, accuracy=0.3))
    parts = [
        part.assign(perplexity_sparsity=0.9 - part["entropy"] / np.log(part["channels"])) for part in parts
    ]
    table = judge(OTHERS, parts).set_index("claim")
    assert set(table["verdict"]) == {""}
    assert table.loc["sparseout-denser-classifies-better", "direction"] == "supported"
    assert table.loc["penalty-more-accurate", "direction"] == "opposite"
    assert table.loc["perplexity-sparsity-rises", "mean"] == pytest.approx(0.2, abs=0.01)
    assert table.loc["perplexity-sparsity-rises", "direction"] == "supported"
    assert table.loc["penalty-lowers-sparsity", "direction"] == "negligible"
    assert table.loc["perplexity-sparsity-warns", ["n", "margin"]].tolist() == [5, 2]
    assert table.loc["sparseout-controls-sparsity", "direction"] == "not run"
