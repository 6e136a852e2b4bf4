"""Permutation tests of change-points."""

import numpy as np
import pytest

from sparsity_lib.study.analysis.early_warning.permutation_tests import p_of_runs, p_of_seeds


def runs(rng: np.random.Generator, coupling: float, seeds: int = 5) -> tuple[np.ndarray, ...]:
    """Three networks with different means; within each, onset follows change-point by `coupling`."""
    network = np.repeat(["a", "b", "c"], seeds)
    changed = np.repeat([10.0, 20.0, 30.0], seeds) + rng.integers(-5, 6, len(network))
    noise = rng.normal(0, 3, len(network))
    centred = changed - np.repeat([10.0, 20.0, 30.0], seeds)
    return np.repeat([30.0, 50.0, 70.0], seeds) + coupling * centred + noise, changed, network


@pytest.mark.parametrize("networks", [1, 3])
def test_p_is_uniform_without_coupling(networks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparsity_lib.study.analysis.early_warning.permutation_tests.PERMUTATIONS", 300)
    rng = np.random.default_rng(0)
    kept = 3 if networks == 3 else 5  # runs per network
    found = []
    for _ in range(400):
        onset, changed, network = (each[: kept * networks] for each in runs(rng, coupling=0, seeds=kept))
        found.append(p_of_runs(onset, changed, network))
    p = np.array([within for _, within in found])
    assert p.mean() == pytest.approx(0.5, abs=0.04)
    for level in (0.05, 0.2, 0.5, 0.8):
        assert np.mean(p <= level) == pytest.approx(level, abs=0.075)  # 3 SDs at a level of 0.5
    assert networks > 1 or found[0][0] == found[0][1]


def test_differences_between_networks_count_overall_and_not_within() -> None:
    rng = np.random.default_rng(1)
    found = [p_of_runs(*runs(rng, 0, seeds=3)) for _ in range(20)]
    assert all(overall < 0.05 for overall, _ in found)
    assert np.mean([within for _, within in found]) == pytest.approx(0.5, abs=0.2)


def test_coupled_runs_have_small_p() -> None:
    rng = np.random.default_rng(2)
    found = [p_of_runs(*runs(rng, 1, seeds=8)) for _ in range(10)]
    assert np.mean([within < 0.05 for _, within in found]) >= 0.9


def test_few_permutations_are_enumerated() -> None:
    overall, _ = p_of_runs([20, 30, 41, 10], [10, 20, 30, np.nan], ["a"] * 4)
    assert overall == pytest.approx(1 / 6)


def test_equal_change_points_have_p_1() -> None:
    assert p_of_runs([20.0, 30, 40], [10.0, 10, 10], ["a"] * 3) == (1, 1)


def test_the_result_is_the_same_each_time_and_in_any_unit() -> None:
    onset, changed, network = runs(np.random.default_rng(3), 1)
    found = p_of_runs(onset, changed, network)
    assert p_of_runs(onset, changed, network) == found
    assert p_of_runs(2 * onset + 7, 2 * changed, network) == found


def test_runs_that_cannot_be_exchanged_have_no_p() -> None:
    assert np.isnan(p_of_runs([20.0], [10.0], ["a"])).all()
    assert np.isnan(p_of_runs([20.0, 30], [np.nan, 5], ["a", "a"])).all()
    overall, within = p_of_runs([20.0, 30, 40], [10, 20, 30], ["a", "b", "c"])
    assert overall == pytest.approx(1 / 6)
    assert np.isnan(within)


def test_copies_of_a_network_leave_p_of_seeds_unchanged() -> None:
    """Copies with the same seeds lower p within networks, and leave p of the seeds as it is."""
    onset, changed, seed = np.array([20.0, 24, 30, 33, 41]), np.array([10.0, 15, 19, 25, 30]), np.arange(5)
    alone = p_of_seeds(onset, changed, ["a"] * 5, seed)
    assert alone == p_of_runs(onset, changed, ["a"] * 5)[1]
    three = [np.tile(each, 3) for each in (onset, changed)], np.repeat(["a", "b", "c"], 5), np.tile(seed, 3)
    assert p_of_seeds(*three[0], three[1], three[2]) == alone
    assert p_of_runs(*three[0], three[1])[1] < alone / 10


def test_p_of_seeds_is_uniform_where_seeds_are_shared_and_nothing_is_coupled() -> None:
    rng = np.random.default_rng(4)
    network, seed = np.repeat(["a", "b", "c"], 5), np.tile(np.arange(5), 3)
    p = []
    for _ in range(300):
        onset, changed = (np.tile(rng.normal(30, 5, 5), 3) + rng.normal(0, 1, 15) for _ in range(2))
        onset[rng.random(15) < 0.1] = np.nan
        p.append(p_of_seeds(onset, changed, network, seed))
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.04)


def test_p_of_seeds_needs_two_lead_times_of_a_network() -> None:
    assert np.isnan(p_of_seeds([20.0, np.nan], [10.0, 10], ["a", "a"], [0, 1]))
    assert np.isnan(p_of_seeds([20.0, 20], [10.0, 10], ["a", "b"], [0, 1]))
    assert p_of_seeds([20.0, 30], [10.0, 10], ["a", "a"], [0, 1]) == 1
