"""Moment of overfitting of a run, by a test of the rise of its loss against noise alone (T10).

A plateau, a curve that has converged and only fluctuates, also rises after its smoothed minimum, since the
minimum is selected. A run overfits only if its loss rises by more than simulated plateaus with the same
noise. The constants of this module are registered; the tests measure false alarms and power of the rule.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d

from sparsity_lib.study.analysis import LAST, SMOOTHING, run_fields, trained
from sparsity_lib.study.errors import StudyError

LOSSES = ("val_loss", "val_loss_calibrated")
LEAST_RISE = 0.05  # nats; smaller rises do not count
SMOOTHER_SD = (
    10.0  # epochs, SD of the Gaussian weights of the local linear smoother; its residuals are the noise
)
LEAST_EPOCHS = 40  # the noise of a shorter run is too uncertain
PLATEAUS = 10_000  # simulated per autocorrelation and length
NULL_QUANTILE = 0.95  # quantile of the plateaus' rises
AUTOCORRELATIONS = np.round(np.arange(-10, 19) * 0.05, 2)  # -0.50 to 0.90


class Onset(NamedTuple):
    """Moment of overfitting and the rise of the loss; each field has one value per curve.

    **Fields:**

    - `epoch`: the moment; NaN where the run does not overfit, or not yet (censored).
    - `rise`: mean loss of the last five epochs minus the smoothed minimum, nats.
    - `null_95`: 95 % quantile of the rise of plateaus with the run's noise, nats.
    - `excess`: `rise` minus the mean rise of these plateaus, nats; tables and figures show this rise.

    All but `rise` are NaN for runs of fewer than 40 epochs.
    """

    epoch: np.ndarray
    rise: np.ndarray
    null_95: np.ndarray
    excess: np.ndarray


def detect_onset(loss: ArrayLike, rise_low: ArrayLike | None = None) -> Onset:
    """Detect the onset of overfitting in curves of the same length, by the registered rule (T10).

    The onset is the epoch of the smoothed minimum, provided that the rise after it exceeds 0.05 nats and the
    95 % quantile of plateaus, that the smoothed `rise_low` is above 0 there, and that the epoch is not among
    the last five.

    **Arguments:**

    - `loss`: `(..., epochs)`, finite, nats, from epoch 0 on.
    - `rise_low`: `(..., epochs)`, for each epoch the lower end of the 95 % bootstrap interval, over
        validation images, of the mean loss of the last five epochs minus the loss of that epoch. Without it,
        this condition is not checked.

    **Returns:** `Onset` with fields of shape `(...)`.

    **Raises:** `StudyError` for a loss that is not finite.
    """
    curves = np.asarray(loss, dtype=float)
    if not curves.size or not np.isfinite(curves).all():
        raise StudyError("the moment of overfitting needs a finite loss at each of its epochs")
    epochs = curves.shape[-1]
    lowest, rise = rise_after_minimum(curves)
    if epochs < LEAST_EPOCHS:
        missing = np.full(rise.shape, np.nan)
        return Onset(missing, rise, missing, missing)
    phi, sd = fit_ar1_noise(curves)
    scale = sd * smoothed_sd(phi)
    mean, quantile = null_rise(phi, epochs)
    overfits = (rise > LEAST_RISE) & (rise > scale * quantile) & (lowest < epochs - LAST)
    if rise_low is not None:
        low = _smooth(np.asarray(rise_low, dtype=float))
        overfits &= np.take_along_axis(low, lowest[..., None], axis=-1)[..., 0] > 0
    return Onset(np.where(overfits, lowest, np.nan), rise, scale * quantile, rise - scale * mean)


def rise_after_minimum(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Epoch of the smoothed minimum, and mean of the last five epochs minus the minimum; `(...)` each."""
    smooth = _smooth(curves)
    return smooth.argmin(-1), curves[..., -LAST:].mean(-1) - smooth.min(-1)


