"""Conclusions of the pages on the paper's settings, the scorecard and the pilot: the numbers they rest on."""

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from sparsity_lib import study
from sparsity_lib.study import analysis, claims, findings
from sparsity_lib.study.analysis import comparison, onset
from sparsity_lib.study.analysis.early_warning import detectors
from sparsity_lib.study.analysis.significance import wilson
from sparsity_lib.study.claims import judge, scorecard
from sparsity_lib.study.files import PROJECT, digest

JPEG = "cifar10-jpeg, s, 10,000 images"
LENET_ON = ("cifar10", "cifar100")  # data sets on which LeNet's cells are complete


@pytest.fixture(scope="module")
def pilot() -> pd.DataFrame:
    """The pilot's frozen verdicts."""
    return pd.read_csv(PROJECT / "results/pilot/verdicts.csv")


@pytest.fixture(scope="module")
def curves() -> xr.Dataset:
    """The pilot's networks of size s on 10,000 images."""
    published = study.published("desktop")
    return analysis.only(published, limit=10_000, size="s", epochs=100, others="")


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    """The paper's 48 cells, and ours."""
    return scorecard.accuracies(claims.published())


def test_two_cores_train_twelve_of_the_papers_48_cells(cells: pd.DataFrame) -> None:
    assert len(cells) == 48
    trained_here = cells[cells["status"] != "needs a GPU"]
    assert len(trained_here) == 12
    assert trained_here["planned"].eq(5).all()
    assert set(trained_here["size"]) == {"s", "full"}
    assert not trained_here["network"].str.contains("AlexNet").any()
    assert trained_here.loc[trained_here["status"] != "complete", "inside"].isna().all()
    counts = trained_here.groupby(["size", "n"]).size().to_dict()
    # As "not tried" has it.
    assert counts == {("s", 1): 2, ("s", 3): 1, ("s", 5): 3, ("full", 0): 2, ("full", 5): 4}
    complete = trained_here[trained_here["status"] == "complete"]
    assert set(zip(complete["network"], complete["dataset"], strict=True)) >= {
        (network, dataset) for network in ("LeNet", "srLeNet") for dataset in LENET_ON
    }


@pytest.mark.parametrize("dataset", LENET_ON)
def test_sparsityreg_makes_lenet_more_accurate_on_cifar(dataset: str, cells: pd.DataFrame) -> None:
    ledger = claims.load()
    table = scorecard.verdicts(ledger, judge.judge(ledger, claims.published()), every_cell=True)
    claim = table[(table["id"] == "lenet-no-gain") & (table["cell"] == dataset)].squeeze()
    assert claim["verdict"] == "does not hold"
    assert claim["low"] > 0
    assert claim["holm"] < 0.05 if dataset == "cifar10" else pd.isna(claim["holm"])
    rises = scorecard.rises(ledger, claims.published())
    of_lenet = rises[(rises["dataset"] == dataset) & (rises["size"] == "full")].set_index(["loss", "network"])
    assert of_lenet.loc["calibrated", "onsets"].eq(0).all()
    assert of_lenet.loc["raw", "onsets"]["LeNet"] == (5 if dataset == "cifar10" else 0)
    lenet = cells[(cells["dataset"] == dataset) & cells["network"].isin(["LeNet", "srLeNet"])]
    assert dict(zip(lenet["network"], lenet["inside"], strict=True)) == {"LeNet": True, "srLeNet": False}
    with_penalty = lenet[lenet["network"] == "srLeNet"].squeeze()
    assert with_penalty["paper"] < with_penalty["predicted_low"]


