"""Curves of runs: selection, accuracies, lowest losses, and one table of them all.

Everything takes `study.curves(runs)`, a data set with dimensions run, layer, split and epoch; an empty one is
a `StudyError`. Comparisons of networks, and of fresh runs with published ones, are in `comparison`.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from sparsity_lib.study import profiles
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.recipes import ALL_SIZES, LAYERS, NETWORKS
from sparsity_lib.study.runs.file import Run

LAST = 5  # epochs whose mean is "the end" (T18); the run file's rise and drop use the same
SMOOTHING = 2.0  # epochs, TSR's Figure 3 (T9)
LAYER_QUANTITIES = ("entropy", "scale_free_entropy", "sd")

# Fields that networks must share to be compared; a network's own strengths and seed come on top. A limit of
# 0 is all images.
SETTING = ("dataset", "size", "limit", "label_noise", "optimizer", "lr", "epochs", "data_seed", "others")


def only(curves: xr.Dataset, **fields: object) -> xr.Dataset:
    """The runs with these values, as in `only(curves, label_noise=0.3)`; a list allows several.

    Raises `StudyError` if none has them, naming the values that there are.
    """
    for name, wanted in fields.items():
        if name not in curves.coords or curves[name].dims != ("run",):
            known = ", ".join(str(coordinate) for coordinate in identity(curves))
            raise StudyError(f"runs are not described by '{name}'; they are by {known}")
        allowed = wanted if isinstance(wanted, list | tuple) else [wanted]
        chosen = curves.isel(run=[value in allowed for value in curves[name].to_numpy().tolist()])
        if not chosen.sizes["run"]:
            known_values = ", ".join(str(value) for value in np.unique(curves[name]))
            raise StudyError(f"no run with {name} = {wanted}; there are runs with {known_values}")
        curves = chosen
    return curves


def of_grid(curves: xr.Dataset | None, profile: str, grid: str = "networks") -> xr.Dataset:
    """The published runs of a profile's grid; `StudyError` if there are none."""
    wanted = {experiment.id for experiment in profiles.experiments(profile, grids=[grid], published=True)}
    chosen = [] if curves is None else [run in wanted for run in curves["run"].to_numpy().tolist()]
    if curves is None or not any(chosen):
        raise StudyError(f"the profile {profile} has no published runs of the grid '{grid}' yet")
    return curves.isel(run=chosen).dropna("epoch", how="all").dropna("layer", how="all")


def having(curves: xr.Dataset, quantity: str) -> xr.Dataset:
    """The runs in which the quantity was measured; `StudyError` if there are none."""
    if quantity in curves:
        values = curves[quantity]
        measured = values.notnull().any([name for name in values.dims if name != "run"])
        if measured.any():
            return curves.isel(run=measured.to_numpy())
    raise StudyError(f"none of these runs has the quantity '{quantity}'; they were made before it was kept")


def identity(curves: xr.Dataset) -> list[str]:
    """The names of what describes a run, its id first."""
    return ["run", *(str(n) for n, c in curves.coords.items() if c.dims == ("run",) and n != "run")]


def settings(curves: xr.Dataset) -> list[tuple[str, xr.Dataset]]:
    """The curves by what their networks share (data set, size, noise, ...), each with a short title."""
    trained(curves)
    fields = [name for name in SETTING if name in curves.coords]
    frame = pd.DataFrame({name: curves[name].to_numpy() for name in fields})
    named = {"dataset", "size", "label_noise"} | {
        n for n in fields if n == "others" or frame[n].nunique() > 1
    }
    named |= {"limit"} if "limit" in fields and frame["limit"].any() else set()
    order = frame.assign(size=frame["size"].map(ALL_SIZES.index)).sort_values(fields).index
    found = []
    for _, rows in frame.loc[order].groupby(fields, sort=False):
        group = curves.isel(run=rows.index.to_numpy())
        found.append((_title(frame.loc[rows.index[0], sorted(named)], labels(group)), group))
    return found


def published_in_same_settings(published: xr.Dataset | None, curves: xr.Dataset) -> xr.Dataset | None:
    """The published runs of the same networks in the same settings as `curves`; None if there are none."""
    if published is None:
        return None
    both = published.coords.keys() & curves.coords.keys()
    cell = [name for name in (*SETTING, "label") if name in both]
    published_cells, cells = (
        pd.MultiIndex.from_arrays([runs[name].to_numpy() for name in cell]) for runs in (published, curves)
    )
    found = published.isel(run=published_cells.isin(cells))
    return found if found.sizes["run"] else None


def layers_of(curves: xr.Dataset) -> list[str]:
    """The layers that at least one of the runs has, in order."""
    present = curves["channels"].notnull().any("run").to_numpy()
    return [str(layer) for layer in curves["layer"].to_numpy()[present]]


