"""Analysis of runs: selection, accuracies and losses of each run, and a table of them; more in the modules.

`curves` are from `study.curves(runs)` or `study.published`: a data set with dimensions run, layer, split and
epoch. An empty one raises `StudyError`. Comparisons of networks are in the module `comparison`.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from sparsity_lib.study import profiles
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.recipes import ALL_SIZES, LAYERS, NETWORKS
from sparsity_lib.study.runs.file import Run

LAST = 5  # epochs; their mean is the end of a curve (T18), in run files too
SMOOTHING = 2.0  # epochs, SD of the Gaussian that smooths losses (TSR, Figure 3; T9)
LAYER_QUANTITIES = ("entropy", "scale_free_entropy", "sd")

# Fields that networks must share to be compared. A limit of 0 means all images.
SETTING = ("dataset", "size", "limit", "label_noise", "optimizer", "lr", "epochs", "data_seed", "others")


def only(curves: xr.Dataset, **fields: object) -> xr.Dataset:
    """Runs with the given values, such as `only(curves, label_noise=0.3)`; a list allows several values.

    Raises `StudyError` with the known values if no run has them.
    """
    for name, wanted in fields.items():
        if name not in curves.coords or curves[name].dims != ("run",):
            known = ", ".join(str(coordinate) for coordinate in run_fields(curves))
            raise StudyError(f"runs are not described by '{name}'; they are by {known}")
        allowed = wanted if isinstance(wanted, list | tuple) else [wanted]
        chosen = curves.isel(run=[value in allowed for value in curves[name].to_numpy().tolist()])
        if not chosen.sizes["run"]:
            known_values = ", ".join(str(value) for value in np.unique(curves[name]))
            raise StudyError(f"no run with {name} = {wanted}; there are runs with {known_values}")
        curves = chosen
    return curves


def grid_runs(curves: xr.Dataset | None, profile: str, grid: str = "networks") -> xr.Dataset:
    """Published runs of one grid of a profile; `StudyError` if there are none."""
    planned = profiles.experiments(profile, grids=[grid], published=True)
    found = runs_of(curves, planned, f"the profile {profile} has no published runs of the grid '{grid}' yet")
    return found.dropna("epoch", how="all").dropna("layer", how="all")


def runs_of(curves: xr.Dataset | None, experiments: Iterable[Experiment], missing: str) -> xr.Dataset:
    """Runs of the given experiments; `StudyError` with the line `missing` if there are none."""
    ids = [experiment.id for experiment in experiments]
    if curves is None or not (present := curves["run"].isin(ids).to_numpy()).any():
        raise StudyError(missing)
    return curves.isel(run=present)


def runs_with(curves: xr.Dataset, quantity: str) -> xr.Dataset:
    """Runs in which a quantity was measured; `StudyError` if there are none."""
    if quantity in curves:
        values = curves[quantity]
        measured = values.notnull().any([name for name in values.dims if name != "run"])
        if measured.any():
            return curves.isel(run=measured.to_numpy())
    raise StudyError(f"none of these runs has the quantity '{quantity}'; they were made before it was kept")


def run_fields(curves: xr.Dataset) -> list[str]:
    """Names of the coordinates that describe a run, the id first."""
    return ["run", *(str(n) for n, c in curves.coords.items() if c.dims == ("run",) and n != "run")]


def settings(curves: xr.Dataset) -> list[tuple[str, xr.Dataset]]:
    """Curves grouped by setting (data set, size, label noise, ...), each group with a short title."""
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
    """Published runs of the same networks in the same settings as `curves`; None if there are none."""
    if published is None:
        return None
    both = published.coords.keys() & curves.coords.keys()
    cell = [name for name in (*SETTING, "label") if name in both]
    published_cells, cells = (
        pd.MultiIndex.from_arrays([runs[name].to_numpy() for name in cell]) for runs in (published, curves)
    )
    found = published.isel(run=published_cells.isin(cells))
    return found if found.sizes["run"] else None


def present_layers(curves: xr.Dataset) -> list[str]:
    """Layers that at least one of the runs has, in order."""
    present = curves["channels"].notnull().any("run").to_numpy()
    return [str(layer) for layer in curves["layer"].to_numpy()[present]]


def hidden_layers(curves: xr.Dataset) -> list[str]:
    """Layers of the runs among conv1 to fc1, in order: those that some network penalises."""
    present = present_layers(curves)
    return [layer for layer in LAYERS[:-1] if layer in present]


def targeted_layers(network: str) -> tuple[str, ...]:
    """Layers that SparsityReg acts on in the architecture of a network (TSR, section 4.2; T12)."""
    architecture = NETWORKS[network].architecture if network in NETWORKS else network
    plain = architecture.removeprefix("drop").removeprefix("norm").removeprefix("sparseout")
    return NETWORKS.get(f"sr{plain}", NETWORKS["sr2Net"]).sparsity


def _title(setting: pd.Series, networks: Sequence[str]) -> str:
    size = setting["size"]
    if size == "full":  # a network of Table 3: its name is clearer
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
    """Labels of the networks in the order of TSR's Table 2; the literal strength before a scaled one."""
    order = {name: i for i, name in enumerate(NETWORKS)}
    names = [str(name) for name in np.unique(curves["label"])]
    return sorted(names, key=lambda name: (order.get(name.split()[0], len(order)), name))