@pytest.mark.parametrize("dataset", LENET_ON)
def test_the_papers_gain_of_lenet_lies_below_our_means_interval_and_in_that_of_one_more_pair(
    dataset: str, cells: pd.DataFrame
) -> None:
    runs = scorecard.curves_of_cells(claims.published(), dataset=dataset, size="full")
    best = analysis.summary(runs).pivot(index="seed", columns="label", values="best_accuracy")
    paper = cells[cells["dataset"] == dataset].set_index(["network", "size", "optimizer"])["paper"]
    papers_gain = paper["srLeNet", "full", "sgd"] - paper["LeNet", "full", "sgd"]
    low, high = comparison.prediction_interval(best["srLeNet"] - best["LeNet"])
    ours = comparison.describe(best["srLeNet"] - best["LeNet"])
    assert 0 < low < papers_gain < ours.low < high
    low, high = comparison.prediction_interval(best["srLeNet"])
    assert low < paper["srLeNet", "full", "sgd"] < high
    below = paper["LeNet", "full", "sgd"] < comparison.describe(best["LeNet"]).low
    assert below == (dataset == "cifar100")


@pytest.fixture(scope="module")
def small() -> xr.Dataset:
    """The networks of size s on CIFAR-100, at the paper's settings."""
    return scorecard.curves_of_cells(claims.published(), dataset="cifar100", size="s", optimizer="sgd")


def test_sr2_overfits_later_and_less_on_cifar100(small: xr.Dataset) -> None:
    runs = onset.onset_table(small)
    plain, penalised, dropout = (
        runs[runs["label"] == name].set_index("seed") for name in ("vanillaNet", "sr2Net", "dropNet")
    )
    assert len(plain) == len(penalised) == len(dropout) == 5
    assert dropout["epoch"].isna().all()
    assert plain["epoch"].notna().all()
    assert penalised["epoch"].notna().all()
    assert comparison.describe(penalised["epoch"] - plain["epoch"]).low > 5
    assert penalised["excess"].min() > 0.05
    assert penalised["excess"].max() < 0.5 * plain["excess"].min()


def test_sparsityreg_makes_a_small_network_more_accurate_on_cifar100(
    small: xr.Dataset, cells: pd.DataFrame
) -> None:
    for quantity in ("chosen_accuracy", "best_accuracy"):
        assert comparison.compare(small, "sr2Net", "vanillaNet", quantity).low > 0.01
    assert comparison.compare(small, "sr2Net", "vanillaNet", "min_val_loss").high < 0
    of_size_s = cells[cells["size"] == "s"].set_index("network")
    assert of_size_s.loc["vanillaNet", "inside"]
    assert 0 < of_size_s.loc["vanillaNet", "paper"] - of_size_s.loc["vanillaNet", "high"] < 0.001
    assert of_size_s.loc["sr2Net", "paper"] < of_size_s.loc["sr2Net", "predicted_low"]


def test_dropout_does_better_than_sparsityreg_on_cifar100(small: xr.Dataset, cells: pd.DataFrame) -> None:
    for quantity in ("chosen_accuracy", "best_accuracy"):
        assert comparison.compare(small, "sr2Net", "dropNet", quantity).high < 0
    assert comparison.compare(small, "sr2Net", "dropNet", "min_val_loss").low > 0
    of_size_s = cells[cells["size"] == "s"].set_index("network")
    assert of_size_s["paper"].idxmin() == "dropNet"
    assert of_size_s.loc["dropNet", "distance"] > 15


def test_entropy_begins_to_fall_early_whenever_overfitting_begins(small: xr.Dataset) -> None:
    moments = detectors.detector_inputs(small).moments()
    assert comparison.describe(moments.loc[moments["network"] == "vanillaNet", "lead"]).low > 10
    early = moments["changed"] <= findings.EARLY_EPOCHS
    assert early.mean() > 2 / 3
    assert early[moments["network"] == "dropNet"].all()
    assert moments["changed"].notna().all()  # so "in the others" they begin later
    onsets = moments.loc[early, "onset"]
    assert onsets.max() - onsets.min() > 30