def penalised_layers(curves: xr.Dataset) -> list[str]:
    """The layers of these runs that are penalised in some network, in the network's order."""
    present = layers_of(curves)
    return [layer for layer in LAYERS[:-1] if layer in present]


def regularised_layers(network: str) -> tuple[str, ...]:
    """The layers that SparsityReg acts on in this architecture (TSR, section 4.2; T12)."""
    architecture = NETWORKS[network].architecture if network in NETWORKS else network
    plain = architecture.removeprefix("drop").removeprefix("norm").removeprefix("sparseout")
    return NETWORKS.get(f"sr{plain}", NETWORKS["sr2Net"]).sparsity


def _title(setting: pd.Series, networks: Sequence[str]) -> str:
    size = setting["size"]
    if size == "full":  # of Table 3's networks, whose name says more
        older = [name for name in ("LeNet", "AlexNet") if any(name in network for network in networks)]
        size = " and ".join(older) or size
    parts = [f"{setting['dataset']}, {size}"]
    if setting["label_noise"]:
        parts.append(f"{100 * setting['label_noise']:g} % of labels redrawn")
    if "limit" in setting:
        parts.append(f"{setting['limit']:,} images" if setting["limit"] else "all images")
    words = {"optimizer": "", "lr": "learning rate ", "epochs": "epochs ", "data_seed": "data seed "}
    parts += [f"{word}{setting[name]}" for name, word in words.items() if name in setting]
    return ", ".join([*parts, *map(_other, setting.get("others", "").split())])


def _other(field: str) -> str:
    name, value = field.split("=")
    return f"{int(value):,} held-out images" if name == "held_out" else f"{name.replace('_', ' ')} {value}"


def labels(curves: xr.Dataset) -> list[str]:
    """The networks' labels in the order of TSR's Table 2; the literal strength before a scaled one."""
    order = {name: i for i, name in enumerate(NETWORKS)}
    names = [str(name) for name in np.unique(curves["label"])]
    return sorted(names, key=lambda name: (order.get(name.split()[0], len(order)), name))


def one_of_each(runs: Sequence[Run], curves: xr.Dataset) -> list[Run]:
    """The first run of each network among those of the curves, whatever their seeds, in the runs' order."""
    first = curves["run"].to_numpy()[np.unique(curves["label"], return_index=True)[1]]
    return [run for run in runs if run.id in first]


def trained(curves: xr.Dataset) -> xr.Dataset:
    """The curves from epoch 0 on; `StudyError` if there are no runs or no epochs."""
    if not curves.sizes.get("run") or not (curves["epoch"] >= 0).any():
        raise StudyError("there are no trained epochs to analyse; choose at least one finished run")
    return curves.sel(epoch=slice(0, None))  # a slice, and so a view: curves of a thousand runs are large


def smoothed(values: xr.DataArray, sigma: float = SMOOTHING) -> xr.DataArray:
    """Gaussian smoothing along `epoch` with the ends held (T9); NaN after a shorter run's end stay.

    `sigma` is in epochs; 0 leaves the values as they are.
    """
    if sigma == 0:
        return values

    def smooth(curves: np.ndarray) -> np.ndarray:
        rows = curves.reshape(-1, curves.shape[-1])
        known = np.isfinite(rows)
        result = np.full(rows.shape, np.nan)
        for pattern in np.unique(known, axis=0):  # runs of one length are smoothed together
            where = np.ix_((known == pattern).all(1), pattern)
            result[where] = gaussian_filter1d(rows[where], sigma, mode="nearest")
        return result.reshape(curves.shape)

    along = [["epoch"]]
    return xr.apply_ufunc(smooth, values.astype(float), input_core_dims=along, output_core_dims=along)


def best_epoch(curves: xr.Dataset, smoothing: float = SMOOTHING) -> xr.DataArray:
    """(run): the epoch at which the smoothed validation loss is lowest."""
    return smoothed(trained(curves)["val_loss"], smoothing).idxmin("epoch")


def pilot_onset(
    curves: xr.Dataset,
    smoothing: float = SMOOTHING,
    threshold: Literal["bootstrap"] | float = "bootstrap",
) -> xr.DataArray:
    """Moment of overfitting by the pilot's rule, which allows for no noise between epochs (see `onset`; T10).

    **Arguments:**

    - `smoothing`: width of the Gaussian in epochs; epoch -1 is left out.
    - `threshold`: `"bootstrap"` counts a moment only if the loss ends higher by more than the 95 % bootstrap
      interval over validation images; a number, only if by more than that share of the loss at that epoch
      (0.02 is 2 %).

    **Returns:** (run), in epochs; NaN ("censored") for a run whose loss does not rise, or is lowest among the
    last five epochs, which are the end.
    """
    epoch = best_epoch(curves, smoothing)
    if threshold == "bootstrap":
        lasts = _at(curves, "val_loss_rise_low", epoch, smoothing) > 0
    else:
        rise, loss = (_at(curves, name, epoch, smoothing) for name in ("val_loss_rise", "val_loss"))
        lasts = rise > threshold * loss
    return epoch.where(lasts & (epoch < curves["epochs"] - LAST))