def fit_ar1_noise(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Autocorrelation and SD of AR(1) noise in the second half of the epochs; `(...)` each.

    Residuals of a local linear smoother with Gaussian weights (SD 10 epochs) have the covariance
    `(I - H) C (I - H)^T`, with the matrix H of the smoother and the covariance C of the noise. The estimated
    autocorrelation makes the expected ratio of lag-1 products to squares equal to the observed ratio. The
    estimated variance is the sum of squares divided by its expectation at unit variance.
    """
    residual_maker, ratios, squares = _residual_moments(curves.shape[-1] // 2)
    residuals = np.einsum("ij,...j->...i", residual_maker, curves[..., -len(residual_maker) :])
    total = (residuals**2).sum(-1)
    lagged = (residuals[..., 1:] * residuals[..., :-1]).sum(-1)
    ratio = np.divide(lagged, total, out=np.zeros_like(total), where=total > 0)
    phi = np.interp(ratio, ratios, AUTOCORRELATIONS)
    return phi, np.sqrt(total / np.interp(phi, AUTOCORRELATIONS, squares))


def smoothed_sd(phi: np.ndarray) -> np.ndarray:
    """SD of smoothed AR(1) noise of unit SD, far from the ends; same shape as `phi`."""
    kernel = gaussian_filter1d(np.eye(1, 101, 50)[0], SMOOTHING)
    lags = np.correlate(kernel, kernel, "full")[100:]
    powers = np.asarray(phi)[..., None] ** np.arange(1, 101)
    return np.sqrt(lags[0] + 2 * (powers * lags[1:]).sum(-1))


def null_rise(phi: np.ndarray, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and 95 % quantile of the rise of plateaus, in units of the SD of their smoothed noise.

    The autocorrelation is rounded to 0.05. For the mean, rises are divided by the true SD. For the quantile,
    they are divided by the SD that `fit_ar1_noise` estimates from each plateau, so that it allows for the
    error of the estimate, as Student's t does.
    """
    steps = np.rint(np.asarray(phi) / 0.05).astype(int)
    table = _null_table()
    known = {
        step: table.get((epochs, step)) or _simulated_null(step, epochs) for step in np.unique(steps).tolist()
    }
    both = np.array([known[step] for step in steps.ravel().tolist()]).reshape(*steps.shape, 2)
    return both[..., 0], both[..., 1]


def autoregressive(innovations: np.ndarray, phi: float) -> np.ndarray:
    """Stationary AR(1) noise of unit SD from independent values of mean 0 and SD 1; `(curves, epochs)`."""
    values = innovations.copy()
    for epoch in range(1, values.shape[1]):
        values[:, epoch] = phi * values[:, epoch - 1] + np.sqrt(1 - phi**2) * innovations[:, epoch]
    return values


def onset_table(curves: xr.Dataset, quantity: str = "val_loss") -> pd.DataFrame:
    """One row per run: the fields of the run and of `Onset`, for the raw or the calibrated loss.

    A diverged run, with a loss that is not finite, has NaN in each field.

    **Arguments:** `curves`, from `study.curves(runs)`; `quantity`, one of LOSSES. The condition on the
    bootstrap interval needs `<quantity>_rise_low`, which may be absent for the calibrated loss.

    **Raises:** `StudyError` without trained epochs.
    """
    low = f"{quantity}_rise_low"
    needed = [quantity, low] if quantity == "val_loss" or low in curves else [quantity]
    data = [trained(curves)[name].transpose("run", "epoch").to_numpy() for name in needed]
    fields = np.full((len(Onset._fields), curves.sizes["run"]), np.nan)
    lengths = curves["epochs"].to_numpy()
    for epochs in np.unique(lengths):
        finite = np.isfinite(data[0][:, :epochs]).all(1)
        alike = np.flatnonzero((lengths == epochs) & finite)
        if len(alike):
            fields[:, alike] = detect_onset(*(values[alike, :epochs] for values in data))
    columns = {name: curves[name].to_numpy() for name in run_fields(curves)}
    return pd.DataFrame(columns | dict(zip(Onset._fields, fields, strict=True)))


def onset(curves: xr.Dataset, quantity: str = "val_loss") -> xr.DataArray:
    """(run): moment of overfitting, in epochs; NaN where there is none (see `onset_table`)."""
    return curves["epochs"].copy(data=onset_table(curves, quantity)["epoch"].to_numpy())


def excess_rise(curves: xr.Dataset, quantity: str = "val_loss") -> xr.DataArray:
    """(run): rise of the loss minus the mean rise of plateaus, nats (see `onset_table`)."""
    return curves["epochs"].copy(data=onset_table(curves, quantity)["excess"].to_numpy())


def _smooth(curves: np.ndarray) -> np.ndarray:
    return gaussian_filter1d(curves, SMOOTHING, axis=-1, mode="nearest")


@functools.cache
def _residual_moments(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """I - H; by autocorrelation, the expected ratio of lag-1 products to squares, and expected squares."""
    steps = np.arange(length)
    residual_maker = np.eye(length)
    for epoch in steps:
        distances = steps - epoch
        weights = np.exp(-((distances / SMOOTHER_SD) ** 2) / 2)
        design = np.stack([np.ones(length), distances])
        residual_maker[epoch] -= np.linalg.solve((design * weights) @ design.T, design * weights)[0]
    ratios, squares = [], []
    for phi in AUTOCORRELATIONS:
        covariance = residual_maker @ phi ** np.abs(steps - steps[:, None]) @ residual_maker.T
        squares.append(np.trace(covariance))
        ratios.append(np.trace(covariance, 1) / squares[-1])
    return residual_maker, np.array(ratios), np.array(squares)


@functools.cache
def _null_table() -> dict[tuple[int, int], tuple[float, float]]:
    """Stored results of `_simulated_null` for the lengths of the grids, by length and step."""
    rows = np.loadtxt(Path(__file__).with_name("onset_null.csv"), delimiter=",", skiprows=1)
    return {(int(epochs), int(step)): (mean, quantile) for epochs, step, mean, quantile in rows.tolist()}


@functools.cache
def _simulated_null(step: int, epochs: int) -> tuple[float, float]:
    # RandomState, since its stream is the same in all versions of NumPy; a Generator's may change.
    random = np.random.RandomState([epochs, 10 + step])
    curves = autoregressive(random.standard_normal((PLATEAUS, epochs)), 0.05 * step)
    _, rises = rise_after_minimum(curves)
    phi, sd = fit_ar1_noise(curves)
    true = float(smoothed_sd(np.array(0.05 * step)))
    return float(rises.mean()) / true, float(np.quantile(rises / (sd * smoothed_sd(phi)), NULL_QUANTILE))