@pytest.mark.parametrize("network", ["dropNet", "sr1Net"])
def test_two_networks_lie_far_above_the_papers_and_our_plain_one(network: str, cells: pd.DataFrame) -> None:
    small = cells[(cells["size"] == "s") & (cells["n"] > 0)].set_index("network")
    assert small.loc[network, "distance"] > 15
    assert small.loc[network, "best"] > small.loc["vanillaNet", "best"] + 0.05


def test_six_claims_are_primary_and_no_number_is_shown_before_all_seeds_are_in() -> None:
    ledger = claims.load()
    table = scorecard.verdicts(ledger, judge.judge(ledger, claims.published()), every_cell=True)
    assert table["primary"].sum() == 6
    verdicts = table[table["primary"]].set_index("id")["verdict"].str.partition(":")[0]
    assert verdicts.to_dict() == {  # as the front page has them
        "loss-rises": "holds",
        "entropy-falls": "holds",
        "not-only-scale": "does not hold",
        "sr2-safe": "does not hold",
        "no-gain-when-small": "does not hold",
        "lenet-no-gain": "does not hold",
    }
    words = set(table["verdict"].str.partition(":")[0])
    assert words <= {"holds", "does not hold", "undecided", "incomplete", "not run", ""}
    assert table["verdict"].eq("not run").equals(table["runs"].str.startswith("0 of"))
    waiting = table[table["verdict"].isin(["incomplete", "not run"])]
    assert waiting[["effect", "low", "high"]].isna().all(axis=None)
    assert set(table.loc[table["verdict"] == "", "kind"]) <= {"conceptual", "close"}
    untested = {claim.id for claim in ledger.claims if claim.test is None}
    assert len(untested) == 6
    assert set(table["id"]) == {claim.id for claim in ledger.claims} - untested
    ours = table.loc[table["claim"].str.endswith("(ours)"), "id"]
    assert {"not-only-scale", "entropy-warns"} < set(ours)
    assert not set(ours) & {"loss-rises", "sr2-safe"}


def test_the_pilots_registrations_and_verdicts_do_not_change() -> None:
    assert {path.name: digest(path)[:16] for path in (PROJECT / "results/pilot").iterdir()} == {
        "pilot-added.yaml": "35648b4c95d134ed",
        "pilot-other-papers.yaml": "82d66acb4c7a50cb",
        "pilot.yaml": "d6c5d3852be613d8",
        "verdicts.csv": "0981b1aa934e6338",
    }


@pytest.mark.parametrize(
    ("claim", "networks"),
    [
        ("sr-more-accurate", ("sr2Net", "vanillaNet")),
        ("sr-beats-dropout", ("sr2Net", "dropNet")),
        ("entropy-not-scale", ("sr2Net", "varNet")),
    ],
)
def test_the_pilots_table_agrees_with_its_published_runs(
    pilot: pd.DataFrame, curves: xr.Dataset, claim: str, networks: tuple[str, str]
) -> None:
    row = pilot[(pilot["claim"] == claim) & (pilot["cell"] == JPEG)].iloc[0]
    jpeg = analysis.only(curves, dataset="cifar10-jpeg")
    found = comparison.compare(jpeg, *networks, "chosen_accuracy")
    assert (found.n, found.mean, found.low, found.high) == pytest.approx(
        (row["n"], row["mean"], row["low"], row["high"]), rel=1e-4, abs=1e-6
    )


def test_three_of_the_pilots_verdicts_are_others_by_the_later_rule(curves: xr.Dataset) -> None:
    moments = onset.onset_table(curves).groupby(["dataset", "label"])["epoch"]
    later = {key: values.notna().to_numpy() for key, values in moments}
    assert wilson(later["tiny32-100", "dropNet"])[1] < 0.5  # and none overfits
    assert not later["tiny32-100", "dropNet"].any()
    assert wilson(later["cifar10-jpeg", "dropNet"])[1] < 0.5
    assert wilson(later["cifar10-jpeg", "sr1Net"])[0] < 0.5 < wilson(later["cifar10-jpeg", "sr1Net"])[1]