def _at(curves: xr.Dataset, name: str, epoch: xr.DataArray, smoothing: float = SMOOTHING) -> xr.DataArray:
    # Smoothed as the loss is: in a single epoch the loss can jump by more than the rise to be judged. The
    # smoothed ends of the epochs' intervals are, if anything, wider than the smoothed loss's own interval.
    return smoothed(trained(curves)[name], smoothing).sel(epoch=epoch).drop_vars("epoch")


def best_accuracy(curves: xr.Dataset) -> xr.DataArray:
    """(run): the highest validation accuracy of all epochs, TSR's Table 2 (T18); optimistic."""
    return trained(curves)["val_accuracy"].max("epoch")


def last_five_accuracy(curves: xr.Dataset) -> xr.DataArray:
    """(run): the mean validation accuracy of the last five epochs (T18)."""
    return _mean_before(curves, "val_accuracy", curves["epochs"])


def late_change(curves: xr.Dataset, quantity: str = "val_loss", since: int = 100) -> xr.DataArray:
    """(run): mean of a curve's last five epochs minus that of the five before epoch `since`.

    NaN for a run of no more than `since` epochs.
    """
    change = _mean_before(curves, quantity, curves["epochs"]) - _mean_before(curves, quantity, since)
    return change.where(curves["epochs"] > since)


def _mean_before(curves: xr.Dataset, quantity: str, stop: xr.DataArray | int) -> xr.DataArray:
    # (run): mean of the five epochs before `stop`
    values = trained(curves)[quantity]
    epoch = values["epoch"]
    return values.where((epoch >= stop - LAST) & (epoch < stop)).mean("epoch")


def chosen_epoch(curves: xr.Dataset) -> xr.DataArray:
    """(run): the epoch chosen on the monitor images (T18): that of the highest monitor accuracy.

    Ties: that of the lowest monitor loss, then the earliest.
    """
    held_out = trained(curves).sel(split="monitor")
    accuracy, loss = held_out["monitor_accuracy"], held_out["monitor_loss"]
    contenders = loss.where(accuracy == accuracy.max("epoch")).fillna(np.inf)
    return held_out["epoch"].isel(epoch=contenders.argmin("epoch"))


def chosen_accuracy(curves: xr.Dataset) -> xr.DataArray:
    """(run): validation accuracy at `chosen_epoch`, the study's primary one."""
    return curves["val_accuracy"].sel(epoch=chosen_epoch(curves))


def summary(curves: xr.Dataset) -> pd.DataFrame:
    """One row per run: its identity, accuracies, losses (nats) and layers.

    `best_epoch` is where the smoothed loss is lowest, `val_loss_rise` how much higher the end is, and
    `val_loss_peak` how much higher the smoothed loss is at its highest after that epoch. A layer's columns
    are `<quantity>_<moment>:<layer>` with the moments `start` (before training), `best` (that epoch) and
    `end` (last epoch), on held-out monitor images.
    """
    after = trained(curves)
    lowest, smooth = best_epoch(curves), smoothed(after["val_loss"])
    peak = smooth.where(smooth["epoch"] >= lowest).max("epoch")
    columns = {name: curves[name] for name in identity(curves)}
    columns |= {
        "best_accuracy": best_accuracy(curves),
        "chosen_accuracy": chosen_accuracy(curves),
        "last_five_accuracy": last_five_accuracy(curves),
        "min_val_loss": after["val_loss"].min("epoch"),
        "last_val_loss": curves["val_loss"].sel(epoch=curves["epochs"] - 1),
        "best_epoch": lowest,
        "val_loss_rise": _at(curves, "val_loss_rise", lowest),
        "val_loss_peak": peak - smooth.min("epoch"),
    }
    moments = {"start": -1, "best": lowest, "end": curves["epochs"] - 1}
    for quantity in LAYER_QUANTITIES:
        for moment, epoch in moments.items():
            values = curves[quantity].sel(split="monitor").sel(epoch=epoch).transpose("layer", "run")
            names = [f"{quantity}_{moment}:{layer}" for layer in curves["layer"].to_numpy()]
            columns |= dict(zip(names, values.to_numpy(), strict=True))
    return pd.DataFrame({name: np.asarray(column) for name, column in columns.items()})
