"""Choices changed one at a time: runs are named by the choice and paired by seed; on synthetic curves."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from refusals import refused
from synthetic import curve, many, one

import sparsity_lib as sl
from sparsity_lib import functional, study
from sparsity_lib.study import profiles
from sparsity_lib.study.analysis import choices, comparison, decorrelation

EXPERIMENTS = choices.experiments("laptop", "0-3")
CHANGES = {e.id: choices.change_of(e, 16.0) for e in EXPERIMENTS}


def targeted(runs: xr.Dataset) -> xr.Dataset:
    """The same runs with the layers that are targeted: conv4 is as conv3."""
    conv4 = runs.sel(layer=["conv3"]).assign_coords(layer=["conv4"])
    layers = [runs.sel(layer=["conv1", "conv3", "fc1"]), conv4]
    return xr.concat(layers, "layer", data_vars="minimal")


def synthetic_run(experiment: study.Experiment) -> xr.Dataset:
    """A run of one accuracy all along, higher by 0.01 a seed; monitor images show half of it.

    sr2Net gains 0.03, T1 takes 0.02 of it; T6 gives 0.1 to vanillaNet and to sr2Net.
    """
    added = {"T1: after the ReLU": -0.02, "T6: PyTorch's initialisation": 0.1, "λ = 0.01": 0.02}
    added |= {"dropout 0.5": 0.05, "weight decay 0.01": -0.1}
    gain = 0.03 * (experiment.network == "sr2Net") + added.get(CHANGES[experiment.id], 0)
    level = np.full(42, 0.5 + gain + 0.01 * experiment.seed)
    run = one(
        experiment.network,
        experiment.seed,
        val_accuracy=level,
        monitor_accuracy=level / 2,
        label_noise=experiment.label_noise,
        others="",
    )
    return targeted(run.assign_coords(run=[experiment.id]))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return choices.outcomes(many([synthetic_run(e) for e in EXPERIMENTS]), EXPERIMENTS)


def test_cells_of_the_grid_have_distinct_labels() -> None:
    grid = [e for e in choices.experiments("laptop") if e.seed == 100]
    cells = {(e.network, choices.change_of(e, 16.0)) for e in grid}
    assert len(cells) == len(grid) == len(profiles.grid("readings", "laptop").cells) + 7
    changes = {change for _, change in cells}
    assert {"", "T1: after the ReLU", "T2: mean over positions", "λ = 0.1", "without fc1"} <= changes
    assert "T3: no mean, T4: local" in changes
    assert choices.change_of(study.Experiment(network="sr2Net")) == ""
    averaged = study.Experiment(network="sr2Net", reduction="mean")
    assert choices.change_of(averaged) == "T2: mean over positions"


@pytest.mark.parametrize("profile", ["laptop", "desktop", "registered"])
def test_readings_have_unchanged_references_in_one_setting(profile: str) -> None:
    planned = choices.experiments(profile)
    conv_scale = max(e.lambda_conv_scale for e in planned)
    unchanged = {(e.network, e.seed) for e in planned if not choices.change_of(e, conv_scale)}
    for experiment in planned:
        needed = {experiment.network, choices.REFERENCE_NETWORK.get(experiment.network, "vanillaNet")}
        assert {(network, experiment.seed) for network in needed} <= unchanged
    settings = {(e.dataset, e.size, e.limit, e.held_out, e.epochs, e.learning_rate()) for e in planned}
    assert len(settings) == 1


def test_runs_or_a_grid_that_are_missing_are_one_line() -> None:
    with refused("paper", "readings"):
        choices.experiments("paper")
    with refused():
        choices.load("laptop", epochs=3)


def test_published_runs_are_read_and_those_of_seeds_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    curves, table = choices.load("paper")  # which has no such grid
    assert table["run"].tolist() == curves["run"].to_numpy().tolist()
    assert set(table["dataset"]) == {"digits"}
    assert set(table["seed"]) == set(range(100, 120))

    def one_run(planned: list[study.Experiment]) -> list[study.Run]:
        return [study.train(planned[0])]

    monkeypatch.setattr(choices, "load_or_train_all", one_run)
    _, table = choices.load("laptop", "7", epochs=1, limit=60)
    assert table[["seed", "dataset", "epochs", "limit"]].to_numpy().tolist() == [[7, "digits", 1, 60]]


def test_the_mean_over_sixteen_positions_is_the_sum_at_a_sixteenth() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1))
    x, losses = torch.randn(5, 3, 4, 4), []
    for strength, reduction in ((0.001, "sum"), (0.016, "mean")):
        with sl.SparsityReg(model, {"0": strength}, reduction=reduction) as penalty:
            model(x)
            losses.append(penalty())
    torch.testing.assert_close(*losses)


def test_effects_are_those_of_the_curves_and_pairs_remove_the_seed(table: pd.DataFrame) -> None:
    found = choices.effects(table).query("quantity == 'chosen_accuracy'").set_index(["reading", "network"])
    assert found["mean"]["T1: after the ReLU", "sr2Net"] == pytest.approx(-0.02)
    assert found["mean"]["T6: PyTorch's initialisation", "vanillaNet"] == pytest.approx(0.1)
    assert found["mean"]["T6: PyTorch's initialisation", "sr2Net"] == pytest.approx(0.1)
    assert found["mean"]["T7: standardised inputs", "sr2Net"] == pytest.approx(0)
    assert (found["sd"] < 1e-9).all()
    assert (found["n"] == 4).all()
    assert set(found.index[found["holm"] < 0.05].get_level_values("reading")) == {
        "T1: after the ReLU",
        "T6: PyTorch's initialisation",
    }
    changed = comparison.compare(table, "sr2Net T1: after the ReLU", "sr2Net", "chosen_accuracy")
    assert changed.mean == pytest.approx(-0.02)


def test_holms_correction_covers_all_readings_of_a_quantity(table: pd.DataFrame) -> None:
    noisy = table.assign(val_loss_rise=np.random.default_rng(0).normal(size=len(table)))
    found = choices.effects(noisy).query("quantity == 'val_loss_rise'")
    smallest = found.loc[found["holm"].idxmin()]
    differences = [
        noisy[noisy["label"] == label].set_index("seed")["val_loss_rise"]
        for label in (f"{smallest['network']} {smallest['reading']}", smallest["network"])
    ]
    p = comparison.t.sf(abs(smallest["mean"]) / (smallest["sd"] / 2), 3) * 2
    assert smallest["holm"] == pytest.approx(min(1, p * len(found)))
    assert smallest["mean"] == pytest.approx((differences[0] - differences[1]).mean())


def test_findings_change_sign_with_the_difference_of_the_networks(table: pd.DataFrame) -> None:
    shifted = table.copy()
    shifted.loc[shifted["change"] == "T1: after the ReLU", "chosen_accuracy"] -= 0.05
    found = choices.findings(shifted).query("quantity == 'chosen_accuracy'").set_index("reading")
    turned = found.loc["T1: after the ReLU"]
    assert (turned["ours_direction"], turned["other_direction"]) == (1, -1)
    assert (turned["ours"], turned["other"]) == pytest.approx((0.03, -0.04))
    # T6 changes both networks by the same amount; their difference stays.
    assert found.loc["T6: PyTorch's initialisation", "other"] == pytest.approx(0.03)
    assert "vanillaNet" not in {networks.split()[0] for networks in found["networks"]}


def test_the_best_strength_is_chosen_on_other_images_with_as_many_tries(table: pd.DataFrame) -> None:
    found = choices.tuned(table)
    assert found.groupby("family").size().to_dict() == dict.fromkeys(choices.TUNED_STRENGTHS, 3)
    assert found.groupby("family")["chosen"].sum().eq(1).all()
    chosen = found[found["chosen"]].set_index("family")
    assert chosen["strength"][["dropout", "SparsityReg"]].tolist() == [0.5, 0.01]
    assert chosen["mean"][["dropout", "SparsityReg"]].tolist() == pytest.approx([0.05, 0.05])
    misled = table.copy()
    misled.loc[misled["change"] == "dropout 0.1", "monitor_accuracy"] = 1.0
    chosen = choices.tuned(misled).query("chosen").set_index("family")
    assert chosen["strength"]["dropout"] == 0.1
    assert chosen["mean"]["dropout"] == pytest.approx(0)  # judged on the validation images


def test_strengths_are_in_order_and_of_the_seeds_that_all_have(table: pd.DataFrame) -> None:
    expected = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    assert choices.strengths(table)["strength"].unique().tolist() == pytest.approx(expected)
    lacking = table[(table["change"] != "λ = 0.01") | (table["seed"] > 1)]
    assert set(choices.strengths(lacking)["seed"]) == {2, 3}


def test_means_of_one_seed_have_no_intervals(table: pd.DataFrame) -> None:
    alone = table[table["seed"] == 0]
    effects = choices.effects(alone)
    assert effects["mean"].notna().all()
    assert effects[["sd", "low", "high", "holm"]].isna().all(axis=None)
    assert (choices.findings(alone)[["ours_direction", "other_direction"]] == 0).all(axis=None)
    assert choices.tuned(alone)["mean"].notna().all()


def test_runs_that_overfit_are_counted_by_every_rule() -> None:
    small = curve(
        1.1, 1.0, 1.045, at=20
    )  # above 2 % and its bootstrap interval, below the floor of 0.05 nats
    losses = [None, curve(3.0, 2.0, 1.0, at=20), small]
    runs = [
        one(seed=s, doubt=0.01) if v is None else one(seed=s, doubt=0.01, val_loss=v)
        for s, v in enumerate(losses)
    ]
    runs.append(one(seed=3).assign_coords(run=["changed"]))
    curves = many(runs)
    table = pd.DataFrame({"run": curves["run"].to_numpy(), "change": ["", "", "", "T1: after the ReLU"]})
    found = choices.overfitting_by_rule(curves, table).set_index("rule")
    assert (found["n"] == 3).all()
    assert found["overfit"].to_dict() == {rule: 1 if rule == "registered" else 2 for rule in found.index}
    assert len(found) == 7
    assert found["epoch"].between(19, 21).all()


def test_descent_lowers_the_penalty_and_steps_are_matched() -> None:
    for weight in decorrelation.starts(16, (1, 3, 3)).values():
        for center in functional.CENTERS:
            for penalty in ("absolute", "squared"):
                moved = decorrelation.descend(weight, center, penalty, steps=20)
                before, after = (functional.decorrelation(w, center, penalty) for w in (weight, moved))
                assert after < before
            one_step = decorrelation.descend(weight, center, "local", steps=1, step=0.1)
            assert (one_step - weight).norm() == pytest.approx(0.1 * float(weight.norm()), rel=1e-4)
