"""The moment of overfitting: false alarms, power, invariances, and what is censored."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from refusals import refused
from synthetic import many, one, valley

from sparsity_lib.study.analysis import pilot_onset
from sparsity_lib.study.analysis.onset import (
    LAST,
    Onset,
    _null_table,
    _simulated_null,
    autoregressive,
    detect_onset,
    null_rise,
    onset,
    onset_table,
    rise_after_minimum,
)

Times = Callable[[np.ndarray], np.ndarray]


def decline(time: np.ndarray) -> np.ndarray:
    """By 2 nats, to a plateau."""
    return 2 * np.exp(-10 * time)


# Expected losses without overfitting, nats at times from 0 to 1, and the factor of the noise at these times.
SHAPES: dict[str, tuple[Times, Times]] = {
    "plateau": (np.zeros_like, np.ones_like),
    "plateau, noise doubles": (np.zeros_like, lambda time: 2 / 3 * (1 + time)),
    "plateau, noise halves": (np.zeros_like, lambda time: 2 / 3 * (2 - time)),
    "decline to a plateau": (decline, np.ones_like),
    "decline, noise halves": (decline, lambda time: 2 / 3 * (2 - time)),
    "slow decline": (lambda time: 2 * np.exp(-4 * time), np.ones_like),
    "decline to the end": (np.negative, np.ones_like),
}


def overfitting(rise: float) -> tuple[Times, Times]:
    """A decline to a plateau, and a linear rise over the second half of the epochs, nats."""
    return lambda time: decline(time) + rise * np.maximum(0, 2 * time - 1), np.ones_like


def simulated(
    shape: tuple[Times, Times], epochs: int, phi: float, sd: float, curves: int, skewed: bool = False
) -> np.ndarray:
    """Losses `(curves, epochs)`, nats; the seed is the length and the autocorrelation.

    Skewed innovations are exponential, with a skewness of 2; that of the pilot's noise is mostly 1 to 2.5.
    """
    random = np.random.RandomState([1, epochs, round(100 * phi) + 100])
    time, size = np.arange(epochs) / (epochs - 1), (curves, epochs)
    innovations = random.exponential(size=size) - 1 if skewed else random.standard_normal(size)
    return shape[0](time) + sd * shape[1](time) * autoregressive(innovations, phi)


def share(found: Onset) -> float:
    """Share of curves that overfit."""
    return float(np.isfinite(found.epoch).mean())


@pytest.mark.parametrize(("epochs", "step"), [(60, 0), (100, 6)])
def test_the_table_of_nulls_holds_what_is_simulated(epochs: int, step: int) -> None:
    assert _null_table()[epochs, step] == pytest.approx(_simulated_null(step, epochs), rel=1e-9)


@pytest.mark.parametrize("phi", [0.0, 0.3])
def test_plateaus_rarely_overfit(phi: float) -> None:
    found = detect_onset(simulated(SHAPES["plateau"], 60, phi, sd=0.15, curves=2000))
    assert 0.03 < share(found) < 0.065
    assert abs(found.excess.mean()) < 0.01  # nats; the rise itself is biased upwards
    assert found.rise.mean() > 0.1


@pytest.mark.parametrize(("sd", "least"), [(0.05, 0.99), (0.15, 0.5)])
def test_a_rise_of_three_tenths_is_found(sd: float, least: float) -> None:
    found = detect_onset(simulated(overfitting(0.3), 100, 0.2, sd, curves=1000))
    assert share(found) > least
    assert np.nanmedian(found.epoch) == pytest.approx(50, abs=15)


def test_the_null_has_the_registered_values() -> None:
    """A change of these numbers changes the registered rule."""
    np.testing.assert_allclose(null_rise(np.array([0.02, 0.3]), 100), GOLDEN, rtol=1e-9)


GOLDEN = [[2.242669524424727, 2.160977351999579], [4.574461718821971, 4.547231755780426]]


def test_a_constant_adds_nothing_and_a_factor_scales() -> None:
    curves = simulated(overfitting(0.3), 60, 0.2, sd=0.1, curves=100)
    found, moved, doubled = detect_onset(curves), detect_onset(curves + 7), detect_onset(2 * curves)
    for name in Onset._fields:
        np.testing.assert_allclose(getattr(moved, name), getattr(found, name), atol=1e-9)
    for name in ("rise", "null_95", "excess"):
        np.testing.assert_allclose(getattr(doubled, name), 2 * getattr(found, name))


def test_a_curve_has_the_same_onset_alone_and_in_a_batch() -> None:
    curves = simulated(overfitting(0.3), 60, 0.2, sd=0.1, curves=20)
    together = detect_onset(curves)
    for index, curve in enumerate(curves):
        np.testing.assert_array_equal(detect_onset(curve), [field[index] for field in together])


def test_a_rise_without_noise_needs_the_floor_alone() -> None:
    times = np.arange(60)
    for slope, epoch in ((0.01, 30.0), (0.001, np.nan)):
        np.testing.assert_equal(float(detect_onset(1 + slope * np.abs(times - 30)).epoch), epoch)
    assert np.isnan(detect_onset(np.ones(60)).epoch)


def test_short_runs_and_a_minimum_among_the_last_five_are_censored() -> None:
    short = detect_onset(np.abs(np.arange(39) - 20.0))
    assert float(short.rise) > 10
    assert np.isnan([short.epoch, short.null_95, short.excess]).all()
    assert np.isnan(detect_onset(np.abs(np.arange(60) - 56.0)).epoch)


def test_the_interval_over_images_must_lie_above_zero() -> None:
    curve, low = np.abs(np.arange(60) - 30.0), np.ones(60)
    assert detect_onset(curve, low).epoch == 30
    assert np.isnan(detect_onset(curve, -low).epoch)


def test_onset_table_has_a_row_per_run_of_any_length() -> None:
    runs = many(
        [
            one("vanillaNet", 0),
            one("vanillaNet", 1, val_loss=valley(30, epochs=80), val_accuracy=valley(30, epochs=80)),
            one("sr2Net", 2, val_loss=np.full(42, 1.0)),
            one("sr2Net", 3, doubt=5.0),
            one("sr2Net", 4, val_loss=np.full(42, np.nan)),
        ]
    )
    table = onset_table(runs)
    np.testing.assert_array_equal(table["epoch"], [20, 30, np.nan, np.nan, np.nan])
    assert list(table["seed"]) == [0, 1, 2, 3, 4]
    assert table["rise"].notna().tolist() == [True] * 4 + [False]
    pilot = pilot_onset(runs.isel(run=slice(2)))
    np.testing.assert_array_equal(onset(runs)[:2], pilot)


def test_the_calibrated_loss_needs_no_interval_but_obeys_one() -> None:
    runs = one(doubt=5.0)
    runs["val_loss_calibrated"] = runs["val_loss"]
    assert np.isnan(onset(runs).item())
    assert onset(runs, "val_loss_calibrated").item() == 20
    runs["val_loss_calibrated_rise_low"] = runs["val_loss_rise_low"]
    assert np.isnan(onset(runs, "val_loss_calibrated").item())


def test_a_loss_that_is_not_finite_is_refused() -> None:
    with refused("finite"):
        detect_onset([1.0, np.nan])


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [40, 60, 100, 200])
def test_false_alarms_are_rare_and_rises_are_found(epochs: int) -> None:
    """The pilot's runs have noise SDs of 0.04 nats and more, and autocorrelations about 0.03."""
    for phi, sd in itertools.product((-0.1, 0.0, 0.2, 0.3, 0.5), (0.05, 0.15)):
        alarms = {name: detect_onset(simulated(each, epochs, phi, sd, 2000)) for name, each in SHAPES.items()}
        alarms["skewed"] = detect_onset(simulated(SHAPES["plateau"], epochs, phi, sd, 2000, skewed=True))
        for name, found in alarms.items():
            assert share(found) <= (0.035 if "decline" in name else 0.15 if "halves" in name else 0.065), name
        plateau = simulated(SHAPES["plateau"], epochs, phi, sd, 2000)
        lowest, rise = rise_after_minimum(plateau)
        beyond_images = rise > 0.25 * sd  # the pilot's rule; 0.25 as the half width of dropNet's intervals
        assert ((lowest < epochs - LAST) & beyond_images).mean() > 0.6
        if sd == 0.05:
            assert share(detect_onset(simulated(overfitting(0.3), epochs, phi, sd, 2000))) > 0.75
