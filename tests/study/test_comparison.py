"""Differences and intervals agree with scipy's; the paper's accuracies do not change."""

import hashlib

import numpy as np
import pytest
from refusals import refused
from scipy import stats
from synthetic import many, one, with_accuracy

from sparsity_lib.study import analysis, paper
from sparsity_lib.study.analysis import comparison


def test_describe_agrees_with_scipy():
    values = [0.2, 0.5, 0.4, 0.9]
    found = comparison.describe([*values, np.nan])
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert found.n == 4
    np.testing.assert_allclose([found.mean, found.sd], [np.mean(values), np.std(values, ddof=1)])
    np.testing.assert_allclose([found.low, found.high], expected)
    single = comparison.describe([0.3])
    assert (single.n, single.mean) == (1, 0.3)
    assert np.isnan([single.sd, single.low, single.high]).all()
    assert comparison.describe([np.nan]).n == comparison.describe([]).n == 0


def test_prediction_interval_has_its_coverage():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(500):
        old, new = rng.normal(5, 2, 8), rng.normal(5, 2)
        low, high = comparison.prediction_interval(old)
        inside += low <= new <= high
    assert inside / 500 == pytest.approx(0.95, abs=0.03)
    assert np.isnan(comparison.prediction_interval([1.0])).all()


def test_missing_pairs_are_left_out_and_mistakes_named():
    runs = many([with_accuracy("vanillaNet", s, 0.5 + 0.1 * s) for s in (0, 1, 7)])
    runs = many([runs, *(with_accuracy("normNet", s, 0.6 + 0.1 * s) for s in (0, 1))])
    found = comparison.compare(analysis.summary(runs), "normNet", "vanillaNet", "best_accuracy")
    assert found.n == 2
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
    spread = [one("normNet", 100 + s, val_loss=np.full(42, loss)) for s, loss in enumerate((0.5, 1, 2, 4))]
    fresh = many([one("normNet", s, val_loss=np.full(42, loss)) for s, loss in enumerate((20, 0.1, 90))])
    outside = comparison.repeatability(fresh, many(spread))["outside"]
    assert outside["lowest validation loss (nats)"] == 1  # on the log scale
    other = with_accuracy("normNet", 0, 0.5, label_noise=0.3)
    assert not comparison.repeatability(other, published).to_numpy().any()


def test_a_description_is_formatted_as_its_mean_and_interval():
    found = comparison.describe([0.1, 0.3])
    assert f"{found:+.1f}" == f"+0.2 (−1.1 to +{found.high:.1f})"
    assert f"{comparison.describe([-0.3]):.1f}" == "−0.3"
    assert f"{comparison.describe([-0.01]):+.1f}" == "0.0"


def test_the_papers_accuracies_do_not_change():
    table = paper.accuracies().to_csv(index=False)
    assert hashlib.sha256(table.encode()).hexdigest()[:16] == "2394ae0818696a5d"


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
    noisy = analysis.only(runs, label_noise=0.3)
    found = comparison.compare(noisy, "sr2Net", "vanillaNet", "best_accuracy")
    np.testing.assert_allclose(found, comparison.describe(gain), rtol=1e-4)
    assert comparison.compare(noisy, "vanillaNet", "sr2Net", "best_accuracy").high < 0
    with refused("label_noise"):
        comparison.compare(runs, "sr2Net", "vanillaNet", "best_accuracy")
    table = comparison.comparison_table(
        runs, [("sr2Net", "vanillaNet"), ("normNet", "vanillaNet")], ["best_accuracy"]
    )
    assert table["n"].tolist() == [3, 3]  # settings; normNet is in neither
