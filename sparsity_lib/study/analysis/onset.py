"""The moment of overfitting of a run, tested against the rises that noise alone gives a plateau (T10).

A plateau, a curve that has converged and only fluctuates, also "rises" after its smoothed minimum, since the
minimum is chosen. A run overfits only if its loss rises by more than simulated plateaus with its noise do.
The constants of this module are the registered rule; its false alarms and its power are measured by its
tests.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d

from sparsity_lib.study.analysis.summary import identity, trained
from sparsity_lib.study.errors import StudyError

QUANTITIES = ("val_loss", "val_loss_calibrated")
SMOOTHING = 2.0  # epochs, SD of the Gaussian behind the minimum (TSR, Figure 3; T9)
LAST = 5  # epochs whose mean is the end (T18)
FLOOR = 0.05  # nats
WIDE = 10.0  # epochs, SD of the Gaussian weights of the smoother whose residuals are the noise
SHORTEST = 40  # epochs; the noise of a shorter run is too uncertain
PLATEAUS = 10_000  # simulated per autocorrelation and length
LEVEL = 0.95  # quantile of the plateaus' rises
AUTOCORRELATIONS = np.round(np.arange(-10, 19) * 0.05, 2)  # -0.50 to 0.90


class Onset(NamedTuple):
    """Moment of overfitting, and the numbers behind it; one value per curve in each field.

    **Fields:**

    - `epoch`: the moment; NaN where the run does not overfit, or not yet (censored).
    - `rise`: mean loss of the last five epochs minus the smoothed minimum, nats.
    - `null_95`: 95 % quantile of the rise of plateaus with the run's noise, nats.
    - `excess`: `rise` minus the mean rise of these plateaus, the rise to report, nats.

    All but `rise` are NaN for runs of fewer than 40 epochs.
    """

    epoch: np.ndarray
    rise: np.ndarray
    null_95: np.ndarray
    excess: np.ndarray


def detect_onset(loss: ArrayLike, rise_low: ArrayLike | None = None) -> Onset:
    """Detects the onset of overfitting in curves of the same length, by the registered rule (T10).

    The moment is the epoch of the smoothed minimum, if the rise after it exceeds 0.05 nats and the plateaus'
    95 % quantile, if the smoothed `rise_low` is above 0 there, and if it is not among the last five epochs.

    **Arguments:**

    - `loss`: `(..., epochs)`, finite, nats, from epoch 0 on.
    - `rise_low`: `(..., epochs)`, at each epoch the lower end of the 95 % bootstrap interval, over validation
        images, of the mean loss of the last five epochs minus that epoch's; without it, this condition is
        left out.

    **Returns:** `Onset` with fields of shape `(...)`.

    **Raises:** `StudyError` for a loss that is not finite.
    """
    curves = np.asarray(loss, dtype=float)
    if not curves.size or not np.isfinite(curves).all():
        raise StudyError("the moment of overfitting needs a finite loss at each of its epochs")
    epochs = curves.shape[-1]
    lowest, rise = rise_after_minimum(curves)
    if epochs < SHORTEST:
        missing = np.full(rise.shape, np.nan)
        return Onset(missing, rise, missing, missing)
    phi, sd = fit_ar1_noise(curves)
    scale = sd * smoothed_sd(phi)
    mean, quantile = null_rise(phi, epochs)
    overfits = (rise > FLOOR) & (rise > scale * quantile) & (lowest < epochs - LAST)
    if rise_low is not None:
        low = _smooth(np.asarray(rise_low, dtype=float))
        overfits &= np.take_along_axis(low, lowest[..., None], axis=-1)[..., 0] > 0
    return Onset(np.where(overfits, lowest, np.nan), rise, scale * quantile, rise - scale * mean)


def rise_after_minimum(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Epoch of the smoothed minimum, and mean of the last five epochs minus that minimum; `(...)` each."""
    smooth = _smooth(curves)
    return smooth.argmin(-1), curves[..., -LAST:].mean(-1) - smooth.min(-1)