def one_of_each(runs: Sequence[Run], curves: xr.Dataset) -> list[Run]:
    """First run of each network of `curves`, in the order of `runs`."""
    first = curves["run"].to_numpy()[np.unique(curves["label"], return_index=True)[1]]
    return [run for run in runs if run.id in first]


def trained(curves: xr.Dataset) -> xr.Dataset:
    """Curves from epoch 0 on; `StudyError` if there are no runs or no such epochs."""
    if not curves.sizes.get("run") or not (curves["epoch"] >= 0).any():
        raise StudyError("there are no trained epochs to analyse; choose at least one finished run")
    return curves.sel(epoch=slice(0, None))  # a slice is a view: a thousand runs are large


def smoothed(values: xr.DataArray, sigma: float = SMOOTHING) -> xr.DataArray:
    """Gaussian smoothing along `epoch`, with constant ends (T9); NaN after the end of a shorter run stay.

    `sigma`: SD of the Gaussian in epochs; 0 returns the values unchanged.
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
    """(run): epoch with the lowest smoothed validation loss."""
    return smoothed(trained(curves)["val_loss"], smoothing).idxmin("epoch")


def pilot_onset(
    curves: xr.Dataset,
    smoothing: float = SMOOTHING,
    threshold: Literal["bootstrap"] | float = "bootstrap",
) -> xr.DataArray:
    """Moment of overfitting by the rule of the pilot, which ignores noise between epochs (T10).

    The registered rule is in the module `onset`.

    **Arguments:**

    - `smoothing`: SD of the Gaussian in epochs.
    - `threshold`: least rise of the loss after its minimum. `"bootstrap"`: above the 95 % bootstrap interval
      over validation images; a number: that share of the loss at the minimum (0.02 is 2 %).

    **Returns:** (run), in epochs; NaN where the loss does not rise, or is lowest in the last five epochs.
    """
    epoch = best_epoch(curves, smoothing)
    if threshold == "bootstrap":
        lasts = _smoothed_at(curves, "val_loss_rise_low", epoch, smoothing) > 0
    else:
        rise, loss = (_smoothed_at(curves, name, epoch, smoothing) for name in ("val_loss_rise", "val_loss"))
        lasts = rise > threshold * loss
    return epoch.where(lasts & (epoch < curves["epochs"] - LAST))


def _smoothed_at(
    curves: xr.Dataset, name: str, epoch: xr.DataArray, smoothing: float = SMOOTHING
) -> xr.DataArray:
    # The loss of a single epoch can jump by more than the rise; smoothed ends of intervals are conservative.
    return smoothed(trained(curves)[name], smoothing).sel(epoch=epoch).drop_vars("epoch")


def best_accuracy(curves: xr.Dataset) -> xr.DataArray:
    """(run): highest validation accuracy of all epochs, as in TSR's Table 2 (T18); optimistic."""
    return trained(curves)["val_accuracy"].max("epoch")


