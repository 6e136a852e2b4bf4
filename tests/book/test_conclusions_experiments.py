"""Conclusions of notebooks 05 to 07; each test holds the numbers of a sentence."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from sparsity_lib import study
from sparsity_lib.study import analysis, paper
from sparsity_lib.study.analysis import comparison, onset

PLAIN, NORM, SR1, SR2, SR3, VAR = (
    "vanillaNet",
    "normNet",
    "sr1Net ×16",
    "sr2Net ×16",
    "sr3Net ×16",
    "varNet ×16",
)
SEEDS = 5
GRIDS = ("200-epochs", "lenet-alexnet", "adam")


@pytest.fixture(scope="module")
def curves() -> dict[str, xr.Dataset]:
    """Published runs of the laptop by grid; `sgd`: 100 epochs of the same networks, data and seeds."""
    found = {name: study.published("laptop", f"{name}.nc") for name in (*GRIDS, "networks")}
    networks = analysis.only(found.pop("networks"), label_noise=0.3, seed=list(range(100, 105)))
    return found | {"sgd": networks}


@pytest.fixture(scope="module")
def tables(curves: dict[str, xr.Dataset]) -> dict[str, pd.DataFrame]:
    """Their summaries."""
    return {name: analysis.summary(curves[name]) for name in GRIDS}


@pytest.fixture(scope="module")
def overfitting(curves: dict[str, xr.Dataset]) -> dict[str, pd.Series]:
    """Runs that overfit, by network."""
    return {name: onset.onset_table(each).groupby("label")["epoch"].count() for name, each in curves.items()}


def values(curves: xr.Dataset, label: str, quantity: str, layer: str, epoch: int) -> np.ndarray:
    """(seed): a quantity of a layer on the monitor images."""
    runs = analysis.only(curves, label=label).sortby("seed")
    assert runs["seed"].to_numpy().tolist() == list(range(100, 105))
    return runs[quantity].sel(split="monitor", layer=layer, epoch=epoch).to_numpy()


def holds_zero(found: comparison.Description) -> bool:
    assert found.n == SEEDS
    return found.low < 0 < found.high


def late(curves: xr.Dataset, label: str, quantity: str = "val_loss") -> comparison.Description:
    return comparison.describe(analysis.late_change(analysis.only(curves, label=label), quantity))


def test_long_training_the_penalised_loss_is_lowest_as_early_rises_less_and_stays(
    curves: dict[str, xr.Dataset], tables: dict[str, pd.DataFrame]
) -> None:
    long, table = curves["200-epochs"], tables["200-epochs"]
    rise = table.groupby("label")["val_loss_rise"].mean()
    for name in (SR2, SR3):
        found = comparison.compare(table, name, PLAIN, "best_epoch")
        assert holds_zero(found)
        assert abs(found.mean) < 5
        assert rise[name] < rise[PLAIN] / 6
        assert comparison.describe(table[table["label"] == name]["val_loss_rise"]).low > 0
    course = analysis.smoothed(analysis.only(long, label=SR2)["val_loss"]).mean("run")
    peak = course.sel(epoch=slice(40, None)).idxmax("epoch").item()
    assert 35 < peak - course.idxmin("epoch").item() < 55
    assert course.min() + 0.03 < course[-1] < course.sel(epoch=peak) - 0.15
    for name in (SR1, SR2, VAR):
        assert comparison.compare(table, SR3, name, "chosen_accuracy").low < 0
        assert comparison.compare(table, SR3, name, "best_accuracy").low < 0
    for name in (SR2, SR3, VAR):
        assert holds_zero(late(long, name))
        assert late(long, name).high < 0.05
    assert [f"{rise[name]:.2f}" for name in (SR2, SR3, PLAIN)] == ["0.07", "0.10", "0.67"]
    assert late(long, PLAIN).low > 0.1
    assert late(long, NORM).low > 0
    assert late(long, "dropNet", "val_accuracy").high < 0
    assert holds_zero(comparison.compare(table, SR3, PLAIN, "chosen_accuracy"))
    for name in (SR2, "dropNet"):
        assert comparison.compare(table, name, PLAIN, "chosen_accuracy").low > 0


def test_long_training_decides_since_the_noise_shrinks(
    curves: dict[str, xr.Dataset], overfitting: dict[str, pd.Series]
) -> None:
    for name in (SR1, SR2, SR3, NORM, "dropNet"):
        assert overfitting["200-epochs"][name] > overfitting["sgd"][name]
    assert overfitting["200-epochs"][["dropNet", NORM, PLAIN]].tolist() == [1, SEEDS, SEEDS]
    of_runs = {name: onset.onset_table(curves[name]) for name in ("200-epochs", "sgd")}
    noise = {name: table.groupby("label")["null_95"].median()[SR3] for name, table in of_runs.items()}
    assert noise["200-epochs"] < noise["sgd"] / 10


def test_long_training_one_run_with_a_penalty_on_all_layers_jumps(curves: dict[str, xr.Dataset]) -> None:
    loss = analysis.only(curves["200-epochs"], label=SR1).set_index(run="seed")["val_loss"]
    jumps = loss.sel(epoch=199) - loss.sel(epoch=190)
    assert jumps["run"].to_numpy()[jumps > 1].tolist() == [100]
    assert float(abs(jumps.drop_sel(run=100)).max()) < 0.2


def test_long_training_begins_as_100_epochs_do(curves: dict[str, xr.Dataset]) -> None:
    for name, seeds in ((PLAIN, range(100, 105)), (VAR, range(100, 105)), (SR2, [100]), (SR3, [100])):
        long, short = (
            analysis.only(curves[grid], label=name, seed=list(seeds)).sortby("seed")["val_loss"]
            for grid in ("200-epochs", "sgd")
        )
        first = slice(-1, 99)
        np.testing.assert_array_equal(long.sel(epoch=first).to_numpy(), short.sel(epoch=first).to_numpy())


def test_older_networks_gain_little_or_undecided(
    curves: dict[str, xr.Dataset], tables: dict[str, pd.DataFrame], overfitting: dict[str, pd.Series]
) -> None:
    table = tables["lenet-alexnet"]
    theirs = (
        paper.accuracies()
        .query("source == 'Table 3'")
        .pivot(index="dataset", columns="network", values="accuracy")
    )
    alexnet = table[table["network"].isin(["AlexNet", "srAlexNet"])]
    lenet = table[table["network"].isin(["LeNet", "srLeNet"])]
    best = comparison.compare(alexnet, "srAlexNet ×16", "AlexNet", "best_accuracy")
    chosen = comparison.compare(alexnet, "srAlexNet ×16", "AlexNet", "chosen_accuracy")
    assert 0 < best.low < best.high < 0.01
    assert chosen.high < 0.02
    assert (theirs["srAlexNet"] - theirs["AlexNet"]).round(2).agg(["min", "max"]).tolist() == [0.05, 0.08]
    assert holds_zero(chosen)
    assert holds_zero(comparison.compare(alexnet, "srAlexNet ×16", "AlexNet", "val_loss_rise"))
    assert overfitting["lenet-alexnet"][["LeNet", "srLeNet ×25", "srAlexNet ×16"]].sum() == 0
    noise = onset.onset_table(curves["lenet-alexnet"]).groupby("label")[["rise", "null_95"]].mean()
    assert noise["rise"][["AlexNet", "srAlexNet ×16"]].round(1).tolist() == [0.2, 0.2]
    assert (noise["rise"] / noise["null_95"])[["AlexNet", "srAlexNet ×16"]].between(0.7, 1).all()
    undecided = comparison.compare(lenet, "srLeNet ×25", "LeNet", "chosen_accuracy")
    assert holds_zero(undecided)
    assert (undecided.high - undecided.low) / 2 == pytest.approx(0.07, abs=0.005)
    plain = lenet[lenet["label"] == "LeNet"]
    assert plain["best_epoch"].median() == 99
    assert np.ptp(plain["chosen_accuracy"]) > 10 * (theirs["srLeNet"] - theirs["LeNet"]).max()


def test_older_networks_have_smaller_activations_under_the_penalty(tables: dict[str, pd.DataFrame]) -> None:
    table = tables["lenet-alexnet"]
    for network, label, layer in (("AlexNet", "srAlexNet ×16", "conv5"), ("LeNet", "srLeNet ×25", "conv2")):
        runs = table[table["network"].isin([network, f"sr{network}"])]
        assert comparison.compare(runs, label, network, f"sd_end:{layer}").high < 0
        assert comparison.compare(runs, label, network, f"entropy_end:{layer}").low > 0
    lenet = table[table["network"].isin(["LeNet", "srLeNet"])]
    pattern = comparison.compare(lenet, "srLeNet ×25", "LeNet", "scale_free_entropy_end:conv2")
    assert holds_zero(pattern)
    assert max(-pattern.low, pattern.high) < 0.05 * np.log(4)  # the registered margin; conv2 has 4 channels
    plain = table[table["label"] == "AlexNet"]
    change = comparison.describe(plain["entropy_end:conv5"] - plain["entropy_best:conv5"])
    assert abs(change.mean) < 0.05
    scale = plain.filter(like="sd_end:").mean()
    assert 0.15 < scale.min() < scale.max() < 0.45


def test_adam_drops_entropy_early_and_so_does_sgd(curves: dict[str, xr.Dataset]) -> None:
    adam, sgd = curves["adam"], curves["sgd"]

    def early(runs: xr.Dataset, label: str, layer: str, quantity: str = "entropy") -> np.ndarray:
        return values(runs, label, quantity, layer, 5) - values(runs, label, quantity, layer, -1)

    def end(runs: xr.Dataset, label: str, layer: str) -> np.ndarray:
        return values(runs, label, "entropy", layer, 99)

    for layer in ("conv3", "fc1"):
        assert comparison.describe(early(adam, NORM, layer)).high < 0
        assert comparison.describe(early(adam, NORM, layer) - early(sgd, NORM, layer)).low > 0
        assert comparison.describe(early(sgd, NORM, layer)).high < 0
        assert holds_zero(comparison.describe(end(adam, PLAIN, layer) - end(sgd, PLAIN, layer)))
        assert comparison.describe(end(adam, NORM, layer) - end(sgd, NORM, layer)).low > 0
    assert comparison.describe(early(adam, PLAIN, "fc1") - early(sgd, PLAIN, "fc1")).high < 0
    scale_free = comparison.describe(early(adam, NORM, "fc1", "scale_free_entropy"))
    assert -0.1 < scale_free.low < 0 < scale_free.high < 0.1
    after = {
        layer: end(adam, NORM, layer) - values(adam, NORM, "entropy", layer, 5) for layer in ("conv3", "fc1")
    }
    assert comparison.describe(after["conv3"]).low > 0
    assert comparison.describe(after["fc1"]).high < 0


def test_adam_penalty_weakens_overfitting_and_adds_little_accuracy(
    tables: dict[str, pd.DataFrame], overfitting: dict[str, pd.Series]
) -> None:
    table = tables["adam"]
    assert comparison.compare(table, SR2, PLAIN, "val_loss_rise").high < 0
    assert overfitting["adam"][[PLAIN, SR1, SR2, SR3]].eq(SEEDS).all()
    assert overfitting["sgd"][SR2] == 1
    assert 0 < comparison.compare(table, SR2, PLAIN, "best_accuracy").high < 0.01
    chosen = comparison.compare(table, SR2, PLAIN, "chosen_accuracy")
    assert holds_zero(chosen)
    assert chosen.high < 0.02
    for name in (SR1, SR2, SR3, "dropNet"):
        assert comparison.compare(table, name, NORM, "best_accuracy").low > 0
    assert comparison.compare(table, "dropNet", NORM, "chosen_accuracy").low > 0
    assert holds_zero(comparison.compare(table, SR3, NORM, "chosen_accuracy"))


def test_adam_leaves_regularised_filters_more_correlated_in_fc1_and_less_in_conv3(
    curves: dict[str, xr.Dataset], tables: dict[str, pd.DataFrame]
) -> None:
    of_all = curves["adam"]["correlation"].sel(center="filters")
    of_filters = of_all.sel(epoch=99)
    conv3, fc1 = (
        comparison.compare(
            tables["adam"].assign(correlation=of_filters.sel(layer=layer).to_numpy()),
            SR3,
            PLAIN,
            "correlation",
        )
        for layer in ("conv3", "fc1")
    )
    assert conv3.high < 0 < fc1.low
    of_sr3 = of_all.isel(run=curves["adam"]["label"].to_numpy() == SR3)
    for layer in ("conv3", "conv4", "fc1"):
        course = of_sr3.sel(layer=layer)
        assert comparison.describe(course.sel(epoch=99) - course.sel(epoch=-1)).low > 0