def fit_ar1_noise(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Autocorrelation and SD of AR(1) noise in the second half of the epochs; `(...)` each.

    Residuals of a local linear smoother with Gaussian weights (SD 10 epochs) have the covariance
    `(I - H) C (I - H)^T`, where H is the smoother's matrix and C the noise's covariance. The autocorrelation
    is the one at which the expected lag-1 products over the expected squares equal the observed ratio; the
    variance is the sum of squares over what is expected of unit variance.
    """
    residual_maker, ratios, squares = _residuals(curves.shape[-1] // 2)
    residuals = np.einsum("ij,...j->...i", residual_maker, curves[..., -len(residual_maker) :])
    total = (residuals**2).sum(-1)
    lagged = (residuals[..., 1:] * residuals[..., :-1]).sum(-1)
    ratio = np.divide(lagged, total, out=np.zeros_like(total), where=total > 0)
    phi = np.interp(ratio, ratios, AUTOCORRELATIONS)
    return phi, np.sqrt(total / np.interp(phi, AUTOCORRELATIONS, squares))


def smoothed_sd(phi: np.ndarray) -> np.ndarray:
    """SD of smoothed AR(1) noise of unit SD, away from the ends; the shape of `phi`."""
    kernel = gaussian_filter1d(np.eye(1, 101, 50)[0], SMOOTHING)
    lags = np.correlate(kernel, kernel, "full")[100:]
    powers = np.asarray(phi)[..., None] ** np.arange(1, 101)
    return np.sqrt(lags[0] + 2 * (powers * lags[1:]).sum(-1))


def null_rise(phi: np.ndarray, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and 95 % quantile of the rise of plateaus, in units of the SD of their smoothed noise.

    The autocorrelation is rounded to 0.05. The mean is of rises divided by the true SD; the quantile is of
    rises divided by the SD that `fit_ar1_noise` estimates from each plateau, and so allows for its error, as
    Student's t does.
    """
    steps = np.rint(np.asarray(phi) / 0.05).astype(int)
    tabled = _tabled()
    known = {
        step: tabled.get((epochs, step)) or _plateaus(step, epochs) for step in np.unique(steps).tolist()
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
    """One row per run: its identity and the fields of `Onset`, for the raw or the calibrated loss.

    **Arguments:** `curves`, of `study.curves(runs)`; `quantity`, `"val_loss"` or `"val_loss_calibrated"`. The
    condition on the bootstrap interval needs `<quantity>_rise_low`; for the calibrated loss it may be absent.

    **Raises:** `StudyError` for another quantity, a variable that the runs lack, and no trained epochs. A run
    whose loss is not finite (diverged) has NaN in each field.
    """
    if quantity not in QUANTITIES:
        raise StudyError(f"unknown quantity '{quantity}'; known: {', '.join(QUANTITIES)}")
    low = f"{quantity}_rise_low"
    needed = [quantity, low] if quantity == "val_loss" or low in curves else [quantity]
    if missing := [name for name in needed if name not in curves]:
        raise StudyError(f"these runs have no '{missing[0]}', which the moment of overfitting needs")
    data = [trained(curves)[name].transpose("run", "epoch").to_numpy() for name in needed]
    fields = np.full((len(Onset._fields), curves.sizes["run"]), np.nan)
    lengths = curves["epochs"].to_numpy()
    for epochs in np.unique(lengths):
        finite = np.isfinite(data[0][:, :epochs]).all(1)
        alike = np.flatnonzero((lengths == epochs) & finite)
        if len(alike):
            fields[:, alike] = detect_onset(*(values[alike, :epochs] for values in data))
    columns = {name: curves[name].to_numpy() for name in identity(curves)}
    return pd.DataFrame(columns | dict(zip(Onset._fields, fields, strict=True)))


def onset(curves: xr.Dataset, quantity: str = "val_loss") -> xr.DataArray:
    """(run): the moment of overfitting, in epochs; NaN where there is none (see `onset_table`)."""
    return curves["epochs"].copy(data=onset_table(curves, quantity)["epoch"].to_numpy())


def _smooth(curves: np.ndarray) -> np.ndarray:
    return gaussian_filter1d(curves, SMOOTHING, axis=-1, mode="nearest")


@functools.cache
def _residuals(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """I - H; per autocorrelation, the expected lagged products over squares, and the expected squares."""
    steps = np.arange(length)
    residual_maker = np.eye(length)
    for epoch in steps:
        distances = steps - epoch
        weights = np.exp(-((distances / WIDE) ** 2) / 2)
        design = np.stack([np.ones(length), distances])
        residual_maker[epoch] -= np.linalg.solve((design * weights) @ design.T, design * weights)[0]
    ratios, squares = [], []
    for phi in AUTOCORRELATIONS:
        covariance = residual_maker @ phi ** np.abs(steps - steps[:, None]) @ residual_maker.T
        squares.append(np.trace(covariance))
        ratios.append(np.trace(covariance, 1) / squares[-1])
    return residual_maker, np.array(ratios), np.array(squares)


@functools.cache
def _tabled() -> dict[tuple[int, int], tuple[float, float]]:
    """Results of `_plateaus` for the lengths of the grids, by length and step, which saves seconds."""
    rows = np.loadtxt(Path(__file__).with_name("onset_null.csv"), delimiter=",", skiprows=1)
    return {(int(epochs), int(step)): (mean, quantile) for epochs, step, mean, quantile in rows.tolist()}


@functools.cache
def _plateaus(step: int, epochs: int) -> tuple[float, float]:
    # RandomState, since its stream is the same in all versions of NumPy; a Generator's may change.
    random = np.random.RandomState([epochs, 10 + step])
    curves = autoregressive(random.standard_normal((PLATEAUS, epochs)), 0.05 * step)
    _, rises = rise_after_minimum(curves)
    phi, sd = fit_ar1_noise(curves)
    true = float(smoothed_sd(np.array(0.05 * step)))
    return float(rises.mean()) / true, float(np.quantile(rises / (sd * smoothed_sd(phi)), LEVEL))
