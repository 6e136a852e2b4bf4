"""Differences and intervals are what statistics says they are; the paper's tables are what the paper says."""

import numpy as np
import pytest
from scipy import stats
from synthetic import many, published_and_fresh, with_accuracy

from sparsity_lib.models import WIDTHS
from sparsity_lib.study import StudyError, paper
from sparsity_lib.study.analysis import comparison
from sparsity_lib.study.analysis import summary as analysis


def test_describe_agrees_with_scipy():
    values = [0.2, 0.5, 0.4, 0.9]
    told = comparison.describe([*values, np.nan])
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (told.n, told.missing) == (4, 1)
    np.testing.assert_allclose([told.mean, told.sd], [np.mean(values), np.std(values, ddof=1)])
    np.testing.assert_allclose([told.low, told.high], expected)
    single = comparison.describe([0.3])
    assert (single.n, single.mean) == (1, 0.3)
    assert np.isnan([single.sd, single.low, single.high]).all()
    assert comparison.describe([np.nan]).n == 0


@pytest.mark.parametrize("m", [1, 3])
def test_prediction_interval_holds_what_it_says(m):
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(2000):
        old, new = rng.normal(5, 2, 8), rng.normal(5, 2, m).mean()
        low, high = comparison.prediction_interval(old, m=m)
        inside += low <= new <= high
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)
    assert np.isnan(comparison.prediction_interval([1.0])).all()


def test_pairs_share_seed_and_setting():
    seeds = range(4)
    runs = many(
        [
            with_accuracy(label, s, base + 0.1 * s + more, label_noise=noise)
            for noise, base in ((0.0, 0.2), (0.3, 0.1))
            for label, more in (("vanillaNet", 0.0), ("normNet", 0.05 + 0.01 * noise))
            for s in seeds
        ]
    )
    table = comparison.paired(runs, "normNet", "vanillaNet", "best_accuracy")
    assert table["n"].tolist() == [4, 4]
    np.testing.assert_allclose(table["mean"], [0.05, 0.053])  # however much seeds differ
    np.testing.assert_allclose(table["sd"], 0, atol=1e-9)
    turned = comparison.paired(analysis.summary(runs), "vanillaNet", "normNet", "best_accuracy")
    np.testing.assert_allclose(turned["mean"], -table["mean"])


def test_missing_pairs_are_named_or_counted():
    runs = many([with_accuracy("vanillaNet", s, 0.5) for s in (0, 1, 7)])
    runs = many([runs, *(with_accuracy("normNet", s, 0.6) for s in (0, 1))])
    with pytest.raises(StudyError, match="cannot be paired for seed 7"):
        comparison.paired(runs, "normNet", "vanillaNet", "best_accuracy")
    row = comparison.paired(runs, "normNet", "vanillaNet", "best_accuracy", missing="drop").iloc[0]
    assert (row["n"], row["dropped"]) == (2, 1)
    with pytest.raises(StudyError, match="unknown network 'LeNet'; known: normNet, vanillaNet"):
        comparison.paired(runs, "LeNet", "vanillaNet", "best_accuracy")
    with pytest.raises(StudyError, match="unknown quantity 'accuracy'"):
        comparison.paired(runs, "normNet", "vanillaNet", "accuracy")
    twice = many([runs, with_accuracy("normNet", 0, 0.9, lambda_conv_scale=3.0)])
    with pytest.raises(StudyError, match="more than one run of normNet"):
        comparison.paired(twice, "normNet", "vanillaNet", "best_accuracy")


def test_fresh_values_are_held_against_published_ones():
    fresh, published = published_and_fresh()
    table = comparison.against_published(fresh, published, ["best_accuracy"])
    assert table["inside"].tolist() == [True, False]
    assert table["n"].tolist() == [20, 20]
    assert table["by_chance"].sum() == pytest.approx(0.1)
    low, high = comparison.prediction_interval(analysis.best_accuracy(published))
    np.testing.assert_allclose(table[["low", "high"]].iloc[0], [low, high])


def test_other_cells_and_the_run_itself_are_no_peers():
    _, published = published_and_fresh()
    other = with_accuracy("normNet", 0, 0.5, label_noise=0.3)
    table = comparison.against_published(other, published, ["best_accuracy"])
    assert table["inside"].isna().all()
    assert np.isnan(table["by_chance"]).all()
    again = comparison.against_published(published.isel(run=[3]), published, ["best_accuracy"])
    assert again["n"].tolist() == [19]


