"""Onsets by the pilot's rule, accuracies and summaries of synthetic curves."""

import numpy as np
import pytest
import xarray as xr
from refusals import refused
from synthetic import curve, many, one, valley

from sparsity_lib import study
from sparsity_lib.study import StudyError, analysis
from sparsity_lib.study.analysis import comparison
from sparsity_lib.study.runs import results as study_results


def onset(run: xr.Dataset, **how: object) -> float:
    return analysis.pilot_onset(run, **how).item()


def test_onset_is_where_the_loss_is_lowest():
    assert onset(one()) == 20
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


def test_onset_is_found_despite_an_outlying_epoch():
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


def test_onset_has_a_fixed_threshold_if_given():
    run = one(val_loss=valley(20, slope=0.005))  # ends 9 % higher
    assert onset(run, threshold=0.02) == 20
    assert np.isnan(onset(run, threshold=0.2))


def test_padding_of_shorter_runs_does_not_count():
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


def test_late_change_is_from_the_five_epochs_before_the_split_to_the_last_five():
    long = one(val_loss=valley(20, epochs=200), val_accuracy=np.linspace(0.0, 1.0, 201))
    both = many([long, one("normNet", val_loss=valley(20, epochs=100), val_accuracy=np.ones(101))])
    loss, accuracy = (analysis.late_change(both, name) for name in ("val_loss", "val_accuracy"))
    assert loss.values == pytest.approx([0.05 * 100, np.nan], nan_ok=True)  # a line from epoch 20 on
    assert accuracy.values == pytest.approx([100 / 200, np.nan], nan_ok=True)
    assert analysis.late_change(long, since=150).item() == pytest.approx(0.05 * 50)


def test_summary_has_a_row_per_run():
    table = analysis.summary(many([one(seed=s) for s in range(3)]))
    assert table["seed"].tolist() == [0, 1, 2]
    row = table.iloc[0]
    assert row["min_val_loss"] == pytest.approx(1)
    assert row["last_val_loss"] == pytest.approx(2)
    assert row["entropy_end:conv3"] == pytest.approx(2)
    assert row["entropy_best:conv3"] == pytest.approx(3, abs=0.05)
    assert row["scale_free_entropy_end:fc1"] == pytest.approx(2.5)
    assert row["val_loss_peak"] == pytest.approx(1, abs=0.15)  # of a loss that rises to its end
    assert np.isnan(row["sd_end:norm1"])  # vanillaNet has no norm layer


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
    unusual = many([one(others="held_out=2000 label_smoothing=0.1"), one(others="")])
    assert [title for title, _ in analysis.settings(unusual)] == [
        "digits, s",
        "digits, s, 2,000 held-out images, label smoothing 0.1",
    ]


def test_only_selects_runs_by_coordinates():
    runs = many([one(seed=s, label_noise=n) for s in (0, 1) for n in (0.0, 0.3)])
    assert analysis.only(runs, label_noise=0.3, seed=[1, 2]).sizes["run"] == 1
    with refused("label_noise = 0.5", "0.0, 0.3"):
        analysis.only(runs, label_noise=0.5)
    with refused("colour"):
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
        analysis.pilot_onset,
        lambda runs: comparison.compare(runs, "vanillaNet", "normNet", "best_accuracy"),
        lambda runs: comparison.repeatability(runs, one()),
    ],
)
def test_empty_runs_are_an_error(analyse):
    with pytest.raises(StudyError):
        analyse(EMPTY)


def test_published_runs_of_the_same_settings_are_found():
    published = many(
        [one("vanillaNet", s) for s in range(3)]
        + [one("normNet", 0), one("vanillaNet", 0, label_noise=0.3)]
        + [one("vanillaNet", 0, optimizer="adam", lr=0.001), one("vanillaNet", 0, epochs=200)]
    )
    fresh = one("vanillaNet", 7)
    found = analysis.published_in_same_settings(published, fresh)
    assert found is not None
    assert set(found["label"].values) == {"vanillaNet"}
    assert found.sizes["run"] == 3
    assert analysis.published_in_same_settings(published, one("sr1Net")) is None
    assert analysis.published_in_same_settings(None, fresh) is None


def test_targeted_layers_depend_on_the_architecture():
    assert analysis.targeted_layers("dropNet") == ("conv3", "conv4", "fc1")
    assert analysis.targeted_layers("srLeNet") == analysis.targeted_layers("LeNet") == ("conv2", "fc1")
    assert analysis.targeted_layers("package:factory") == ("conv3", "conv4", "fc1")


def test_joined_curves_keep_the_order_of_layers():
    first = one("normNet").assign_coords(layer=["conv1", "norm1", "conv2", "fc1"])
    second = one("AlexNet").assign_coords(layer=["conv1", "conv2", "fc1", "fc2"])
    together = study_results.joined([first, second])
    assert together["layer"].values.tolist() == ["conv1", "norm1", "conv2", "fc1", "fc2"]
    assert analysis.present_layers(together.isel(run=[1])) == ["conv1", "conv2", "fc1", "fc2"]


def test_each_network_is_shown_by_one_run():
    found = [study.load(path) for path in study_results.published_runs("laptop")]
    labels = np.array(["sr2Net", "plain", "sr2Net", "plain"], dtype=object)
    four = found[:4]
    runs = xr.Dataset(coords={"run": [run.id for run in four], "label": ("run", labels)})
    assert analysis.one_of_each(found, runs) == four[:2]
    assert study_results.by_network(found[:1]).keys() == {run.experiment.network for run in found}
