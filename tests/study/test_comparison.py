"""Differences and intervals agree with scipy's; the paper's tables agree with its text."""

import numpy as np
import pytest
from refusals import refused
from scipy import stats
from synthetic import many, with_accuracy

from sparsity_lib.study import paper
from sparsity_lib.study.analysis import comparison
from sparsity_lib.study.analysis import summary as analysis


def test_describe_agrees_with_scipy():
    values = [0.2, 0.5, 0.4, 0.9]
    found = comparison.describe([*values, np.nan])
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.n, found.missing) == (4, 1)
    np.testing.assert_allclose([found.mean, found.sd], [np.mean(values), np.std(values, ddof=1)])
    np.testing.assert_allclose([found.low, found.high], expected)
    single = comparison.describe([0.3])
    assert (single.n, single.mean) == (1, 0.3)
    assert np.isnan([single.sd, single.low, single.high]).all()
    assert comparison.describe([np.nan]).n == 0


def test_prediction_interval_has_its_coverage():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(500):
        old, new = rng.normal(5, 2, 8), rng.normal(5, 2)
        low, high = comparison.prediction_interval(old)
        inside += low <= new <= high
    assert inside / 500 == pytest.approx(0.95, abs=0.03)
    assert np.isnan(comparison.prediction_interval([1.0])).all()


def test_missing_pairs_are_counted_and_mistakes_named():
    runs = many([with_accuracy("vanillaNet", s, 0.5 + 0.1 * s) for s in (0, 1, 7)])
    runs = many([runs, *(with_accuracy("normNet", s, 0.6 + 0.1 * s) for s in (0, 1))])
    found = comparison.compare(analysis.summary(runs), "normNet", "vanillaNet", "best_accuracy")
    assert (found.n, found.missing) == (2, 1)
    assert comparison.compare(runs, "normNet", "vanillaNet", "best_accuracy") == found
    assert (found.mean, found.sd) == (pytest.approx(0.1), pytest.approx(0))  # however much seeds differ
    with refused("LeNet", "normNet, vanillaNet"):
        comparison.compare(runs, "LeNet", "vanillaNet", "best_accuracy")
    with refused("accuracy"):
        comparison.compare(runs, "normNet", "vanillaNet", "accuracy")
    twice = many([runs, with_accuracy("normNet", 0, 0.9, lambda_conv_scale=3.0)])
    with refused("normNet"):
        comparison.compare(twice, "normNet", "vanillaNet", "best_accuracy")


def test_fresh_values_outside_are_counted_by_quantity():
    rng = np.random.default_rng(2)
    published = many([with_accuracy("normNet", 100 + s, a) for s, a in enumerate(rng.normal(0.5, 0.01, 20))])
    fresh = many([with_accuracy("normNet", 0, 0.5), with_accuracy("normNet", 1, 0.9)])
    counts = comparison.repeatability(fresh, published)
    assert counts.loc["best accuracy"].tolist() == [2, 1, pytest.approx(0.1)]
    assert counts.loc["lowest validation loss (nats)", "outside"] == 0
    assert not comparison.repeatability(fresh, None).to_numpy().any()
    assert not comparison.repeatability(published, published).to_numpy().any()  # which are not new
    other = with_accuracy("normNet", 0, 0.5, label_noise=0.3)
    assert not comparison.repeatability(other, published).to_numpy().any()


def test_a_description_is_formatted_as_its_mean_and_interval():
    found = comparison.describe([0.1, 0.3])
    assert f"{found:+.1f}" == f"+0.2 (−1.1 to +{found.high:.1f})"
    assert f"{comparison.describe([-0.3]):.1f}" == "−0.3"
    assert f"{comparison.describe([-0.01]):+.1f}" == "0.0"


def test_paper_tables_agree_with_its_text():
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


def test_paper_table_3_agrees_with_its_text():
    table = paper.accuracies().set_index(["source", "network", "dataset"])["accuracy"]
    older = table["Table 3"].unstack()
    assert older.shape == (4, 3)
    assert older.loc["LeNet"].to_dict() == {"cifar10": 0.6006, "cifar100": 0.2977, "tiny-imagenet": 0.1267}
    # section 4.2: AlexNet gains throughout, LeNet hardly
    assert ((older.loc["srAlexNet"] - older.loc["AlexNet"]) > 0.05).all()
    assert ((older.loc["srLeNet"] - older.loc["LeNet"]) < 0.01).all()
    assert table["section 4.2"].to_dict() == {("sr3Net", "cifar100"): 0.5513}
    assert table["section 4.2", "sr3Net", "cifar100"] > table["Table 2", "sr3Net", "cifar100"].max()


def test_comparisons_pair_runs_of_one_setting():
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
    with refused("label_noise"):
        comparison.compare(runs, "sr2Net", "vanillaNet", "best_accuracy")
    with refused("label_noise", 0.1):
        comparison.compare(runs, "sr2Net", "vanillaNet", "best_accuracy", label_noise=0.1)
    table = comparison.comparison_table(
        runs, [("sr2Net", "vanillaNet"), ("normNet", "vanillaNet")], ["best_accuracy"]
    )
    assert table["direction"].tolist() == ["higher", "higher"]  # settings; normNet is in neither
    assert table["n"].tolist() == [3, 3]