def test_fresh_values_outside_are_counted_by_quantity():
    fresh, published = published_and_fresh()
    row = comparison.repeatability(fresh, published).loc["best_accuracy"]
    assert (row["judged"], row["outside"], row["outside by chance"]) == (2, 1, pytest.approx(0.1))
    assert not comparison.repeatability(fresh, None).to_numpy().any()


def test_a_description_is_formatted_as_its_mean_and_interval():
    found = comparison.describe([0.1, 0.3])
    assert f"{found:+.1f}" == f"+0.2 (−1.1 to +{found.high:.1f})"
    assert f"{comparison.describe([-0.3]):.1f}" == "−0.3"


def test_papers_tables():
    assert paper.WIDTHS == WIDTHS
    everything = paper.accuracies()
    table = everything[everything["source"] == "Table 2"]
    assert len(table) == 36
    best = table.loc[table.groupby(["dataset", "size", "optimizer"])["accuracy"].idxmax()]
    assert best.set_index(["dataset", "size", "optimizer"])["network"].to_dict() == {
        ("cifar100", "s", "sgd"): "sr3Net",
        ("cifar100", "m", "sgd"): "sr3Net",
        ("cifar100", "xxl", "sgd"): "sr3Net",
        ("cifar100", "xxl", "adam"): "normNet",
        ("cifar10", "xxl", "sgd"): "sr1Net",
        ("tiny-imagenet", "xxl", "sgd"): "sr2Net",
    }
    # differences that section 4 states
    cell = table[(table["dataset"] == "cifar100") & (table["size"] == "xxl") & (table["optimizer"] == "sgd")]
    value = cell.set_index("network")["accuracy"]
    assert value["sr1Net"] - value["vanillaNet"] == pytest.approx(0.1669)
    assert value["sr1Net"] - value["normNet"] == pytest.approx(0.0266)


def test_papers_table_3_and_its_number_for_200_epochs():
    table = paper.accuracies().set_index(["source", "network", "dataset"])["accuracy"]
    older = table["Table 3"].unstack()
    assert older.shape == (4, 3)
    assert older.loc["LeNet"].to_dict() == {"cifar10": 0.6006, "cifar100": 0.2977, "tiny-imagenet": 0.1267}
    # what section 4.2 says of it: AlexNet gains throughout, LeNet hardly
    assert ((older.loc["srAlexNet"] - older.loc["AlexNet"]) > 0.05).all()
    assert ((older.loc["srLeNet"] - older.loc["LeNet"]) < 0.01).all()
    assert table["section 4.2"].to_dict() == {("sr3Net", "cifar100"): 0.5513}
    assert table["section 4.2", "sr3Net", "cifar100"] > table["Table 2", "sr3Net", "cifar100"].max()


def test_a_comparison_is_of_pairs_in_one_setting():
    gain = (0.02, 0.04, 0.03)
    runs = many(
        [
            with_accuracy(
                label, seed, 0.5 + 0.1 * seed + (gain[seed] if label == "sr2Net" else 0), label_noise=noise
            )
            for noise in (0.0, 0.3)
            for seed in range(3)
            for label in ("vanillaNet", "sr2Net")
        ]
    )
    found = comparison.compare(runs, "sr2Net", "vanillaNet", "best_accuracy", label_noise=0.3)
    np.testing.assert_allclose(found, comparison.describe(gain), rtol=1e-4)
    assert comparison.compare(runs, "vanillaNet", "sr2Net", "best_accuracy", label_noise=0.3).high < 0
    with pytest.raises(StudyError, match="label_noise"):
        comparison.compare(runs, "sr2Net", "vanillaNet", "best_accuracy")
    with pytest.raises(StudyError, match="no run with label_noise"):
        comparison.compare(runs, "sr2Net", "vanillaNet", "best_accuracy", label_noise=0.1)
    table = comparison.comparison_table(
        runs, [("sr2Net", "vanillaNet"), ("normNet", "vanillaNet")], ["best_accuracy"]
    )
    assert table["direction"].tolist() == ["higher", "higher"]  # settings; normNet is in neither
    assert table["n"].tolist() == [3, 3]