def test_batch_normalisation_lowers_the_entropy_of_fc1_alone(curves: xr.Dataset) -> None:
    normed = analysis.only(curves, label="normNet", dataset="cifar10-jpeg")
    share = (normed["entropy"] / np.log(normed["channels"])).mean("run")
    changes = share.sel(epoch=99, split="monitor") - share.sel(epoch=1, split="monitor")
    assert (changes.sel(layer=["conv3", "conv4"]) > 0).all()
    assert changes.sel(layer="fc1") < -0.2


def test_the_entropy_of_the_explorers_plain_network_falls_at_every_position() -> None:
    plain = study.select("laptop", "vanillaNet", seeds="100", label_noise="0.3")[-1]
    (run,) = study.load_or_train_all([plain], train=False)
    layer = run.layer("conv3")
    moment = onset.onset_table(study.curves([run]))["epoch"].item()
    at = int(np.argmin(abs(layer["saved_epoch"].to_numpy() - moment)))
    fall = (layer["heatmap"][-1] - layer["heatmap"][at]) / np.log(layer.attrs["channels"])
    change = (layer["scale_free_heatmap"][-1] - layer["scale_free_heatmap"][at]) / np.log(
        layer.attrs["channels"]
    )
    assert fall.max() < 0
    assert fall.mean() < -0.3
    assert change.mean() > -0.02


def test_the_best_accuracy_exceeds_the_other_two(curves: xr.Dataset) -> None:
    means = analysis.summary(curves)[["best_accuracy", "chosen_accuracy", "last_five_accuracy"]].mean()
    exceeds = means["best_accuracy"] - means[1:]
    assert exceeds.round(3).tolist() == pytest.approx([0.006, 0.016])  # as T18 has it
    assert curves.sizes["run"] == 70


def test_published_photographs_are_the_copy_that_the_book_names() -> None:
    page = (PROJECT / "book/reproduce.md").read_text(encoding="utf-8")
    photographs = analysis.only(study.published("desktop"), dataset="cifar10-jpeg")
    assert set(photographs["data_digest"].to_numpy()) == set(re.findall(r"`([0-9a-f]{64})`", page))


def test_the_pilot_has_the_papers_settings_but_for_the_data(curves: xr.Dataset) -> None:
    shared = {name: set(curves[name].to_numpy()) for name in ("limit", "lr", "optimizer", "epochs", "others")}
    assert shared == {"limit": {10_000}, "lr": {0.01}, "optimizer": {"sgd"}, "epochs": {100}, "others": {""}}
    assert study.Experiment().batch_size == 64
    assert set(curves["dataset"].to_numpy()) == {"cifar10-jpeg", "tiny32-100"}
    assert pd.Series(curves["label"]).value_counts().eq(10).all()


def test_the_pilots_rule_counts_plateaus_as_overfitting(curves: xr.Dataset) -> None:
    moments = onset.onset_table(curves).assign(pilot=analysis.pilot_onset(curves).to_numpy()).groupby("label")
    by_pilot, registered = moments["pilot"].count(), moments["epoch"].count()
    assert (by_pilot >= registered).all()
    assert by_pilot.sum() > registered.sum() + 15
    assert (by_pilot["dropNet"], registered["dropNet"]) == (7, 0)
    assert registered["vanillaNet"] == 10


def test_intervals_over_images_lead_to_the_same_verdicts() -> None:
    table = judge.judge(claims.load(), claims.published(), claims.published_images())
    table = table[table["primary"]].set_index("claim")
    assert set(table.index[table["image_low"].isna()]) == {"entropy-falls", "not-only-scale"}
    table = table.dropna(subset="image_low")
    assert (table["image_low"] > table["margin"]).all()
    assert (table["low"] > table["margin"]).all()
    assert (table["image_high"] - table["image_low"] < table["high"] - table["low"]).all()
