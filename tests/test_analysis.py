"""Onsets, accuracies, comparisons and sentences agree with what was put into made-up curves."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats
from synthetic import curve, many, one, valley

from sparsity_lib.study import StudyError, analysis, comparison, networks, paper, sentences
from sparsity_lib.study import results as study_results


def onset(run: xr.Dataset, **how: object) -> float:
    return analysis.moment_of_overfitting(run, **how).item()


def test_onset_is_where_the_loss_is_lowest():
    assert onset(one()) == 20
    assert onset(one(), quantity="val_accuracy") == 25
    assert {onset(one(), smoothing=sigma) for sigma in (0, 1, 2, 4)} == {20}


@pytest.mark.parametrize(
    "loss",
    [
        curve(3.0, 1.0, 1.0, at=20),  # falls, then stays
        curve(3.0, 2.0, 1.0, at=20),  # falls to the end
        valley(20, slope=0.002),  # rises by less than the images' interval
        valley(37),  # rises among the last five, which are the end
        curve(1.0, 1.0, 1.0, at=20),  # nothing happens
    ],
)
def test_runs_that_do_not_get_worse_for_good_are_censored(loss):
    assert np.isnan(onset(one(val_loss=loss)))


def test_one_unlucky_epoch_does_not_hide_the_onset():
    noisy = valley(20)
    noisy[21] = 2.5  # epoch 20 alone is worse than the end, and so is the smoothed loss around it
    assert 14 <= onset(one(val_loss=noisy)) <= 26


def test_untrained_epoch_is_left_out():
    loss, accuracy = valley(20), 1.6 - valley(25, slope=0.01)
    loss[0], accuracy[0] = 0.1, 0.99
    run = one(val_loss=loss, val_accuracy=accuracy)
    assert onset(run) == 20
    assert analysis.best_accuracy(run).item() == pytest.approx(0.6)
    assert analysis.chosen_accuracy(run).item() == pytest.approx(0.6)


def test_fixed_threshold():
    run = one(val_loss=valley(20, slope=0.005))  # ends 9 % higher
    assert onset(run, threshold=0.02) == 20
    assert np.isnan(onset(run, threshold=0.2))


@pytest.mark.parametrize(
    "how", [{"threshold": "some"}, {"threshold": -1}, {"smoothing": -1}, {"quantity": "loss"}]
)
def test_unknown_ways_to_find_an_onset(how):
    with pytest.raises(StudyError):
        onset(one(), **how)


def test_shorter_runs_are_told_apart_from_their_padding():
    short = one(seed=1, val_loss=valley(8, epochs=20), val_accuracy=curve(0.1, 0.7, 0.4, 8, 20))
    both = many([one(), short])
    alone = analysis.summary(short)
    together = analysis.summary(both).iloc[1:]
    numbers = alone.select_dtypes("number").columns
    np.testing.assert_allclose(together[numbers].to_numpy(float), alone[numbers].to_numpy(float))
    assert together["last_five_accuracy"].item() < 0.5


def test_smoothing_keeps_constants_and_the_mean_level():
    values = xr.DataArray(np.full((2, 30), 3.0), dims=("run", "epoch"))
    np.testing.assert_allclose(analysis.smoothed(values, 2), 3.0)


def test_chosen_epoch_is_the_monitor_images():
    accuracy = np.linspace(0.1, 0.9, 42)
    monitor = np.zeros_like(accuracy)
    monitor[[4, 7, 9]] = 0.8  # epochs 3, 6, 8: equally good
    loss = np.full_like(accuracy, 2.0)
    loss[[7, 9]] = 1.0  # of these 6 and 8 have the lower loss, and 6 is earlier
    run = one(val_accuracy=accuracy, monitor_accuracy=monitor, monitor_loss=loss)
    assert analysis.chosen_accuracy(run).item() == pytest.approx(accuracy[7])


def test_best_is_never_below_chosen_and_last_five():
    rng = np.random.default_rng(0)
    runs = many([one(seed=s, val_accuracy=rng.random(42), monitor_accuracy=rng.random(42)) for s in range(9)])
    best = analysis.best_accuracy(runs)
    assert (analysis.chosen_accuracy(runs) <= best).all()
    assert (analysis.last_five_accuracy(runs) <= best).all()


def test_summary_has_a_row_per_run_and_what_was_put_in():
    table = analysis.summary(many([one(seed=s) for s in range(3)]))
    assert table["seed"].tolist() == [0, 1, 2]
    row = table.iloc[0]
    assert row["min_val_loss"] == pytest.approx(1)
    assert row["last_val_loss"] == pytest.approx(2)
    assert row["entropy_end:conv3"] == pytest.approx(2)
    assert row["entropy_best:conv3"] == pytest.approx(3, abs=0.05)
    assert row["scale_free_entropy_end:fc1"] == pytest.approx(2.5)
    assert np.isnan(row["sd_end:norm1"])  # vanillaNet has no norm layer


def test_real_runs_are_summarised(tiny_runs):
    curves = study_results.curves(tiny_runs)
    table = analysis.summary(curves)
    assert len(table) == len(tiny_runs)
    assert set(analysis.labels(curves)) == {"vanillaNet", "normNet", "sr3Net"}
    assert (table["best_accuracy"] >= table["chosen_accuracy"]).all()
    assert table["entropy_end:norm1"].notna().sum() == 2
    assert sentences.onsets(curves)


def test_settings_are_in_order_and_titled():
    runs = [
        one(size="m"),
        one(size="s", label_noise=0.3),
        one(size="s"),
        one(size="xxl", optimizer="adam"),
    ]
    assert [title for title, _ in analysis.settings(many(runs))] == [
        "digits, s, sgd",
        "digits, s, 30 % of labels redrawn, sgd",
        "digits, m, sgd",
        "digits, xxl, adam",
    ]
    limited = many([one(limit=0), one(limit=10_000)])
    assert [title for title, _ in analysis.settings(limited)] == [
        "digits, s, all images",
        "digits, s, 10,000 images",
    ]


def test_only():
    runs = many([one(seed=s, label_noise=n) for s in (0, 1) for n in (0.0, 0.3)])
    assert analysis.only(runs, label_noise=0.3, seed=[1, 2]).sizes["run"] == 1
    with pytest.raises(StudyError, match=r"no run with label_noise = 0.5; there are runs with 0.0, 0.3"):
        analysis.only(runs, label_noise=0.5)
    with pytest.raises(StudyError, match="not described by 'colour'"):
        analysis.only(runs, colour="red")


EMPTY = one().isel(run=slice(0, 0))


@pytest.mark.parametrize(
    "analyse",
    [
        analysis.summary,
        analysis.settings,
        analysis.best_accuracy,
        analysis.last_five_accuracy,
        analysis.chosen_accuracy,
        analysis.moment_of_overfitting,
        sentences.onsets,
        sentences.entropy_changes,
        sentences.caption,
        lambda runs: comparison.paired(runs, "vanillaNet", "normNet", "best_accuracy"),
        lambda runs: comparison.against_published(runs, one()),
        lambda _: comparison.describe([]),
    ],
)
def test_nothing_is_an_error(analyse):
    with pytest.raises(StudyError):
        analyse(EMPTY)


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


def with_accuracy(label: str, seed: int, accuracy: float, **fields: object) -> xr.Dataset:
    return one(label, seed, val_accuracy=np.full(42, accuracy), **fields)


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


def published_and_fresh() -> tuple[xr.Dataset, xr.Dataset]:
    rng = np.random.default_rng(2)
    published = many([with_accuracy("normNet", 100 + s, a) for s, a in enumerate(rng.normal(0.5, 0.01, 20))])
    fresh = many([with_accuracy("normNet", 0, 0.5), with_accuracy("normNet", 1, 0.9)])
    return fresh, published


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


def test_papers_tables():
    assert paper.WIDTHS == networks.SIZES
    table = paper.accuracies()
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


FALLING = curve(3.0, 2.0, 1.0, at=20)


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (
            [one(seed=s, val_loss=valley(18 + 2 * s)) for s in range(3)],
            "validation loss is lowest near epoch 20 (n = 3, range 18–22) and 0.8",
        ),
        ([one()], "at the end (one run); validation accuracy"),
        ([one(val_loss=FALLING)], "vanillaNet: validation loss does not get worse for good in the one run"),
        ([one(seed=s, val_loss=FALLING) for s in (0, 1)], "does not get worse for good in any of 2 runs"),
        (
            [one(), one(seed=1, val_loss=FALLING), one(seed=2, val_loss=FALLING)],
            "in 1 of 3 runs, and does not get worse for good in the other 2",
        ),
    ],
)
def test_sentences_on_onsets(runs, said):
    (sentence,) = sentences.onsets(many(runs))
    assert said in sentence


@pytest.mark.parametrize(
    ("entropies", "said"),
    [
        ([(3.0, 2.0), (3.0, 1.9), (3.0, 2.1)], "entropy falls from 3.00 to 2.00 (−1.0"),
        ([(2.0, 3.0), (1.9, 3.0), (2.1, 3.0)], "entropy rises from 2.00 to 3.00 (+1.0"),
        ([(2.0, 3.0), (3.0, 2.0), (2.5, 2.5)], "entropy shows no clear change, from 2.50 to 2.50 ("),
        ([(2.0, 2.0), (2.0, 2.0)], "entropy shows no clear change, from 2.00 to 2.00 (0.00,"),
        ([(3.0, 2.0)], "entropy goes from 3.00 to 2.00 (−1.00, one run)"),
        ([(np.nan, np.nan)], "entropy was not measured"),
    ],
)
def test_sentences_on_entropy(entropies, said):
    runs = many([one(seed=s, entropy=values) for s, values in enumerate(entropies)])
    (sentence,) = sentences.entropy_changes(runs, ["conv3"], since="start")
    assert sentence.startswith("vanillaNet, conv3, from before training to the end: entropy ")
    assert said in sentence
    assert "scale-free entropy" in sentence
    (sentence,) = sentences.entropy_changes(runs, ["conv3"])
    assert "from where validation loss is lowest to the end" in sentence


def test_sentences_on_unknown_layers():
    with pytest.raises(StudyError, match="no layer 'conv9' in these runs; there are conv1, conv3"):
        sentences.entropy_changes(one(), ["conv9"])
    with pytest.raises(StudyError, match="unknown since = 'ever'"):
        sentences.entropy_changes(one(), ["conv3"], since="ever")


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ([0.60, 0.61, 0.62], [0.5, 0.5, 0.5], "higher, +0.110, 95 % interval +0.0"),
        ([0.40, 0.41, 0.42], [0.5, 0.5, 0.5], "lower, −0.090, 95 % interval −0.1"),
        ([0.40, 0.50, 0.60], [0.5, 0.5, 0.5], "no clear difference, "),
        ([0.50, 0.50], [0.5, 0.5], "no clear difference, 0.000, 95 % interval 0.000 to 0.000, n = 2"),
        ([0.60], [0.5], "normNet against vanillaNet: +0.100, one run"),
        ([0.60, 0.61], [0.5, 0.51, 0.52], "n = 2; 1 incomplete pair left out"),
    ],
)
def test_sentences_on_differences(ours, theirs, said):
    runs = [with_accuracy("normNet", s, a) for s, a in enumerate(ours)]
    runs += [with_accuracy("vanillaNet", s, a) for s, a in enumerate(theirs)]
    (sentence,) = sentences.differences(many(runs), "normNet", "vanillaNet", "best_accuracy")
    assert said in sentence
    with pytest.raises(StudyError, match="no setting has both"):
        sentences.differences(many(runs), "normNet", "sr1Net")


def test_sentences_on_agreement():
    fresh, published = published_and_fresh()
    table = comparison.against_published(fresh, published, ["best_accuracy", "last_five_accuracy"])
    assert sentences.agreement(table) == (
        "2 of 4 fresh values lie inside the published 95 % prediction intervals; "
        "about 0.2 would fall outside by chance."
    )
    alone = comparison.against_published(one("sr1Net"), published, ["best_accuracy"])
    assert "None of the 1 fresh values" in sentences.agreement(alone)
    both = pd.concat([table, alone], ignore_index=True)
    assert sentences.agreement(both).endswith("1 more have no published runs to be held against.")


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.00"), (-0.004, "−0.004"), (0.126, "0.13"), (-1.0, "−1.00"), (3e-5, "3e−05")]
)
def test_numbers_never_round_to_nothing(value, text):
    assert sentences.number(value) == text


def test_captions_name_the_data_and_the_seeds():
    runs = many([one(seed=s, dataset="cifar10-jpeg") for s in range(3)])
    assert sentences.caption(runs).startswith("cifar10-jpeg, s. Lines: means over 3 seeds; bands: ")
    assert sentences.caption(one()) == "digits, s. Lines: one run each."
    assert "3 published seeds" in sentences.caption(one(dataset="cifar10-jpeg"), runs)