def last_five_accuracy(curves: xr.Dataset) -> xr.DataArray:
    """(run): mean validation accuracy of the last five epochs (T18)."""
    return _mean_before(curves, "val_accuracy", curves["epochs"])


def late_change(curves: xr.Dataset, quantity: str = "val_loss", since: int = 100) -> xr.DataArray:
    """(run): mean of a curve over the last five epochs minus the mean over the five before epoch `since`.

    NaN for a run with at most `since` epochs.
    """
    change = _mean_before(curves, quantity, curves["epochs"]) - _mean_before(curves, quantity, since)
    return change.where(curves["epochs"] > since)


def _mean_before(curves: xr.Dataset, quantity: str, stop: xr.DataArray | int) -> xr.DataArray:
    # (run): mean of the five epochs before `stop`
    values = trained(curves)[quantity]
    epoch = values["epoch"]
    return values.where((epoch >= stop - LAST) & (epoch < stop)).mean("epoch")


def chosen_epoch(curves: xr.Dataset) -> xr.DataArray:
    """(run): epoch with the highest accuracy on the monitor images (T18).

    Ties are resolved by the lowest monitor loss, then by the earliest epoch.
    """
    held_out = trained(curves).sel(split="monitor")
    accuracy, loss = held_out["monitor_accuracy"], held_out["monitor_loss"]
    contenders = loss.where(accuracy == accuracy.max("epoch")).fillna(np.inf)
    return held_out["epoch"].isel(epoch=contenders.argmin("epoch"))


def chosen_accuracy(curves: xr.Dataset) -> xr.DataArray:
    """(run): validation accuracy at `chosen_epoch`; the primary accuracy of the study."""
    return curves["val_accuracy"].sel(epoch=chosen_epoch(curves))


def summary(curves: xr.Dataset) -> pd.DataFrame:
    """One row per run: its fields, accuracies, losses (nats) and quantities of layers.

    `best_epoch` is the epoch with the lowest smoothed validation loss; `val_loss_rise` is the rise from there
    to the end, `val_loss_peak` to the highest smoothed loss. Columns of a layer are
    `<quantity>_<moment>:<layer>` with the moments `start` (before training), `best` (that epoch) and `end`
    (last epoch), on held-out monitor images.
    """
    after = trained(curves)
    lowest, smooth = best_epoch(curves), smoothed(after["val_loss"])
    peak = smooth.where(smooth["epoch"] >= lowest).max("epoch")
    columns = {name: curves[name] for name in run_fields(curves)}
    columns |= {
        "best_accuracy": best_accuracy(curves),
        "chosen_accuracy": chosen_accuracy(curves),
        "last_five_accuracy": last_five_accuracy(curves),
        "min_val_loss": after["val_loss"].min("epoch"),
        "last_val_loss": curves["val_loss"].sel(epoch=curves["epochs"] - 1),
        "best_epoch": lowest,
        "val_loss_rise": _smoothed_at(curves, "val_loss_rise", lowest),
        "val_loss_peak": peak - smooth.min("epoch"),
    }
    moments = {"start": -1, "best": lowest, "end": curves["epochs"] - 1}
    for quantity in LAYER_QUANTITIES:
        for moment, epoch in moments.items():
            values = curves[quantity].sel(split="monitor").sel(epoch=epoch).transpose("layer", "run")
            names = [f"{quantity}_{moment}:{layer}" for layer in curves["layer"].to_numpy()]
            columns |= dict(zip(names, values.to_numpy(), strict=True))
    return pd.DataFrame({name: np.asarray(column) for name, column in columns.items()})
